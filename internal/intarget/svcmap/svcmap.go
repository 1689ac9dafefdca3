// Package svcmap maps the service names that elements use to those of a
// distribution, as the svc-map files of elements say.
package svcmap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/distro"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
)

// Services maps the name of a service to its name in one distribution.
type Services map[string]string

// Service is one service of an element's svc-map file.
type Service struct {
	Name  string
	Names map[string]string // by distribution, family or "default"
	Line  int
}

// On returns the name of the service in a distribution: that of the
// distribution itself, else of its family, else the default, else the
// service's own.
func (s Service) On(name string) string {
	for _, key := range []string{name, distro.Family(name), "default"} {
		if found, ok := s.Names[key]; ok && key != "" {
			return found
		}
	}
	return s.Name
}

// Parse reads a svc-map file, a YAML mapping of services to mappings of names;
// it keeps their order. Errors name the file and, where it is known, the line.
func Parse(file string, data []byte) ([]Service, error) {
	pairs, err := mapping(file, data)
	if err != nil {
		return nil, err
	}
	var services []Service
	for _, p := range pairs {
		s := Service{Name: p.key.Value, Names: map[string]string{}, Line: p.key.Line}
		if p.value.Kind != yaml.MappingNode {
			return nil, fmt.Errorf("%s:%d: service %q: a mapping of distributions to names belongs here", file, p.value.Line, s.Name)
		}
		names, err := pairsOf(file, p.value)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if n.value.Kind != yaml.ScalarNode || n.value.Tag == "!!null" || n.value.Value == "" {
				return nil, fmt.Errorf("%s:%d: service %q: the name for %q must be a single word", file, n.value.Line, s.Name, n.key.Value)
			}
			s.Names[n.key.Value] = n.value.Value
		}
		services = append(services, s)
	}
	return services, nil
}

type pair struct{ key, value *yaml.Node }

// mapping reads a document that is a mapping or empty.
func mapping(file string, data []byte) ([]pair, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err == nil {
		if err = decoder.Decode(&more); err == nil {
			return nil, fmt.Errorf("%s:%d: more than one YAML document", file, more.Line)
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot read %s: %w", file, err)
	}
	if doc.Kind == 0 || len(doc.Content) == 0 {
		return nil, nil
	}
	top := doc.Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return nil, nil
	}
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: a mapping of services belongs here", file, top.Line)
	}
	return pairsOf(file, top)
}

// pairsOf reads a mapping whose keys are words and whose aliases are resolved.
func pairsOf(file string, n *yaml.Node) ([]pair, error) {
	var pairs []pair
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		p := pair{n.Content[i], n.Content[i+1]}
		if p.key.Kind == yaml.AliasNode {
			p.key = p.key.Alias
		}
		if p.value.Kind == yaml.AliasNode {
			p.value = p.value.Alias
		}
		if p.key.Kind != yaml.ScalarNode || p.key.Tag == "!!merge" || p.key.Value == "" {
			return nil, fmt.Errorf("%s:%d: a name belongs here", file, p.key.Line)
		}
		if first, ok := lines[p.key.Value]; ok {
			return nil, fmt.Errorf("%s:%d: %q is defined already in line %d", file, p.key.Line, p.key.Value, first)
		}
		lines[p.key.Value] = p.key.Line
		pairs = append(pairs, p)
	}
	return pairs, nil
}

// merger joins the files of elements.
type merger struct {
	distro   string
	services Services
	owner    map[string]string // of each service: element and place
}

func newMerger(distro string) *merger {
	return &merger{distro: distro, services: Services{}, owner: map[string]string{}}
}

func (m *merger) add(element, file string, data []byte) error {
	services, err := Parse(file, data)
	if err != nil {
		return fmt.Errorf("cannot merge services of element %q: %w", element, err)
	}
	for _, s := range services {
		at := fmt.Sprintf("element %q (%s:%d)", element, file, s.Line)
		if other, ok := m.owner[s.Name]; ok {
			return fmt.Errorf("cannot merge services: %s defines %q, which %s defines already", at, s.Name, other)
		}
		m.owner[s.Name] = at
		m.services[s.Name] = s.On(m.distro)
	}
	return nil
}

// Merge is the command svc-map-merge: it prints, as a YAML mapping, what the
// svc-map files of all elements in IMAGE_ELEMENT_YAML say for DISTRO_NAME.
func Merge(_ context.Context, io command.IO, args []string) error {
	if len(args) > 0 {
		return cmdline.Exitf(1, "unexpected argument %q", args[0])
	}
	env := cmdline.EnvironmentOf(io)
	dirs, err := env.ElementDirs()
	if err != nil {
		return err
	}
	m := newMerger(env["DISTRO_NAME"])
	for _, element := range slices.Sorted(maps.Keys(dirs)) {
		file := filepath.Join(dirs[element], "svc-map")
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot merge services: %w", err)
		}
		if err := m.add(element, file, data); err != nil {
			return err
		}
	}
	text, err := yaml.Marshal(m.services)
	if err != nil {
		return err
	}
	_, err = io.Out.Write(text)
	return err
}

const usage = `usage: svc-map SERVICE...

Print what each SERVICE is called in this image, one line per service: the name
itself if the image has a service of that name, else what svc-map files say,
else the name itself.
`

// places say where a service of a name is defined, from the root of the image.
var places = []string{
	"etc/systemd/system/%s.service",
	"run/systemd/system/%s.service",
	"usr/local/lib/systemd/system/%s.service",
	"usr/lib/systemd/system/%s.service",
	"lib/systemd/system/%s.service",
	"etc/init/%s.conf",
}

// Run is the command svc-map SERVICE...
func Run(_ context.Context, io command.IO, args []string) error {
	return run("/", io, args)
}

func run(root string, io command.IO, args []string) error {
	if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
		fmt.Fprint(io.Out, usage)
		return cmdline.ErrHelp
	}
	services, err := read(filepath.Join(root, "usr/share/svc-map/services"))
	if err != nil {
		return err
	}
	for _, name := range args {
		mapped, known := services[name]
		if !known || exists(root, name) {
			mapped = name
		}
		fmt.Fprintln(io.Out, mapped)
	}
	return nil
}

func exists(root, name string) bool {
	if name == "" || strings.Contains(name, "/") {
		return false
	}
	for _, place := range places {
		// A link to /dev/null forbids a unit.
		if st, err := os.Stat(filepath.Join(root, fmt.Sprintf(place, name))); err == nil && st.Mode().IsRegular() {
			return true
		}
	}
	return false
}

// read reads merged services; none where there is no such file.
func read(file string) (Services, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot map services: %w", err)
	}
	pairs, err := mapping(file, data)
	if err != nil {
		return nil, err
	}
	services := Services{}
	for _, p := range pairs {
		if p.value.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("%s:%d: the name of a service belongs here", file, p.value.Line)
		}
		services[p.key.Value] = p.value.Value
	}
	return services, nil
}
