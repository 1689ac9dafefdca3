// Package commandtest is what tests of the commands inside the target share.
package commandtest

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dib-builder/dib/internal/command"
)

var update = flag.Bool("update", false, "rewrite golden files")

// Elements are those of the library whose packages golden files hold.
var Elements = []string{
	"base", "bootloader", "cache-url", "cloud-init", "devuser", "growroot", "install-static", "openssh-server", "runtime-ssh-host-keys",
}

// Call runs a command in the environment env, without input, and returns what it printed and its exit status.
func Call(t *testing.T, f command.Func, env map[string]string, args ...string) (out, errs string, status int) {
	t.Helper()
	var o, e bytes.Buffer
	environ := []string{}
	for k, v := range env {
		environ = append(environ, k+"="+v)
	}
	status = f(t.Context(), command.IO{
		Out: &o, Err: &e, Environ: func() []string { return environ },
		Getenv: func(k string) string { return env[k] },
	}, args)
	return o.String(), e.String(), status
}

// Write makes files below dir; a name ending in "!" is executable.
func Write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		mode := os.FileMode(0o644)
		if short, ok := strings.CutSuffix(name, "!"); ok {
			name, mode = short, 0o755
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
}

// Read returns the content of a file.
func Read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Sub returns a directory of a file system.
func Sub(t *testing.T, fsys fs.FS, dir string) fs.FS {
	t.Helper()
	sub, err := fs.Sub(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

// Golden compares with, or under -update writes, a golden file in testdata.
func Golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", filepath.FromSlash(name))
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := Read(t, path); got != want {
		t.Errorf("%s differs (run with -update to accept):\n%s", path, got)
	}
}

// Chroot runs a command in a tree, in a user namespace unless root, and returns
// its output. The test is skipped where neither can be had.
func Chroot(t *testing.T, root string, argv ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Path, cmd.Err = argv[0], nil
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if os.Geteuid() != 0 {
		if probe := exec.Command("/usr/bin/unshare", "-Ur", "/bin/true").Run(); probe != nil {
			t.Skip("not root, and no user namespaces here:", probe)
		}
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}
