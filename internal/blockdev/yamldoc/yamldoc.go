// Package yamldoc reads a YAML 1.1 document into values that still know how and
// where they were written.
package yamldoc

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

	"github.com/dib-builder/dib/internal/blockdev/finding"
)

// Limits on a document, so that aliases cannot make a small text a huge one.
const (
	maxDepth  = 64
	maxValues = 100_000
)

// Kind is what a value is.
type Kind uint8

// The kinds of values.
const (
	Null   Kind = iota
	Scalar      // a text, number or boolean
	List
	Map
)

// String names the kind in a message, with its article.
func (k Kind) String() string {
	return [...]string{"nothing", "a scalar", "a list", "a mapping"}[k]
}

// Value is a YAML value that still knows how it was written: partition types
// such as 0700 and EF00 must reach the partition table as written.
type Value struct {
	Kind  Kind
	Text  string  // of a scalar, as written
	List  []Value // of a list
	Pairs Pairs   // of a mapping, in document order, each key once
	Pos   finding.Pos

	plain bool // a scalar without quotes, so its text may mean a number or a boolean
}

// Pair is a key of a mapping and its value.
type Pair struct {
	Key string
	Pos finding.Pos // of the key
	Val Value
}

// Pairs is the content of a mapping.
type Pairs []Pair

// Get finds a key.
func (ps Pairs) Get(key string) (Pair, bool) {
	for _, p := range ps {
		if p.Key == key {
			return p, true
		}
	}
	return Pair{}, false
}

// Get finds a key of a mapping; other values have none.
func (v Value) Get(key string) (Pair, bool) { return v.Pairs.Get(key) }

// Text makes the value of a text.
func Text(s string) Value { return Value{Kind: Scalar, Text: s} }

// yamlLine finds the line number in a message of the YAML parser.
var yamlLine = regexp.MustCompile(`line (\d+)`)

// Read turns a document into a value, that of an empty one being Null. Syntax
// errors go to c.
func Read(text []byte, c *finding.Collector) Value {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return Value{}
	}
	if err == nil {
		if more := dec.Decode(&second); !errors.Is(more, io.EOF) {
			if more == nil {
				c.Errorf(posOf(&second), "more than one YAML document")
				return Value{}
			}
			err = more
		}
	}
	if err != nil {
		var pos finding.Pos
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			pos.Line, _ = strconv.Atoi(m[1])
			pos.Col = 1
		}
		c.Errorf(pos, "cannot parse YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		return Value{}
	}
	r := reader{c: c}
	return r.read(&doc, 0)
}

type reader struct {
	c      *finding.Collector
	values int
	full   bool
}

func posOf(n *yaml.Node) finding.Pos { return finding.Pos{Line: n.Line, Col: n.Column} }

func (r *reader) read(n *yaml.Node, depth int) Value {
	pos := posOf(n)
	if r.values++; r.values > maxValues || depth > maxDepth {
		if !r.full {
			r.c.Errorf(pos, "document is nested too deeply or too large")
			r.full = true
		}
		return Value{Pos: pos}
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return r.read(n.Content[0], depth+1)
	case yaml.AliasNode:
		return r.read(n.Alias, depth+1)
	case yaml.SequenceNode:
		v := Value{Kind: List, Pos: pos}
		for _, e := range n.Content {
			v.List = append(v.List, r.read(e, depth+1))
		}
		return v
	case yaml.MappingNode:
		return r.mapping(n, depth)
	}
	plain := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	if plain && isNull(n.Value) {
		return Value{Pos: pos}
	}
	return Value{Kind: Scalar, Text: n.Value, plain: plain, Pos: pos}
}

func (r *reader) mapping(n *yaml.Node, depth int) Value {
	v := Value{Kind: Map, Pos: posOf(n)}
	var merged Pairs
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, pos := n.Content[i], posOf(n.Content[i])
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			r.c.Errorf(pos, "a key must be a scalar")
			continue
		}
		val := r.read(n.Content[i+1], depth+1)
		if k.Tag == "!!merge" {
			merged = append(merged, mergePairs(val)...)
			continue
		}
		v.Pairs = r.setPair(v.Pairs, Pair{k.Value, pos, val})
	}
	for _, p := range merged {
		if _, have := v.Get(p.Key); !have {
			v.Pairs = append(v.Pairs, p)
		}
	}
	return v
}

// setPair adds a key; of a repeated key the last one counts, in the first place.
func (r *reader) setPair(pairs Pairs, p Pair) Pairs {
	for i := range pairs {
		if pairs[i].Key == p.Key {
			r.c.Warnf(p.Pos, "key %q is given twice; the last one counts", p.Key)
			pairs[i] = p
			return pairs
		}
	}
	return append(pairs, p)
}

func mergePairs(v Value) Pairs {
	if v.Kind != List {
		return v.Pairs
	}
	var all Pairs
	for _, e := range v.List {
		all = append(all, e.Pairs...)
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

// ParseInt reads an integer as YAML 1.1 defines it.
func ParseInt(s string) (int64, bool) {
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

func parseBool(s string) (val, ok bool) {
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
func (v Value) MarshalJSON() ([]byte, error) {
	switch v.Kind {
	case Null:
		return []byte("null"), nil
	case List:
		return json.Marshal(append([]Value{}, v.List...))
	case Map:
		return marshalPairs(v.Pairs)
	}
	if v.plain {
		if n, ok := ParseInt(v.Text); ok {
			return json.Marshal(n)
		}
		if b, ok := parseBool(v.Text); ok {
			return json.Marshal(b)
		}
	}
	return json.Marshal(v.Text)
}

func marshalPairs(pairs Pairs) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(p.Key)
		if err != nil {
			return nil, err
		}
		val, err := p.Val.MarshalJSON()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s:%s", key, val)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
