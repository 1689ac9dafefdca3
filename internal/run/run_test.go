package run

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// journal is a log that may be written to at any time.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) log(line []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, string(line))
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

func bash(script string, j *journal) Cmd {
	return Cmd{Argv: []string{"bash", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Log: j.log, Background: true}
}

func TestBackground(t *testing.T) {
	t.Run("D09 all output is there when a command has ended", func(t *testing.T) {
		var want []string
		for i := range 20000 {
			want = append(want, fmt.Sprint(i))
		}
		for _, script := range []string{"for ((i = 0; i < 20000; i++)); do echo $i; done", "exec > >(cat); for ((i = 0; i < 20000; i++)); do echo $i; done"} {
			var j journal
			if err := bash(script, &j).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := j.all(); !slices.Equal(got, want) {
				t.Errorf("%s: %d lines of %d", script, len(got), len(want))
			}
		}
	})
	t.Run("D10 a process left behind holds nothing up and loses nothing", func(t *testing.T) {
		var j journal
		began := time.Now()
		if err := bash("echo early; echo error >&2; (sleep 2; echo late) & (sleep 3) & printf partial", &j).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 1900*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		if got := j.all(); !slices.Equal(got, []string{"early", "error", "partial"}) {
			t.Errorf("at the end of the command the log is %q", got)
		}
		for time.Since(began) < 20*time.Second && !slices.Contains(j.all(), "late") {
			time.Sleep(20 * time.Millisecond)
		}
		if got := j.all(); !slices.Equal(got, []string{"early", "error", "partial", "late"}) {
			t.Errorf("in the end the log is %q", got)
		}
	})
	t.Run("D09 much output of which a process left behind holds the pipe", func(t *testing.T) {
		var j journal
		if err := bash("sleep 1 & for ((i = 0; i < 20000; i++)); do echo $i; done", &j).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := j.all(); len(got) != 20000 || got[19999] != "19999" {
			t.Errorf("%d lines", len(got))
		}
	})
	t.Run("a failure has the last lines", func(t *testing.T) {
		var j journal
		err := bash("for i in {1..30}; do echo $i; done; sleep 1 & exit 3", &j).Run(t.Context())
		var e *Error
		if !errors.As(err, &e) || e.Exit != 3 || len(e.Tail) != TailLines || e.Tail[TailLines-1] != "30" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("standard output apart", func(t *testing.T) {
		var j journal
		out, err := bash("echo out; echo error >&2; sleep 1 2>&1 >/dev/null &", &j).Output(t.Context())
		if err != nil || string(out) != "out\n" || strings.Join(j.all(), "") != "error" {
			t.Errorf("got %q, %q, %v", out, j.all(), err)
		}
	})
	t.Run("a command that does not exist", func(t *testing.T) {
		err := Cmd{Argv: []string{"/no/such/program"}, Background: true}.Run(t.Context())
		var e *Error
		if !errors.As(err, &e) || e.Exit != 127 {
			t.Errorf("got %v", err)
		}
	})
}
