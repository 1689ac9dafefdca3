package ui

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dib-builder/dib/internal/event"
)

// TestLiveScreens follows a build on the emulated terminal and keeps what it
// shows at each moment.
func TestLiveScreens(t *testing.T) {
	term := newTerminal(60)
	now := start
	s := newScreen(term, false, func() int { return term.width }, func() time.Time { return now })
	var film bytes.Buffer
	at := func(seconds int, scene string, events ...event.Event) {
		now = start.Add(time.Duration(seconds) * time.Second)
		for _, e := range events {
			e.Time = now
			s.handle(e, linesOf(e, "build.log"))
		}
		s.flush()
		fmt.Fprintf(&film, "---- %d s: %s\n%s|\n", seconds, scene, term)
	}
	at(0, "start", event.LogLine("Building elements: base vm"))
	at(2, "a download", event.Event{Kind: event.PhaseStart, Phase: "root", Side: "host"},
		event.Event{Kind: event.Progress, Step: "Packages.xz", Done: 1 << 20, Total: 8 << 20, Unit: "bytes"})
	at(4, "goes on, above it a line longer than the terminal", event.LogLine(strings.Repeat("0123456789", 7)),
		event.Event{Kind: event.Progress, Step: "Packages.xz", Done: 5 << 20, Total: 8 << 20, Unit: "bytes"})
	at(5, "is done", event.Event{Kind: event.Progress, Step: "Packages.xz", Done: 8 << 20, Total: 8 << 20, Unit: "bytes"},
		event.Event{Kind: event.PhaseEnd, Phase: "root"})
	at(6, "a hook", event.Event{Kind: event.PhaseStart, Phase: "install", Side: "target"},
		event.Event{Kind: event.HookStart, Phase: "install", Element: "debian-minimal", Hook: "10-a-hook-whose-name-is-much-too-long-for-this-terminal"},
		event.LogLine("\x1b[31mred\x1b[2J is kept, clearing is not"))
	before := term.writes
	at(6, "nothing new")
	if term.writes != before {
		t.Error("the terminal was written to although nothing had changed")
	}
	at(66, "a minute later", event.Event{Kind: event.Progress, Step: "reading", Done: 17, Unit: "items"})
	term.resize(30)
	at(67, "a narrower terminal")
	term.resize(60)
	at(68, "a debug shell", event.Event{Kind: event.BreakStart, Step: "after-error"})
	_, _ = term.Write([]byte("# exit\n"))
	at(69, "log during the shell", event.LogLine("from the background"))
	at(70, "after the shell", event.Event{Kind: event.BreakEnd, Step: "after-error"},
		event.Event{Kind: event.HookEnd}, event.Event{Kind: event.PhaseEnd})
	var steps []event.Event
	for _, name := range strings.Fields("zero one two three four five six") {
		steps = append(steps, event.Event{Kind: event.StepStart, Step: name})
	}
	at(71, "seven steps, the last six are shown", steps...)
	at(73, "end of a slow step", event.Event{Kind: event.StepEnd, Step: "two", Seconds: 2})
	at(4000, "failure", story[len(story)-1])
	s.finish()
	fmt.Fprintf(&film, "---- end\n%s|\n", term)
	if len(term.unknown) > 0 {
		t.Errorf("unknown control sequences: %q", term.unknown)
	}
	golden(t, "live.golden", film.Bytes())
}

// TestLiveIsBounded checks that a flood of lines does not redraw at each.
func TestLiveIsBounded(t *testing.T) {
	term := newTerminal(80)
	u, err := New(Options{Out: term, Live: true, Now: func() time.Time { return start }})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 20000 {
		u.Emit(event.LogLine("x"))
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	// One write each interval, one for each full buffer, one at the end.
	if limit := int(time.Since(began)/redrawInterval) + 20000*len("x\n")/flushSize + 2; term.writes > limit {
		t.Errorf("%d writes, want at most %d", term.writes, limit)
	}
	if got := strings.Count(term.String(), "x"); got != 20000 {
		t.Errorf("%d lines of 20000", got)
	}
}

// TestBreakFreesTerminal checks that the status lines are gone when Emit of a
// break returns: the shell starts then.
func TestBreakFreesTerminal(t *testing.T) {
	term := newTerminal(80)
	u, err := New(Options{Out: term, Live: true, Now: func() time.Time { return start }})
	if err != nil {
		t.Fatal(err)
	}
	u.Emit(event.LogLine("hook output"))
	u.Emit(event.Event{Kind: event.BreakStart, Step: "before-install"})
	if got := term.String(); got != "hook output\n" {
		t.Errorf("on the terminal: %q", got)
	}
	u.Emit(event.Event{Kind: event.BreakEnd, Step: "before-install"})
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	if got := term.String(); got != "hook output\n" {
		t.Errorf("left behind: %q", got)
	}
}

func TestPrintable(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"plain\ttext ä \xff", "plain\ttext ä \xff"},
		{"\x1b[1;31mred\x1b[m", "\x1b[1;31mred\x1b[m\x1b[0m"},
		{"\x1b[2Jclear \x1b]0;title\a", "^[[2Jclear ^[]0;title^G"},
		{"10%\r50%\r100%\r", "100%"},
		{"a\x7f\u009b31m", "a^??31m"},
		{"\x1b[31", "^[[31"},
		{"", ""},
	} {
		if got := string(printable([]byte(tc.in))); got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.in, got, tc.want)
		}
	}
}

// FuzzPrintable checks that no line of the log can move the cursor.
func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"\x1b[31mred\x1b[0m", "\x1b[2J", "a\rb", "\u009b2J", "\x1b[1;", "\xff\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got := printable(text)
		for len(got) > 0 {
			if n := colour(got); n > 0 {
				got = got[n:]
				continue
			}
			if got[0] != '\t' && (got[0] < ' ' || got[0] == 0x7f) {
				t.Fatalf("%q leaves control character %q", text, got[0])
			}
			got = got[1:]
		}
	})
}

func TestFrameFits(t *testing.T) {
	s := status{since: start}
	s.apply(event.Event{Kind: event.PhaseStart, Phase: "finalise", Side: "target", Time: start})
	s.apply(event.Event{Kind: event.HookStart, Element: "日本語の要素", Hook: "99-\x1b[2J\nhook", Time: start})
	s.apply(event.Event{Kind: event.Progress, Step: "copy", Done: 3 << 40, Total: 4 << 40, Unit: "bytes", Time: start})
	for width := range 120 {
		for _, l := range s.frame(start.Add(2*time.Hour), width) {
			if columns(l) >= width || strings.ContainsAny(l, "\x1b\n") {
				t.Errorf("width %d: %q", width, l)
			}
		}
	}
}
