// Package vdi writes dynamic images, and reads dynamic and static ones, of VirtualBox.
//
// Sources: VirtualBox, src/VBox/Storage/VDICore.h (layout of the header);
// QEMU, block/vdi.c (what readers insist on).
package vdi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/dib-builder/dib/internal/image"
)

const (
	sector    = 512
	blockSize = 1 << 20
	mapAt     = sector
	// maxBlocks is the largest table that QEMU reads.
	maxBlocks = 0x20000000
)

var known = map[string]string{"static": "off", "preallocation": "off", "block_size": "1M", "size": ""}

// Format is the vdi output format.
type Format struct{}

// Name implements image.Format.
func (Format) Name() string { return "vdi" }

// Extension implements image.Format.
func (Format) Extension() string { return "vdi" }

// Keys implements image.Format.
func (Format) Keys() []string { return slices.Sorted(maps.Keys(known)) }

// Check implements image.Format.
func (Format) Check(opts image.Options, size int64) error {
	if size > maxBlocks*blockSize {
		return fmt.Errorf("cannot make a vdi image of %d bytes: larger than 512 TiB", size)
	}
	return image.NoSettings("vdi", opts, known)
}

// Write implements image.Format.
func (f Format) Write(ctx context.Context, src *image.Source, out *os.File, opts image.Options, progress image.Progress) error {
	if err := f.Check(opts, src.Size()); err != nil {
		return err
	}
	if err := write(ctx, src, out, progress); err != nil {
		return fmt.Errorf("cannot write vdi image: %w", err)
	}
	return nil
}

func write(ctx context.Context, src *image.Source, out *os.File, progress image.Progress) error {
	size := (src.Size() + sector - 1) / sector * sector
	blocks := (size + blockSize - 1) / blockSize
	table := bytes.Repeat([]byte{0xff}, int(4*blocks)) // all ones: never written, reads as zeros
	dataAt := (mapAt + int64(len(table)) + blockSize - 1) / blockSize * blockSize
	id := sha256.New()
	fmt.Fprintf(id, "vdi of %d bytes ", size)
	used := uint32(0)
	err := src.Chunks(ctx, blockSize, progress, func(n int64, data []byte) error {
		fmt.Fprintf(id, "%d:", n)
		id.Write(data)
		binary.LittleEndian.PutUint32(table[4*n:], used)
		_, err := out.WriteAt(data, dataAt+int64(used)*blockSize)
		used++
		return err
	})
	if err != nil {
		return err
	}
	if _, err := out.WriteAt(table, mapAt); err != nil {
		return err
	}
	if _, err := out.WriteAt(header(size, dataAt, uint32(blocks), used, id.Sum(nil)), 0); err != nil {
		return err
	}
	// Without data the file would end before where data begins.
	return out.Truncate(dataAt + int64(used)*blockSize)
}

func header(size, dataAt int64, blocks, used uint32, id []byte) []byte {
	b := make([]byte, sector)
	le := binary.LittleEndian
	copy(b, "<<< Oracle VM VirtualBox Disk Image >>>\n")
	le.PutUint32(b[64:], 0xbeda107f)
	le.PutUint32(b[68:], 1<<16|1) // version 1.1
	le.PutUint32(b[72:], 400)     // bytes from here to the end of the header
	le.PutUint32(b[76:], 1)       // dynamic
	le.PutUint32(b[340:], mapAt)
	le.PutUint32(b[344:], uint32(dataAt))
	// The geometry at 348 to 356 stays 0: VirtualBox then chooses one.
	le.PutUint32(b[360:], sector)
	le.PutUint64(b[368:], uint64(size))
	le.PutUint32(b[376:], blockSize)
	le.PutUint32(b[384:], blocks)
	le.PutUint32(b[388:], used)
	for at, part := range map[int][]byte{392: id[:16], 408: id[16:32]} { // image and last snapshot
		copy(b[at:at+16], part)
		b[at+7] = b[at+7]&0x0f | 0x80 // little-endian: the version is in the eighth byte
		b[at+8] = b[at+8]&0x3f | 0x80
	}
	return b
}
