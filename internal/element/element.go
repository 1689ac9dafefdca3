// Package element finds elements, decides which of several namesakes counts,
// and resolves a request into the ordered list of elements of an image.
//
// An element is a directory; this package reads its name, what it depends on
// and what it provides. What its other files mean is the business of others.
package element

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dib-builder/dib/internal/place"
)

const (
	depsFile     = "element-deps"
	providesFile = "element-provides"

	// OperatingSystem is the virtual name that exactly one element of an image provides.
	OperatingSystem = "operating-system"
	// BlockDevice is the virtual name of the elements that bring a disk layout.
	BlockDevice = "block-device"
)

// Element is one element of a library.
type Element struct {
	Name string // the directory entry it was found under, also when that is a link
	// Dir is where hooks find the element: an absolute path without symbolic
	// links, or a path below place.ElementsDir for an embedded one.
	Dir      string
	FS       fs.FS // the element's own directory
	Builtin  bool  // from the embedded library, which knows no modes and no links
	Deps     []string
	Provides []string
}

// Layer is one directory of elements. An earlier layer hides namesakes of later ones.
type Layer struct {
	Path    string // absolute path as hooks see it
	FS      fs.FS
	Builtin bool
	// Resolve turns an entry's name into the path that Element.Dir reports; nil joins Path and the name.
	Resolve func(name string) (string, error)
}

// Library is every element that can be used, one for each name.
type Library struct {
	// Warnings tell of elements that hide others, in order of discovery.
	Warnings []Override

	elements map[string]Element
	searched []string
}

// Override is an element that hides a namesake found later.
type Override struct {
	Name, Used, Hidden string // Used and Hidden are directories
	Builtin            bool   // the hidden one is of the embedded library
}

func (o Override) String() string {
	hidden := o.Hidden
	if o.Builtin {
		hidden += " (built in)"
	}
	return fmt.Sprintf("element %q: using %s instead of %s", o.Name, o.Used, hidden)
}

// Load reads the library that elementsPath, a colon-separated list of existing
// directories, and the embedded elements make up. An empty list means the
// embedded elements alone. Each faulty entry gives an *InvalidDirError.
//
// An entry naming place.ElementsDir is the embedded library, which comes last
// in any case: processes inside a build hand the list back like that.
func Load(elementsPath string, builtin fs.FS) (*Library, error) {
	var layers []Layer
	var errs []error
	if elementsPath != "" {
		for _, entry := range strings.Split(elementsPath, ":") {
			if entry != "" && filepath.Clean(entry) == place.ElementsDir {
				continue
			}
			layer, err := dirLayer(entry)
			if err != nil {
				errs = append(errs, &InvalidDirError{Entry: entry, Path: elementsPath, Reason: err})
				continue
			}
			layers = append(layers, layer)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return New(append(layers, Layer{Path: place.ElementsDir, FS: builtin, Builtin: true})...)
}

func dirLayer(entry string) (Layer, error) {
	if entry == "" {
		return Layer{}, errors.New("empty entry")
	}
	abs, err := filepath.Abs(entry)
	if err != nil {
		return Layer{}, err
	}
	st, err := os.Stat(abs)
	if err != nil {
		return Layer{}, err
	}
	if !st.IsDir() {
		return Layer{}, errors.New("not a directory")
	}
	return Layer{
		Path:    abs,
		FS:      os.DirFS(abs),
		Resolve: func(name string) (string, error) { return filepath.EvalSymlinks(filepath.Join(abs, name)) },
	}, nil
}

// New makes a library of layers. Every element's dependency files are read,
// used or not, so that a broken library shows at once.
func New(layers ...Layer) (*Library, error) {
	l := &Library{elements: map[string]Element{}}
	var errs []error
	for _, layer := range layers {
		if !layer.Builtin {
			l.searched = append(l.searched, layer.Path)
		}
		entries, err := ReadDir(layer.FS, ".")
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot list elements of %q: %w", layer.Path, err))
			continue
		}
		for _, entry := range entries {
			// Stat follows links; what cannot be followed to a directory is no element.
			if st, err := fs.Stat(layer.FS, entry.Name()); err != nil || !st.IsDir() {
				continue
			}
			e, err := layer.element(entry.Name())
			if err != nil {
				errs = append(errs, err)
				continue
			}
			l.add(e)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return l, nil
}

// ReadDir lists a directory in byte order of names. fs.ReadDir leaves the order
// to the file system where that has a method for it.
func ReadDir(fsys fs.FS, dir string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(fsys, dir)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

func (layer Layer) element(name string) (Element, error) {
	e := Element{Name: name, Dir: path.Join(layer.Path, name), Builtin: layer.Builtin}
	var err error
	if layer.Resolve != nil {
		if e.Dir, err = layer.Resolve(name); err != nil {
			return e, fmt.Errorf("cannot find directory of element %q: %w", name, err)
		}
	}
	if e.FS, err = fs.Sub(layer.FS, name); err != nil {
		return e, fmt.Errorf("cannot open element %q: %w", name, err)
	}
	if e.Deps, err = readNames(e, depsFile); err != nil {
		return e, err
	}
	e.Provides, err = readNames(e, providesFile)
	return e, err
}

func readNames(e Element, file string) ([]string, error) {
	data, err := fs.ReadFile(e.FS, file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %q of element %q: %w", path.Join(e.Dir, file), e.Name, err)
	}
	return ParseNames(data), nil
}

// ParseNames reads an element-deps or element-provides file: one name a line,
// without repetition. Blank lines do not count, nor does what follows a "#" at
// the start of a line or after a blank.
func ParseNames(data []byte) []string {
	var names []string
	for line := range bytes.Lines(data) {
		name := strings.TrimSpace(stripComment(string(line)))
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func stripComment(line string) string {
	for i := range line {
		// The same white space counts here that is trimmed from names.
		before, _ := utf8.DecodeLastRuneInString(line[:i])
		if line[i] == '#' && (i == 0 || unicode.IsSpace(before)) {
			return line[:i]
		}
	}
	return line
}

func (l *Library) add(e Element) {
	first, hidden := l.elements[e.Name]
	if !hidden {
		l.elements[e.Name] = e
		return
	}
	// The same directory reached twice is no override, and nobody means
	// directories such as .git when speaking of elements.
	if first.Dir != e.Dir && !strings.HasPrefix(e.Name, ".") {
		l.Warnings = append(l.Warnings, Override{e.Name, first.Dir, e.Dir, e.Builtin})
	}
}

// Lookup returns the element of that name.
func (l *Library) Lookup(name string) (Element, bool) {
	e, ok := l.elements[name]
	return e, ok
}

// Names lists all elements in byte order.
func (l *Library) Names() []string {
	names := make([]string, 0, len(l.elements))
	for name := range l.elements {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// providersOf lists the elements, used or not, that provide a name.
func (l *Library) providersOf(name string) []string {
	var found []string
	for _, n := range l.Names() {
		if slices.Contains(l.elements[n].Provides, name) {
			found = append(found, n)
		}
	}
	return found
}
