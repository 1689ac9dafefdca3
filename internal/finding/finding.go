// Package finding collects what is wrong, or only doubtful, in a text that
// people write, each with its place in the text.
package finding

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Pos is a place in a text; line and column (in characters) count from 1, and
// zero means that the place is not known.
type Pos struct {
	Line, Col int
}

// Finding is one thing that is wrong, or only doubtful, in a text.
type Finding struct {
	Source  string // what the text came from, for the reader: a file name, an element
	Pos     Pos
	Message string
	Hint    string // what to do about it; may be empty
	Line    string // the line of the text that Pos is in; empty if not known
}

// String gives the finding as compilers do: source:line:col: message.
func (f Finding) String() string {
	if f.Pos == (Pos{}) {
		return f.Source + ": " + f.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.Source, f.Pos.Line, f.Pos.Col, f.Message)
}

// Explain gives the finding as String does and below it the line that it is
// about, a caret under the place, and the hint.
func (f Finding) Explain() string {
	text := f.String()
	if line, caret := excerpt(f.Line, f.Pos.Col); line != "" {
		text += "\n    " + line + "\n    " + caret
	}
	if f.Hint != "" {
		text += "\n  " + f.Hint
	}
	return text
}

// Of a long line, this many characters before and after the place are shown.
const (
	shownBefore = 60
	shownAfter  = 40
)

// excerpt cuts a line around a column and makes the line to put below it,
// which points at that column.
func excerpt(line string, col int) (shown, caret string) {
	runes := []rune(line)
	if len(runes) == 0 || col < 1 || col > len(runes)+1 {
		return "", ""
	}
	at, before, after := col-1, "", ""
	if from := at - shownBefore; from > 0 {
		runes, at, before = runes[from:], shownBefore, "..."
	}
	if to := at + shownAfter; to < len(runes) {
		runes, after = runes[:to], "..."
	}
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", len(before)))
	for i, r := range runes {
		if r != '\t' && !unicode.IsPrint(r) {
			r = '?' // a terminal might obey it
			runes[i] = r
		}
		switch {
		case i >= at:
		case r == '\t':
			b.WriteByte('\t')
		default:
			b.WriteByte(' ')
		}
	}
	return before + string(runes) + after, b.String() + "^"
}

// List is everything that is wrong in one text. As an error it prints one
// finding a line.
type List []Finding

func (f List) Error() string { return f.join(Finding.String) }

// Explain gives every finding as Finding.Explain does.
func (f List) Explain() string { return f.join(Finding.Explain) }

func (f List) join(text func(Finding) string) string {
	parts := make([]string, len(f))
	for i, one := range f {
		parts[i] = text(one)
	}
	return strings.Join(parts, "\n")
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
	Text     []byte // where known, so that findings can quote the line they are about
	Errors   List
	Warnings List
}

// Errorf adds an error.
func (c *Collector) Errorf(pos Pos, format string, args ...any) {
	c.Errors = append(c.Errors, c.finding(len(c.Errors), pos, fmt.Sprintf(format, args...)))
}

// ErrorHint adds an error with a hint what to do about it, which may be empty.
func (c *Collector) ErrorHint(pos Pos, hint, message string) {
	f := c.finding(len(c.Errors), pos, message)
	f.Hint = hint
	c.Errors = append(c.Errors, f)
}

// Warnf adds a warning.
func (c *Collector) Warnf(pos Pos, format string, args ...any) {
	c.Warnings = append(c.Warnings, c.finding(len(c.Warnings), pos, fmt.Sprintf(format, args...)))
}

// quoted is how many findings quote their line: nobody reads more of them, and
// each has to look for it.
const quoted = 200

func (c *Collector) finding(before int, pos Pos, message string) Finding {
	f := Finding{Source: c.Source, Pos: pos, Message: message}
	if before < quoted {
		f.Line = lineOf(c.Text, pos.Line)
	}
	return f
}

// lineOf is the n-th line of a text, counted from 1 as YAML counts them: line
// feeds, carriage returns and Unicode's separators end lines.
func lineOf(text []byte, n int) string {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if n < 1 || !utf8.Valid(text) {
		return ""
	}
	for ; n > 1; n-- {
		end := bytes.IndexFunc(text, isBreak)
		if end < 0 {
			return ""
		}
		_, size := utf8.DecodeRune(text[end:])
		if bytes.HasPrefix(text[end:], []byte("\r\n")) {
			size = 2
		}
		text = text[end+size:]
	}
	if end := bytes.IndexFunc(text, isBreak); end >= 0 {
		text = text[:end]
	}
	return string(text)
}

func isBreak(r rune) bool {
	switch r {
	case '\n', '\r', '\u0085', '\u2028', '\u2029':
		return true
	}
	return false
}
