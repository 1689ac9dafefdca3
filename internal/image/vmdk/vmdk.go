// Package vmdk writes and reads images of VMware in one file: monolithicSparse, which
// holds the used grains as they are, and streamOptimized, which compresses
// them and can be written and read front to back, as OVF packages need.
//
// Source: VMware, "Virtual Disk Format 5.0", 2011.
package vmdk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/image"
)

const (
	sector        = 512
	grainSectors  = 128
	grainSize     = grainSectors * sector
	tableEntries  = 512 // of a grain table
	tableSectors  = tableEntries * 4 / sector
	descriptorAt  = 1  // sector
	descriptorLen = 20 // sectors
	atEnd         = 1<<64 - 1
	maxSize       = 2 << 40 // sector numbers in tables have 32 bits

	sparse = "monolithicSparse"
	stream = "streamOptimized"
)

// Format is the vmdk output format.
type Format struct{}

// Name implements image.Format.
func (Format) Name() string { return "vmdk" }

// Extension implements image.Format.
func (Format) Extension() string { return "vmdk" }

// Keys implements image.Format.
func (Format) Keys() []string {
	return []string{"adapter_type", "backing_file", "backing_fmt", "compat6", "hwversion", "size", "subformat", "toolsversion", "zeroed_grain"}
}

// params are the checked options of one image.
type params struct {
	subformat, adapter, hardware, tools string
	name                                string
	workers                             int
}

func parse(opts image.Options) (params, error) {
	p := params{subformat: sparse, adapter: "ide", hardware: "4", tools: "2147483647", name: opts.Name, workers: opts.Workers}
	if p.name == "" || strings.ContainsAny(p.name, "\"\n\r") {
		p.name = "disk.vmdk" // readers take the data from this file all the same
	}
	for _, s := range opts.Settings {
		if err := p.set(s.Key, s.Value); err != nil {
			return p, fmt.Errorf("cannot use image option %s=%s: %w", s.Key, s.Value, err)
		}
	}
	return p, nil
}

func (p *params) set(key, value string) error {
	switch key {
	case "subformat":
		switch value {
		case sparse, stream:
			p.subformat = value
		case "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat":
			return fmt.Errorf("several files: %w", image.ErrUnsupported)
		default:
			return fmt.Errorf("want %s or %s", sparse, stream)
		}
	case "adapter_type":
		if !slices.Contains([]string{"ide", "buslogic", "lsilogic", "legacyESX"}, value) {
			return fmt.Errorf("want ide, buslogic, lsilogic or legacyESX")
		}
		p.adapter = value
	case "hwversion", "toolsversion":
		if value == "" || strings.Trim(value, "0123456789") != "" {
			return fmt.Errorf("want a number")
		}
		if key == "hwversion" {
			p.hardware = value
		} else {
			p.tools = value
		}
	case "compat6":
		switch value {
		case "off":
		case "on":
			p.hardware = "6"
		default:
			return fmt.Errorf("want on or off")
		}
	case "zeroed_grain":
		if value != "off" {
			return image.ErrUnsupported
		}
	case "backing_file", "backing_fmt", "size":
		return image.ErrUnsupported
	default:
		return fmt.Errorf("vmdk has no such option")
	}
	return nil
}

// Check implements image.Format.
func (Format) Check(opts image.Options, size int64) error {
	if size > maxSize {
		return fmt.Errorf("cannot make a vmdk image of %d bytes: the format ends at 2 TiB", size)
	}
	_, err := parse(opts)
	return err
}

// Write implements image.Format. Of Options, Compress is ignored: subformat
// decides.
func (f Format) Write(ctx context.Context, src *image.Source, out *os.File, opts image.Options, progress image.Progress) error {
	if err := f.Check(opts, src.Size()); err != nil {
		return err
	}
	p, err := parse(opts)
	if err != nil {
		return err
	}
	w := &writer{out: out, params: p, capacity: (src.Size() + sector - 1) / sector, id: sha256.New()}
	fmt.Fprintf(w.id, "vmdk of %d sectors ", w.capacity)
	if p.subformat == stream {
		err = w.stream(ctx, src, progress)
	} else {
		err = w.sparse(ctx, src, progress)
	}
	if err != nil {
		return fmt.Errorf("cannot write vmdk image: %w", err)
	}
	return nil
}

