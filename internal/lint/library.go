package lint

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/element"
	"github.com/dib-builder/dib/internal/similar"
)

// unit is an element as far as its relation to others goes.
type unit struct {
	name           string
	deps, provides []string
	// files are those directly in its first-level directories: of each, only
	// one element of a build may have one. Their values are nil for an element
	// that is known, but not checked.
	files    map[string]*file
	depsFile *file // element-deps, if it is checked
}

// library makes the checks that take more than one element.
func (l *linter) library(checked []*file) {
	units := l.units(checked)
	r := newRelations(units)
	for _, name := range slices.Sorted(maps.Keys(units)) {
		u := units[name]
		if u.depsFile == nil {
			continue
		}
		for _, dep := range u.deps {
			if _, known := units[dep]; !known && len(r.providers[dep]) == 0 {
				line := slices.IndexFunc(u.depsFile.lines, func(line string) bool { return slices.Contains(element.ParseNames([]byte(line)), dep) })
				l.report(u.depsFile, line+1, checkUnknownDep, "there is no element %q%s; if it comes from elsewhere, name its directory in ELEMENTS_PATH",
					dep, didYouMean(dep, slices.Sorted(maps.Keys(units))))
			}
		}
	}
	l.duplicates(units, r)
}

func didYouMean(word string, candidates []string) string {
	if near := similar.Words(word, candidates); len(near) > 0 {
		return " (did you mean " + near[0] + "?)"
	}
	return ""
}

// duplicates finds files of the same name in elements that a build can have
// together.
func (l *linter) duplicates(units map[string]*unit, r relations) {
	owners := map[string][]*unit{}
	for _, name := range slices.Sorted(maps.Keys(units)) {
		for p := range units[name].files {
			owners[p] = append(owners[p], units[name])
		}
	}
	for _, p := range slices.Sorted(maps.Keys(owners)) {
		for i, a := range owners[p] {
			for _, b := range owners[p][:i] {
				first, second := b, a
				if second.files[p] == nil {
					first, second = a, b
				}
				f := second.files[p]
				if f == nil || !r.together(a.name, b.name) {
					continue
				}
				if other := first.files[p]; other != nil && slices.Contains(other.disabled, checkDuplicate) {
					continue
				}
				l.report(f, 0, checkDuplicate, "element %s has a file of this name too: the two cannot be used together", first.name)
			}
		}
	}
}

// units are the elements that are checked, and those of the context that they
// do not hide.
func (l *linter) units(checked []*file) map[string]*unit {
	units := map[string]*unit{}
	unitOf := func(name string) *unit {
		u := units[name]
		if u == nil {
			u = &unit{name: name, files: map[string]*file{}}
			units[name] = u
		}
		return u
	}
	for _, f := range checked {
		name, rest, nested := strings.Cut(f.path, "/")
		if !nested {
			continue
		}
		u := unitOf(name)
		switch rest {
		case "element-deps":
			u.deps, u.depsFile = element.ParseNames(f.data), f
		case "element-provides":
			u.provides = element.ParseNames(f.data)
		}
		if exclusivePath(rest) {
			u.files[rest] = f
		}
	}
	for _, fsys := range l.in.Context {
		l.contextUnits(fsys, units)
	}
	return units
}

func (l *linter) contextUnits(fsys fs.FS, units map[string]*unit) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return // a context is a help, no more
	}
	for _, e := range entries {
		name := e.Name()
		if _, hidden := units[name]; hidden || !isDir(fsys, name) {
			continue
		}
		u := &unit{name: name, files: map[string]*file{}}
		units[name] = u
		u.deps, u.provides = contextNames(fsys, name+"/element-deps"), contextNames(fsys, name+"/element-provides")
		dirs, err := fs.ReadDir(fsys, name)
		if err != nil {
			continue
		}
		for _, dir := range dirs {
			if !dir.IsDir() {
				continue
			}
			inside, err := fs.ReadDir(fsys, path.Join(name, dir.Name()))
			if err != nil {
				continue
			}
			for _, one := range inside {
				if p := dir.Name() + "/" + one.Name(); !one.IsDir() && exclusivePath(p) {
					u.files[p] = nil
				}
			}
		}
	}
}

func isDir(fsys fs.FS, name string) bool {
	st, err := fs.Stat(fsys, name)
	return err == nil && st.IsDir()
}

func contextNames(fsys fs.FS, p string) []string {
	data, err := fs.ReadFile(fsys, p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return element.ParseNames(data)
}

// exclusivePath says whether a path within an element can be there but once.
func exclusivePath(rest string) bool {
	dir, name, nested := strings.Cut(rest, "/")
	if !nested || strings.Contains(name, "/") || strings.HasPrefix(name, ".") {
		return false
	}
	switch dir {
	case "tests", "__pycache__", "test-elements":
		return false
	}
	return true
}

// relations tell which elements can be in one build.
type relations struct {
	units     map[string]*unit
	providers map[string][]string        // of each provided name, sorted
	closures  map[string]map[string]bool // of each element, itself included
	systems   map[string]map[string]bool // operating systems that an element can be used with; nil: any
}

func newRelations(units map[string]*unit) relations {
	r := relations{units: units, providers: map[string][]string{}, closures: map[string]map[string]bool{}, systems: map[string]map[string]bool{}}
	names := slices.Sorted(maps.Keys(units))
	for _, name := range names {
		for _, p := range units[name].provides {
			r.providers[p] = append(r.providers[p], name)
		}
	}
	usedBy := map[string]map[string]bool{}
	for _, name := range names {
		r.closures[name] = r.closure(name)
		if !slices.Contains(units[name].provides, element.OperatingSystem) {
			continue
		}
		for part := range r.closures[name] {
			if usedBy[part] == nil {
				usedBy[part] = map[string]bool{}
			}
			usedBy[part][name] = true
		}
	}
	// What operating systems are made of is made for them; what needs such a
	// part can be used where the part can.
	for _, name := range names {
		var common map[string]bool
		for part := range r.closures[name] {
			if usedBy[part] != nil {
				common = intersection(common, usedBy[part])
			}
		}
		r.systems[name] = common
	}
	return r
}

// closure is what an element brings along. A name with several providers, or
// none, is left out: it does not say which one will be there.
func (r relations) closure(name string) map[string]bool {
	all := map[string]bool{}
	queue := []string{name}
	for len(queue) > 0 {
		name, queue = queue[0], queue[1:]
		if _, real := r.units[name]; !real && len(r.providers[name]) == 1 {
			name = r.providers[name][0]
		}
		if u := r.units[name]; u != nil && !all[name] {
			all[name] = true
			queue = append(queue, u.deps...)
		}
	}
	return all
}

// intersection of two sets, nil being the set of everything.
func intersection(a, b map[string]bool) map[string]bool {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	common := map[string]bool{}
	for name := range a {
		if b[name] {
			common[name] = true
		}
	}
	return common
}

// together says whether two elements can be used in one build.
func (r relations) together(a, b string) bool {
	if systems := intersection(r.systems[a], r.systems[b]); systems != nil && len(systems) == 0 {
		return false
	}
	provided := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(union(r.closures[a], r.closures[b]))) {
		for _, p := range r.units[name].provides {
			if provided[p] {
				return false
			}
			provided[p] = true
		}
	}
	return !provided[a] && !provided[b]
}

func union(a, b map[string]bool) map[string]bool {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}
