package tree

import (
	"context"
	"io"

	"github.com/dib-builder/dib/internal/image"
)

// Format is one output format that is made of a Tree.
type Format interface {
	// Name is the word a user writes after -t.
	Name() string
	// Extension is the file name's ending without its dot.
	Extension() string
	// Write writes the tree to out, which is empty. The bytes written depend on
	// the tree and on what Settings document as mattering, never on Workers.
	// On error out holds garbage that the caller discards.
	Write(ctx context.Context, t *Tree, out Output, set Settings, progress image.Progress) error
}

// Output is the file that a format writes. What is written front to back by
// Write alone can be digested on the way.
type Output interface {
	io.Writer
	io.WriterAt
}

// Settings are what formats need to know besides the tree. The zero value is
// good for all but docker.
type Settings struct {
	Workers int // goroutines that compress; 0 means one per usable CPU
	// Gzip, when set, compresses tgz archives instead of the built-in code.
	Gzip func(ctx context.Context, in io.Reader, out io.Writer) error
	// Manifest is the manifest of an aci; nil for none.
	Manifest []byte
	// Tag is the name of a docker image, with its tag; Arch its architecture,
	// as Go names it.
	Tag, Arch string
	// Warn is told of what a format has to leave out; nil for nobody.
	Warn func(text string)
}

// Warning calls Warn if there is one.
func (s Settings) Warning(text string) {
	if s.Warn != nil {
		s.Warn(text)
	}
}