// header is the SparseExtentHeader, little-endian.
type header struct {
	Magic, Version, Flags            uint32
	Capacity, GrainSize              uint64
	DescriptorOffset, DescriptorLen  uint64
	TableEntries                     uint32
	RedundantOffset, DirectoryOffset uint64
	Overhead                         uint64
	Unclean                          uint8
	LineEnds                         [4]byte
	Compression                      uint16
	Padding                          [433]byte
}

func (w *writer) header() header {
	return header{
		Magic: 0x564d444b, Version: 1, Flags: 1, Capacity: uint64(w.capacity), GrainSize: grainSectors,
		DescriptorOffset: descriptorAt, DescriptorLen: descriptorLen, TableEntries: tableEntries,
		LineEnds: [4]byte{'\n', ' ', '\r', '\n'}, // a transfer as text would damage them
	}
}

func encode(values ...any) []byte {
	var b bytes.Buffer
	for _, v := range values {
		// Writing fixed-size values to memory cannot fail.
		_ = binary.Write(&b, binary.LittleEndian, v)
	}
	return b.Bytes()
}

// tables is the number of grain tables that the disk needs.
func (w *writer) tables() int64 {
	return (w.capacity + grainSectors*tableEntries - 1) / (grainSectors * tableEntries)
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// sparse writes the subformat monolithicSparse: header, descriptor, two copies
// of directory and tables, grains.
func (w *writer) sparse(ctx context.Context, src *image.Source, progress image.Progress) error {
	tables := w.tables()
	dirSectors := roundUp(tables*4, sector) / sector
	copySectors := dirSectors + tables*tableSectors
	redundant := int64(descriptorAt + descriptorLen)
	primary := redundant + copySectors
	overhead := roundUp(primary+copySectors, grainSectors)

	grains := make([]uint32, tables*tableEntries)
	next := overhead
	err := src.Chunks(ctx, grainSize, progress, func(n int64, data []byte) error {
		w.identify(n, data)
		if next > math.MaxUint32 {
			return errors.New("its data does not fit in 2 TiB")
		}
		grains[n] = uint32(next)
		_, err := w.out.WriteAt(data, next*sector)
		next += grainSectors
		return err
	})
	if err != nil {
		return err
	}
	for _, start := range []int64{redundant, primary} {
		dir := make([]uint32, dirSectors*sector/4)
		for i := range tables {
			dir[i] = uint32(start + dirSectors + i*tableSectors)
		}
		if _, err := w.out.WriteAt(encode(dir, grains), start*sector); err != nil {
			return err
		}
	}
	h := w.header()
	h.Flags |= 2 // the redundant copy is there
	h.RedundantOffset, h.DirectoryOffset, h.Overhead = uint64(redundant), uint64(primary), uint64(overhead)
	if err := w.head(h); err != nil {
		return err
	}
	return w.out.Truncate(next * sector)
}

// head writes the header and the descriptor.
func (w *writer) head(h header) error {
	if _, err := w.out.WriteAt(encode(h), 0); err != nil {
		return err
	}
	text := w.descriptor()
	if len(text) > descriptorLen*sector {
		return errors.New("its descriptor is too long")
	}
	_, err := w.out.WriteAt(append([]byte(text), make([]byte, descriptorLen*sector-len(text))...), descriptorAt*sector)
	return err
}

// descriptor is the text that describes the disk.
func (w *writer) descriptor() string {
	// The content id changes with the content; the last value means "none".
	cid := binary.LittleEndian.Uint32(w.id.Sum(nil)) &^ 1
	heads, sectors := int64(16), int64(63)
	if w.adapter != "ide" {
		heads = 255
	}
	return fmt.Sprintf(`# Disk DescriptorFile
version=1
CID=%08x
parentCID=ffffffff
createType="%s"

# Extent description
RW %d SPARSE "%s"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "%s"
ddb.geometry.cylinders = "%d"
ddb.geometry.heads = "%d"
ddb.geometry.sectors = "%d"
ddb.adapterType = "%s"
ddb.toolsVersion = "%s"
`, cid, w.subformat, w.capacity, w.name, w.hardware, w.capacity/(heads*sectors), heads, sectors, w.adapter, w.tools)
}
