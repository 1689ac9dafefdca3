// Package e2e builds images as users do and judges them with tools that are
// not dib: the kernel, QEMU, e2fsprogs, qemu-img.
//
// Everything here needs root, because only root can watch every process of a
// build, hide programs of the host, and look at an image through a loop mount;
// the builds themselves run as root and as an ordinary user.
//
// DIB_TEST_FULL=1 adds what takes very long. DIB_TEST_CACHE names a directory
// that keeps downloads between runs; without it each run starts with nothing
// and asks the mirror once.
package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dib-builder/dib/test/lab"
)

var (
	theLab  func() (*lab.Lab, error)
	theUser = sync.OnceValues(lab.Ordinary)
)

func TestMain(m *testing.M) {
	lab.MaybeObserve()
	var opened *lab.Lab
	theLab = sync.OnceValues(func() (*lab.Lab, error) {
		var err error
		opened, err = lab.Open()
		return opened, err
	})
	code := m.Run()
	if opened != nil {
		if err := opened.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "cannot remove the scratch directory:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// full tells whether the tests that take very long were asked for.
func full() bool { v := os.Getenv("DIB_TEST_FULL"); return v != "" && v != "0" }

// openLab skips the test where it cannot run.
func openLab(t *testing.T) *lab.Lab {
	t.Helper()
	if testing.Short() {
		t.Skip("builds images: not in -short")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root to watch builds")
	}
	l, err := theLab()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func needProgram(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed; scripts/install-test-deps does that", name)
		}
	}
}

func ordinary(t *testing.T) lab.Actor {
	t.Helper()
	a, err := theUser()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// asEach runs a test as root and as an ordinary user.
func asEach(t *testing.T, test func(t *testing.T, b *workbench)) {
	l := openLab(t)
	for _, a := range []lab.Actor{lab.Root(), ordinary(t)} {
		t.Run(a.Name, func(t *testing.T) { test(t, newWorkbench(t, l, a)) })
	}
}

// workbench is the place where one test builds: an output directory, which is also
// the working directory, and a TMPDIR of its own.
type workbench struct {
	t        *testing.T
	lab      *lab.Lab
	actor    lab.Actor
	out, tmp string
	env      map[string]string
}

func newWorkbench(t *testing.T, l *lab.Lab, a lab.Actor) *workbench {
	t.Helper()
	b := &workbench{t: t, lab: l, actor: a}
	b.out, b.tmp = b.dir("out"), b.dir("tmp")
	b.env = map[string]string{
		"TMPDIR":           b.tmp,
		"DIB_IMAGE_CACHE":  filepath.Join(b.out, ".cache"),
		"DIB_LOCKFILES":    filepath.Join(b.out, ".locks"),
		"ELEMENTS_PATH":    l.Elements(),
		"DIB_NO_TIMESTAMP": "1",
	}
	return b
}

func (b *workbench) dir(name string) string {
	b.t.Helper()
	dir, err := b.lab.NewDir(b.actor, name)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			b.t.Errorf("cannot remove %s: %v", dir, err)
		}
	})
	return dir
}

// build is one run of "dib create".
type build struct {
	args    []string
	env     map[string]string // on top of the workbench's
	path    string            // PATH, if not the usual one
	hide    []string          // names of programs the host shall not have
	stdin   string
	command string        // instead of create
	limit   time.Duration // default: two minutes
	started func(*lab.Running)
}

// try builds and returns what happened, with an error for what must not happen
// in any build, good or bad: that a process, a mount or a loop device is left.
func (b *workbench) try(bd build) (lab.Outcome, error) {
	env := map[string]string{}
	maps.Copy(env, b.env)
	maps.Copy(env, bd.env)
	if bd.path != "" {
		env["PATH"] = bd.path
	}
	if bd.limit == 0 {
		bd.limit = 2 * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), bd.limit)
	defer cancel()
	c := lab.Command{
		Actor: b.actor, Argv: append([]string{b.lab.Dib, cmp.Or(bd.command, "create")}, bd.args...), Dir: b.out,
		Env: b.actor.Environment(env), Hide: lab.Where(bd.hide), Stdin: bd.stdin, Started: bd.started,
	}
	o, err := c.Run(ctx)
	if err != nil {
		return o, err
	}
	if len(o.Left) > 0 {
		err = fmt.Errorf("processes are left: %v", o.Left)
	}
	traces, terr := lab.Traces(b.out, b.tmp)
	if len(traces) > 0 {
		terr = fmt.Errorf("left on the host: %v", traces)
	}
	return o, errors.Join(err, terr)
}

// run is try for a build that may fail in its own way only.
func (b *workbench) run(bd build) lab.Outcome {
	b.t.Helper()
	o, err := b.try(bd)
	if err != nil {
		b.t.Fatalf("dib create %s as %s: %v\n%s%s", strings.Join(bd.args, " "), b.actor.Name, err, tail(o.Stdout), o.Stderr)
	}
	return o
}

// mustBuild is run for a build that must succeed and leave an empty TMPDIR.
func (b *workbench) mustBuild(bd build) lab.Outcome {
	b.t.Helper()
	o := b.run(bd)
	if o.Exit != 0 {
		b.t.Fatalf("dib create %s as %s: exit status %d\n%s%s", strings.Join(bd.args, " "), b.actor.Name, o.Exit, tail(o.Stdout), o.Stderr)
	}
	b.tmpIsEmpty()
	return o
}

func (b *workbench) tmpIsEmpty() {
	b.t.Helper()
	entries, err := os.ReadDir(b.tmp)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		b.t.Errorf("TMPDIR still has %s", e.Name())
	}
}

// outputs lists what the output directory has, without the caches of the workbench.
func (b *workbench) outputs() []string {
	b.t.Helper()
	entries, err := os.ReadDir(b.out)
	if err != nil {
		b.t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		if e.Name() != ".cache" && e.Name() != ".locks" {
			names = append(names, e.Name())
		}
	}
	return names
}

func (b *workbench) read(name string) string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.out, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

// tail is the end of a log, for error messages.
func tail(log string) string {
	lines := strings.SplitAfter(log, "\n")
	if len(lines) > 60 {
		lines = append([]string{"...\n"}, lines[len(lines)-60:]...)
	}
	return strings.Join(lines, "")
}

// mustContain checks for each pattern (a regular expression, ^ and $ at lines).
func mustContain(t *testing.T, what, text string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile("(?m)" + p).MatchString(text) {
			t.Errorf("%s has no line with %s:\n%s", what, p, tail(text))
		}
	}
}

// output runs a judge and returns what it says; it must succeed.
func output(t *testing.T, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}
