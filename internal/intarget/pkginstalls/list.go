// Package pkginstalls installs and removes the packages that elements declare in
// their package-installs files.
package pkginstalls

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// phases are the phases that package-installs acts in, in order of time.
var phases = []string{"pre-install.d", "install.d", "post-install.d"}

// action is what an entry asks for.
type action int

const (
	install   action = iota // install for good
	uninstall               // remove
	buildOnly               // install, and remove at the end of the phase
)

// entry is one request of a package-installs file.
type entry struct {
	pkg, element string
	phase        string
	action       action
	installType  string   // empty: any
	arch         []string // nil: any
	notArch      []string
	pythonVer    string // empty: any
	when         []condition
	at           string // file:line
}

// condition is one "VARIABLE = value" or "VARIABLE != value".
type condition struct {
	variable, value string
	equal           bool
	text            string
}

var conditionSyntax = regexp.MustCompile(`^(\w+)\s*(=|!=)\s*(.*)`)

// installsParser reads one package-installs file.
type installsParser struct {
	file, element string
	entries       []entry
	warnings      []string
}

// parseInstalls reads a package-installs file: YAML, or JSON, which is read as
// YAML too so that every error has its line. Entries keep the order of the
// file. Warnings name what is legal but surely not meant.
func parseInstalls(file, element string, data []byte) (entries []entry, warnings []string, err error) {
	if json.Valid(data) {
		// Tabs are blanks to JSON and forbidden to YAML; inside JSON strings they cannot stand.
		data = []byte(strings.ReplaceAll(string(data), "\t", " "))
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, nil, fmt.Errorf("cannot read %s: %w", file, err)
	}
	if doc.Kind == 0 || len(doc.Content) == 0 { // only comments
		return nil, nil, nil
	}
	p := &installsParser{file: file, element: element}
	top := deref(doc.Content[0])
	if isEmpty(top) {
		return nil, nil, nil
	}
	if top.Kind != yaml.MappingNode {
		return nil, nil, p.errorf(top, "the file must be a mapping of package names")
	}
	pairs, err := p.pairs(top)
	if err != nil {
		return nil, nil, err
	}
	for _, kv := range pairs {
		if err := p.pkg(kv.key, kv.value); err != nil {
			return nil, nil, err
		}
	}
	return p.entries, p.warnings, nil
}

