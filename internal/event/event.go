// Package event names everything that can happen during a build.
//
// Nothing below the user interface prints: it emits events. Events cross the
// border between the sandbox and its parent as one JSON object per line, so
// every field is plain data.
package event

import (
	"encoding/json"
	"io"
	"sync"
	"time"
	"unicode/utf8"
)

// Kind says what happened and which fields of an Event carry meaning.
type Kind string

const (
	// Log is one line of output of the core, a hook or a program (Line).
	Log Kind = "log"
	// Warning is one line that the user should read even in a quiet view (Line).
	Warning Kind = "warning"
	// PhaseStart and PhaseEnd bracket a phase such as "install" (Phase, Side).
	PhaseStart Kind = "phase-start"
	PhaseEnd   Kind = "phase-end"
	// HookStart and HookEnd bracket one hook (Phase, Side, Element, Hook; End: Seconds, Exit).
	HookStart Kind = "hook-start"
	HookEnd   Kind = "hook-end"
	// StepStart and StepEnd bracket work of the core that is not a hook,
	// such as writing a filesystem (Step; End: Seconds).
	StepStart Kind = "step-start"
	StepEnd   Kind = "step-end"
	// Progress reports a counted piece of work (Step, Done, Total, Unit). Total 0 means unknown.
	Progress Kind = "progress"
	// BreakStart and BreakEnd bracket an interactive shell that owns the terminal (Step names the break point).
	BreakStart Kind = "break-start"
	BreakEnd   Kind = "break-end"
	// Artifact reports a finished output (Path).
	Artifact Kind = "artifact"
	// Failed is the last event of a failed build (Failure).
	Failed Kind = "failed"
)

// Event is one thing that happened.
type Event struct {
	Kind    Kind      `json:"kind"`
	Time    time.Time `json:"time"`
	Line    []byte    `json:"line,omitempty"` // without its newline; may be invalid UTF-8
	Phase   string    `json:"phase,omitempty"`
	Side    string    `json:"side,omitempty"` // "host" or "target"
	Element string    `json:"element,omitempty"`
	Hook    string    `json:"hook,omitempty"`
	Step    string    `json:"step,omitempty"`
	Seconds float64   `json:"seconds,omitempty"`
	Exit    int       `json:"exit,omitempty"`
	Done    int64     `json:"done,omitempty"`
	Total   int64     `json:"total,omitempty"`
	Unit    string    `json:"unit,omitempty"` // "bytes" or "items"
	Path    string    `json:"path,omitempty"`
	Failure *Failure  `json:"failure,omitempty"`
}

// Failure says why a build failed, in terms a user can act on.
type Failure struct {
	Message string   `json:"message"`           // what failed and why, one line
	Element string   `json:"element,omitempty"` // where, as far as known
	Phase   string   `json:"phase,omitempty"`
	Side    string   `json:"side,omitempty"`
	Hook    string   `json:"hook,omitempty"`
	Exit    int      `json:"exit"`            // exit status of the program
	Tail    []string `json:"tail,omitempty"`  // last lines of what failed
	Hints   []string `json:"hints,omitempty"` // what to do next
}

// Sink receives events. Implementations are safe for concurrent use.
type Sink interface {
	Emit(Event)
}

// SinkFunc makes a function a Sink.
type SinkFunc func(Event)

// Emit calls f(e).
func (f SinkFunc) Emit(e Event) { f(e) }

// Discard drops every event.
var Discard Sink = SinkFunc(func(Event) {})

// LogLine is a Log event for one line of text.
func LogLine(line string) Event { return Event{Kind: Log, Line: []byte(line)} }

// Warn is a Warning event for one line of text.
func Warn(line string) Event { return Event{Kind: Warning, Line: []byte(line)} }

// Encoder writes events to a stream, one JSON object per line.
type Encoder struct {
	mu  sync.Mutex
	enc *json.Encoder
	now func() time.Time
}

// NewEncoder returns a Sink that writes to w; events without a time get now().
func NewEncoder(w io.Writer, now func() time.Time) *Encoder {
	return &Encoder{enc: json.NewEncoder(w), now: now}
}

// Emit writes one event. A broken stream is ignored: the reader is gone, and
// with it everybody who could be told.
func (e *Encoder) Emit(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ev.Time.IsZero() {
		ev.Time = e.now()
	}
	_ = e.enc.Encode(toWire(ev))
}

// wire is an event in JSON, which knows text only: a path that is not UTF-8
// travels beside it.
type wire struct {
	Event
	PathBytes []byte `json:"path_bytes,omitempty"`
}

func toWire(ev Event) wire {
	w := wire{Event: ev}
	if !utf8.ValidString(ev.Path) {
		w.PathBytes = []byte(ev.Path)
	}
	return w
}

func (w wire) event() Event {
	if w.PathBytes != nil {
		w.Path = string(w.PathBytes)
	}
	return w.Event
}

// Decode reads events from r and hands them to sink until r ends.
func Decode(r io.Reader, sink Sink) error {
	dec := json.NewDecoder(r)
	for {
		var w wire
		switch err := dec.Decode(&w); err {
		case nil:
			sink.Emit(w.event())
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}
