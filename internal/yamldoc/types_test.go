package yamldoc

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/finding"
)

// TestTypes holds what PyYAML 6.0.3 (safe_load) makes of scalars.
func TestTypes(t *testing.T) {
	for want, texts := range map[string]string{
		"true":         "yes Yes YES true True TRUE on On ON",
		"false":        "no No NO false False FALSE off Off OFF",
		"a string":     `y n Y N yEs tRue 1e3 1.5e3 1E+3 0o10 0X10 08 -.5 +.5 1:60 01:30 0b12 1.2.3 2026-1-1 -.nan +.nan '10' "yes" = _1 !!str~10 10GiB`,
		"nothing":      "~ null Null NULL !!null~x",
		"a date":       "2026-01-01 2026-1-1~10:00:00 2026-01-01T10:00:00Z 2026-01-01t1:00:00~+02:00",
		"integer 10":   "10 +10 012 0xa 0b1010 1_0 !~10 !!int~10 !!int~'10'",
		"integer 1000": "1_000 1__000",
		"integer 90":   "1:30",
		"integer -90":  "-1:30",
		"integer 0":    "0 00 0_ -0",
		"number 1.5":   "1.5 1.5_ !!float~1.5 !!float~'1.5' 15.e-1",
		"number 0.5":   ".5 .5e+0 0.5",
		"number 2":     "2. 2.0 !!float~2",
		"number 68430": "19:00:30.0",
		"number +Inf":  ".inf .Inf .INF +.inf 1.e+400",
		"number -Inf":  "-.inf",
		"number NaN":   ".nan .NaN .NAN",
		"tag !!int does not fit \"x\", which is not an integer": "!!int~x",
		"tag !!binary is not known here":                        "!!binary~aGk=",
		"tag !mine is not known here":                           "!mine~x",
		"tag !!set is not known here":                           "!!set~{a}",
		"tag !!omap is not known here":                          "!!omap~[a:~1]",
	} {
		for text := range strings.FieldsSeq(texts) {
			text = strings.ReplaceAll(text, "~", " ")
			if text == " " {
				text = "~"
			}
			c := &finding.Collector{Source: "test"}
			v := Read([]byte("- "+text), c).List[0]
			got := v.Type().String()
			n, isNumber := v.Number()
			switch b, isBool := v.Bool(); {
			case len(c.Errors) > 0:
				got = c.Errors[0].Message
			case isBool:
				got = fmt.Sprint(b)
			case v.Type() == Int && isNumber:
				got = fmt.Sprintf("integer %.0f", n+0)
			case isNumber:
				got = fmt.Sprintf("number %v", n)
			}
			if got != want {
				t.Errorf("%q: got %s, want %s", text, got, want)
			}
		}
	}
}

func TestIntegersBeyond64Bit(t *testing.T) {
	const text = "123456789012345678901234567890"
	if n, ok := ParseInt(text); ok {
		t.Errorf("read as %d", n)
	}
	v := Read([]byte(text), &finding.Collector{})
	if n, ok := v.Number(); !ok || math.Abs(n/123456789012345678901234567890-1) > 1e-15 {
		t.Errorf("got %v, %v", n, ok)
	}
	if n, ok := Read([]byte("0x_"), &finding.Collector{}).Number(); ok {
		t.Errorf("a number without digits is %v", n)
	}
}

func TestMergeOrder(t *testing.T) {
	for text, want := range map[string]string{
		"[&a {x: 1, y: 1}, &b {y: 2, z: 2}, {z: 3, <<: [*a, *b]}]":      `{"y":1,"z":3,"x":1}`,
		"[&a {x: 1, y: 1}, &b {y: 2, z: 2}, {<<: *a, <<: *b}]":          `{"x":1,"y":2,"z":2}`,
		"[&a {x: 1, y: 1}, &b {y: 2, z: 2}, {<<: *a, y: 3, \"<<\": 4}]": `{"x":1,"y":3,"\u003c\u003c":4}`,
	} {
		c := &finding.Collector{Source: "test"}
		got, err := Read([]byte(text), c).List[2].MarshalJSON()
		if err != nil || string(got) != want || len(c.Errors)+len(c.Warnings) > 0 {
			t.Errorf("%s: got %s, %v, %v; want %s", text, got, err, c, want)
		}
	}
}

func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"- 'a\n\n":               "t:3:1: cannot parse YAML: found unexpected end of stream|while scanning a quoted scalar that begins in line 1",
		"x:\n  a: b: c":          "t:2:7: cannot parse YAML: mapping values are not allowed in this context|",
		"x:\n\t- a":              "t:2:1: cannot parse YAML: found character that cannot start any token|write text that begins with such a character in quotes; indent with blanks, not tabs",
		"- a\n- ä\xff":           "t:2:4: cannot parse YAML: byte 0xff is not UTF-8|",
		"- a\x01":                "t:1:4: cannot parse YAML: control character 0x01; write it as \"\\x01\"|",
		"a: *b":                  "t:1:4: cannot parse YAML: unknown anchor 'b' referenced|",
		"a\n---\nb":              "t:2:1: more than one YAML document|",
		"a: 1\n<<: b":            "t:2:5: \"<<\" merges a mapping or a list of mappings, not a scalar|",
		"<<: [{}, b]":            "t:1:10: \"<<\" merges mappings, not a scalar|",
		"[a]: b":                 "t:1:1: a key must be a scalar|",
		"- &a [*a]":              "t:1:7: document is nested too deeply or too large|",
		"a: 1\nb: 2\na: 3\nc: 4": "warning t:3:1: key \"a\" is given twice; the last one counts (the first is in line 1)",
	} {
		c := &finding.Collector{Source: "t", Text: []byte(text)}
		v := Read([]byte(text), c)
		got := ""
		switch {
		case len(c.Errors) == 1:
			got = c.Errors[0].String() + "|" + c.Errors[0].Hint
		case len(c.Errors) == 0 && len(c.Warnings) == 1:
			if p, _ := v.Get("a"); p.Val.Text != "3" || v.Pairs[0].Key != "a" {
				t.Errorf("the last does not count: %+v", v)
			}
			got = "warning " + c.Warnings[0].String()
		default:
			got = fmt.Sprintf("%+v", c)
		}
		if got != want {
			t.Errorf("%q: got\n%s\nwant\n%s", text, got, want)
		}
	}
}
