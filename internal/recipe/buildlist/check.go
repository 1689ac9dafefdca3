package buildlist

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/finding"
	"github.com/dib-builder/dib/internal/secret"
	"github.com/dib-builder/dib/internal/similar"
	"github.com/dib-builder/dib/internal/yamldoc"
)

// checker reports what does not fit the table of keys.
type checker struct {
	table []key
	c     *finding.Collector
}

// checkDocument checks the content of one file and takes it apart.
func checkDocument(doc yamldoc.Value, table []key, c *finding.Collector) []entry {
	switch doc.Kind {
	case yamldoc.Null:
		return nil
	case yamldoc.List:
	default:
		hint := ""
		if doc.Kind == yamldoc.Map {
			hint = `begin each image with "- ", and indent the keys that follow by two blanks`
		}
		c.ErrorHint(doc.Pos, hint, "want a list of images, got "+doc.Type().String())
		return nil
	}
	ck := checker{table, c}
	var entries []entry
	for _, v := range doc.List {
		if v.Kind != yamldoc.Map {
			c.ErrorHint(v.Pos, "", "an image is a mapping of keys to values, not "+v.Type().String())
			continue
		}
		for _, p := range v.Pairs {
			ck.pair(p)
		}
		entries = append(entries, entry{source: c, pairs: v.Pairs})
	}
	return entries
}

func (ck checker) pair(p yamldoc.Pair) {
	k, ok := find(ck.table, p.Key)
	if !ok || p.Type != yamldoc.String {
		ck.c.ErrorHint(p.Pos, ck.suggestKey(p.Key), fmt.Sprintf("unknown key %q", p.Key))
		return
	}
	if p.Val.Type() == yamldoc.Nothing {
		ck.c.ErrorHint(p.Pos, "write a value, or remove the key", fmt.Sprintf("key %q has no value", k.name))
		return
	}
	switch k.kind {
	case kindTextList:
		ck.list(k, p.Val)
	case kindTextMap:
		ck.mapping(k, p.Val)
	default:
		ck.scalar(k, p.Val)
	}
}

// suggestKey is the hint for an unknown key.
func (ck checker) suggestKey(word string) string {
	word = strings.ReplaceAll(strings.ToLower(strings.TrimLeft(word, "-")), "_", "-")
	var names []string
	for _, k := range ck.table {
		if k.name == word || slices.Contains(k.also, word) {
			return fmt.Sprintf("did you mean %q?", k.name)
		}
		names = append(names, k.name)
	}
	if near := similar.Words(word, names); len(near) > 0 {
		return fmt.Sprintf("did you mean %q?", near[0])
	}
	return `"diskimage-builder --help" describes all keys`
}

func (ck checker) list(k key, v yamldoc.Value) {
	if v.Kind != yamldoc.List {
		hint := ""
		if v.Kind == yamldoc.Scalar {
			words := strings.FieldsFunc(v.Text, func(r rune) bool { return r == ' ' || r == ',' })
			hint = fmt.Sprintf("write a list: [%s]", strings.Join(words, ", "))
		}
		ck.wrong(k, v, hint)
		return
	}
	for _, item := range v.List {
		if !ck.isText(fmt.Sprintf("an item of key %q", k.name), item) || len(k.choices) == 0 {
			continue
		}
		ck.isChoice(k, item)
	}
}

func (ck checker) mapping(k key, v yamldoc.Value) {
	if v.Kind != yamldoc.Map {
		hint := "write NAME: \"value\", one a line, indented below the key"
		if v.Kind == yamldoc.List {
			hint = "write NAME: \"value\", one a line, without the \"-\" of a list"
		}
		ck.wrong(k, v, hint)
		return
	}
	for _, p := range v.Pairs {
		switch {
		case p.Type != yamldoc.String:
			ck.c.ErrorHint(p.Pos, fmt.Sprintf("put it in quotes: %q", p.Key), fmt.Sprintf("a name in key %q must be a string, not %s", k.name, p.Type))
		case !nameFits(p.Key):
			ck.c.ErrorHint(p.Pos, "", fmt.Sprintf("key %q cannot have the name %q: it must not be empty nor have \"=\" or a NUL in it", k.name, p.Key))
		}
		if !ck.isText(fmt.Sprintf("%q in key %q", p.Key, k.name), p.Val) && (secret.Rules{}).Secret(p.Key, p.Val.Text) {
			// The line would show the secret, and so does the advice how to quote it.
			last := &ck.c.Errors[len(ck.c.Errors)-1]
			last.Line, last.Hint = "", "put it in quotes"
		}
	}
}

