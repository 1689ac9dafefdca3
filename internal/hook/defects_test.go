package hook

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRunPartsDefects holds what dib-run-parts does where DIB's does wrong, by
// the number of the defect.
func TestRunPartsDefects(t *testing.T) {
	run := func(t *testing.T, hooks map[string]string, env ...string) (int, string, string) {
		t.Helper()
		p := newPhase(t, hooks)
		return p.run(context.Background(), "", env, p.root+"/install.d")
	}
	t.Run("D66 environment.d without an acceptable file", func(t *testing.T) {
		status, out, errs := run(t, map[string]string{"environment.d/bad~": "exit 1\n", "environment.d/sub/10-x": "exit 1\n", "install.d/10-a": "#!/bin/sh\necho ran\n"})
		if status != 0 || out != "ran\n" {
			t.Errorf("status %d, %q\n%s", status, out, errs)
		}
	})
	t.Run("D67 environment files in byte order, hooks by number", func(t *testing.T) {
		status, out, _ := run(t, map[string]string{
			"environment.d/100-a": "export ORDER=100\n", "environment.d/11-a": "export ORDER=$ORDER,11\n", "environment.d/9-a": "export ORDER=$ORDER,9\n",
			"install.d/100-a": "#!/bin/sh\necho hook 100\n", "install.d/9-a": "#!/bin/sh\necho $ORDER\n",
		})
		if want := "100,11,9\nhook 100\n"; status != 0 || out != want {
			t.Errorf("status %d, %q, want %q", status, out, want)
		}
	})
	t.Run("D68 values are traced on request only, and masked", func(t *testing.T) {
		hooks := map[string]string{"environment.d/10-a": "export SOME_PASSWORD=hunter2\nexport PLAIN=visible\n", "install.d/10-a": "#!/bin/sh\n"}
		if _, _, errs := run(t, hooks); strings.Contains(errs, "hunter2") || strings.Contains(errs, "visible") {
			t.Errorf("traced without being asked to:\n%s", errs)
		}
		if _, _, errs := run(t, hooks, "DIB_DEBUG_TRACE=1"); strings.Contains(errs, "hunter2") || !strings.Contains(errs, "PLAIN=visible") {
			t.Errorf("traced:\n%s", errs)
		}
	})
	t.Run("D69 what does not run is named, at every level", func(t *testing.T) {
		p := newPhase(t, map[string]string{"install.d/10-x.sh": "#!/bin/sh\nexit 1\n"})
		writeFile(t, filepath.Join(p.root, "install.d/20-plain"), "#!/bin/sh\nexit 1\n", 0o644)
		status, _, errs := p.run(context.Background(), "", nil, p.root+"/install.d")
		if status != 0 || !strings.Contains(errs, "warning: ROOT/install.d/10-x.sh has a name that does not match") || !strings.Contains(errs, "warning: ROOT/install.d/20-plain is not executable") {
			t.Errorf("status %d\n%s", status, errs)
		}
	})
	t.Run("D70 times and the name of the hook after a failure", func(t *testing.T) {
		status, _, errs := run(t, map[string]string{"install.d/10-good": "#!/bin/sh\n", "install.d/20-bad": "#!/bin/sh\nexit 9\n", "install.d/30-never": "#!/bin/sh\n"})
		want := "dib-run-parts ROOT/install.d/20-bad failed with exit status 9\n" + strings.Join(Profile("install.d", []Timing{{"10-good", 1}, {"20-bad", 1}}), "\n") + "\n"
		if status != 9 || !strings.HasSuffix(errs, want) {
			t.Errorf("status %d\n%s\nwant at the end\n%s", status, errs, want)
		}
	})
	t.Run("D71 no program but the hook's own is needed", func(t *testing.T) {
		// A place without find, grep, sort, awk and coreutils.
		dir := t.TempDir()
		bash, err := exec.LookPath("bash")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(bash, filepath.Join(dir, "bash")); err != nil {
			t.Fatal(err)
		}
		p := newPhase(t, map[string]string{"install.d/10-a": "#!" + bash + "\nif type -P sort find awk; then exit 1; fi\necho ran\n", "install.d/9-b": "#!" + bash + "\necho first\n"})
		status, out, errs := p.run(context.Background(), "", []string{"PATH=" + dir}, p.root+"/install.d")
		if status != 0 || out != "first\nran\n" {
			t.Errorf("status %d, %q\n%s", status, out, errs)
		}
	})
}
