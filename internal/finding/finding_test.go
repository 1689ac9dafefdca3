package finding

import (
	"strings"
	"testing"
)

func TestCollector(t *testing.T) {
	c := &Collector{Source: "x.yaml"}
	c.Warnf(Pos{}, "odd")
	if err := c.Errors.Err(); err != nil {
		t.Errorf("a warning alone is an error: %v", err)
	}
	c.Errorf(Pos{Line: 2, Col: 3}, "no %s", "disk")
	c.Errorf(Pos{}, "nothing")
	if got, want := c.Errors.Err().Error(), "x.yaml:2:3: no disk\nx.yaml: nothing"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	if len(c.Warnings) != 1 || c.Warnings[0].String() != "x.yaml: odd" {
		t.Errorf("warnings %v", c.Warnings)
	}
}

func TestExplain(t *testing.T) {
	long := strings.Repeat("a", 100) + "X" + strings.Repeat("b", 100)
	text := "first\r\n\täö: b\x1b\rlast\u2028" + long + "\n"
	for _, tc := range []struct {
		summary string
		pos     Pos
		want    []string
	}{
		{"a line feed after a carriage return is no line", Pos{2, 5}, []string{"x:2:5: bad", "    \täö: b?", "    \t   ^"}},
		{"the place behind a line", Pos{3, 5}, []string{"x:3:5: bad", "    last", "        ^"}},
		{"a long line is cut", Pos{4, 101}, []string{"x:4:101: bad",
			"    ..." + strings.Repeat("a", 60) + "X" + strings.Repeat("b", 39) + "...", "    " + strings.Repeat(" ", 63) + "^"}},
		{"no such line", Pos{9, 1}, []string{"x:9:1: bad"}},
		{"no such column", Pos{1, 9}, []string{"x:1:9: bad"}},
		{"no place", Pos{}, []string{"x: bad"}},
	} {
		c := &Collector{Source: "x", Text: []byte(text)}
		c.ErrorHint(tc.pos, "mend it", "bad")
		if got, want := c.Errors.Explain(), strings.Join(tc.want, "\n")+"\n  mend it"; got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", tc.summary, got, want)
		}
	}
}
