package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dib-builder/dib/test/lab"
)

// homeLayout has a filesystem of its own at /home.
const homeLayout = `
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: mbr
    partitions: [{name: root, flags: [primary], size: 70%}, {name: home, flags: [primary], size: 100%}]
- {mkfs: {base: root, name: mkfs_root, type: ext4, mount: {mount_point: /}}}
- {mkfs: {base: home, name: mkfs_home, type: ext4, mount: {mount_point: /home}}}
`

// TestTeardown builds with hooks that leave things behind. What run itself
// checks after each of them is that no process, mount or device is left.
func TestTeardown(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		try := func(mischief string, env map[string]string, args ...string) lab.Outcome {
			t.Helper()
			all := map[string]string{"MISCHIEF": mischief, "OVERWRITE_OLD_IMAGE": "1"}
			for k, v := range env {
				all[k] = v
			}
			o := b.run(build{args: append(args, "-n", "-t", "raw", "-o", "m", "fake-os", "mischief"), env: all})
			b.tmpIsEmpty()
			return o
		}
		expect := func(o lab.Outcome, exit int, patterns ...string) {
			t.Helper()
			if o.Exit != exit {
				t.Errorf("exit status %d, want %d\n%s%s", o.Exit, exit, tail(o.Stdout), o.Stderr)
			}
			mustContain(t, "the log", o.Stdout, patterns...)
		}
		t.Run("D34 a failure before the build's own mounts", func(t *testing.T) {
			expect(try("fail-early", nil), 43)
			expect(try("fail-early", nil, "--no-tmpfs"), 43)
		})
		t.Run("D37 a mount whose path ends like a mount point", func(t *testing.T) {
			backends := []string{"offline"}
			if b.actor.UID == 0 {
				backends = append(backends, "loop")
			}
			for _, backend := range backends {
				expect(try("mount", map[string]string{"DIB_BLOCK_DEVICE_CONFIG": homeLayout, "DIB_BLOCK_DEVICE_BACKEND": backend}), 0)
				tree := filesystemAt(t, filepath.Join(b.out, "m.raw"), 0)
				if _, ok := tree["opt/home"]; !ok {
					t.Error("the mount point is not in the image")
				}
				if _, ok := tree["opt/home/not-of-the-image"]; ok {
					t.Errorf("%s: what was mounted in the tree is in the image", backend)
				}
			}
		})
		t.Run("D38 a busy mount is named with who holds it", func(t *testing.T) {
			expect(try("busy", nil), 1, `cannot unmount /\.dib/build/mnt/srv/busy: device or resource busy; in use by (holder|sleep) \(pid \d+\)`)
		})
		t.Run("D60 trouble at the end does not replace the exit status", func(t *testing.T) {
			o := try("busy-fail", map[string]string{"EXTRA_DETACH": "false", "EXTRA_UNMOUNT": "echo unmounting"})
			expect(o, 44, `^WARNING: the command in EXTRA_DETACH failed`, `^unmounting$`)
		})
		t.Run("D61 a daemon in the image that ignores SIGTERM", func(t *testing.T) {
			expect(try("daemon", nil), 0)
		})
		t.Run("D62 the host's HOME is back after a failure in the image", func(t *testing.T) {
			o := try("fail", map[string]string{"break": "after-error", "break_outside_target": "1", "break_cmd": `echo "home is $HOME"`})
			expect(o, 44, `^home is `+b.actor.Home+`$`)
		})
		t.Run("D51 resolv.conf of the build", func(t *testing.T) {
			expect(try("resolv", nil), 0, `^RESOLV 644 0:0$`)
		})
		t.Run("EXTRA_DETACH and EXTRA_UNMOUNT", func(t *testing.T) {
			o := try("", map[string]string{"EXTRA_DETACH": "echo detaching 'x  y'", "EXTRA_UNMOUNT": "echo unmounting"})
			expect(o, 0)
			// Word-split only, and the second is forgotten before the last time.
			if n := strings.Count(o.Stdout, "\ndetaching 'x y'\n"); n != 2 {
				t.Errorf("EXTRA_DETACH ran %d times, want 2", n)
			}
			if n := strings.Count(o.Stdout, "\nunmounting\n"); n != 1 {
				t.Errorf("EXTRA_UNMOUNT ran %d times, want 1", n)
			}
			expect(try("", map[string]string{"EXTRA_UNMOUNT": "false"}), 1, `the command in EXTRA_UNMOUNT failed`)
		})
	})
}

// TestD63_after_error_breaks_in_every_phase looks for the shell after a failure
// of each phase.
func TestD63_after_error_breaks_in_every_phase(t *testing.T) {
	b := newWorkbench(t, openLab(t), ordinary(t))
	for _, phase := range []string{"root", "extra-data", "pre-install", "install", "post-install", "post-root", "block-device", "pre-finalise", "finalise", "cleanup"} {
		// D65: the text is for a shell, whatever the phase.
		o := b.run(build{args: []string{"-n", "-o", "never", "fake-os", "recorder"}, env: map[string]string{
			"RECORDER_FAIL": phase, "break": "after-error", "break_cmd": `false || echo "wreck of $RECORDER_FAIL" | tr w W`,
		}})
		if o.Exit != 42 {
			t.Errorf("%s: exit status %d", phase, o.Exit)
		}
		mustContain(t, phase+": the log", o.Stdout, `^Wreck of `+phase+`$`)
		b.tmpIsEmpty()
	}
}

// TestD64_break_shell_is_on_the_terminal talks to the shell through a terminal,
// with a build that is quiet.
func TestD64_break_shell_is_on_the_terminal(t *testing.T) {
	needProgram(t, "script")
	b := newWorkbench(t, openLab(t), ordinary(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	env := map[string]string{"break": "before-install", "DIB_QUIET": "1", "TERM": "dumb", "PS1": "prompt> "}
	for k, v := range b.env {
		env[k] = v
	}
	o, err := lab.Command{
		Actor: b.actor, Argv: []string{"/usr/bin/script", "-q", "-e", "-c", b.lab.Dib + " create -n -o tty fake-os recorder", "/dev/null"},
		Dir: b.out, Env: b.actor.Environment(env),
		Stdin: "test -t 0 && test -t 1 && test -t 2 && echo it is a terminal\ncase $- in *i*) echo it is inter''active;; esac\nexit\n",
	}.Run(ctx)
	if err != nil || o.Exit != 0 {
		t.Fatalf("status %d, %v\n%s%s", o.Exit, err, tail(o.Stdout), o.Stderr)
	}
	mustContain(t, "the terminal", strings.ReplaceAll(o.Stdout, "\r", ""), `^it is a terminal$`, `^it is interactive$`)
	if _, err := os.Stat(filepath.Join(b.out, "tty.qcow2")); err != nil {
		t.Error(err)
	}
}
