package ui

import (
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/dib-builder/dib/internal/event"
)

const (
	// redrawInterval bounds how often the terminal is written to.
	redrawInterval = 100 * time.Millisecond
	// flushSize is how much log, in bytes, is collected between two redraws
	// before it is written at once.
	flushSize = 64 << 10
	// queueLength is how many events may wait for the terminal before Emit waits.
	queueLength = 256
)

// liveView hands events to the one goroutine that owns the terminal.
type liveView struct {
	queue chan message
	done  chan struct{} // closed when the goroutine has ended
}

type message struct {
	event event.Event
	lines []line
	// shown, if not nil, is closed when the message has had its effect.
	shown chan struct{}
}

// startLive starts the goroutine; close ends it.
func startLive(opts Options) *liveView {
	v := &liveView{queue: make(chan message, queueLength), done: make(chan struct{})}
	go v.run(newScreen(opts.Out, opts.Timestamps, opts.Width, opts.Now))
	return v
}

func (v *liveView) run(s *screen) {
	defer close(v.done)
	tick := time.NewTicker(redrawInterval)
	defer tick.Stop()
	for {
		select {
		case m, more := <-v.queue:
			if !more {
				s.finish()
				return
			}
			s.handle(m.event, m.lines)
			if len(s.pending) >= flushSize {
				s.flush()
			}
			if m.shown != nil {
				close(m.shown)
			}
		case <-tick.C:
			s.flush()
		}
	}
}

func (v *liveView) show(e event.Event, lines []line) {
	m := message{event: e, lines: lines}
	if e.Kind == event.BreakStart {
		// The shell must find the terminal free of status lines.
		m.shown = make(chan struct{})
	}
	v.queue <- m
	if m.shown != nil {
		<-m.shown
	}
}

func (v *liveView) close() {
	close(v.queue)
	<-v.done
}

// screen keeps status lines at the bottom of a terminal while the log scrolls
// above them. Between two writes the cursor rests at the end of the last status
// line, or at the start of an empty line when there are none.
type screen struct {
	out        io.Writer
	timestamps bool
	width      func() int
	now        func() time.Time

	status    status
	pending   []byte   // log not written yet
	drawn     []string // status lines on the terminal
	suspended bool     // somebody else owns the terminal
}

func newScreen(out io.Writer, timestamps bool, width func() int, now func() time.Time) *screen {
	return &screen{out: out, timestamps: timestamps, width: width, now: now, status: status{since: now()}}
}

// handle takes an event in; only a break writes to the terminal at once.
func (s *screen) handle(e event.Event, lines []line) {
	for _, l := range lines {
		if !l.status {
			l.text = printable(l.text)
			s.pending = appendLines(s.pending, []line{l}, e.Time, s.timestamps)
		}
	}
	s.status.apply(e)
	switch e.Kind {
	case event.BreakStart:
		s.finish()
		s.suspended = true
	case event.BreakEnd:
		s.suspended = false
	}
}

// flush brings the terminal up to date, if anything has changed.
func (s *screen) flush() {
	var frame []string
	width := s.width()
	if !s.suspended {
		frame = s.status.frame(s.now(), width)
	}
	s.draw(frame, width)
}

// finish writes what is pending and takes the status lines away.
func (s *screen) finish() { s.draw(nil, s.width()) }

// draw replaces the status lines by frame, with the pending log above it, in
// one write.
func (s *screen) draw(frame []string, width int) {
	if len(s.pending) == 0 && slices.Equal(frame, s.drawn) {
		return
	}
	var b []byte
	if len(s.drawn) > 0 {
		// A terminal that became narrower has wrapped the lines.
		rows := 0
		for _, l := range s.drawn {
			rows += max(1, (columns(l)+width-1)/max(width, 1))
		}
		b = append(b, '\r')
		if rows > 1 {
			b = append(b, "\x1b["...)
			b = strconv.AppendInt(b, int64(rows-1), 10)
			b = append(b, 'A')
		}
		b = append(b, "\x1b[J"...) // erase from here to the end of the screen
	}
	b = append(b, s.pending...)
	for i, l := range frame {
		if i > 0 {
			b = append(b, '\n')
		}
		b = append(b, l...)
	}
	s.pending, s.drawn = s.pending[:0], frame
	_, _ = s.out.Write(b)
}
