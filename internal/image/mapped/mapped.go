// Package mapped reads disks that image files hold in blocks of one size,
// wherever the format's tables say.
package mapped

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/dib-builder/dib/internal/image"
)

// Kind says how a file holds a block.
type Kind int

// Kinds.
const (
	Hole   Kind = iota // not at all: it is zeros
	Plain              // as it is
	Packed             // as Layout.Unpack reads it
)

// Place is where a file holds a block.
type Place struct {
	Kind Kind
	Off  int64 // in the file
	Run  int64 // of a Hole: how many blocks from this one on are the same; 0 means 1
}

// Layout describes an image file. Its functions are not called concurrently.
type Layout struct {
	Size      int64 // of the disk
	BlockSize int64
	// MinPacked is the least that a packed block takes of the file, in bytes.
	MinPacked int64
	Find      func(block int64) (Place, error)
	// Unpack fills p, of BlockSize bytes, with the block at off in the file.
	Unpack func(p []byte, block, off int64) error
}

// Disk is the disk in an image file.
type Disk struct {
	Layout
	name     string // of the format
	r        io.ReaderAt
	fileSize int64

	mu       sync.Mutex // guards what follows and the calls to Layout
	unpacked []byte
	number   int64 // of the block in unpacked, -1 for none
}

// New returns the disk of the file r with fileSize bytes.
func New(name string, r io.ReaderAt, fileSize int64, l Layout) *Disk {
	return &Disk{Layout: l, name: name, r: r, fileSize: fileSize, number: -1}
}

// Size implements image.Disk.
func (d *Disk) Size() int64 { return d.Layout.Size }

// ReadAt implements image.Disk.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("cannot read %s image: negative offset", d.name)
	}
	done := 0
	for done < len(p) {
		if off >= d.Size() {
			return done, io.EOF
		}
		in := off % d.BlockSize
		n := min(int64(len(p)-done), d.BlockSize-in, d.Size()-off)
		if err := d.block(p[done:done+int(n)], off/d.BlockSize, in); err != nil {
			return done, fmt.Errorf("cannot read %s image at %d: %w", d.name, off, err)
		}
		done += int(n)
		off += n
	}
	return done, nil
}

// block fills p from one block, beginning inside it.
func (d *Disk) block(p []byte, number, in int64) error {
	d.mu.Lock()
	place, err := d.Find(number)
	if err == nil && place.Kind == Packed {
		if err = d.unpack(number, place.Off); err == nil {
			copy(p, d.unpacked[in:])
		}
	}
	d.mu.Unlock()
	switch {
	case err != nil:
		return err
	case place.Kind == Hole:
		clear(p)
	case place.Kind == Plain:
		return d.plain(p, place.Off+in)
	}
	return nil
}

func (d *Disk) unpack(number, off int64) error {
	if number == d.number {
		return nil
	}
	if d.unpacked == nil {
		d.unpacked = make([]byte, d.BlockSize)
	}
	d.number = -1
	if err := d.Unpack(d.unpacked, number, off); err != nil {
		return err
	}
	d.number = number
	return nil
}

func (d *Disk) plain(p []byte, off int64) error {
	if off < 0 || off >= d.fileSize {
		return fmt.Errorf("its data at %d lies beyond the end of the file", off)
	}
	// A file may end inside its last block; the rest reads as zeros.
	n, err := d.r.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	clear(p[n:])
	return nil
}

// Extents implements image.Disk. No block of a sound file is in two places of
// the disk, so what is mapped cannot be more than the file has room for.
func (d *Disk) Extents(ctx context.Context) ([]image.Extent, error) {
	var list image.ExtentList
	room := d.fileSize + d.BlockSize
	blocks := (d.Size() + d.BlockSize - 1) / d.BlockSize
	for n := int64(0); n < blocks; {
		if n%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		d.mu.Lock()
		place, err := d.Find(n)
		d.mu.Unlock()
		if err != nil {
			return nil, fmt.Errorf("cannot read %s image at %d: %w", d.name, n*d.BlockSize, err)
		}
		if place.Kind == Hole {
			n += max(place.Run, 1)
			continue
		}
		if place.Kind == Packed {
			room -= d.MinPacked
		} else {
			room -= d.BlockSize
		}
		if room < 0 {
			return nil, fmt.Errorf("cannot read %s image: it claims more data than the file can hold", d.name)
		}
		list.Add(n*d.BlockSize, min(d.BlockSize, d.Size()-n*d.BlockSize))
		n++
	}
	return list.List(), nil
}

// pageSize is how much of a table is in memory, in bytes.
const pageSize = 8192

// Table reads 32-bit numbers from a table in a file, of which it keeps a piece
// in memory. It is not safe for concurrent use.
type Table struct {
	R     io.ReaderAt
	Order binary.ByteOrder
	page  []byte
	at    int64 // of the page in the file
}

// Get reads number i of the table that begins at off, of count numbers.
func (t *Table) Get(off, i, count int64) (uint32, error) {
	if i < 0 || i >= count {
		return 0, fmt.Errorf("its table at %d has no entry %d", off, i)
	}
	at := off + 4*i
	if at < t.at || at+4 > t.at+int64(len(t.page)) {
		size := min(pageSize, 4*(count-i))
		if cap(t.page) < pageSize {
			t.page = make([]byte, pageSize)
		}
		t.page = t.page[:size]
		if err := ReadFull(t.R, t.page, at); err != nil {
			t.page = t.page[:0]
			return 0, fmt.Errorf("entry %d of its table at %d: %w", i, off, err)
		}
		t.at = at
	}
	return t.Order.Uint32(t.page[at-t.at:]), nil
}

// ReadFull is r.ReadAt where a short read is an error.
func ReadFull(r io.ReaderAt, p []byte, off int64) error {
	if off < 0 {
		return errors.New("negative offset")
	}
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
