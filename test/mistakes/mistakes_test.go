// Package mistakes holds what newcomers are told about their mistakes: each
// message names the cause and the cure. The golden files are the whole of what
// a build prints about its failure, with the names of this machine replaced.
package mistakes

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files anew")

// dib is the binary under test, in a directory that everybody may enter.
var dib string

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("/var/tmp", "dib-mistakes-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	dib = filepath.Join(dir, "disk-image-create")
	build := exec.Command("go", "build", "-trimpath", "-o", dib, "github.com/dib-builder/dib/cmd/dib")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	status := 1
	if err = errors.Join(err, os.Chmod(dir, 0o755)); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build dib: %v\n%s", err, out)
	} else {
		status = m.Run()
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// mistake is something a newcomer does.
type mistake struct {
	name   string
	files  map[string]string // below the working directory; those of hook directories, and names ending in "*", are executable
	env    map[string]string // DIR stands for the working directory
	args   string
	status int
	// prepare changes the working directory further; what it returns is added to env.
	prepare func(t *testing.T, dir string) map[string]string
	// nobody makes it an ordinary user, without subordinate ids.
	nobody bool
	// through is a command that starts the build.
	through []string
	// succeeds says that this is only warned about: the build goes on.
	succeeds bool
	// slow says that it takes more than a moment.
	slow bool
}

const script = "#!/bin/bash\nset -eu -o pipefail\n"

var mistakes = []mistake{
	{name: "element-typo", args: "vm debian-minmal", status: 1},
	{name: "element-typo-twice", args: "vm debian-minmal opnssh-server", status: 1},
	{name: "element-unheard-of", args: "vm debian-minimal my-own-thing", env: map[string]string{"ELEMENTS_PATH": "DIR/elements"},
		files: map[string]string{"elements/other/README": ""}, status: 1},
	{name: "no-elements", args: "-o image", status: 1},
	{name: "no-operating-system", args: "vm", status: 1},
	{name: "two-operating-systems", args: "debian-minimal fake-os", status: 1},
	{name: "element-deps-missing", args: "fake-os mine", status: 1, files: map[string]string{"elements/mine/element-deps": "opennssh-server\nvm\n"}},
	{name: "elements-path-missing", args: "fake-os", status: 1, env: map[string]string{"ELEMENTS_PATH": "DIR/elments"}},
	{name: "elements-path-empty-entry", args: "fake-os", status: 1, env: map[string]string{"ELEMENTS_PATH": "DIR/elements:"}, files: map[string]string{"elements/README": ""}},
	{name: "elements-path-file", args: "fake-os", status: 1, env: map[string]string{"ELEMENTS_PATH": "DIR/elements/README"}, files: map[string]string{"elements/README": ""}},

	{name: "duplicate-hook", args: "fake-os mine", status: 1, files: map[string]string{"elements/mine/pre-install.d/01-install-bin": script}},
	{name: "hook-not-executable", args: "fake-os mine", succeeds: true, files: map[string]string{"elements/mine/install.d/10-mine-": script}},
	{name: "hook-with-suffix", args: "fake-os mine", succeeds: true, files: map[string]string{"elements/mine/install.d/10-mine.sh": script}},
	{name: "hook-crlf", args: "fake-os mine", status: 1, files: map[string]string{"elements/mine/install.d/10-mine": "#!/bin/bash\r\necho hello\r\n"}},
	{name: "hook-interpreter-missing", args: "fake-os mine", status: 1, files: map[string]string{
		"elements/mine/root.d/90-mine": "#!/usr/bin/pyhton3\n", "elements/mine/cleanup.d/90-mine": "#!/usr/bin/env pyhton3\n"}},
	{name: "hook-interpreter-missing-in-image", args: "fake-os mine", status: 127, files: map[string]string{"elements/mine/install.d/10-mine": "#!/usr/bin/python3\n"}},
	{name: "hook-fails", args: "fake-os mine", status: 3, files: map[string]string{"elements/mine/install.d/10-mine": script + "echo cannot do it >&2\nexit 3\n"}},
	{name: "environment-fails", args: "fake-os mine", status: 1, files: map[string]string{"elements/mine/environment.d/10-mine": "export A=$DIB_UNSET_THING\n"}},

	{name: "layout-bad-yaml", args: "fake-os mine", status: 1, files: map[string]string{"elements/mine/block-device-default.yaml": "- local_loop:\n    name: image0\n - mkfs: {}\n"}},
	{name: "layout-unknown-item", args: "fake-os mine", status: 1, files: map[string]string{"elements/mine/block-device-default.yaml": "- local_loop:\n    name: image0\n- mkfss:\n    base: image0\n"}},
	{name: "layout-without-root", args: "fake-os mine", status: 1, files: map[string]string{"elements/mine/block-device-default.yaml": "- local_loop:\n    name: image0\n    mkfs:\n      name: mkfs_root\n"}},
	{name: "layout-twice", args: "fake-os vm block-device-mbr mine", status: 1, files: map[string]string{
		"elements/mine/element-provides": "block-device\n", "elements/mine/block-device-default.yaml": "- local_loop:\n    name: image0\n"}},
	{name: "layout-file-missing", args: "fake-os", status: 1, env: map[string]string{"DIB_BLOCK_DEVICE_CONFIG": "file://layout.yaml"}},

	{name: "package-installs-unknown-key", args: "fake-os package-installs mine", status: 1, files: map[string]string{
		"elements/mine/package-installs.yaml": "vim:\n  pahse: install.d\ngit:\n  phase: instal.d\n"}},
	{name: "pkg-map-bad-json", args: "fake-os pkg-map mine", status: 1, files: map[string]string{
		"elements/mine/pkg-map": "{\n  \"default\": {\n    \"vim\": \"vim-tiny\",\n  }\n}\n"}},
	{name: "svc-map-wrong-type", args: "fake-os svc-map mine", status: 1, files: map[string]string{"elements/mine/svc-map": "ssh:\n  default: [sshd]\n"}},

	{name: "option-typo", args: "--image-szie 3 fake-os", status: 1},
	{name: "option-without-argument", args: "fake-os -o", status: 1},
	{name: "image-size-with-unit", args: "--image-size 3G fake-os", status: 1},
	{name: "type-unknown", args: "-t qcow fake-os", status: 1},
	{name: "type-typo", args: "-t qcow3,rwa fake-os", status: 1},
	{name: "arch-typo", args: "-a amd46 fake-os", status: 1},
	{name: "break-typo", args: "fake-os", succeeds: true, env: map[string]string{"break": "after-instal"}},

	{name: "output-directory-missing", args: "-o images/mine fake-os", status: 1},
	{name: "output-not-writable", args: "-o closed/mine fake-os", status: 1, nobody: true, prepare: func(t *testing.T, dir string) map[string]string {
		if err := os.Mkdir(filepath.Join(dir, "closed"), 0o755); err != nil {
			t.Fatal(err)
		}
		return nil
	}},
	{name: "no-subordinate-ids", args: "fake-os", status: 1, nobody: true},
	{name: "root-without-power", args: "fake-os", status: 1, through: []string{"setpriv", "--bounding-set", "-sys_admin,-setuid,-setgid", "--inh-caps=-sys_admin,-setuid,-setgid"}},
	{name: "no-space", args: "--no-tmpfs fake-os mine", status: 1, prepare: smallTmp, files: map[string]string{
		"elements/mine/install.d/10-mine": script + "head -c 100M /dev/zero > /big\n"}},
	{name: "no-network", args: "debian-minimal", status: 1, slow: true, prepare: func(t *testing.T, _ string) map[string]string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close() // nobody listens there now
		return mirror("http://" + l.Addr().String())
	}},
	{name: "wrong-release", args: "debian-minimal", env: map[string]string{"DIB_RELEASE": "bullseyee"}, status: 1, prepare: func(t *testing.T, _ string) map[string]string {
		server := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(server.Close)
		return mirror(server.URL)
	}},
}

