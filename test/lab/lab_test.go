package lab

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	MaybeObserve()
	os.Exit(m.Run())
}

// self runs commands as whoever runs the tests.
func self() Actor { return Actor{Name: "self", UID: os.Getuid(), GID: os.Getgid()} }

func bash(script string) Command {
	return Command{Actor: self(), Argv: []string{"/bin/bash", "-c", script}, Env: self().Environment(nil), Grace: 50 * time.Millisecond}
}

func TestOutcome(t *testing.T) {
	for _, c := range []struct {
		name, script   string
		exit           int
		stdout, stderr string
		left           string // name of the process that is left
	}{
		{"streams and status", "cat; echo bad >&2; exit 7", 7, "input", "bad\n", ""},
		{"signal", "kill -9 $$", 137, "", "", ""},
		{"background process", "sleep 1000 &", 0, "", "", "sleep"},
		{"background process in its own session, orphaned", "setsid bash -c 'exec -a hidden sleep 1000 >/dev/null 2>&1 </dev/null &'", 0, "", "", "sleep"},
		{"background process that ends by itself", "true &", 0, "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := bash(c.script)
			cmd.Stdin = "input"
			o, err := cmd.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if o.Exit != c.exit || o.Stdout != c.stdout || o.Stderr != c.stderr {
				t.Errorf("got %d %q %q, want %d %q %q", o.Exit, o.Stdout, o.Stderr, c.exit, c.stdout, c.stderr)
			}
			if c.left == "" && len(o.Left) > 0 || c.left != "" && (len(o.Left) != 1 || !strings.HasSuffix(o.Left[0], " "+c.left)) {
				t.Errorf("left: %v, want %q", o.Left, c.left)
			}
		})
	}
}

func TestProcessesAreSeen(t *testing.T) {
	// It stays when sleep is killed first, so that it always ends by a signal.
	cmd := bash("sleep 1000 & while :; do wait; done")
	var names []string
	cmd.Started = func(r *Running) {
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && !slices.Contains(names, "sleep"); time.Sleep(time.Millisecond) {
			names = nil
			for _, p := range r.Processes() {
				names = append(names, p.Name)
			}
		}
		for _, p := range r.Processes() {
			_ = syscall.Kill(p.PID, syscall.SIGKILL)
		}
	}
	o, err := cmd.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"bash", "sleep"}) || o.Exit != 137 || len(o.Left) > 0 {
		t.Errorf("saw %v, then status %d with %v left", names, o.Exit, o.Left)
	}
}

func TestHide(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount")
	}
	cmd := bash("env -i /usr/bin/env; /usr/bin/head --version")
	cmd.Hide = Where([]string{"head"})
	o, err := cmd.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if o.Exit != 126 || o.Stdout != "" {
		t.Errorf("a hidden program: status %d, %q", o.Exit, o.Stdout)
	}
	cmd.Hide = nil
	if o, err = cmd.Run(t.Context()); err != nil || o.Exit != 0 {
		t.Errorf("not hidden: status %d, %v", o.Exit, err)
	}
}

func TestTraces(t *testing.T) {
	clean, err := Traces("/nonexistent/dib-lab-test")
	if err != nil {
		t.Fatal(err)
	}
	if all, err := Traces(" / "); err != nil || len(all) <= len(clean) {
		t.Errorf("the mount of / is not seen: %v %v", all, err)
	}
}
