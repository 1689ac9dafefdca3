// Package blockdev turns a block-device configuration (YAML) into a Layout:
// the exact place, size and identity of every partition and filesystem.
//
// It is pure arithmetic. Nothing here opens a device or a file.
//
// The way of a configuration is: Parse checks what can be known from the text
// alone, Merge fills in what options of the build decide, Layout computes.
package blockdev

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/finding"
	"github.com/dib-builder/dib/internal/yamldoc"
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

	pos   finding.Pos
	attrs yamldoc.Pairs // all options without nested items, name and base included
}

// MarshalJSON prints the item as config.json holds it: an object with one key.
func (it Item) MarshalJSON() ([]byte, error) {
	return yamldoc.Value{Kind: yamldoc.Map, Pairs: yamldoc.Pairs{{Key: it.Kind, Val: yamldoc.Value{Kind: yamldoc.Map, Pairs: it.attrs}}}}.MarshalJSON()
}

func (it Item) get(key string) (yamldoc.Pair, bool) { return it.attrs.Get(key) }

// Config is a configuration in graph form that passed all checks its text
// allows.
type Config struct {
	Source   string
	Items    []Item            // nested items before the item that holds them
	Warnings []finding.Finding // what is accepted, but probably not meant

	nodes  nodeSet
	merged bool
	text   []byte // for the lines that findings quote
}

// collector gathers what is found wrong with the configuration after it was read.
func (c *Config) collector() *finding.Collector {
	return &finding.Collector{Source: c.Source, Text: c.text}
}

// MarshalJSON prints the content of config.json: the normalised list.
func (c *Config) MarshalJSON() ([]byte, error) {
	return json.Marshal(append([]Item{}, c.Items...))
}

// Parse reads a configuration in tree or graph form. source names the text in
// findings. The error is of type finding.List and holds everything that is wrong.
func Parse(source string, text []byte) (*Config, error) {
	c := &finding.Collector{Source: source, Text: text}
	cfg := parse(c, text)
	cfg.nodes = readNodes(cfg.Items, c, false)
	cfg.Warnings = c.Warnings
	return cfg, inOrder(c.Errors).Err()
}

// Check parses and merges a configuration and looks for anything that would
// stop Layout for want of support, reporting all findings at once. It is what
// a plan calls, hours before the disk is written.
func Check(source string, text []byte, p Params) (*Config, error) {
	c := &finding.Collector{Source: source, Text: text}
	cfg := parse(c, text)
	cfg.merge(p, c)
	cfg.nodes = readNodes(cfg.Items, c, true)
	cfg.Warnings = c.Warnings
	cfg.supported(c)
	return cfg, inOrder(c.Errors).Err()
}

// inOrder sorts findings by their place, as people read the text.
func inOrder(list finding.List) finding.List {
	slices.SortStableFunc(list, func(a, b finding.Finding) int {
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Col, b.Pos.Col))
	})
	return list
}

func parse(c *finding.Collector, text []byte) *Config {
	n := normaliser{c: c}
	doc := yamldoc.Read(text, c)
	switch {
	case doc.Kind == yamldoc.List:
		for _, e := range doc.List {
			n.topLevel(e)
		}
	case len(c.Errors) > 0:
	case doc.Kind == yamldoc.Null:
		c.Errorf(doc.Pos, "configuration is empty; want a list of items such as \"- local_loop: {name: image0}\"")
	case doc.Kind == yamldoc.Map && len(doc.Pairs) > 0:
		c.Errorf(doc.Pos, "Config entry not a dict: %s (the document must be a list: put \"- \" before each item)", doc.Pairs[0].Key)
	default:
		c.Errorf(doc.Pos, "Config entry not a dict: the document must be a list of items")
	}
	return &Config{Source: c.Source, Items: n.items, text: text}
}

// normaliser flattens the tree form: nested items come out before the item
// that holds them, with explicit names and bases.
type normaliser struct {
	c     *finding.Collector
	items []Item
}

func (n *normaliser) topLevel(v yamldoc.Value) {
	switch {
	case v.Kind != yamldoc.Map:
		n.c.Errorf(v.Pos, "Config entry not a dict: %s", describe(v))
	case len(v.Pairs) != 1:
		n.c.Errorf(v.Pos, "Config entry top-level should be a single dict: %s", describe(v))
	case !isPlugin(v.Pairs[0].Key):
		n.c.Errorf(v.Pairs[0].Pos, "Config entry is not a plugin value: %s (known are %s)", v.Pairs[0].Key, strings.Join(plugins, ", "))
	default:
		n.item(v.Pairs[0], "")
	}
}

