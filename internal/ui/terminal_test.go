package ui

import (
	"fmt"
	"strings"
)

// terminal is a small emulator of what the live view relies on: wrapping at the
// margin, carriage return, line feed, moving up and erasing below. Any other
// control sequence is an error, so that a new one cannot slip in untested.
type terminal struct {
	width    int
	rows     [][]rune
	row, col int
	writes   int
	unknown  []string
}

func newTerminal(width int) *terminal { return &terminal{width: width, rows: [][]rune{nil}} }

func (t *terminal) Write(p []byte) (int, error) {
	t.writes++
	for s := string(p); s != ""; {
		switch {
		case strings.HasPrefix(s, "\x1b["):
			end := strings.IndexAny(s[2:], "ABCDEFGHJKSTfhlmnsu") + 2
			t.control(s[2:end], s[end])
			s = s[end+1:]
		case s[0] == '\r':
			t.col, s = 0, s[1:]
		case s[0] == '\n':
			t.down()
			t.col, s = 0, s[1:]
		default:
			r := []rune(s)[0]
			t.put(r)
			s = s[len(string(r)):]
		}
	}
	return len(p), nil
}

func (t *terminal) down() {
	t.row++
	if t.row == len(t.rows) {
		t.rows = append(t.rows, nil)
	}
}

func (t *terminal) put(r rune) {
	if r < ' ' {
		t.unknown = append(t.unknown, fmt.Sprintf("%q", r))
	}
	if t.col == t.width {
		t.down()
		t.col = 0
	}
	for len(t.rows[t.row]) <= t.col {
		t.rows[t.row] = append(t.rows[t.row], ' ')
	}
	t.rows[t.row][t.col] = r
	t.col++
}

func (t *terminal) control(arg string, final byte) {
	n := 1
	_, _ = fmt.Sscan(arg, &n)
	switch {
	case final == 'A':
		t.row = max(0, t.row-n)
	case final == 'J' && arg == "":
		t.rows = t.rows[:t.row+1]
		t.rows[t.row] = t.rows[t.row][:min(t.col, len(t.rows[t.row]))]
	case final == 'm':
	default:
		t.unknown = append(t.unknown, arg+string(final))
	}
}

// resize changes the width and wraps the rows anew, as terminals do.
func (t *terminal) resize(width int) {
	var rows [][]rune
	for _, r := range t.rows {
		for len(r) > width {
			rows, r = append(rows, r[:width:width]), r[width:]
		}
		rows = append(rows, r)
	}
	t.width, t.rows = width, rows
	t.row = len(rows) - 1
	t.col = len(rows[t.row])
}

// String is what is to be seen, scrolled back to the start.
func (t *terminal) String() string {
	var lines []string
	for _, r := range t.rows {
		lines = append(lines, strings.TrimRight(string(r), " "))
	}
	return strings.Join(lines, "\n")
}
