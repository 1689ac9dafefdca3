// Package pkglist reads the package lists of elements: package-installs files
// and the older lists of one package a line. It has no side effects, so that a
// build can be planned with it.
package pkglist

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dib-builder/dib/internal/finding"
)

// Phases are the phases that packages are installed or removed in, in order of
// time.
var Phases = []string{"pre-install.d", "install.d", "post-install.d"}

// Files are the names of an element's package-installs files, in the order in
// which they are read.
var Files = []string{"package-installs.json", "package-installs.yaml"}

// Action is what an entry asks for.
type Action int

const (
	Install   Action = iota // install for good
	Uninstall               // remove
	BuildOnly               // install, and remove at the end of the phase
)

func (a Action) String() string {
	return [...]string{"install", "uninstall", "build-only"}[a]
}

// Entry is one request of a package-installs file.
type Entry struct {
	Package string // as the file names it, before the element's pkg-map
	Element string
	Phase   string // one of Phases
	Action  Action

	// The filters; an entry counts only when all hold.
	InstallType string   // empty: any
	Arch        []string // nil: any
	NotArch     []string // nil: none
	Python      string   // DIB_PYTHON_VERSION; empty: any
	When        []Condition

	At string // file:line, for messages
}

// Condition is one "VARIABLE = value" or "VARIABLE != value".
type Condition struct {
	Variable, Value string
	Equal           bool
	Text            string // as the file has it
}

var conditionSyntax = regexp.MustCompile(`^(\w+)\s*(=|!=)\s*(.*)`)

// Read reads those package-installs files, or other files of their format,
// that exist in an element's directory; dir is what messages call it. The
// error, of type finding.List where the content of files is at fault, has all
// that is wrong with them.
func Read(dir string, fsys fs.FS, element string, names ...string) (entries []Entry, warnings finding.List, err error) {
	var wrong finding.List
	for _, name := range names {
		data, err := fs.ReadFile(fsys, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("cannot read package list of element %s: %w", element, err)
		}
		more, warn, err := Parse(path.Join(dir, name), element, data)
		var list finding.List
		if errors.As(err, &list) {
			wrong = append(wrong, list...)
		}
		entries, warnings = append(entries, more...), append(warnings, warn...)
	}
	if err := wrong.Err(); err != nil {
		return nil, warnings, err
	}
	return entries, warnings, nil
}

// Parse reads a package-installs file: YAML, or JSON, which is read as YAML too
// so that every fault has its place. Entries keep the order of the file.
// Warnings name what is legal but surely not meant; the error, of type
// finding.List, is everything that is wrong.
func Parse(file, element string, data []byte) (entries []Entry, warnings finding.List, err error) {
	if json.Valid(data) {
		// Tabs are blanks to JSON and forbidden to YAML; inside JSON strings they cannot stand.
		data = []byte(strings.ReplaceAll(string(data), "\t", " "))
	}
	p := &parser{element: element, c: finding.Collector{Source: file}}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		p.c.Errorf(yamlPos(err), "%s", yamlMessage(err))
		return nil, nil, p.c.Errors
	}
	if doc.Kind != 0 && len(doc.Content) > 0 { // more than comments
		p.file(deref(doc.Content[0]))
	}
	if err := p.c.Errors.Err(); err != nil {
		return nil, p.c.Warnings, err
	}
	return p.entries, p.c.Warnings, nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

// yamlPos is the place that an error of the YAML package names.
func yamlPos(err error) finding.Pos {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil && m[1] != "" {
		line, _ := strconv.Atoi(m[1]) // digits, by the expression
		return finding.Pos{Line: line, Col: 1}
	}
	return finding.Pos{}
}

func yamlMessage(err error) string {
	text := err.Error()
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		text = m[2]
	}
	return "neither YAML nor JSON: " + text
}

// parser reads one package-installs file.
type parser struct {
	element string
	c       finding.Collector
	entries []Entry
}

func (p *parser) errorf(n *yaml.Node, format string, args ...any) {
	p.c.Errorf(posOf(n), format, args...)
}

func posOf(n *yaml.Node) finding.Pos { return finding.Pos{Line: n.Line, Col: n.Column} }

// deref follows an alias to what it stands for.
func deref(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// isEmpty is true of null, the empty string and empty collections, which all
// mean "all defaults".
func isEmpty(n *yaml.Node) bool {
	if n.Kind == yaml.ScalarNode {
		return n.Tag == "!!null" || n.Value == ""
	}
	return len(n.Content) == 0
}

type pair struct{ key, value *yaml.Node }

// pairs lists a mapping with its merge keys ("<<") resolved. Of a repeated key
// the last value counts.
func (p *parser) pairs(n *yaml.Node) []pair {
	var own, merged []pair
	index := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := deref(n.Content[i]), deref(n.Content[i+1])
		if key.Tag == "!!merge" {
			if value.Kind != yaml.MappingNode {
				p.errorf(key, "a merge key needs a mapping")
				continue
			}
			for j := 0; j+1 < len(value.Content); j += 2 {
				merged = append(merged, pair{deref(value.Content[j]), deref(value.Content[j+1])})
			}
			continue
		}
		if at, ok := index[key.Value]; ok {
			p.c.Warnf(posOf(key), "%q replaces the entry of line %d", key.Value, own[at].key.Line)
			own[at] = pair{key, value}
			continue
		}
		index[key.Value] = len(own)
		own = append(own, pair{key, value})
	}
	for _, kv := range merged {
		if _, ok := index[kv.key.Value]; !ok {
			index[kv.key.Value] = len(own)
			own = append(own, kv)
		}
	}
	return own
}

