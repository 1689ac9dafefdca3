package intarget

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dib-builder/dib/internal/command"
)

// pkgMapDir is where the pkg-map element puts the maps of all elements, each
// under its element's name.
const pkgMapDir = "/usr/share/pkg-map"

// families names the family of each distribution, as DISTRO_NAME spells it.
var families = map[string]string{
	"almalinux": "redhat",
	"centos":    "redhat",
	"fedora":    "redhat",
	"openeuler": "redhat",
	"rhel":      "redhat",
	"rocky":     "redhat",
	"debian":    "debian",
	"ubuntu":    "debian",
	"opensuse":  "suse",
	"gentoo":    "gentoo",
}

// packageNames maps an abstract name to zero or more blank-separated packages;
// JSON null counts as none.
type packageNames map[string]*string

// PackageMap is the content of an element's pkg-map file.
type PackageMap struct {
	Default packageNames                       `json:"default"`
	Family  map[string]packageNames            `json:"family"`
	Distro  map[string]packageNames            `json:"distro"`
	Release map[string]map[string]packageNames `json:"release"`
}

// ParsePackageMap reads a pkg-map file, a JSON object. Errors name the file
// and the position of the fault.
func ParsePackageMap(file string, data []byte) (*PackageMap, error) {
	m := new(PackageMap)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, jsonError(file, data, err)
	}
	return m, nil
}

// jsonError adds line and column to an error of encoding/json.
func jsonError(file string, data []byte, err error) error {
	var (
		offset int64
		syntax *json.SyntaxError
		wrong  *json.UnmarshalTypeError
	)
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &wrong):
		offset = wrong.Offset
		err = fmt.Errorf("%s is a JSON %s where a %s belongs", orTop(wrong.Field), wrong.Value, jsonKind(wrong.Type.Kind().String()))
	default:
		return fmt.Errorf("cannot read %s: %w", file, err)
	}
	before := data[:min(max(offset, 0), int64(len(data)))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n') - 1
	return fmt.Errorf("%s:%d:%d: %w", file, line, max(column, 1), err)
}

func orTop(field string) string {
	if field == "" {
		return "the file"
	}
	return field
}

func jsonKind(goKind string) string {
	switch goKind {
	case "map", "struct":
		return "object"
	case "slice", "array":
		return "list"
	}
	return goKind
}

// Table is what the map says for one distribution and release: default
// overlaid by the distribution's family, the distribution and its release. A
// release is looked up as it is, then, as in "9-stream", by what precedes its
// first hyphen.
func (m *PackageMap) Table(distro, release string) map[string]string {
	table := map[string]string{}
	overlay := func(names packageNames) {
		for name, packages := range names {
			table[name] = ""
			if packages != nil {
				table[name] = *packages
			}
		}
	}
	overlay(m.Default)
	overlay(m.Family[families[distro]])
	overlay(m.Distro[distro])
	releases := m.Release[distro]
	names, ok := releases[release]
	if !ok {
		major, _, _ := strings.Cut(release, "-")
		names = releases[major]
	}
	overlay(names)
	return table
}

// mapNames returns one line per name that maps to something. A name that is
// not in the table maps to itself if missingOK is set; otherwise the lines up
// to it are returned with an error.
func mapNames(table map[string]string, names []string, missingOK bool) ([]string, error) {
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

// mapping says whose names are mapped, and for what.
type mapping struct {
	element string // names a file of pkgMapDir
	file    string // names a file directly; exclusive with element
	distro  string
	release string
	missing bool // a missing file or name maps to the name itself
}

// apply maps names. Exit status 1: unusable map or unmapped name, 2: no map.
func (m mapping) apply(names []string) ([]string, error) {
	if (m.element == "") == (m.file == "") {
		return nil, exitWith(1, "exactly one of --element and --pkg-map is needed")
	}
	if m.distro == "" {
		return nil, exitWith(1, "the distribution is not known: set DISTRO_NAME or give --distro")
	}
	file := m.file
	if file == "" {
		file = filepath.Join(pkgMapDir, m.element)
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if m.missing {
			return names, nil
		}
		return nil, exitWith(2, "cannot map packages: there is no map %s", file)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot map packages: %w", err)
	}
	parsed, err := ParsePackageMap(file, data)
	if err != nil {
		return nil, err
	}
	lines, err := mapNames(parsed.Table(m.distro, m.release), names, m.missing)
	if err != nil {
		return lines, fmt.Errorf("cannot map packages with %s for %s %s: %w", file, m.distro, m.release, err)
	}
	return lines, nil
}

const pkgMapUsage = `usage: pkg-map (--element NAME | --pkg-map FILE) [--distro D] [--release R]
               [--missing-ok] [--prefix P] [--debug] NAME...

Print the packages that NAMEs stand for, one line per name.
`

// pkgMap is the command pkg-map. An unknown option is a package name.
func pkgMap(_ context.Context, io command.IO, args []string) error {
	m := mapping{distro: io.Getenv("DISTRO_NAME"), release: io.Getenv("DIB_RELEASE")}
	var prefix string
	var debug, help bool
	names, err := options{
		"--element": &m.element, "--pkg-map": &m.file,
		"--distro": &m.distro, "--release": &m.release,
		"--missing-ok": &m.missing, "--prefix": &prefix,
		"--debug": &debug, "--help": &help, "-h": &help,
	}.parse(args, true)
	if err != nil {
		return &ExitError{Code: 2, Err: err}
	}
	if help {
		fmt.Fprint(io.Out, pkgMapUsage)
		return errHelp
	}
	if debug {
		fmt.Fprintf(io.Err, "pkg-map: mapping for %q, distribution %q, release %q\n", m.element+m.file, m.distro, m.release)
	}
	lines, err := m.apply(names)
	for _, line := range lines {
		fmt.Fprintln(io.Out, prefix+line)
	}
	return err
}

// pkgMapCheck is the command pkg-map-check FILE...: it fails on the first file
// that is not a pkg-map, so that a fault is found on the host, with its
// position, before anything is installed.
func pkgMapCheck(_ context.Context, _ command.IO, args []string) error {
	for _, file := range args {
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("cannot check package map: %w", err)
		}
		if _, err := ParsePackageMap(file, data); err != nil {
			return err
		}
	}
	return nil
}
