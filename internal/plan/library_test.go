package plan

import (
	"slices"
	"testing"

	"github.com/dib-builder/dib/elements"
	"github.com/dib-builder/dib/internal/element"
)

// The embedded elements must go together: each operating system with
// everything that is not an operating system or a disk layout of its own.
func TestEmbeddedElementsCombine(t *testing.T) {
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
		rec.Elements = append(rec.Elements, others...)
		if p, err = Make(rec, lib, pure); err != nil {
			t.Errorf("%s with everything: %v", system, err)
		} else if len(p.Warnings) > 0 {
			t.Errorf("%s with everything: warnings %q", system, p.Warnings)
		}
	}
}
