// Package deb reads the formats of the Debian archive: control stanzas,
// versions, dependencies, packages (.deb), Release files and apt's sources.
//
// Everything here is pure parsing; the rules are those of Debian Policy
// (chapters 5 and 7), deb(5), deb-control(5), sources.list(5) and the
// repository format. Writing packages and source packages are left out.
package deb

import (
	"fmt"
	"strings"
)

// Field is one field of a stanza. Value is as written after the colon, without
// blanks around it; continuation lines keep their newline and leading blank, also when
// the first line is empty.
type Field struct{ Name, Value string }

// Stanza is a paragraph of a control file, fields in their order.
type Stanza []Field

// Get returns the value of a field, case-insensitively, or "".
func (s Stanza) Get(name string) string {
	for _, f := range s {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// SyntaxError is a place in a file of this package's formats that breaks its rules.
type SyntaxError struct {
	Line int // counted from 1
	Msg  string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

// scanFields calls field for each field of text and end after each stanza, in
// order. It allocates nothing, values are substrings of text: an index of
// 50 MB is a usual input. Lines that begin with '#' between fields are comments.
func scanFields(text string, field func(name, value string), end func() error) error {
	line, inStanza := 0, false
	finish := func() error {
		if !inStanza {
			return nil
		}
		inStanza = false
		if err := end(); err != nil {
			return fmt.Errorf("stanza that ends at line %d: %w", line, err)
		}
		return nil
	}
	for pos := 0; pos < len(text); {
		line++
		start, stop := pos, lineEnd(text, pos)
		pos = stop + 1
		if isBlank(text[start:stop]) {
			if err := finish(); err != nil {
				return err
			}
			continue
		}
		if text[start] == '#' {
			continue
		}
		colon := strings.IndexByte(text[start:stop], ':')
		if colon <= 0 || strings.IndexByte(" \t-", text[start]) >= 0 {
			return &SyntaxError{Line: line, Msg: fmt.Sprintf("%.60q is not a field", text[start:stop])}
		}
		name := text[start : start+colon]
		for pos < len(text) && (text[pos] == ' ' || text[pos] == '\t') {
			next := lineEnd(text, pos)
			if isBlank(text[pos:next]) {
				break
			}
			line++
			stop, pos = next, next+1
		}
		inStanza = true
		field(name, strings.TrimRight(strings.TrimLeft(text[start+colon+1:stop], " \t"), " \t\r\n"))
	}
	return finish()
}

// lineEnd is the index of the newline that ends the line at pos, or len(text).
func lineEnd(text string, pos int) int {
	if i := strings.IndexByte(text[pos:], '\n'); i >= 0 {
		return pos + i
	}
	return len(text)
}

func isBlank(line string) bool {
	return line == "" || (line[0] <= ' ' && strings.TrimSpace(line) == "")
}

// ParseStanzas reads all stanzas of a control file, such as a package's
// control file, dpkg's status database or apt's extended_states.
func ParseStanzas(text string) ([]Stanza, error) {
	var all []Stanza
	var cur Stanza
	err := scanFields(text,
		func(name, value string) { cur = append(cur, Field{name, value}) },
		func() error { all, cur = append(all, cur), nil; return nil })
	return all, err
}
