package plan

import (
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/dib-builder/dib/elements"
	"github.com/dib-builder/dib/internal/element"
)

// The embedded elements must go together: each operating system with
// everything that is not an operating system or a disk layout of its own.
func TestEmbeddedElementsCombine_M09(t *testing.T) {
	lib, err := element.Load("", elements.FS())
	if err != nil {
		t.Fatal(err)
	}
	var systems, others []string
	for _, name := range lib.Names() {
		e, _ := lib.Lookup(name)
		switch {
		case slices.Contains(e.Provides, element.OperatingSystem):
			systems = append(systems, name)
		case len(e.Provides) == 0:
			others = append(others, name)
		}
	}
	if len(systems) == 0 {
		t.Fatal("no operating system is embedded")
	}
	for _, system := range systems {
		p, err := Make(newRecipe(system, nil), lib, pure)
		if err != nil {
			t.Errorf("%s alone: %v", system, err)
			continue
		}
		if len(p.Warnings) > 0 {
			t.Errorf("%s alone: warnings %q", system, p.Warnings)
		}
		rec := newRecipe(system, nil)
		rec.Elements = append(rec.Elements, combinable(t, lib, system, others)...)
		if p, err = Make(rec, lib, pure); err != nil {
			t.Errorf("%s with everything: %v", system, err)
		} else if len(p.Warnings) > 0 {
			t.Errorf("%s with everything: warnings %q", system, p.Warnings)
		}
	}
}

// packageManager is the command of which an image has exactly one: elements
// that bring it belong to an operating system and cannot be mixed.
const packageManager = "bin/install-packages"

// combinable leaves out those of names that bring, or need an element that
// brings, another package manager than the operating system does, or another
// operating system.
func combinable(t *testing.T, lib *element.Library, system string, names []string) []string {
	t.Helper()
	own := packageManagers(t, lib, system)
	var rest []string
	for _, name := range names {
		// One that builds on an operating system is for that one only.
		var provided *element.AlreadyProvidedError
		if _, err := lib.Resolve([]string{system, name, "block-device-mbr"}); errors.As(err, &provided) {
			continue
		}
		for _, m := range packageManagers(t, lib, system, name) {
			if !slices.Contains(own, m) {
				name = ""
			}
		}
		if name != "" {
			rest = append(rest, name)
		}
	}
	return rest
}

// packageManagers are the elements with a package manager that the named ones bring in.
func packageManagers(t *testing.T, lib *element.Library, names ...string) []string {
	t.Helper()
	resolved, err := lib.Resolve(append(names, "block-device-mbr")) // for vm
	if err != nil {
		t.Fatal(err)
	}
	var managers []string
	for _, e := range resolved {
		if _, err := fs.Stat(e.FS, packageManager); err == nil {
			managers = append(managers, e.Name)
		}
	}
	return managers
}