func (n *normaliser) item(p yamldoc.Pair, parent string) {
	kind, body := p.Key, p.Val
	if body.Kind != yamldoc.Map && body.Kind != yamldoc.Null {
		n.c.Errorf(body.Pos, "%s: want a mapping of options, not %s", kind, body.Kind)
		return
	}
	it := Item{Kind: kind, Base: parent, pos: p.Pos}
	if b, ok := body.Get("base"); ok {
		it.Base = n.base(kind, b)
	}
	if name, ok := body.Get("name"); ok {
		it.Name, _ = n.text(kind, name)
	} else if it.Base != "" {
		it.Name = kind + "_" + it.Base
	} else {
		n.c.Errorf(p.Pos, "%s: no 'name', and no 'base' to make one from", kind)
	}
	it.attrs = n.head(body, it)
	for _, a := range body.Pairs {
		switch {
		case a.Key == "name" || a.Key == "base":
		case a.Key == "partitions":
			it.attrs = append(it.attrs, yamldoc.Pair{Key: a.Key, Pos: a.Pos, Val: n.partitions(a.Val, it)})
		case isPlugin(a.Key):
			n.item(a, it.Name)
		default:
			it.attrs = append(it.attrs, a)
		}
	}
	n.items = append(n.items, it)
}

// head gives base and name as options of their own, as config.json has them.
func (n *normaliser) head(body yamldoc.Value, it Item) yamldoc.Pairs {
	var attrs yamldoc.Pairs
	if b, ok := body.Get("base"); ok && b.Val.Kind == yamldoc.List {
		attrs = append(attrs, b) // of an lvm item
	} else if it.Base != "" {
		attrs = append(attrs, yamldoc.Pair{Key: "base", Pos: b.Pos, Val: yamldoc.Text(it.Base)})
	}
	return append(attrs, yamldoc.Pair{Key: "name", Pos: it.pos, Val: yamldoc.Text(it.Name)})
}

// base reads the option base. Only lvm has a list there, which nothing but its
// generated name depends on.
func (n *normaliser) base(kind string, b yamldoc.Pair) string {
	if b.Val.Kind == yamldoc.List {
		names := make([]string, 0, len(b.Val.List))
		for _, e := range b.Val.List {
			names = append(names, e.Text)
		}
		if kind != "lvm" && len(names) != 1 {
			n.c.Errorf(b.Pos, "%s: base must be one name", kind)
			return ""
		}
		return strings.Join(names, "_")
	}
	s, _ := n.text(kind, b)
	return s
}

func (n *normaliser) text(kind string, p yamldoc.Pair) (string, bool) {
	if p.Val.Kind != yamldoc.Scalar || p.Val.Text == "" {
		n.c.Errorf(p.Pos, "%s: %s must be a text, not %s", kind, p.Key, describe(p.Val))
		return "", false
	}
	return p.Val.Text, true
}

func (n *normaliser) partitions(v yamldoc.Value, it Item) yamldoc.Value {
	if v.Kind != yamldoc.List {
		n.c.Errorf(v.Pos, "%s: partitions must be a list, not %s", it.Kind, v.Kind)
		return yamldoc.Value{Kind: yamldoc.List, Pos: v.Pos}
	}
	out := yamldoc.Value{Kind: yamldoc.List, Pos: v.Pos}
	for _, e := range v.List {
		if e.Kind != yamldoc.Map {
			n.c.Errorf(e.Pos, "partition: want a mapping of options, not %s", describe(e))
			continue
		}
		name := ""
		if p, ok := e.Get("name"); ok {
			name, _ = n.text("partition", p)
		} else {
			n.c.Errorf(e.Pos, "partition: no 'name'")
		}
		entry := yamldoc.Value{Kind: yamldoc.Map, Pos: e.Pos}
		for _, a := range e.Pairs {
			switch {
			case isPlugin(a.Key):
				n.item(a, name)
			case a.Key == "base":
				if a.Val.Text != it.Base {
					n.c.Warnf(a.Pos, "partition %q: base %q is ignored; the base of its table, %q, counts", name, a.Val.Text, it.Base)
				}
			default:
				entry.Pairs = append(entry.Pairs, a)
			}
		}
		entry.Pairs = append(entry.Pairs, yamldoc.Pair{Key: "base", Pos: e.Pos, Val: yamldoc.Text(it.Base)})
		out.List = append(out.List, entry)
	}
	return out
}

// describe shows a value in a message, shortened.
func describe(v yamldoc.Value) string {
	switch v.Kind {
	case yamldoc.Null:
		return "nothing"
	case yamldoc.Scalar:
		return fmt.Sprintf("%.60q", v.Text)
	}
	b, err := v.MarshalJSON()
	if err != nil {
		return v.Kind.String()
	}
	if len(b) > 60 {
		return string(b[:57]) + "..."
	}
	return string(b)
}