func (p *installsParser) errorf(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("%s:%d: "+format, append([]any{p.file, n.Line}, args...)...)
}

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
func (p *installsParser) pairs(n *yaml.Node) ([]pair, error) {
	var own, merged []pair
	index := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := deref(n.Content[i]), deref(n.Content[i+1])
		if key.Tag == "!!merge" {
			if value.Kind != yaml.MappingNode {
				return nil, p.errorf(key, "a merge key needs a mapping")
			}
			for j := 0; j+1 < len(value.Content); j += 2 {
				merged = append(merged, pair{deref(value.Content[j]), deref(value.Content[j+1])})
			}
			continue
		}
		if at, ok := index[key.Value]; ok {
			p.warnings = append(p.warnings, fmt.Sprintf("%s:%d: %q replaces the entry of line %d", p.file, key.Line, key.Value, own[at].key.Line))
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
	return own, nil
}

func (p *installsParser) pkg(name, params *yaml.Node) error {
	if name.Kind != yaml.ScalarNode || name.Tag != "!!str" {
		return p.errorf(name, "package name %q is not a string: put it in quotes", name.Value)
	}
	if strings.TrimSpace(name.Value) == "" {
		return p.errorf(name, "a package name is empty")
	}
	switch {
	case isEmpty(params):
		p.entries = append(p.entries, p.defaults(name))
		return nil
	case params.Kind == yaml.MappingNode:
		return p.params(name, params)
	case params.Kind == yaml.SequenceNode:
		for _, item := range params.Content {
			item = deref(item)
			if isEmpty(item) {
				p.entries = append(p.entries, p.defaults(name))
				continue
			}
			if item.Kind != yaml.MappingNode {
				return p.errorf(item, "package %s: list items must be mappings", name.Value)
			}
			if err := p.params(name, item); err != nil {
				return err
			}
		}
		return nil
	}
	return p.errorf(params, "package %s: parameters must be a mapping or a list of mappings, not %q", name.Value, params.Value)
}

func (p *installsParser) defaults(name *yaml.Node) entry {
	return entry{
		pkg: name.Value, element: p.element, phase: "install.d",
		at: fmt.Sprintf("%s:%d", p.file, name.Line),
	}
}

func (p *installsParser) params(name, params *yaml.Node) error {
	e := p.defaults(name)
	pairs, err := p.pairs(params)
	if err != nil {
		return err
	}
	var removed, temporary bool
	for _, kv := range pairs {
		value := kv.value
		switch key := kv.key.Value; key {
		case "phase":
			if e.phase = value.Value; !slices.Contains(phases, e.phase) {
				return p.errorf(value, "package %s: phase %q is not one of %s", e.pkg, e.phase, strings.Join(phases, ", "))
			}
		case "uninstall":
			removed, err = p.flag(key, value)
		case "build-only":
			temporary, err = p.flag(key, value)
		case "installtype":
			e.installType, err = p.text(key, value)
		case "arch":
			e.arch, err = p.list(key, value)
		case "not-arch":
			e.notArch, err = p.list(key, value)
		case "dib_python_version":
			if e.pythonVer = value.Value; value.Kind != yaml.ScalarNode || e.pythonVer == "" {
				return p.errorf(value, "package %s: dib_python_version must be a number or a string", e.pkg)
			}
		case "when":
			e.when, err = p.conditions(value)
		default:
			return p.errorf(kv.key, "package %s: unknown parameter %q; known are arch, build-only, dib_python_version, installtype, not-arch, phase, uninstall, when", e.pkg, key)
		}
		if err != nil {
			return err
		}
	}
	if e.arch != nil && e.notArch != nil {
		return p.errorf(params, "package %s: arch and not-arch exclude each other", e.pkg)
	}
	switch {
	case temporary:
		e.action = buildOnly
	case removed:
		e.action = uninstall
	}
	p.entries = append(p.entries, e)
	return nil
}

// flag reads a boolean in any spelling of YAML 1.1. A key without a value is
// true: elements write "uninstall:" alone.
func (p *installsParser) flag(key string, n *yaml.Node) (bool, error) {
	if n.Kind == yaml.ScalarNode {
		switch strings.ToLower(n.Value) {
		case "", "~", "null", "true", "yes", "on", "y", "1":
			return true, nil
		case "false", "no", "off", "n", "0":
			return false, nil
		}
	}
	return false, p.errorf(n, "%s must be true or false, not %q", key, n.Value)
}

func (p *installsParser) text(key string, n *yaml.Node) (string, error) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || n.Value == "" {
		return "", p.errorf(n, "%s must be a string", key)
	}
	return n.Value, nil
}

// list reads a comma-separated string. The result is never nil.
func (p *installsParser) list(key string, n *yaml.Node) ([]string, error) {
	text, err := p.text(key, n)
	if err != nil {
		return nil, err
	}
	items := []string{}
	for _, item := range strings.Split(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items, nil
}

func (p *installsParser) conditions(n *yaml.Node) ([]condition, error) {
	nodes := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		nodes = n.Content
	}
	var all []condition
	for _, n := range nodes {
		n = deref(n)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
			return nil, p.errorf(n, "when must be a string such as \"VARIABLE = value\", or a list of them")
		}
		m := conditionSyntax.FindStringSubmatch(n.Value)
		if m == nil {
			return nil, p.errorf(n, "malformed condition %q: write \"VARIABLE = value\" or \"VARIABLE != value\"", n.Value)
		}
		c := condition{variable: m[1], value: m[3], equal: m[2] == "=", text: n.Value}
		if c.equal && strings.HasPrefix(c.value, "=") {
			p.warnings = append(p.warnings, fmt.Sprintf("%s:%d: condition %q compares with %q; the operator is a single =", p.file, n.Line, n.Value, c.value))
		}
		all = append(all, c)
	}
	return all, nil
}

// installsFiles are the names of an element's declarative package lists, in
// the order in which they are read.
var installsFiles = []string{"package-installs.json", "package-installs.yaml"}

// readInstalls reads those of the named files that exist in an element's directory.
func readInstalls(e element, names ...string) (entries []entry, warnings []string, err error) {
	for _, name := range names {
		file := filepath.Join(e.dir, name)
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("cannot read package list of element %s: %w", e.name, err)
		}
		more, warn, err := parseInstalls(file, e.name, data)
		if err != nil {
			return nil, nil, err
		}
		entries, warnings = append(entries, more...), append(warnings, warn...)
	}
	return entries, warnings, nil
}
