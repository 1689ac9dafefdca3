// Package formats lists the output formats, none of which needs another program.
package formats

import (
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/packed"
	"github.com/dib-builder/dib/internal/image/qcow2"
	"github.com/dib-builder/dib/internal/image/raw"
	"github.com/dib-builder/dib/internal/image/squashfs"
	"github.com/dib-builder/dib/internal/image/tarball"
	"github.com/dib-builder/dib/internal/image/tree"
	"github.com/dib-builder/dib/internal/image/vdi"
	"github.com/dib-builder/dib/internal/image/vhd"
	"github.com/dib-builder/dib/internal/image/vhdx"
	"github.com/dib-builder/dib/internal/image/vmdk"
)

// All returns every format that is made of the disk, sorted by name.
func All() []image.Format {
	list := []image.Format{qcow2.Format{}, raw.Format{}, vdi.Format{}, vhd.Dynamic{}, vhd.Fixed{}, vhdx.Format{}, vmdk.Format{}, alias{vhd.Dynamic{}, "vpc"}}
	list = append(list, packed.Formats()...)
	slices.SortFunc(list, func(a, b image.Format) int { return strings.Compare(a.Name(), b.Name()) })
	return list
}

// alias is a format under another name: DIB hands words that it does not know
// to qemu-img, and so some formats have two.
type alias struct {
	image.Format
	name string
}

func (a alias) Name() string      { return a.name }
func (a alias) Extension() string { return a.name }

// Lookup finds a format that is made of the disk by the word a user writes after -t.
func Lookup(name string) (image.Format, bool) {
	for _, f := range All() {
		if f.Name() == name {
			return f, true
		}
	}
	return nil, false
}

// Trees returns every format that is made of the root filesystem's files.
func Trees() []tree.Format {
	return append([]tree.Format{squashfs.Format{}}, tarball.Formats()...)
}

// LookupTree finds a format that is made of files by the word a user writes after -t.
func LookupTree(name string) (tree.Format, bool) {
	for _, f := range Trees() {
		if f.Name() == name {
			return f, true
		}
	}
	return nil, false
}

// Names returns the words of all formats, sorted.
func Names() []string {
	var names []string
	for _, f := range All() {
		names = append(names, f.Name())
	}
	for _, f := range Trees() {
		names = append(names, f.Name())
	}
	slices.Sort(names)
	return names
}

// Extension is the ending, without its dot, of the files of a format; the word
// itself when there is no such format.
func Extension(name string) string {
	if f, ok := Lookup(name); ok {
		return f.Extension()
	}
	if f, ok := LookupTree(name); ok {
		return f.Extension()
	}
	return name
}