func (ck checker) scalar(k key, v yamldoc.Value) {
	switch k.kind {
	case kindText, kindChoice:
		if ck.isText(fmt.Sprintf("key %q", k.name), v) && k.kind == kindChoice {
			ck.isChoice(k, v)
		}
	case kindFlag:
		if _, ok := v.Bool(); !ok {
			ck.wrong(k, v, flagHint(v))
		}
	default:
		n, ok := v.Number()
		if ok && k.numberFits(n) {
			ck.warnOfForm(k, v, n)
			return
		}
		hint := ""
		if v.Type() == yamldoc.String {
			hint = "write a number, without quotes or a unit"
		}
		ck.wrong(k, v, hint)
	}
}

// numberFits tells whether a number is in the range of its key.
func (k key) numberFits(n float64) bool {
	switch k.kind {
	case kindLevel:
		return n == float64(int64(n)) && n >= 0 && n <= float64(k.max)
	case kindInteger:
		return n >= 1 && n <= maxNumber && n == float64(int64(n))
	}
	return n > 0 && n <= maxNumber
}

// warnOfForm warns of numbers that are not what they look like to most people.
func (ck checker) warnOfForm(k key, v yamldoc.Value, n float64) {
	digits := strings.TrimLeft(v.Text, "+")
	if len(digits) > 1 && digits[0] == '0' && strings.Trim(digits, "01234567") == "" {
		ck.c.Warnf(v.Pos, "%s of key %q is an octal number in YAML: %s", v.Text, k.name, k.quantity(n))
	}
	if strings.Contains(digits, ":") {
		ck.c.Warnf(v.Pos, "%s of key %q is a number of base 60 in YAML: %s", v.Text, k.name, k.quantity(n))
	}
}

func (k key) quantity(n float64) string { return strings.TrimSpace(fmt.Sprintf("%g %s", n, k.unit)) }

// flagHint is how to write the boolean that was probably meant.
func flagHint(v yamldoc.Value) string {
	switch strings.ToLower(v.Text) {
	case "true", "yes", "on", "y", "t", "1":
		return "write true, without quotes"
	case "false", "no", "off", "n", "f", "0":
		return "write false, without quotes"
	}
	return ""
}

// isText checks for a string that a program can be given.
func (ck checker) isText(what string, v yamldoc.Value) bool {
	switch {
	case v.Type() != yamldoc.String:
		hint := ""
		if v.Kind == yamldoc.Scalar {
			hint = fmt.Sprintf("put it in quotes: %q", v.Text)
		}
		ck.c.ErrorHint(v.Pos, hint, fmt.Sprintf("%s must be a string, not %s", what, v.Type()))
		return false
	case strings.Contains(v.Text, "\x00"):
		ck.c.ErrorHint(v.Pos, "", what+" has a NUL byte in it, which no program can be given")
		return false
	}
	return true
}

func (ck checker) isChoice(k key, v yamldoc.Value) {
	if slices.Contains(k.choices, v.Text) {
		return
	}
	hint := ""
	if near := similar.Words(v.Text, k.choices); len(near) > 0 {
		hint = fmt.Sprintf("did you mean %q?", near[0])
	}
	ck.c.ErrorHint(v.Pos, hint, fmt.Sprintf("%q is nothing that key %q knows; want %s", v.Text, k.name, k.wants()))
}

func (ck checker) wrong(k key, v yamldoc.Value, hint string) {
	got := v.Type().String()
	if v.Kind == yamldoc.Scalar {
		got += fmt.Sprintf(" (%s)", v.Text)
	}
	ck.c.ErrorHint(v.Pos, hint, fmt.Sprintf("key %q wants %s, got %s", k.name, k.wants(), got))
}

// nameFits tells whether a variable can have the name.
func nameFits(name string) bool { return name != "" && !strings.ContainsAny(name, "=\x00") }
