// Package yamldoc reads a YAML 1.1 document into values that still know how and
// where they were written.
package yamldoc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/dib-builder/dib/internal/finding"
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

	typ Type // of a scalar
}

// Pair is a key of a mapping and its value.
type Pair struct {
	Key  string      // as written
	Type Type        // of the key: most are strings
	Pos  finding.Pos // of the key
	Val  Value
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
func Text(s string) Value { return Value{Kind: Scalar, Text: s, typ: String} }

// Read turns a document into a value, that of an empty one being Null. Syntax
// errors go to c.
func Read(text []byte, c *finding.Collector) Value {
	if pos, problem := badCharacter(text); problem != "" {
		c.Errorf(pos, "cannot parse YAML: %s", problem)
		return Value{}
	}
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
		syntaxError(err, c)
		return Value{}
	}
	r := reader{c: c}
	return r.read(&doc, 0)
}

// syntaxError reports an error of the YAML parser where it was found, and
// where what it belongs to began.
func syntaxError(err error, c *finding.Collector) {
	var at *yaml.LoadError
	if !errors.As(err, &at) {
		c.Errorf(finding.Pos{}, "cannot parse YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		return
	}
	var pos finding.Pos
	if at.Mark.Line > 0 {
		pos = finding.Pos{Line: at.Mark.Line, Col: max(at.Mark.Column, 1)}
	}
	hint := ""
	if at.ContextMsg != "" && at.ContextMark.Line > 0 {
		hint = fmt.Sprintf("%s that begins in line %d", at.ContextMsg, at.ContextMark.Line)
	}
	if at.Message == "found character that cannot start any token" {
		hint = "write text that begins with such a character in quotes; indent with blanks, not tabs"
	}
	if at.Message == "did not find expected '-' indicator" {
		hint = strings.TrimSpace(hint + "\n  every item of a list begins in the same column: correct the indentation")
	}
	c.ErrorHint(pos, hint, "cannot parse YAML: "+at.Message)
}

// badCharacter finds what no YAML text may have, because the parser does not
// say where it is. UTF-16 is left to the parser.
func badCharacter(text []byte) (finding.Pos, string) {
	if bytes.HasPrefix(text, []byte("\xfe\xff")) || bytes.HasPrefix(text, []byte("\xff\xfe")) {
		return finding.Pos{}, ""
	}
	pos := finding.Pos{Line: 1, Col: 1}
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			return pos, fmt.Sprintf("byte 0x%02x is not UTF-8", text[0])
		case r == '\n':
			pos = finding.Pos{Line: pos.Line + 1}
		case r < ' ' && r != '\t' && r != '\r', r == 0x7f:
			return pos, fmt.Sprintf("control character 0x%02x; write it as \"\\x%02x\"", r, r)
		}
		pos.Col++
		text = text[size:]
	}
	return pos, ""
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
		r.checkCollectionTag(n, "!!seq")
		v := Value{Kind: List, Pos: pos}
		for _, e := range n.Content {
			v.List = append(v.List, r.read(e, depth+1))
		}
		return v
	case yaml.MappingNode:
		r.checkCollectionTag(n, "!!map")
		return r.mapping(n, depth)
	}
	t, err := typeOf(n)
	if err != nil {
		r.c.Errorf(pos, "%v", err)
	}
	if t == Nothing {
		return Value{Pos: pos}
	}
	return Value{Kind: Scalar, Text: n.Value, typ: t, Pos: pos}
}

// typeOf decides what a scalar is.
func typeOf(n *yaml.Node) (Type, error) {
	if n.Style&yaml.TaggedStyle != 0 {
		return taggedType(n.ShortTag(), n.Value)
	}
	const quoted = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	if n.Style&quoted != 0 {
		return String, nil
	}
	return plainType(n.Value), nil
}

// checkCollectionTag refuses tags that make something else of a list or a mapping.
func (r *reader) checkCollectionTag(n *yaml.Node, want string) {
	if tag := n.ShortTag(); n.Style&yaml.TaggedStyle != 0 && tag != want {
		r.c.Errorf(posOf(n), "tag %s is not known here", tag)
	}
}

// mapping reads a mapping. As PyYAML has it, merged keys come first, keys of
// the mapping itself replace them, and so does a later "<<" an earlier one; of
// a list of mappings to merge, the first that has a key counts.
func (r *reader) mapping(n *yaml.Node, depth int) Value {
	v := Value{Kind: Map, Pos: posOf(n)}
	var merged, own Pairs
	first := map[string]int{} // line of a key
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
			merged = append(merged, r.mergePairs(val)...)
			continue
		}
		t, err := typeOf(k)
		if err != nil {
			r.c.Errorf(pos, "%v", err)
		}
		if line, again := first[k.Value]; again {
			r.c.Warnf(pos, "key %q is given twice; the last one counts (the first is in line %d)", k.Value, line)
		} else {
			first[k.Value] = pos.Line
		}
		own = append(own, Pair{k.Value, t, pos, val})
	}
	at := map[string]int{} // place of a key in v.Pairs
	for _, p := range slices.Concat(merged, own) {
		if place, have := at[p.Key]; have {
			v.Pairs[place] = p
			continue
		}
		at[p.Key] = len(v.Pairs)
		v.Pairs = append(v.Pairs, p)
	}
	return v
}

// Set replaces a key in its place, or adds it at the end.
func (ps Pairs) Set(p Pair) Pairs {
	for i := range ps {
		if ps[i].Key == p.Key {
			ps[i] = p
			return ps
		}
	}
	return append(ps, p)
}

// mergePairs lists the keys of a mapping, or of a list of them, that "<<" asks for.
func (r *reader) mergePairs(v Value) Pairs {
	switch v.Kind {
	case Map:
		return v.Pairs
	case List:
		var all Pairs
		for _, e := range slices.Backward(v.List) {
			if e.Kind != Map {
				r.c.Errorf(e.Pos, "%q merges mappings, not %s", "<<", e.Kind)
			}
			all = append(all, e.Pairs...)
		}
		return all
	}
	r.c.Errorf(v.Pos, "%q merges a mapping or a list of mappings, not %s", "<<", v.Kind)
	return nil
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
	switch v.typ {
	case Int:
		if n, ok := ParseInt(v.Text); ok {
			return json.Marshal(n)
		}
	case Bool:
		b, _ := v.Bool()
		return json.Marshal(b)
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
