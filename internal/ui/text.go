package ui

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// printable prepares a line of the log for a terminal that shows status lines.
// Colours stay; other control characters would move the cursor and are shown as
// ^X. Of text that overwrites itself with carriage returns, the last state is
// shown. Logs on pipes and in files are not treated so.
func printable(text []byte) []byte {
	text = bytes.TrimRight(text, "\r")
	if i := bytes.LastIndexByte(text, '\r'); i >= 0 {
		text = text[i+1:]
	}
	var b []byte
	coloured := false
	for len(text) > 0 {
		if n := colour(text); n > 0 {
			b, text, coloured = append(b, text[:n]...), text[n:], true
			continue
		}
		r, size := utf8.DecodeRune(text)
		switch {
		case r == '\t' || r == utf8.RuneError:
			b = append(b, text[:size]...)
		case r < ' ' || r == 0x7f:
			b = append(b, '^', byte(r)^0x40)
		case r >= 0x80 && r < 0xa0: // control characters in their 8-bit form
			b = append(b, '?')
		default:
			b = append(b, text[:size]...)
		}
		text = text[size:]
	}
	if coloured {
		b = append(b, "\x1b[0m"...)
	}
	return b
}

// colour is the length of the escape sequence for colour and weight (SGR of
// ECMA-48) that text begins with, or 0.
func colour(text []byte) int {
	rest, ok := bytes.CutPrefix(text, []byte("\x1b["))
	if !ok {
		return 0
	}
	for i, c := range rest {
		switch {
		case c == 'm':
			return i + 3
		case (c < '0' || c > '9') && c != ';' && c != ':':
			return 0
		}
	}
	return 0
}

// columns is how many columns a status line takes at most: characters beyond
// the alphabets count twice, as East Asian ones do.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	if r >= 0x1100 && r != utf8.RuneError {
		return 2
	}
	return 1
}

// fit cuts a status line to less than width columns, so that the cursor never
// reaches the margin, where terminals differ in when they wrap.
func fit(s string, width int) string {
	s = strings.ReplaceAll(string(printable([]byte(s))), "\t", " ")
	left := width - 1
	for i, r := range s {
		if left -= runeColumns(r); left < 0 {
			return s[:i]
		}
	}
	return s
}
