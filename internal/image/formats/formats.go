// Package formats lists the output formats that need no other program.
package formats

import (
	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/qcow2"
	"github.com/dib-builder/dib/internal/image/raw"
)

// All returns every built-in format, sorted by name.
func All() []image.Format {
	return []image.Format{qcow2.Format{}, raw.Format{}}
}

// Lookup finds a format by the word a user writes after -t.
func Lookup(name string) (image.Format, bool) {
	for _, f := range All() {
		if f.Name() == name {
			return f, true
		}
	}
	return nil, false
}
