package pkginstalls

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dib-builder/dib/internal/finding"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/intarget/pkglist"
	"github.com/dib-builder/dib/internal/place"
)

// element is a selected element and the one directory that it resolved to.
type element struct{ name, dir string }

// builtin reports whether the element comes from the embedded library, rooted
// at dir inside the sandbox, and not from the user's ELEMENTS_PATH.
func (e element) builtin(library string) bool {
	return filepath.Clean(e.dir) == filepath.Join(library, e.name)
}

// findElements finds the directories of names, in the order of names. The
// build's own resolution decides; without it the first directory of the
// colon-separated path that has an entry of that name.
func findElements(names []string, path string, env cmdline.Environment) ([]element, error) {
	resolved, err := env.ElementDirs()
	if err != nil {
		return nil, err
	}
	var found []element
	for _, name := range names {
		dir, ok := resolved[name]
		for _, parent := range strings.Split(path, ":") {
			if ok {
				break
			}
			if parent == "" {
				continue
			}
			dir = filepath.Join(parent, name)
			st, err := os.Stat(dir)
			ok = err == nil && st.IsDir()
		}
		if !ok {
			return nil, fmt.Errorf("cannot find element %q: neither in IMAGE_ELEMENT_YAML nor on the path %q", name, path)
		}
		found = append(found, element{name, dir})
	}
	return found, nil
}

// ownsCommand reports whether the command that the named element provides is
// the one of this package: the element is not overridden, or nothing is known
// about elements because the command runs outside a build.
func ownsCommand(env cmdline.Environment, name string) bool {
	dirs, err := env.ElementDirs()
	if err != nil {
		return false
	}
	dir, known := dirs[name]
	return !known || element{name, dir}.builtin(place.ElementsDir)
}

// readLists reads those of the named package lists that the element has.
func readLists(e element, files ...string) ([]pkglist.Entry, finding.List, error) {
	return pkglist.Read(e.dir, os.DirFS(e.dir), e.name, files...)
}
