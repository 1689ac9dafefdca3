package blockdev

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits on a document, so that aliases cannot make a small text a huge one.
const (
	maxDepth  = 64
	maxValues = 100_000
)

type valueKind uint8

const (
	nullValue valueKind = iota
	scalarValue
	listValue
	mapValue
)

func (k valueKind) String() string {
	return [...]string{"nothing", "a scalar", "a list", "a mapping"}[k]
}

// value is a YAML value that still knows how it was written: partition types
// such as 0700 and EF00 must reach the partition table as written.
type value struct {
	kind  valueKind
	text  string // of a scalar
	plain bool   // a scalar without quotes, so its text may mean a number or a boolean
	list  []value
	pairs []pair
	pos   Pos
}

type pair struct {
	key string
	pos Pos
	val value
}

func textValue(s string) value { return value{kind: scalarValue, text: s} }

func (v value) get(key string) (pair, bool) {
	for _, p := range v.pairs {
		if p.key == key {
			return p, true
		}
	}
	return pair{}, false
}

// yamlLine finds the line number in a message of the YAML parser.
var yamlLine = regexp.MustCompile(`line (\d+)`)

// readYAML turns a document into a value. Syntax errors go to c.
func readYAML(text []byte, c *collector) value {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return value{}
	}
	if err == nil {
		if more := dec.Decode(&second); !errors.Is(more, io.EOF) {
			if more == nil {
				c.errorf(Pos{second.Line, second.Column}, "more than one YAML document")
				return value{}
			}
			err = more
		}
	}
	if err != nil {
		var pos Pos
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			pos.Line, _ = strconv.Atoi(m[1])
			pos.Col = 1
		}
		c.errorf(pos, "cannot parse YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		return value{}
	}
	r := yamlReader{c: c}
	return r.value(&doc, 0)
}

type yamlReader struct {
	c      *collector
	values int
	full   bool
}

func (r *yamlReader) value(n *yaml.Node, depth int) value {
	pos := Pos{n.Line, n.Column}
	if r.values++; r.values > maxValues || depth > maxDepth {
		if !r.full {
			r.c.errorf(pos, "document is nested too deeply or too large")
			r.full = true
		}
		return value{pos: pos}
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return r.value(n.Content[0], depth+1)
	case yaml.AliasNode:
		return r.value(n.Alias, depth+1)
	case yaml.SequenceNode:
		v := value{kind: listValue, pos: pos}
		for _, e := range n.Content {
			v.list = append(v.list, r.value(e, depth+1))
		}
		return v
	case yaml.MappingNode:
		return r.mapping(n, depth)
	}
	plain := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	if plain && isNull(n.Value) {
		return value{pos: pos}
	}
	return value{kind: scalarValue, text: n.Value, plain: plain, pos: pos}
}

func (r *yamlReader) mapping(n *yaml.Node, depth int) value {
	v := value{kind: mapValue, pos: Pos{n.Line, n.Column}}
	var merged []pair
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, pos := n.Content[i], Pos{n.Content[i].Line, n.Content[i].Column}
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			r.c.errorf(pos, "a key must be a scalar")
			continue
		}
		val := r.value(n.Content[i+1], depth+1)
		if k.Tag == "!!merge" {
			merged = append(merged, mergePairs(val)...)
			continue
		}
		v.pairs = r.setPair(v.pairs, pair{k.Value, pos, val})
	}
	for _, p := range merged {
		if _, have := v.get(p.key); !have {
			v.pairs = append(v.pairs, p)
		}
	}
	return v
}

// setPair adds a key; of a repeated key the last one counts, in the first place.
func (r *yamlReader) setPair(pairs []pair, p pair) []pair {
	for i := range pairs {
		if pairs[i].key == p.key {
			r.c.warnf(p.pos, "key %q is given twice; the last one counts", p.key)
			pairs[i] = p
			return pairs
		}
	}
	return append(pairs, p)
}

func mergePairs(v value) []pair {
	if v.kind != listValue {
		return v.pairs
	}
	var all []pair
	for _, e := range v.list {
		all = append(all, e.pairs...)
	}
	return all
}

func isNull(s string) bool {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return true
	}
	return false
}

// Forms of YAML 1.1 (https://yaml.org/type/) that differ from YAML 1.2: an
// octal number has a leading 0, and base 60 exists.
var (
	intDecimal = regexp.MustCompile(`^[-+]?(0|[1-9][0-9_]*)$`)
	intOctal   = regexp.MustCompile(`^[-+]?0[0-7_]+$`)
	intHex     = regexp.MustCompile(`^[-+]?0x[0-9a-fA-F_]+$`)
	intBinary  = regexp.MustCompile(`^[-+]?0b[01_]+$`)
	intBase60  = regexp.MustCompile(`^[-+]?[1-9][0-9_]*(:[0-5]?[0-9])+$`)
)

// parseInt11 reads an integer as YAML 1.1 defines it.
func parseInt11(s string) (int64, bool) {
	digits := strings.ReplaceAll(strings.TrimLeft(s, "+-"), "_", "")
	base := 10
	switch {
	case intDecimal.MatchString(s):
	case intOctal.MatchString(s):
		base = 8
	case intHex.MatchString(s):
		base, digits = 16, digits[2:]
	case intBinary.MatchString(s):
		base, digits = 2, digits[2:]
	case intBase60.MatchString(s):
		sum := new(big.Int)
		for _, part := range strings.Split(digits, ":") {
			n, _ := new(big.Int).SetString(part, 10)
			sum.Add(sum.Mul(sum, big.NewInt(60)), n)
		}
		digits = sum.String()
	default:
		return 0, false
	}
	if strings.HasPrefix(s, "-") {
		digits = "-" + digits
	}
	n, err := strconv.ParseInt(digits, base, 64)
	return n, err == nil
}

func parseBool11(s string) (val, ok bool) {
	switch s {
	case "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON":
		return true, true
	case "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF":
		return false, true
	}
	return false, false
}

// MarshalJSON prints the value as a YAML 1.1 reader understands it, keys in
// document order.
func (v value) MarshalJSON() ([]byte, error) {
	switch v.kind {
	case nullValue:
		return []byte("null"), nil
	case listValue:
		return json.Marshal(append([]value{}, v.list...))
	case mapValue:
		return marshalPairs(v.pairs)
	}
	if v.plain {
		if n, ok := parseInt11(v.text); ok {
			return json.Marshal(n)
		}
		if b, ok := parseBool11(v.text); ok {
			return json.Marshal(b)
		}
	}
	return json.Marshal(v.text)
}

func marshalPairs(pairs []pair) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(p.key)
		if err != nil {
			return nil, err
		}
		val, err := p.val.MarshalJSON()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s:%s", key, val)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
