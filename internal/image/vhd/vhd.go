// Package vhd writes and reads Microsoft's VHD images: dynamic ones, which hold the used
// blocks only and which qemu-img calls vpc, and fixed ones, which are the disk
// and a footer, for Azure.
//
// Source: Microsoft, "Virtual Hard Disk Image Format Specification", 1.0, 2006;
// for fixed images, "Prepare a Windows VHD or VHDX to upload to Azure", which
// asks for a size in whole MiB.
package vhd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"maps"
	"os"
	"slices"

	"github.com/dib-builder/dib/internal/image"
)

const (
	sector     = 512
	blockSize  = 2 << 20 // of a dynamic image
	bitmapSize = blockSize / sector / 8
	tableAt    = 3 * sector // footer, header, then the table of blocks
	fixedUnit  = 1 << 20    // sizes of fixed images are multiples of this
	maxSize    = 2040 << 30 // of a dynamic image; the specification's limit

	typeFixed   = 2
	typeDynamic = 3
	unused      = 1<<32 - 1
)

// known are the settings of qemu-img for vpc that ask for what is written anyway.
func known(subformat string) map[string]string {
	return map[string]string{"subformat": subformat, "force_size": "on", "size": ""}
}

// Dynamic is the format vhd.
type Dynamic struct{}

// Name implements image.Format.
func (Dynamic) Name() string { return "vhd" }

// Extension implements image.Format.
func (Dynamic) Extension() string { return "vhd" }

// Keys implements image.Format.
func (Dynamic) Keys() []string { return slices.Sorted(maps.Keys(known(""))) }

// Check implements image.Format.
func (Dynamic) Check(opts image.Options, size int64) error {
	if size > maxSize {
		return fmt.Errorf("cannot make a vhd image of %d bytes: the format ends at 2040 GiB", size)
	}
	return image.NoSettings("vhd", opts, known("dynamic"))
}

// Write implements image.Format.
func (d Dynamic) Write(ctx context.Context, src *image.Source, out *os.File, opts image.Options, progress image.Progress) error {
	if err := d.Check(opts, src.Size()); err != nil {
		return err
	}
	if err := writeDynamic(ctx, src, out, progress); err != nil {
		return fmt.Errorf("cannot write vhd image: %w", err)
	}
	return nil
}

func writeDynamic(ctx context.Context, src *image.Source, out *os.File, progress image.Progress) error {
	size := roundUp(src.Size(), sector)
	entries := (size + blockSize - 1) / blockSize
	table := bytes.Repeat([]byte{0xff}, int(roundUp(4*entries, sector)))
	pos := int64(tableAt + len(table))
	id := identity(size)
	bitmap := bytes.Repeat([]byte{0xff}, bitmapSize)
	err := src.Chunks(ctx, blockSize, progress, func(n int64, data []byte) error {
		binary.BigEndian.PutUint32(table[4*n:], uint32(pos/sector))
		fmt.Fprintf(id, "%d:", n)
		id.Write(data)
		if _, err := out.WriteAt(bitmap, pos); err != nil {
			return err
		}
		if _, err := out.WriteAt(data, pos+bitmapSize); err != nil {
			return err
		}
		pos += bitmapSize + blockSize
		return nil
	})
	if err != nil {
		return err
	}
	foot := footer(size, typeDynamic, sector, id.Sum(nil))
	for _, part := range []struct {
		data []byte
		off  int64
	}{{foot, 0}, {dynamicHeader(uint32(entries)), sector}, {table, tableAt}, {foot, pos}} {
		if _, err := out.WriteAt(part.data, part.off); err != nil {
			return err
		}
	}
	return nil
}

// Fixed is the format vhd-fixed.
type Fixed struct{}

// Name implements image.Format.
func (Fixed) Name() string { return "vhd-fixed" }

// Extension implements image.Format.
func (Fixed) Extension() string { return "vhd" }

// Keys implements image.Format.
func (Fixed) Keys() []string { return Dynamic{}.Keys() }

// Check implements image.Format.
func (Fixed) Check(opts image.Options, _ int64) error {
	return image.NoSettings("vhd-fixed", opts, known("fixed"))
}

