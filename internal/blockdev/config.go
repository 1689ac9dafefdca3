// Package blockdev turns a block-device configuration (YAML) into a Layout:
// the exact place, size and identity of every partition and filesystem.
//
// It is pure arithmetic. Nothing here opens a device or a file.
//
// The way of a configuration is: Parse checks what can be known from the text
// alone, Merge fills in what options of the build decide, Layout computes.
package blockdev

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Fallback is the configuration of a build without any block-device element:
// one filesystem on the whole disk.
const Fallback = `- local_loop:
    name: image0
    mkfs:
      name: mkfs_root
      mount:
        mount_point: /
        fstab:
          options: defaults
          fsck-passno: 1
`

// rootNode is the filesystem that the options of the build apply to.
const rootNode = "mkfs_root"

// plugins are the keys an item may have.
var plugins = []string{"local_loop", "partitioning", "lvm", "mkfs", "mount", "fstab"}

func isPlugin(key string) bool { return slices.Contains(plugins, key) }

// Item is one entry of a normalised configuration: flat, with its name and the
// name of what it builds on.
type Item struct {
	Kind string // one of the plugin names: "local_loop", "mkfs", ...
	Name string
	Base string // empty for the root of the graph

	pos   Pos
	attrs []pair // all options without nested items, name and base included
}

// MarshalJSON prints the item as config.json holds it: an object with one key.
func (it Item) MarshalJSON() ([]byte, error) {
	return value{kind: mapValue, pairs: []pair{{key: it.Kind, val: value{kind: mapValue, pairs: it.attrs}}}}.MarshalJSON()
}

func (it Item) get(key string) (pair, bool) { return value{pairs: it.attrs}.get(key) }

// Config is a configuration in graph form that passed all checks its text
// allows.
type Config struct {
	Source   string
	Items    []Item    // nested items before the item that holds them
	Warnings []Finding // what is accepted, but probably not meant

	nodes  nodeSet
	merged bool
}

// MarshalJSON prints the content of config.json: the normalised list.
func (c *Config) MarshalJSON() ([]byte, error) {
	return json.Marshal(append([]Item{}, c.Items...))
}

// Parse reads a configuration in tree or graph form. source names the text in
// findings. The error is of type Findings and holds everything that is wrong.
func Parse(source string, text []byte) (*Config, error) {
	c := &collector{source: source}
	cfg := parse(c, text)
	cfg.nodes = readNodes(cfg.Items, c, false)
	cfg.Warnings = c.warnings
	return cfg, c.errors.err()
}

// Check parses and merges a configuration and looks for anything that would
// stop Layout for want of support, reporting all findings at once. It is what
// a plan calls, hours before the disk is written.
func Check(source string, text []byte, p Params) (*Config, error) {
	c := &collector{source: source}
	cfg := parse(c, text)
	cfg.merge(p)
	cfg.nodes = readNodes(cfg.Items, c, true)
	cfg.Warnings = c.warnings
	cfg.supported(c)
	return cfg, c.errors.err()
}

func parse(c *collector, text []byte) *Config {
	n := normaliser{c: c}
	doc := readYAML(text, c)
	switch {
	case doc.kind == listValue:
		for _, e := range doc.list {
			n.topLevel(e)
		}
	case len(c.errors) > 0:
	case doc.kind == nullValue:
		c.errorf(doc.pos, "configuration is empty; want a list of items such as \"- local_loop: {name: image0}\"")
	case doc.kind == mapValue && len(doc.pairs) > 0:
		c.errorf(doc.pos, "Config entry not a dict: %s (the document must be a list: put \"- \" before each item)", doc.pairs[0].key)
	default:
		c.errorf(doc.pos, "Config entry not a dict: the document must be a list of items")
	}
	return &Config{Source: c.source, Items: n.items}
}

// normaliser flattens the tree form: nested items come out before the item
// that holds them, with explicit names and bases.
type normaliser struct {
	c     *collector
	items []Item
}

func (n *normaliser) topLevel(v value) {
	switch {
	case v.kind != mapValue:
		n.c.errorf(v.pos, "Config entry not a dict: %s", describe(v))
	case len(v.pairs) != 1:
		n.c.errorf(v.pos, "Config entry top-level should be a single dict: %s", describe(v))
	case !isPlugin(v.pairs[0].key):
		n.c.errorf(v.pairs[0].pos, "Config entry is not a plugin value: %s (known are %s)", v.pairs[0].key, strings.Join(plugins, ", "))
	default:
		n.item(v.pairs[0], "")
	}
}

