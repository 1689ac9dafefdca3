package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dib-builder/dib/test/lab"
)

// testElements runs "dib test-elements" and makes sure that nothing is left.
func (b *workbench) testElements(elementsPath string, args ...string) lab.Outcome {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	env := map[string]string{"TMPDIR": b.tmp, "DIB_IMAGE_CACHE": b.env["DIB_IMAGE_CACHE"], "DIB_LOCKFILES": b.env["DIB_LOCKFILES"], "ELEMENTS_PATH": elementsPath}
	c := lab.Command{Actor: b.actor, Argv: append([]string{b.lab.Dib, "test-elements"}, args...), Dir: b.out, Env: b.actor.Environment(env)}
	o, err := c.Run(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	if len(o.Left) > 0 {
		b.t.Errorf("processes are left: %v", o.Left)
	}
	traces, err := lab.Traces(b.out, b.tmp)
	if err != nil || len(traces) > 0 {
		b.t.Errorf("left on the host: %v, %v", traces, err)
	}
	b.tmpIsEmpty()
	return o
}

// TestElementTests runs the functional tests of the library, without those of
// whole distributions.
func TestElementTests(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		logs := filepath.Join(b.out, "logs")
		o := b.testElements("", "-j", "2", "-L", logs)
		if o.Exit != 0 {
			t.Errorf("exit status %d\n%s%s", o.Exit, o.Stdout, o.Stderr)
			failed, err := filepath.Glob(logs + "/*.FAIL.log")
			for _, name := range failed {
				text, _ := os.ReadFile(name)
				t.Errorf("%s (%v):\n%s", name, err, tail(string(text)))
			}
		}
		mustContain(t, "the output", o.Stdout, `^PASS fake-os/fails-as-expected \(`, `^PASS package-installs/installs-packages \(`, `^Tests: ([89]|\d\d) passed, 0 failed, 0 not run$`)
		if text := b.read("logs/fake-os_fails-as-expected.PASS.log"); !strings.Contains(text, "this failure is expected") {
			t.Errorf("the log of a test that fails as it should:\n%s", tail(text))
		}
	})
}

// TestElementTestsThatFail runs tests of an element of the user.
func TestElementTestsThatFail(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		top := filepath.Join(b.out, "mine")
		const script = "#!/bin/bash\nset -eu\n"
		for name, text := range map[string]string{
			"mine/element-deps":                                "fake-os\n",
			"mine/install.d/50-mine":                           script + "echo mine > /mine\n",
			"mine/test-elements/a-passes/post-install.d/50-a":  script + "[ \"$(cat /mine)\" = mine ]\n",
			"mine/test-elements/b-fails/install.d/60-b":        script + "[ \"$(cat /mine)\" = yours ]\n",
			"mine/test-elements/c-later/install.d/60-c":        script,
			"mine/test-elements/wrongly-succeeds/install.d/60": script + "touch /tmp/dib-test-should-fail\n",
		} {
			name = filepath.Join(top, name)
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			mode := os.FileMode(0o644)
			if strings.HasPrefix(text, "#!") {
				mode = 0o755
			}
			if err := os.WriteFile(name, []byte(text), mode); err != nil {
				t.Fatal(err)
			}
		}
		t.Run("M77 every directory of ELEMENTS_PATH is searched", func(t *testing.T) {
			o := b.testElements(b.lab.Elements()+":"+top, "-l")
			mustContain(t, "the list", o.Stdout, `^mine/a-passes \[run\]$`, `^mine/b-fails \[run\]$`, `^fake-os/runs-hooks \[run\]$`, `^debian-minimal/stable-build-succeeds \[skip\]$`)
			if o.Exit != 0 {
				t.Errorf("exit status %d", o.Exit)
			}
		})
		o := b.testElements(top, "-t", "mine/a-passes", "mine/b-fails", "mine/c-later")
		if o.Exit != 1 {
			t.Errorf("exit status %d, want 1", o.Exit)
		}
		const stamp = `^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \| `
		mustContain(t, "the output", o.Stdout, stamp+`PASS mine/a-passes \(`, stamp+`FAIL mine/b-fails \(\S+ s\): the build ended with exit status 1$`,
			`^\[mine/b-fails\] .*hook install\.d/60-b of element b-fails failed`, stamp+`Tests: 1 passed, 1 failed, 1 not run$`)
		o = b.testElements(top, "mine/wrongly-succeeds")
		if o.Exit != 1 {
			t.Errorf("exit status %d, want 1", o.Exit)
		}
		mustContain(t, "the output", o.Stdout, `^FAIL mine/wrongly-succeeds \(\S+ s\): the build was to fail`)
		if o = b.testElements(top, "mine/nothing"); o.Exit != 1 || !strings.Contains(o.Stderr, "there is no test mine/nothing") {
			t.Errorf("exit status %d: %s", o.Exit, o.Stderr)
		}
	})
}

// TestFormatsWithoutADistribution makes every kind of output of a tree in which
// nothing can run.
func TestFormatsWithoutADistribution(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		t.Run("M78 the default, of an image without log and home of root", func(t *testing.T) {
			b.mustBuild(build{args: []string{"-n", "-o", "default", "bare-os"}})
			if got := b.outputs(); !slices.Equal(got, []string{"default.qcow2"}) {
				t.Errorf("outputs: %v", got)
			}
			output(t, "qemu-img", "check", filepath.Join(b.out, "default.qcow2"))
		})
		b.clearOutputs()
		t.Run("M78 all in one build", func(t *testing.T) {
			b.mustBuild(build{args: []string{"-n", "-t", "tar,tgz,raw,qcow2,aci", "-o", "all", "bare-os"}})
			if got := b.outputs(); !slices.Equal(got, []string{"all.aci", "all.qcow2", "all.raw", "all.tar", "all.tgz"}) {
				t.Errorf("outputs: %v", got)
			}
			for _, archive := range []string{"all.tar", "all.tgz"} {
				mustContain(t, archive, output(t, "tar", "-tvf", filepath.Join(b.out, archive)), `^-.* 0 .* (\./)?fake-os$`, `^-.* 44040192 .* (\./)?fake-data$`, `^d.* (\./)?tmp/$`)
			}
		})
	})
}
