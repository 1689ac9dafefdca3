// Package finding collects what is wrong, or only doubtful, in a configuration,
// each with its place in the text.
package finding

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

// List is everything that is wrong in one configuration. As an error it
// prints one finding a line.
type List []Finding

func (f List) Error() string {
	lines := make([]string, len(f))
	for i, one := range f {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// Err gives the list as an error, nil when it is empty.
func (f List) Err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// Collector gathers errors and warnings about one source.
type Collector struct {
	Source   string // for the reader: a file name, an element
	Errors   List
	Warnings List
}

// Errorf adds an error.
func (c *Collector) Errorf(pos Pos, format string, args ...any) {
	c.Errors = append(c.Errors, Finding{c.Source, pos, fmt.Sprintf(format, args...)})
}

// Warnf adds a warning.
func (c *Collector) Warnf(pos Pos, format string, args ...any) {
	c.Warnings = append(c.Warnings, Finding{c.Source, pos, fmt.Sprintf(format, args...)})
}
