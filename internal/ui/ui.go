// Package ui shows the events of a build to people.
//
// On a pipe, every line of the log leaves as it came, with the time before it,
// as DIB prints it. On a terminal the same lines scroll above a few status
// lines. A log file gets all of it, always with times. Nothing is dropped, and
// Close returns only when everything has been written.
package ui

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/dib-builder/dib/internal/event"
)

// Options say where and how a build is shown.
type Options struct {
	Out io.Writer // the log
	Err io.Writer // what must be seen even when Quiet

	LogFile    string // appended to; empty for none
	Quiet      bool   // nothing on Out; failures and warnings on Err
	Timestamps bool   // on Out; the log file always has them
	Live       bool   // Out is a terminal that understands ECMA-48 cursor movement

	// Width is the number of columns of the terminal now; nil means 80.
	Width func() int
	// Now is the clock for lines and elapsed times; nil means the system's.
	Now func() time.Time
}

// defaultWidth is the number of columns of a terminal that does not tell.
const defaultWidth = 80

func (o Options) withDefaults() Options {
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Err == nil {
		o.Err = io.Discard
	}
	if o.Width == nil {
		o.Width = func() int { return defaultWidth }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// UI is an event.Sink that shows events. It is safe for concurrent use.
type UI struct {
	opts Options
	view view

	mu      sync.Mutex // guards what follows and the order of lines
	logFile *os.File   // nil for none
	closed  bool
	failure error // of writing the log file, the first one
}

// view is what a person looks at. Its methods are called one at a time.
type view interface {
	// show presents an event and the lines of text that it stands for.
	show(e event.Event, lines []line)
	// close returns when everything shown has been written.
	close()
}

// New opens the log file and starts the view. With a log file, its name is the
// first line on Out.
func New(opts Options) (*UI, error) {
	opts = opts.withDefaults()
	u := &UI{opts: opts}
	if opts.LogFile != "" {
		f, err := os.OpenFile(opts.LogFile, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
		if err != nil {
			return nil, fmt.Errorf("cannot open log file: %w", err)
		}
		u.logFile = f
		_, _ = fmt.Fprintf(opts.Out, "Output logs going to: %s\n", opts.LogFile)
	}
	switch {
	case opts.Quiet:
		u.view = quietView{opts.Err}
	case opts.Live:
		u.view = startLive(opts)
	default:
		u.view = plainView{opts.Out, opts.Timestamps}
	}
	return u, nil
}

// Emit shows one event. An event without a time happens now. After Close,
// events are dropped.
func (u *UI) Emit(e event.Event) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return
	}
	if e.Time.IsZero() {
		e.Time = u.opts.Now()
	}
	lines := linesOf(e, u.opts.LogFile)
	if u.logFile != nil && len(lines) > 0 {
		if _, err := u.logFile.Write(appendLines(nil, lines, e.Time, true)); err != nil {
			u.logFileFailed(err)
		}
	}
	u.view.show(e, lines)
}

// logFileFailed gives the log file up: the build is worth more than its log,
// but nobody shall believe that the log is complete.
func (u *UI) logFileFailed(err error) {
	u.failure = fmt.Errorf("cannot write log file: %w", err)
	_ = u.logFile.Close()
	u.logFile = nil
	w := event.Warn(u.failure.Error() + "; the log ends here")
	w.Time = u.opts.Now()
	u.view.show(w, linesOf(w, ""))
}

// Close waits until everything is written, takes status lines away and closes
// the log file. Its error is the first that hit the log file.
func (u *UI) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return u.failure
	}
	u.closed = true
	u.view.close()
	if u.logFile != nil {
		if err := u.logFile.Close(); err != nil {
			u.failure = fmt.Errorf("cannot write log file: %w", err)
		}
	}
	return u.failure
}
