package blockdev

import (
	"fmt"
	"strings"
)

// Pos is a place in the configuration text; line and column count from 1, and
// zero means that the place is not known.
type Pos struct {
	Line, Col int
}

// Finding is one thing that is wrong, or only doubtful, in a configuration.
type Finding struct {
	Source  string // what the text came from, for the reader: a file name, an element
	Pos     Pos
	Message string
}

// String gives the finding as compilers do: source:line:col: message.
func (f Finding) String() string {
	if f.Pos == (Pos{}) {
		return f.Source + ": " + f.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.Source, f.Pos.Line, f.Pos.Col, f.Message)
}

// Findings is everything that is wrong in one configuration. As an error it
// prints one finding a line.
type Findings []Finding

func (f Findings) Error() string {
	lines := make([]string, len(f))
	for i, one := range f {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// err keeps a nil list from becoming a non-nil error.
func (f Findings) err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// collector gathers errors and warnings of one source.
type collector struct {
	source   string
	errors   Findings
	warnings Findings
}

func (c *collector) errorf(pos Pos, format string, args ...any) {
	c.errors = append(c.errors, Finding{c.source, pos, fmt.Sprintf(format, args...)})
}

func (c *collector) warnf(pos Pos, format string, args ...any) {
	c.warnings = append(c.warnings, Finding{c.source, pos, fmt.Sprintf(format, args...)})
}
