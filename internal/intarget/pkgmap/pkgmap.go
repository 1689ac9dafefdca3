// Package pkgmap maps abstract package names to those of a distribution, as the
// pkg-map files of elements say.
package pkgmap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/distro"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/intarget/jsonpos"
)

// dir is where the pkg-map element puts the maps of all elements, each
// under its element's name.
const dir = "/usr/share/pkg-map"

// packageNames maps an abstract name to zero or more blank-separated packages;
// JSON null counts as none.
type packageNames map[string]*string

// Map is the content of an element's pkg-map file.
type Map struct {
	Default packageNames                       `json:"default"`
	Family  map[string]packageNames            `json:"family"`
	Distro  map[string]packageNames            `json:"distro"`
	Release map[string]map[string]packageNames `json:"release"`

	Unknown []string `json:"-"` // names of other sections, sorted, which mean nothing
}

// Parse reads a pkg-map file, a JSON object. Errors name the file
// and the position of the fault.
func Parse(file string, data []byte) (*Map, error) {
	// The first reading finds every fault at its place in the file; the second
	// one takes names as they are spelled, which encoding/json does not.
	if err := json.Unmarshal(data, new(Map)); err != nil {
		return nil, jsonpos.Error(file, data, err)
	}
	var sections map[string]json.RawMessage
	if err := json.Unmarshal(data, &sections); err != nil {
		return nil, jsonpos.Error(file, data, err)
	}
	m := new(Map)
	known := map[string]any{"default": &m.Default, "family": &m.Family, "distro": &m.Distro, "release": &m.Release}
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		target, ok := known[name]
		if !ok {
			m.Unknown = append(m.Unknown, name)
			continue
		}
		if err := json.Unmarshal(sections[name], target); err != nil {
			return nil, fmt.Errorf("%s: section %s: %w", file, name, err)
		}
	}
	return m, nil
}

// Table is what the map says for one distribution and release: default
// overlaid by the distribution's family, the distribution and its release. A
// release is looked up as it is, then, as in "9-stream", by what precedes its
// first hyphen.
func (m *Map) Table(name, release string) map[string]string {
	table := map[string]string{}
	overlay := func(names packageNames) {
		for nick, packages := range names {
			table[nick] = ""
			if packages != nil {
				table[nick] = *packages
			}
		}
	}
	overlay(m.Default)
	overlay(m.Family[distro.Family(name)])
	overlay(m.Distro[name])
	releases := m.Release[name]
	names, ok := releases[release]
	if !ok {
		major, _, _ := strings.Cut(release, "-")
		names = releases[major]
	}
	overlay(names)
	return table
}

// Names returns one line per name that maps to something. A name that is
// not in the table maps to itself if missingOK is set; otherwise the lines up
// to it are returned with an error.
func Names(table map[string]string, names []string, missingOK bool) ([]string, error) {
	var lines []string
	for _, name := range names {
		packages, ok := table[name]
		switch {
		case ok && strings.TrimSpace(packages) == "":
		case ok:
			lines = append(lines, packages)
		case missingOK:
			lines = append(lines, name)
		default:
			return lines, fmt.Errorf("no package is mapped to %q", name)
		}
	}
	return lines, nil
}

// Mapping says whose names are mapped, and for what.
type Mapping struct {
	Element   string // names a file of /usr/share/pkg-map
	File      string // names a file directly; exclusive with Element
	Distro    string // DISTRO_NAME
	Release   string // DIB_RELEASE
	MissingOK bool   // a missing file or name maps to the name itself
}

// Apply maps names with Names. Errors are of type cmdline.ExitError with status
// 2 when there is no map; all others, an unusable map or a name that is not
// mapped, stand for status 1.
func (m Mapping) Apply(names []string) ([]string, error) {
	if (m.Element == "") == (m.File == "") {
		return nil, cmdline.Exitf(1, "exactly one of --element and --pkg-map is needed")
	}
	if m.Distro == "" {
		return nil, cmdline.Exitf(1, "the distribution is not known: set DISTRO_NAME or give --distro")
	}
	file := m.File
	if file == "" {
		file = filepath.Join(dir, m.Element)
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if m.MissingOK {
			return names, nil
		}
		return nil, cmdline.Exitf(2, "cannot map packages: there is no map %s", file)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot map packages: %w", err)
	}
	parsed, err := Parse(file, data)
	if err != nil {
		return nil, err
	}
	lines, err := Names(parsed.Table(m.Distro, m.Release), names, m.MissingOK)
	if err != nil {
		return lines, fmt.Errorf("cannot map packages with %s for %s %s: %w", file, m.Distro, m.Release, err)
	}
	return lines, nil
}

const usage = `usage: pkg-map (--element NAME | --pkg-map FILE) [--distro D] [--release R]
               [--missing-ok] [--prefix P] [--debug] NAME...

Print the packages that NAMEs stand for, one line per name.
`

// Run is the command pkg-map. An unknown option is a package name.
func Run(_ context.Context, io command.IO, args []string) error {
	m := Mapping{Distro: io.Getenv("DISTRO_NAME"), Release: io.Getenv("DIB_RELEASE")}
	var prefix string
	var debug, help bool
	names, err := cmdline.Options{
		"--element": &m.Element, "--pkg-map": &m.File,
		"--distro": &m.Distro, "--release": &m.Release,
		"--missing-ok": &m.MissingOK, "--prefix": &prefix,
		"--debug": &debug, "--help": &help, "-h": &help,
	}.Parse(args, true)
	if err != nil {
		return &cmdline.ExitError{Code: 2, Err: err}
	}
	if help {
		fmt.Fprint(io.Out, usage)
		return cmdline.ErrHelp
	}
	if debug {
		fmt.Fprintf(io.Err, "pkg-map: mapping for %q, distribution %q, release %q\n", m.Element+m.File, m.Distro, m.Release)
	}
	lines, err := m.Apply(names)
	for _, line := range lines {
		fmt.Fprintln(io.Out, prefix+line)
	}
	return err
}

// Check is the command pkg-map-check FILE...: it fails when a file is not a
// pkg-map, so that faults of all of them are found on the host, with their
// positions, before anything is installed. A section that nothing reads is
// only warned of.
func Check(_ context.Context, io command.IO, args []string) error {
	var wrong []error
	for _, file := range args {
		data, err := os.ReadFile(file)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("cannot check package map: %w", err))
			continue
		}
		m, err := Parse(file, data)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		for _, section := range m.Unknown {
			fmt.Fprintf(io.Err, "WARNING: %s: section %q is not read: known are default, distro, family, release\n", file, section)
		}
	}
	return errors.Join(wrong...)
}
