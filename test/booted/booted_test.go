// Package booted tests what elements put into images to run in the booted
// machine, and the hooks that set it up, in scratch trees: programs that would
// change a machine are replaced by ones that record how they are called.
package booted

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dib-builder/dib/test/commandtest"
)

const elements = "../../elements/"

// machine is a scratch tree in the place of / for one script.
type machine struct {
	t    *testing.T
	root string // what the script takes for /
	bin  string // first on its PATH
	env  []string
}

// absolute matches the paths of scripts that lead out of a scratch tree.
var absolute = regexp.MustCompile(`(^|[\s"'=(>:!])/(etc|sys|usr/local|usr/lib|usr/etc|usr/share|usr/sbin|sbin|home|root|var|lib|run|tmp)\b`)

func newMachine(t *testing.T, files map[string]string) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir(), bin: t.TempDir()}
	commandtest.Write(t, m.root, files)
	// Whatever changes machines, records only, unless a test says otherwise.
	for _, name := range []string{
		"sgdisk", "parted", "partprobe", "multipath", "pvcreate", "pvremove", "vgextend", "vgreduce", "lvextend", "lvs", "vgs", "lsblk",
		"xfs_growfs", "resize2fs", "btrfs", "growpart", "udevadm", "systemctl", "rc-update", "update-rc.d", "chkconfig", "install-packages",
		"ifup", "ifquery", "ip", "ethtool", "rdisc6", "nmcli", "networkctl", "dnf", "yum", "useradd", "usermod", "chpasswd", "visudo", "chown", "ssh-keygen", "sleep",
	} {
		m.fake(name, "")
	}
	return m
}

// fake makes a program that records its call and then runs a script.
func (m *machine) fake(name, script string) {
	m.t.Helper()
	commandtest.Write(m.t, m.bin, map[string]string{name + "!": "#!/bin/sh\necho \"" + name + "${*:+ $*}\" >> \"$CALLS\"\n" + script})
}

// say is the script of a program that prints a file of the tree.
func say(file string) string {
	return `while IFS= read -r line; do printf '%s\n' "$line"; done < "$ROOT/` + file + `";`
}

// without removes a program.
func (m *machine) without(names ...string) {
	m.t.Helper()
	for _, name := range names {
		if err := os.Remove(filepath.Join(m.bin, name)); err != nil {
			m.t.Fatal(err)
		}
	}
}

// run runs a script of the element library in the tree and returns what it
// printed and its exit status.
func (m *machine) run(script string, args ...string) (string, int) {
	m.t.Helper()
	text := commandtest.Read(m.t, elements+script)
	text = absolute.ReplaceAllString(text, "${1}"+m.root+"/${2}")
	place := filepath.Join(m.root, "in_target.d", filepath.Base(filepath.Dir(script)), filepath.Base(script))
	commandtest.Write(m.t, filepath.Dir(place), map[string]string{filepath.Base(place) + "!": text})
	return m.runFile(place, args...)
}

// runFile is run for a script that is in its place.
func (m *machine) runFile(place string, args ...string) (string, int) {
	m.t.Helper()
	cmd := exec.Command(place, args...)
	cmd.Env = append([]string{"PATH=" + m.bin + ":/usr/bin:/bin", "CALLS=" + m.calls(), "HOME=" + m.root + "/root", "ROOT=" + m.root}, m.env...)
	cmd.Dir = m.root
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	}
	return strings.ReplaceAll(string(out), m.root, ""), cmd.ProcessState.ExitCode()
}

func (m *machine) calls() string { return filepath.Join(m.bin, ".calls") }

// called returns the calls of programs since it was last called.
func (m *machine) called() string {
	m.t.Helper()
	text, err := os.ReadFile(m.calls())
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	if err := os.Remove(m.calls()); err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), m.root, "")
}

func (m *machine) read(name string) string {
	m.t.Helper()
	return strings.ReplaceAll(commandtest.Read(m.t, filepath.Join(m.root, name)), m.root, "")
}

func (m *machine) exists(name string) bool {
	_, err := os.Lstat(filepath.Join(m.root, name))
	return err == nil
}

func (m *machine) mode(name string) os.FileMode {
	m.t.Helper()
	st, err := os.Stat(filepath.Join(m.root, name))
	if err != nil {
		m.t.Fatal(err)
	}
	return st.Mode().Perm()
}

// mustRun is run for a script that must succeed.
func (m *machine) mustRun(script string, args ...string) string {
	m.t.Helper()
	out, status := m.run(script, args...)
	if status != 0 {
		m.t.Fatalf("%s %s: exit status %d\n%s", script, strings.Join(args, " "), status, out)
	}
	return out
}

func lines(text string) []string {
	return slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool { return line == "" })
}
