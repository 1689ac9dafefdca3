package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testView is an engine that runs a script, which prints its findings to
// descriptor 3.
func testView() int {
	script, output, err := ViewEngine()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	cmd := exec.Command("bash", "-c", string(script))
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, []*os.File{output}
	if err := cmd.Run(); err != nil {
		var ee *exec.ExitError
		if errors.As(err, &ee) {
			return ee.ExitCode()
		}
		return 99
	}
	return 0
}

func view(t *testing.T, ctx context.Context, script string) (ViewResult, error) {
	t.Helper()
	r, err := View(ctx, ViewConfig{
		Engine: []string{"test-view"}, Input: []byte(script),
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GIVEN=yes", "DIR=" + t.TempDir()},
	})
	var refused *SetupError
	if errors.As(err, &refused) {
		t.Skip(err) // a machine without namespaces; scripts/test demands them
	}
	return r, err
}

func TestView(t *testing.T) {
	for _, c := range []struct{ summary, script, output string }{
		{"sees files and the environment", `echo "$GIVEN $(head -c 4 /etc/passwd | wc -c) $(pwd -P)" >&3`, "yes 4 " + workingDir(t)},
		{"is root of its world", `echo "$(id -u) $$" >&3`, "0 "},
		{"cannot write to a directory of the caller", `touch "$DIR/x" 2>/dev/null; echo $? >&3`, "1"},
		{"cannot write to the root directory", `mkdir /x 2>/dev/null; echo $? >&3`, "1"},
		{"writes to its own memory", `echo kept > /.dib/x; cat /.dib/x >&3`, "kept"},
		{"cannot mount", `mount -t tmpfs tmpfs /mnt 2>/dev/null || echo refused >&3`, "refused"},
		{"cannot make the host writable", `mount -o remount,rw "$(df --output=target "$DIR" | tail -1)" 2>/dev/null || echo refused >&3`, "refused"},
		{"has no network", `grep -v -e Inter -e face -e lo: /proc/net/dev | grep -c : >&3; exit 0`, "0"},
		{"has no disks", `ls /dev | grep -c -e ^loop -e ^sd -e ^vd >&3; exit 0`, "0"},
	} {
		t.Run(c.summary, func(t *testing.T) {
			r, err := view(t, context.Background(), c.script)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(string(r.Output)); r.Status != 0 || !strings.HasPrefix(got, strings.TrimSpace(c.output)) {
				t.Errorf("status %d, output %q, want %q; log:\n%s", r.Status, got, c.output, r.Log)
			}
		})
	}
}

func workingDir(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestViewEnds(t *testing.T) {
	r, err := view(t, context.Background(), "echo out; echo err >&2; exit 7")
	if err != nil || r.Status != 7 || string(r.Log) != "out\nerr\n" || len(r.Output) != 0 {
		t.Errorf("failure: %+v, %v", r, err)
	}
	// A daemon holds the descriptors of the log; it must not outlive the view.
	start := time.Now()
	r, err = view(t, context.Background(), "setsid sleep 600 & exit 0")
	if err != nil || r.Status != 0 || time.Since(start) > time.Minute {
		t.Errorf("daemon: %+v, %v", r, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := view(t, ctx, "sleep 600"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("time-out: %v", err)
	}
}