func (n *normaliser) item(p pair, parent string) {
	kind, body := p.key, p.val
	if body.kind != mapValue && body.kind != nullValue {
		n.c.errorf(body.pos, "%s: want a mapping of options, not %s", kind, body.kind)
		return
	}
	it := Item{Kind: kind, Base: parent, pos: p.pos}
	if b, ok := body.get("base"); ok {
		it.Base = n.base(kind, b)
	}
	if name, ok := body.get("name"); ok {
		it.Name, _ = n.text(kind, name)
	} else if it.Base != "" {
		it.Name = kind + "_" + it.Base
	} else {
		n.c.errorf(p.pos, "%s: no 'name', and no 'base' to make one from", kind)
	}
	it.attrs = n.head(body, it)
	for _, a := range body.pairs {
		switch {
		case a.key == "name" || a.key == "base":
		case a.key == "partitions":
			it.attrs = append(it.attrs, pair{a.key, a.pos, n.partitions(a.val, it)})
		case isPlugin(a.key):
			n.item(a, it.Name)
		default:
			it.attrs = append(it.attrs, a)
		}
	}
	n.items = append(n.items, it)
}

// head gives base and name as options of their own, as config.json has them.
func (n *normaliser) head(body value, it Item) []pair {
	var attrs []pair
	if b, ok := body.get("base"); ok && b.val.kind == listValue {
		attrs = append(attrs, b) // of an lvm item
	} else if it.Base != "" {
		attrs = append(attrs, pair{"base", b.pos, textValue(it.Base)})
	}
	return append(attrs, pair{"name", it.pos, textValue(it.Name)})
}

// base reads the option base. Only lvm has a list there, which nothing but its
// generated name depends on.
func (n *normaliser) base(kind string, b pair) string {
	if b.val.kind == listValue {
		names := make([]string, 0, len(b.val.list))
		for _, e := range b.val.list {
			names = append(names, e.text)
		}
		if kind != "lvm" && len(names) != 1 {
			n.c.errorf(b.pos, "%s: base must be one name", kind)
			return ""
		}
		return strings.Join(names, "_")
	}
	s, _ := n.text(kind, b)
	return s
}

func (n *normaliser) text(kind string, p pair) (string, bool) {
	if p.val.kind != scalarValue || p.val.text == "" {
		n.c.errorf(p.pos, "%s: %s must be a text, not %s", kind, p.key, describe(p.val))
		return "", false
	}
	return p.val.text, true
}

func (n *normaliser) partitions(v value, it Item) value {
	if v.kind != listValue {
		n.c.errorf(v.pos, "%s: partitions must be a list, not %s", it.Kind, v.kind)
		return value{kind: listValue, pos: v.pos}
	}
	out := value{kind: listValue, pos: v.pos}
	for _, e := range v.list {
		if e.kind != mapValue {
			n.c.errorf(e.pos, "partition: want a mapping of options, not %s", describe(e))
			continue
		}
		name := ""
		if p, ok := e.get("name"); ok {
			name, _ = n.text("partition", p)
		} else {
			n.c.errorf(e.pos, "partition: no 'name'")
		}
		entry := value{kind: mapValue, pos: e.pos}
		for _, a := range e.pairs {
			switch {
			case isPlugin(a.key):
				n.item(a, name)
			case a.key == "base":
				if a.val.text != it.Base {
					n.c.warnf(a.pos, "partition %q: base %q is ignored; the base of its table, %q, counts", name, a.val.text, it.Base)
				}
			default:
				entry.pairs = append(entry.pairs, a)
			}
		}
		entry.pairs = append(entry.pairs, pair{"base", e.pos, textValue(it.Base)})
		out.list = append(out.list, entry)
	}
	return out
}

// describe shows a value in a message, shortened.
func describe(v value) string {
	switch v.kind {
	case nullValue:
		return "nothing"
	case scalarValue:
		return fmt.Sprintf("%.60q", v.text)
	}
	b, err := v.MarshalJSON()
	if err != nil {
		return v.kind.String()
	}
	if len(b) > 60 {
		return string(b[:57]) + "..."
	}
	return string(b)
}
