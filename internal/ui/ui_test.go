package ui

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/recipe"
)

var update = flag.Bool("update", false, "rewrite golden files")

// clockFrom ticks by 250 ms at each reading.
func clockFrom(start time.Time) func() time.Time {
	var mu sync.Mutex
	now := start
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(250 * time.Millisecond)
		return now
	}
}

var start = time.Date(2026, 8, 1, 23, 59, 58, 0, time.FixedZone("east", 2*3600))

// story is one of each event of a build that fails.
var story = []event.Event{
	event.LogLine("Building in /.dib/build"),
	{Kind: event.PhaseStart, Phase: "install", Side: "target"},
	{Kind: event.HookStart, Phase: "install", Side: "target", Element: "debian", Hook: "10-packages"},
	event.LogLine("+ set +o xtrace"),
	{Kind: event.Log, Line: []byte("bytes \xff\x00 and\rcarriage\treturn\r")},
	event.LogLine(""),
	event.Warn("hook 20.sh is not executable"),
	{Kind: event.Log, Line: []byte("stamped where it arose"), Time: time.Date(2026, 8, 1, 1, 2, 3, 4e6, time.UTC)},
	{Kind: event.HookEnd, Phase: "install", Element: "debian", Hook: "10-packages", Seconds: 2},
	{Kind: event.PhaseEnd, Phase: "install"},
	{Kind: event.StepStart, Step: "Writing filesystem root"},
	{Kind: event.Progress, Step: "Writing filesystem root", Done: 1, Total: 2, Unit: "bytes"},
	{Kind: event.StepEnd, Step: "Writing filesystem root", Seconds: 2.34},
	{Kind: event.StepStart, Step: "Sealing"},
	{Kind: event.StepEnd, Step: "Sealing", Seconds: 0.2},
	{Kind: event.Artifact, Path: "/tmp/image.qcow2"},
	{Kind: event.Failed, Failure: &event.Failure{
		Message: "hook 10-packages of element debian failed: exit status 3",
		Element: "debian", Phase: "install", Side: "target", Hook: "10-packages", Exit: 3,
		Tail:  []string{"E: no such package", "giving up"},
		Hints: []string{"run again with break=after-error for a shell there"},
	}},
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func TestTranscripts(t *testing.T) {
	for _, tc := range []struct {
		name                string
		timestamps, logFile bool
		quiet               bool
	}{
		{name: "plain", timestamps: true},
		{name: "plain-without-times"},
		{name: "plain-and-log", timestamps: false, logFile: true},
		{name: "quiet", quiet: true, timestamps: true},
		{name: "quiet-and-log", quiet: true, logFile: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out, stderr bytes.Buffer
			opts := Options{Out: &out, Err: &stderr, Quiet: tc.quiet, Timestamps: tc.timestamps, Now: clockFrom(start)}
			if tc.logFile {
				t.Chdir(t.TempDir())
				opts.LogFile = "build log"
				if err := os.WriteFile(opts.LogFile, []byte("of an earlier build\n"), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			u, err := New(opts)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range story {
				u.Emit(e)
			}
			if err := u.Close(); err != nil {
				t.Fatal(err)
			}
			u.Emit(event.LogLine("after the end"))
			var all bytes.Buffer
			fmt.Fprintf(&all, "== stdout\n%s== stderr\n%s", out.Bytes(), stderr.Bytes())
			if tc.logFile {
				log, err := os.ReadFile(opts.LogFile)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&all, "== log file\n%s", log)
				t.Chdir(packageDir)
			}
			golden(t, tc.name+".golden", all.Bytes())
		})
	}
}

var packageDir, _ = os.Getwd()

func TestLogFileCannotBeOpened(t *testing.T) {
	_, err := New(Options{LogFile: filepath.Join(t.TempDir(), "no", "such", "dir")})
	if !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "cannot open log file: ") {
		t.Fatalf("got %v", err)
	}
}

func TestLogFileFails(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("needs /dev/full, a file that cannot be written to")
	}
	var out bytes.Buffer
	u, err := New(Options{Out: &out, LogFile: "/dev/full", Now: clockFrom(start)})
	if err != nil {
		t.Fatal(err)
	}
	u.Emit(event.LogLine("one"))
	u.Emit(event.LogLine("two"))
	if err := u.Close(); err == nil || u.Close() == nil {
		t.Error("the loss of the log file was not reported")
	}
	if got := out.String(); !strings.Contains(got, "WARNING: cannot write log file: ") || !strings.HasSuffix(got, "one\ntwo\n") ||
		strings.Count(got, "WARNING") != 1 {
		t.Errorf("got %q", got)
	}
}

// TestConcurrentEmit checks that lines of many writers come out whole and in
// the order of each writer, in every view.
func TestConcurrentEmit(t *testing.T) {
	for _, live := range []bool{false, true} {
		var out bytes.Buffer
		u, err := New(Options{Out: &out, Live: live})
		if err != nil {
			t.Fatal(err)
		}
		const writers, lines = 8, 500
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range lines {
					u.Emit(event.LogLine(fmt.Sprintf("%d %d", w, i)))
				}
			})
		}
		wg.Wait()
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		term := newTerminal(80)
		_, _ = io.Copy(term, &out)
		var next [writers]int
		for _, l := range strings.Split(strings.TrimSuffix(term.String(), "\n"), "\n") {
			var w, i int
			if n, err := fmt.Sscanf(l, "%d %d", &w, &i); n != 2 || err != nil || next[w] != i {
				t.Fatalf("live %v: line %q, want number %d of that writer", live, l, next[w])
			}
			next[w]++
		}
		for w := range next {
			if next[w] != lines {
				t.Errorf("live %v: writer %d: %d lines of %d", live, w, next[w], lines)
			}
		}
	}
}

