package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	// TailLines is the number of last console lines kept in an Error.
	TailLines = 60
	// matchSpan is how far back, in bytes, a new piece of output can complete
	// a match that began earlier.
	matchSpan = 4 << 10
	// maxText bounds the console text kept in memory, in bytes; older text is
	// only in the transcript then.
	maxText = 32 << 20
)

var (
	// ErrTimeout is the cause of an Error when what was waited for did not come.
	ErrTimeout = errors.New("timed out")
	// ErrClosed is the cause of an Error when the console ended: the machine
	// was switched off or its emulator ended.
	ErrClosed = errors.New("the machine ended")
)

// Error is a guest that did not do what it should.
type Error struct {
	Doing string   // what was tried, such as "wait for the login prompt"
	Cause error    // ErrTimeout, ErrClosed, a *Death, or the context's error
	Tail  []string // last lines of the console
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cannot %s: %v", e.Doing, e.Cause)
	if len(e.Tail) > 0 {
		fmt.Fprintf(&b, "\nlast lines of the console:")
		for _, line := range e.Tail {
			b.WriteString("\n| ")
			b.WriteString(line)
		}
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Cause }

// Console drives a serial console. Output is kept as plain text, without
// escape sequences and carriage returns. One goroutine at a time may use it.
type Console struct {
	rw io.ReadWriter

	mu      sync.Mutex
	text    []byte        // all output, or its last maxText bytes
	pos     int           // in text: what comes before has been matched
	judged  int           // in text: lines before have been searched for last words
	closed  error         // why output ended
	changed chan struct{} // closed and replaced at each change

	atLogin bool // the login prompt is on the screen
	shell   shellState
}

// NewConsole reads rw from now on, until that fails; the caller ends it by
// closing rw. Everything read is copied to transcript as it is, unless nil.
func NewConsole(rw io.ReadWriter, transcript io.Writer) *Console {
	c := &Console{rw: rw, changed: make(chan struct{})}
	go c.read(transcript)
	return c
}

func (c *Console) read(transcript io.Writer) {
	var clean cleaner
	buf := make([]byte, 16<<10)
	for {
		n, err := c.rw.Read(buf)
		if n > 0 && transcript != nil {
			if _, werr := transcript.Write(buf[:n]); werr != nil {
				transcript = nil // a full disk is no reason to fail the guest
			}
		}
		c.mu.Lock()
		c.text = clean.append(c.text, buf[:n])
		c.trim()
		if err != nil {
			c.closed = ErrClosed
			if err != io.EOF {
				c.closed = fmt.Errorf("%w: %w", ErrClosed, err)
			}
		}
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// trim forgets the older half of too much text.
func (c *Console) trim() {
	if len(c.text) <= maxText {
		return
	}
	drop := len(c.text) - maxText/2
	c.text = append([]byte(nil), c.text[drop:]...)
	c.pos, c.judged = max(0, c.pos-drop), max(0, c.judged-drop)
}

// Text returns what the console showed so far.
func (c *Console) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}

// Tail returns the last n lines.
func (c *Console) Tail(n int) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := bytes.TrimRight(c.text, "\n\x00 ")
	if len(text) == 0 {
		return nil
	}
	lines := strings.Split(string(text[max(0, len(text)-n*1000):]), "\n")
	return lines[max(0, len(lines)-n):]
}

// Send types text.
func (c *Console) Send(text string) error {
	if _, err := io.WriteString(c.rw, text); err != nil {
		return c.failed("type on the console", fmt.Errorf("%w: %w", ErrClosed, err))
	}
	return nil
}

// Match is a piece of console output that was waited for.
type Match struct {
	Before string   // output between the last match and this one
	Groups []string // the match and its groups, as of regexp.FindStringSubmatch
}

// Expect waits until output that no earlier call matched matches pattern,
// which spans at most 4 KiB. It fails with an *Error after timeout, when the
// guest dies, or when the console ends.
func (c *Console) Expect(ctx context.Context, pattern *regexp.Regexp, timeout time.Duration) (Match, error) {
	return c.expect(ctx, fmt.Sprintf("see %q on the console", pattern), pattern, timeout)
}

func (c *Console) expect(ctx context.Context, doing string, pattern *regexp.Regexp, timeout time.Duration) (Match, error) {
	var m Match
	scanned := 0 // bytes of unmatched output searched before
	err := c.wait(ctx, doing, timeout, false, func(fresh []byte) int {
		from := max(0, scanned-matchSpan)
		// ^ must mean the beginning of a line: start at one.
		if from > 0 {
			from += bytes.LastIndexByte(fresh[:from], '\n') + 1 - from
		}
		scanned = len(fresh)
		at := pattern.FindSubmatchIndex(fresh[from:])
		if at == nil {
			return -1
		}
		m.Before = string(fresh[:from+at[0]])
		for i := 0; i < len(at); i += 2 {
			group := ""
			if at[i] >= 0 {
				group = string(fresh[from+at[i] : from+at[i+1]])
			}
			m.Groups = append(m.Groups, group)
		}
		return from + at[1]
	})
	return m, err
}

// wait calls find with the unmatched output, now and whenever there is more,
// until it returns how many bytes of that are done with (-1: not yet). The
// slice is only valid during the call.
func (c *Console) wait(ctx context.Context, doing string, timeout time.Duration, running bool, find func(fresh []byte) int) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		c.mu.Lock()
		if n := find(c.text[c.pos:]); n >= 0 {
			c.pos += n
			c.mu.Unlock()
			return nil
		}
		death, closed, changed := c.judge(running), c.closed, c.changed
		c.mu.Unlock()
		switch {
		case death != nil:
			return c.failed(doing, death)
		case closed != nil:
			return c.failed(doing, closed)
		}
		select {
		case <-changed:
		case <-timer.C:
			return c.failed(doing, fmt.Errorf("%w after %s", ErrTimeout, timeout))
		case <-ctx.Done():
			return c.failed(doing, ctx.Err())
		}
	}
}

// judge looks for last words in lines not yet looked at. The last line may
// still grow: prompts have no newline, so it is looked at each time.
func (c *Console) judge(running bool) *Death {
	for {
		rest := c.text[c.judged:]
		i := bytes.IndexByte(rest, '\n')
		line := rest
		if i >= 0 {
			line = rest[:i]
		}
		if d := lastWords(line, running); d != nil {
			return d
		}
		if i < 0 {
			return nil
		}
		c.judged += i + 1
	}
}

func (c *Console) failed(doing string, cause error) error {
	return &Error{Doing: doing, Cause: cause, Tail: c.Tail(TailLines)}
}