func (p *parser) file(top *yaml.Node) {
	if isEmpty(top) {
		return
	}
	if top.Kind != yaml.MappingNode {
		p.errorf(top, "the file must be a mapping of package names")
		return
	}
	for _, kv := range p.pairs(top) {
		p.pkg(kv.key, kv.value)
	}
}

func (p *parser) pkg(name, params *yaml.Node) {
	if name.Kind != yaml.ScalarNode || name.Tag != "!!str" {
		p.errorf(name, "package name %q is not a string: put it in quotes", name.Value)
		return
	}
	if strings.TrimSpace(name.Value) == "" {
		p.errorf(name, "a package name is empty")
		return
	}
	switch {
	case isEmpty(params):
		p.entries = append(p.entries, p.defaults(name))
	case params.Kind == yaml.MappingNode:
		p.params(name, params)
	case params.Kind == yaml.SequenceNode:
		for _, item := range params.Content {
			switch item = deref(item); {
			case isEmpty(item):
				p.entries = append(p.entries, p.defaults(name))
			case item.Kind == yaml.MappingNode:
				p.params(name, item)
			default:
				p.errorf(item, "package %s: list items must be mappings", name.Value)
			}
		}
	default:
		p.errorf(params, "package %s: parameters must be a mapping or a list of mappings, not %q", name.Value, params.Value)
	}
}

func (p *parser) defaults(name *yaml.Node) Entry {
	return Entry{
		Package: name.Value, Element: p.element, Phase: "install.d",
		At: fmt.Sprintf("%s:%d", p.c.Source, name.Line),
	}
}

func (p *parser) params(name, params *yaml.Node) {
	e := p.defaults(name)
	var removed, temporary bool
	for _, kv := range p.pairs(params) {
		value := kv.value
		switch key := kv.key.Value; key {
		case "phase":
			if e.Phase = value.Value; value.Kind != yaml.ScalarNode || !slices.Contains(Phases, e.Phase) {
				p.errorf(value, "package %s: phase %q is not one of %s", e.Package, value.Value, strings.Join(Phases, ", "))
			}
		case "uninstall":
			removed = p.flag(key, value)
		case "build-only":
			temporary = p.flag(key, value)
		case "installtype":
			e.InstallType = p.text(key, value)
		case "arch":
			e.Arch = p.list(key, value)
		case "not-arch":
			e.NotArch = p.list(key, value)
		case "dib_python_version":
			if e.Python = value.Value; value.Kind != yaml.ScalarNode || e.Python == "" {
				p.errorf(value, "package %s: dib_python_version must be a number or a string", e.Package)
			}
		case "when":
			e.When = p.conditions(value)
		default:
			p.errorf(kv.key, "package %s: unknown parameter %q; known are arch, build-only, dib_python_version, installtype, not-arch, phase, uninstall, when", e.Package, key)
		}
	}
	if e.Arch != nil && e.NotArch != nil {
		p.errorf(params, "package %s: arch and not-arch exclude each other", e.Package)
	}
	switch {
	case temporary:
		e.Action = BuildOnly
	case removed:
		e.Action = Uninstall
	}
	p.entries = append(p.entries, e)
}

// flag reads a boolean in any spelling of YAML 1.1. A key without a value is
// true: elements write "uninstall:" alone.
func (p *parser) flag(key string, n *yaml.Node) bool {
	if n.Kind == yaml.ScalarNode {
		switch strings.ToLower(n.Value) {
		case "", "~", "null", "true", "yes", "on", "y", "1":
			return true
		case "false", "no", "off", "n", "0":
			return false
		}
	}
	p.errorf(n, "%s must be true or false, not %q", key, n.Value)
	return false
}

func (p *parser) text(key string, n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || n.Value == "" {
		p.errorf(n, "%s must be a string", key)
		return ""
	}
	return n.Value
}

// list reads a comma-separated string. The result is never nil.
func (p *parser) list(key string, n *yaml.Node) []string {
	items := []string{}
	for _, item := range strings.Split(p.text(key, n), ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

func (p *parser) conditions(n *yaml.Node) []Condition {
	nodes := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		nodes = n.Content
	}
	var all []Condition
	for _, n := range nodes {
		n = deref(n)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
			p.errorf(n, "when must be a string such as \"VARIABLE = value\", or a list of them")
			continue
		}
		m := conditionSyntax.FindStringSubmatch(n.Value)
		if m == nil {
			p.errorf(n, "malformed condition %q: write \"VARIABLE = value\" or \"VARIABLE != value\"", n.Value)
			continue
		}
		c := Condition{Variable: m[1], Value: m[3], Equal: m[2] == "=", Text: n.Value}
		if c.Equal && strings.HasPrefix(c.Value, "=") {
			p.c.Warnf(posOf(n), "condition %q compares with %q; the operator is a single =", n.Value, c.Value)
		}
		all = append(all, c)
	}
	return all
}