func TestOptionsFromEnv(t *testing.T) {
	var out, stderr bytes.Buffer
	for _, tc := range []struct {
		env                     map[string]string
		logFile                 string
		quiet, timestamps, live bool
	}{
		{timestamps: true},
		{logFile: "f", quiet: true, timestamps: true},
		{logFile: "f", env: map[string]string{"DIB_QUIET": "0"}, timestamps: true},
		{env: map[string]string{"DIB_QUIET": "1"}, quiet: true, timestamps: true},
		{env: map[string]string{"DIB_QUIET": "yes"}, timestamps: true},
		{logFile: "f", env: map[string]string{"DIB_QUIET": "2"}, timestamps: true},
		{env: map[string]string{"DIB_NO_TIMESTAMP": "1"}},
		{env: map[string]string{"DIB_NO_TIMESTAMP": "0"}, timestamps: true},
		{env: map[string]string{"DIB_NO_TIMESTAMP": "true"}, timestamps: true},
		{env: map[string]string{"DIB_PROGRESS": "live"}, timestamps: true, live: true},
		{env: map[string]string{"DIB_PROGRESS": "plain", "TERM": "xterm"}, timestamps: true},
	} {
		got := OptionsFromEnv(command.IO{Out: &out, Err: &stderr, Getenv: func(name string) string { return tc.env[name] }},
			recipe.Recipe{LogFile: tc.logFile})
		if got.Quiet != tc.quiet || got.Timestamps != tc.timestamps || got.Live != tc.live || got.LogFile != tc.logFile {
			t.Errorf("%v with log file %q: got %+v", tc.env, tc.logFile, got)
		}
		if got.Out != &out || got.Err != &stderr {
			t.Error("the streams are not the command's")
		}
	}
}

// TestOptionsOnTerminal needs a terminal to look at, and brings its own.
func TestOptionsOnTerminal(t *testing.T) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Skipf("needs a pseudo terminal: %v", err)
	}
	defer master.Close()
	defer slave.Close()
	if err := pty.Setsize(slave, &pty.Winsize{Rows: 24, Cols: 123}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		env  map[string]string
		live bool
	}{
		{map[string]string{"TERM": "xterm"}, true},
		{map[string]string{"TERM": "dumb"}, false},
		{map[string]string{}, false},
		{map[string]string{"TERM": "xterm", "DIB_PROGRESS": "plain"}, false},
		{map[string]string{"TERM": "dumb", "DIB_PROGRESS": "live"}, true},
	} {
		got := OptionsFromEnv(command.IO{Out: slave, Getenv: func(name string) string { return tc.env[name] }}, recipe.Recipe{})
		if got.Live != tc.live || got.Width() != 123 {
			t.Errorf("%v: live %v, width %d", tc.env, got.Live, got.Width())
		}
	}
}

// slowWriter takes its time and bytes one after the other, as a terminal over a
// slow line does.
type slowWriter struct {
	bytes.Buffer
	delay time.Duration
}

func (w *slowWriter) Write(p []byte) (int, error) {
	time.Sleep(w.delay)
	return w.Buffer.Write(p)
}

// TestWholeLog holds what DIB's filter does to a log against it.
func TestWholeLog(t *testing.T) {
	const noise = "+ set +o xtrace"
	at := time.Date(2026, 8, 1, 23, 0, 0, 7e6, time.FixedZone("east", 2*3600))
	for _, live := range []bool{false, true} {
		out := &slowWriter{delay: 100 * time.Microsecond}
		logFile := filepath.Join(t.TempDir(), "a log")
		u, err := New(Options{Out: out, LogFile: logFile, Live: live, Timestamps: true, Now: func() time.Time { return at }})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 200 {
			u.Emit(event.LogLine(fmt.Sprintf("%s %d", noise, i)))
		}
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		log, err := os.ReadFile(logFile)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(fmt.Sprintf("D08 no line is dropped, live %v", live), func(t *testing.T) {
			for i := range 200 {
				line := fmt.Sprintf("2026-08-01 21:00:00.007 | %s %d\n", noise, i)
				if !bytes.Contains(log, []byte(line)) {
					t.Fatalf("the log file lacks %q", line)
				}
			}
		})
		t.Run(fmt.Sprintf("D09 all is written when Close returns, live %v", live), func(t *testing.T) {
			term := newTerminal(80)
			_, _ = io.Copy(term, &out.Buffer)
			if last := noise + " 199"; !strings.HasSuffix(strings.TrimRight(term.String(), "\n "), last) {
				t.Errorf("the last line is not there:\n%s", term.String())
			}
			if !bytes.HasSuffix(log, []byte(" 199\n")) {
				t.Errorf("the log file ends with %q", log[max(0, len(log)-60):])
			}
		})
	}
}