// Write implements image.Format. The disk grows to the next whole MiB.
func (f Fixed) Write(ctx context.Context, src *image.Source, out *os.File, opts image.Options, progress image.Progress) error {
	return image.WriteStream(ctx, f, src, out, opts, progress)
}

// Stream implements image.Streamer.
func (f Fixed) Stream(ctx context.Context, src *image.Source, out image.Stream, opts image.Options, progress image.Progress) error {
	if err := f.Check(opts, src.Size()); err != nil {
		return err
	}
	if err := writeFixed(ctx, src, out, progress); err != nil {
		return fmt.Errorf("cannot write vhd image: %w", err)
	}
	return nil
}

func writeFixed(ctx context.Context, src *image.Source, out image.Stream, progress image.Progress) error {
	id := identity(src.Size())
	pos := int64(0)
	err := src.Chunks(ctx, fixedUnit, progress, func(n int64, data []byte) error {
		fmt.Fprintf(id, "%d:", n)
		id.Write(data)
		if err := out.Skip(n*fixedUnit - pos); err != nil {
			return err
		}
		pos = (n + 1) * fixedUnit
		return image.WriteSparse(out, data)
	})
	if err != nil {
		return err
	}
	size := roundUp(src.Size(), fixedUnit)
	if err := out.Skip(size - pos); err != nil {
		return err
	}
	_, err = out.Write(footer(size, typeFixed, -1, id.Sum(nil)))
	return err
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// identity begins the hash from which an image's UUID comes: equal disks have
// the same one.
func identity(size int64) hash.Hash {
	h := sha256.New()
	fmt.Fprintf(h, "vhd of %d bytes ", size)
	return h
}

// footer is what ends every image; next is where the header of a dynamic one is.
func footer(size int64, kind uint32, next int64, id []byte) []byte {
	b := make([]byte, sector)
	be := binary.BigEndian
	copy(b, "conectix")
	be.PutUint32(b[8:], 2) // always set
	be.PutUint32(b[12:], 1<<16)
	be.PutUint64(b[16:], uint64(next))
	// The time stays at 2000-01-01, so that equal disks give equal images.
	// QEMU believes the size below only of creators that it knows, and computes
	// it from the geometry otherwise. DIB's images are written by Xen's
	// vhd-util, which calls itself this.
	copy(b[28:], "tap\x00")
	be.PutUint32(b[32:], 1<<16|3)
	be.PutUint64(b[40:], uint64(size))
	be.PutUint64(b[48:], uint64(size))
	cylinders, heads, sectors := geometry(size / sector)
	be.PutUint16(b[56:], cylinders)
	b[58], b[59] = heads, sectors
	be.PutUint32(b[60:], kind)
	copy(b[68:84], id)
	b[68+6] = b[68+6]&0x0f | 0x80 // version 8: made by a rule of its own
	b[68+8] = b[68+8]&0x3f | 0x80
	be.PutUint32(b[64:], checksum(b))
	return b
}

func dynamicHeader(entries uint32) []byte {
	b := make([]byte, 2*sector)
	be := binary.BigEndian
	copy(b, "cxsparse")
	be.PutUint64(b[8:], 1<<64-1)
	be.PutUint64(b[16:], tableAt)
	be.PutUint32(b[24:], 1<<16)
	be.PutUint32(b[28:], entries)
	be.PutUint32(b[32:], blockSize)
	be.PutUint32(b[36:], checksum(b))
	return b
}

func checksum(b []byte) uint32 {
	sum := uint32(0)
	for _, c := range b {
		sum += uint32(c)
	}
	return ^sum
}

// geometry is the specification's rule for cylinders, heads and sectors.
func geometry(total int64) (cylinders uint16, heads, sectors uint8) {
	total = min(total, 65535*16*255)
	if total >= 65535*16*63 {
		return uint16(total / 255 / 16), 16, 255
	}
	spt, h := int64(17), (total/17+1023)/1024
	h = max(h, 4)
	if total/17 >= h*1024 || h > 16 {
		spt, h = 31, 16
	}
	if total/spt >= h*1024 {
		spt, h = 63, 16
	}
	return uint16(total / spt / h), uint8(h), uint8(spt)
}
