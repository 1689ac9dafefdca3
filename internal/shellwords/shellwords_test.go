package shellwords

import (
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "  a  b ": "a|b", `-O "a b" c\ d`: "-O|a b|c d", `''`: "", `a''b`: "ab", `"\$x\y"`: `$x\y`, `'a\b'`: `a\b`,
		"a\\\nb": "ab",
	} {
		got, err := Split(in)
		if err != nil || strings.Join(got, "|") != want {
			t.Errorf("%q splits into %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{`'a`, `"a`, `a\`} {
		if got, err := Split(in); err == nil {
			t.Errorf("%q splits into %q; want an error", in, got)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add(`-i 4096 -J 'size=64' "a\"b" \`)
	f.Fuzz(func(t *testing.T, in string) {
		words, err := Split(in)
		if err != nil {
			return
		}
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		again, err := Split(strings.Join(quoted, " "))
		if err != nil || strings.Join(again, "\x00") != strings.Join(words, "\x00") {
			t.Errorf("%q: %q quoted splits into %q, %v", in, words, again, err)
		}
	})
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"": "''", "a/b-c_1.2:x=y,z@%+": "a/b-c_1.2:x=y,z@%+", "a b": "'a b'", "it's": `'it'\''s'`, "$x": "'$x'", "ä": "'ä'", "\xff\n": "'\xff\n'", "~": "'~'",
	} {
		got := Quote(in)
		if got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
		if words, err := Split(got); err != nil || len(words) != 1 || words[0] != in {
			t.Errorf("%s splits into %q, %v", got, words, err)
		}
	}
}
