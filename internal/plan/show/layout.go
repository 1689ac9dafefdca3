package show

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/plan"
)

// Layout is what is known of the disks before the size of the image is. Sizes
// and places are bytes; those that depend on the size of the image are absent.
type Layout struct {
	Source      string       `json:"source"`            // a file, the name of a variable, or that it is built in
	Element     string       `json:"element,omitempty"` // that brought it
	Unused      bool         `json:"unused,omitempty"`  // hooks are told of it, but no output is a disk
	Size        *int64       `json:"size,omitempty"`    // of the image
	Backend     plan.Backend `json:"backend"`           // how the disks are made
	Disks       []Disk       `json:"disks"`
	Filesystems []Filesystem `json:"filesystems"`
}

// Disk is a disk with its partitions.
type Disk struct {
	Name       string      `json:"name"`
	Size       *int64      `json:"size,omitempty"`
	SectorSize int         `json:"sector_size"`
	Table      string      `json:"table,omitempty"` // label of the partition table, "mbr"; empty: none
	Partitions []Partition `json:"partitions"`
}

// Partition is a partition that can hold something.
type Partition struct {
	Number int    `json:"number"`
	Name   string `json:"name"`
	Start  *int64 `json:"start,omitempty"`
	Length *int64 `json:"length,omitempty"`
	Type   string `json:"type"` // "0x83", or a GUID
	Boot   bool   `json:"boot,omitempty"`
}

// Filesystem is a filesystem and where it is mounted.
type Filesystem struct {
	Name   string `json:"name"`
	On     string `json:"on"` // name of the partition, the logical volume or the disk
	Type   string `json:"type"`
	Label  string `json:"label"`
	Mount  string `json:"mount,omitempty"`
	Offset *int64 `json:"offset,omitempty"` // on the disk; none for a volume in pieces
	Length *int64 `json:"length,omitempty"`
}

// Two sizes of an image, in KiB, at which a layout of unknown size is computed:
// what comes out alike does not depend on the size. Both are large, so that
// everything fits, and end where an MBR still reaches.
const (
	oneSize   = 1 << 30 // 1 TiB
	otherSize = 3 << 29 // 1.5 TiB
)

func newLayout(p *plan.Plan, config *blockdev.Config) (Layout, error) {
	sizes := []int64{oneSize, otherSize}
	known := p.Recipe.ImageSizeGiB != ""
	if known {
		size, err := blockdev.ImageSize(blockdev.SizeInput{ImageSizeGiB: p.Recipe.ImageSizeGiB})
		if err != nil {
			return Layout{}, err
		}
		sizes = []int64{size, size}
	}
	var views [2]Layout
	for i, size := range sizes {
		l, err := config.Layout(blockdev.LayoutInput{SizeKiB: size, BlockSize: p.Env["DIB_BLOCK_SIZE"]})
		if err != nil {
			return Layout{}, fmt.Errorf("cannot lay out the disk: %w", err)
		}
		views[i] = view(l)
	}
	keepEqual(reflect.ValueOf(&views[0]).Elem(), reflect.ValueOf(views[1]))
	out := views[0]
	out.Source, out.Element, out.Backend = p.BlockDevice.Source, p.BlockDevice.Element, p.Backend
	out.Unused = !slices.ContainsFunc(p.Outputs, func(o plan.Output) bool { return !o.FromTree })
	if known {
		bytes := sizes[0] * 1024
		out.Size = &bytes
	}
	return out, nil
}

// keepEqual forgets each number of a that differs in b.
func keepEqual(a, b reflect.Value) {
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			keepEqual(a.Field(i), b.Field(i))
		}
	case reflect.Slice:
		for i := range min(a.Len(), b.Len()) {
			keepEqual(a.Index(i), b.Index(i))
		}
	case reflect.Pointer:
		if !a.IsNil() && (b.IsNil() || a.Elem().Int() != b.Elem().Int()) {
			a.SetZero()
		}
	}
}

func view(l *blockdev.Layout) Layout {
	out := Layout{Disks: []Disk{}, Filesystems: []Filesystem{}}
	for _, d := range l.Disks {
		shown := Disk{Name: d.Name, Size: &d.Size, SectorSize: d.SectorSize, Partitions: []Partition{}}
		if d.Table != nil {
			shown.Table = d.Table.Label
			for _, p := range d.Table.Partitions {
				start, length := p.Start*int64(d.SectorSize), p.Length*int64(d.SectorSize)
				kind := p.TypeGUID
				if kind == "" {
					kind = fmt.Sprintf("0x%02x", p.Type)
				}
				shown.Partitions = append(shown.Partitions, Partition{
					Number: p.Number, Name: p.Name, Start: &start, Length: &length, Type: kind, Boot: p.Boot,
				})
			}
		}
		out.Disks = append(out.Disks, shown)
	}
	for _, f := range l.Filesystems {
		shown := Filesystem{Name: f.Node, On: f.Partition, Type: f.Type, Label: f.Label, Offset: &f.Offset, Length: &f.Length}
		switch {
		case f.Volume != "":
			shown.On = f.Volume
			if f.Split {
				shown.Offset = nil
			}
		case shown.On == "":
			shown.On = f.Disk
		}
		for _, m := range l.Mounts {
			if m.Filesystem == f.Node {
				shown.Mount = m.Point
			}
		}
		out.Filesystems = append(out.Filesystems, shown)
	}
	return out
}
