package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/sandbox/standin"
)

func testSudo() int {
	return standin.Sudo(context.Background(), command.IO{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Environ: os.Environ,
	}, os.Args[1:])
}

// testUser is the account that tests made for themselves, to be removed.
var testUser string

// home holds a copy of the test binary that every user can execute.
var home = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sandbox-test.")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o1777); err != nil {
		return dir, err
	}
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return dir, err
	}
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(dir, "binary"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return dir, err
	}
	_, err = io.Copy(to, from)
	return dir, errors.Join(err, to.Chmod(0o755), to.Close())
})

// ordinary names an ordinary user with subordinate ids, made if need be.
var ordinary = sync.OnceValues(func() (string, error) {
	const name = "dibsandboxtest"
	if _, err := user.Lookup(name); err == nil {
		return name, nil
	}
	out, err := exec.Command("useradd", "--create-home", "--shell", "/bin/bash", name).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("useradd: %w: %s", err, out)
	}
	testUser = name
	return name, nil
})

func cleanUpTests() {
	if dir, _ := home(); dir != "" {
		_ = os.RemoveAll(dir)
	}
	if testUser != "" {
		_ = exec.Command("userdel", "--remove", testUser).Run()
	}
}

// side is whose build it is.
type side string

const (
	asRoot side = "root"
	asUser side = "user"
)

// sides runs a test as root and as an ordinary user.
func sides(t *testing.T, f func(t *testing.T, s side)) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("builds are tested as root and as an ordinary user, which takes root to start with")
	}
	for _, s := range []side{asRoot, asUser} {
		t.Run(string(s), func(t *testing.T) {
			if s == asUser {
				if _, err := exec.LookPath("newuidmap"); err != nil {
					t.Skip("newuidmap is not installed")
				}
				if _, err := ordinary(); err != nil {
					t.Skip(err)
				}
			}
			f(t, s)
		})
	}
}

// parent is a directory for work directories of a side.
func parent(t *testing.T) string {
	t.Helper()
	h, err := home()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(h, "tmp.")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o1777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// marked returns a variable that names the processes of one run, and it alone.
func marked() string { return fmt.Sprintf("DIB_TEST_MARK=%d-%d", os.Getpid(), time.Now().UnixNano()) }

// supervisor returns the command of a supervisor. Its environment is small and
// has the mark.
func (s side) supervisor(t *testing.T, j job, mark string) *exec.Cmd {
	t.Helper()
	h, err := home()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	argv := []string{filepath.Join(h, "binary"), "test-supervisor", string(text)}
	name, homeDir := "root", "/root"
	if s == asUser {
		if name, err = ordinary(); err != nil {
			t.Fatal(err)
		}
		homeDir = "/home/" + name
		argv = append([]string{"setpriv", "--reuid", name, "--regid", name, "--init-groups"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = h
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + homeDir, "USER=" + name, "LANG=C.UTF-8", "GOCOVERDIR=" + os.Getenv("GOCOVERDIR"), mark}
	return cmd
}

// result is how a build ended.
type result struct {
	code        int
	out, events string
}

func (s side) build(t *testing.T, j job) result {
	t.Helper()
	if j.TmpParent == "" {
		j.TmpParent = parent(t)
	}
	var out, events bytes.Buffer
	cmd := s.supervisor(t, j, marked())
	cmd.Stdout, cmd.Stderr = &out, &events
	err := cmd.Run()
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), events.String()}
}

// check builds and fails the test unless the script succeeds.
func (s side) check(t *testing.T, j job) string {
	t.Helper()
	r := s.build(t, j)
	if r.code != 0 {
		t.Fatalf("status %d\noutput:\n%s\nevents:\n%s", r.code, r.out, r.events)
	}
	if strings.Contains(r.events, "warning:") {
		t.Errorf("warnings:\n%s", r.events)
	}
	return r.out
}