func mirror(url string) map[string]string {
	return map[string]string{"DIB_DISTRIBUTION_MIRROR": url + "/debian", "DIB_DEBIAN_SECURITY_MIRROR": url + "/debian-security"}
}

// smallTmp makes TMPDIR a small file system.
func smallTmp(t *testing.T, dir string) map[string]string {
	tmp := filepath.Join(dir, "small")
	if err := os.Mkdir(tmp, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", tmp, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(tmp, 0); err != nil {
			t.Error(err)
		}
	})
	return map[string]string{"TMPDIR": tmp}
}

func TestMistakes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a small file system and to become an ordinary user")
	}
	seen := map[string]bool{}
	for _, m := range mistakes {
		seen[m.name+".golden"] = true
		t.Run(m.name, func(t *testing.T) {
			if testing.Short() && (m.slow || m.succeeds || m.status > 1) {
				t.Skip("takes a while: not in -short")
			}
			m.test(t)
		})
	}
	files, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !seen[filepath.Base(f)] {
			t.Errorf("%s belongs to no mistake", f)
		}
	}
}

func (m mistake) test(t *testing.T) {
	dir := m.workDir(t)
	env := map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": dir, "TMPDIR": dir,
		"DIB_NO_TIMESTAMP": "1", "DIB_IMAGE_CACHE": filepath.Join(dir, "cache"),
	}
	if _, err := os.Stat(filepath.Join(dir, "elements")); err == nil {
		env["ELEMENTS_PATH"] = filepath.Join(dir, "elements")
	}
	for k, v := range m.env {
		env[k] = strings.ReplaceAll(v, "DIR", dir)
	}
	if m.prepare != nil {
		for k, v := range m.prepare(t, dir) {
			env[k] = v
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	argv := append(append(m.through, dib), strings.Fields(m.args)...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	if m.nobody {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != m.status {
		t.Errorf("exit status %d, want %d:\n%s", got, m.status, out.String())
	}
	got := fmt.Sprintf("$ disk-image-create %s\n%sexit status %d\n", m.args, m.told(out.String(), dir), cmd.ProcessState.ExitCode())
	golden := filepath.Join("testdata", m.name+".golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", golden, diff)
	}
}

// workDir makes the working directory with the files of the mistake.
func (m mistake) workDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/var/tmp", "dib-mistake-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, content := range m.files {
		path := filepath.Join(dir, name)
		mode := os.FileMode(0o644)
		if parent := filepath.Base(filepath.Dir(name)); strings.HasSuffix(parent, ".d") && parent != "environment.d" {
			mode = 0o755
		}
		if plain, ok := strings.CutSuffix(path, "-"); ok {
			path, mode = plain, 0o644
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var (
	loopback = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	traced   = regexp.MustCompile(`(?m)^ +\| (dib-run-parts |.*download of ).*\n`)
	listed   = regexp.MustCompile(`request one of .*`)
	// Suites are fetched side by side, so any may be the first to fail.
	suites  = regexp.MustCompile(`(debian|stable)-(security|updates)`)
	types   = regexp.MustCompile(`supported: .*`)
	subuids = regexp.MustCompile(`--add-sub(uids|gids) \d+-\d+`)
)

// told is what is said about the mistake, without what varies by machine and
// without the log before it.
func (m mistake) told(out, dir string) string {
	var told strings.Builder
	failed := false
	for line := range strings.Lines(out) {
		failed = failed || strings.HasPrefix(line, "Build failed: ")
		if failed || strings.HasPrefix(line, "disk-image-create: ") || strings.HasPrefix(strings.ToLower(line), "warning") {
			told.WriteString(line)
		}
	}
	text := strings.ReplaceAll(told.String(), dir, "DIR")
	text = loopback.ReplaceAllString(text, "127.0.0.1:PORT")
	text = traced.ReplaceAllString(text, "")
	text = listed.ReplaceAllString(text, "request one of LIST")
	text = suites.ReplaceAllString(text, "$1")
	text = types.ReplaceAllString(text, "supported: LIST")
	return subuids.ReplaceAllString(text, "--add-sub$1 RANGE")
}
