package qcow2

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/dib-builder/dib/internal/image"
)

// minPacked is less than a compressed cluster can take of the file, in bytes.
const minPacked = 8

// errTooMuch is about a file in which clusters are mapped again and again: the
// active state of a sound image uses each once.
var errTooMuch = errors.New("cannot read qcow2 image: it claims more data than the file can hold")

// Extents implements image.Disk.
func (m *Image) Extents(ctx context.Context) ([]image.Extent, error) {
	w := extents{m: m, tables: m.fileSize/m.ClusterSize() + 1, room: m.fileSize + m.ClusterSize()}
	span := m.ClusterSize() << m.head.l2Bits()
	for off := int64(0); off < m.Size(); off += span {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := w.table(off); err != nil {
			return nil, err
		}
		if off > m.Size()-span {
			break // the sum might overflow
		}
	}
	own := w.list.List()
	if m.head.backingFile == "" {
		return own, nil
	}
	if m.Backing == nil {
		return nil, fmt.Errorf("cannot read qcow2 image: %w: %q", ErrBacking, m.head.backingFile)
	}
	below, err := backingExtents(ctx, m.Backing, m.Size())
	if err != nil {
		return nil, fmt.Errorf("backing file %q: %w", m.head.backingFile, err)
	}
	return image.Union(own, image.Clip(below, m.Size())), nil
}

func backingExtents(ctx context.Context, r io.ReaderAt, size int64) ([]image.Extent, error) {
	if d, ok := r.(image.Disk); ok {
		return d.Extents(ctx)
	}
	return []image.Extent{{Off: 0, Len: size}}, nil
}

// extents is the search for the clusters in the file.
type extents struct {
	m      *Image
	list   image.ExtentList
	tables int64 // how many more L2 tables the file can have
	room   int64 // bytes of the file that no cluster has yet
}

// table looks at the clusters of the L2 table for a guest offset.
func (w *extents) table(off int64) error {
	m := w.m
	m.mu.Lock()
	defer m.mu.Unlock()
	at, err := m.table(off)
	if err != nil {
		return fmt.Errorf("cannot read qcow2 image at %d: %w", off, err)
	}
	if at == 0 {
		return nil
	}
	if w.tables--; w.tables < 0 {
		return errTooMuch
	}
	for i := 0; i < len(m.l2) && off < m.Size(); i += 8 {
		entry := binary.BigEndian.Uint64(m.l2[i:])
		switch {
		case entry&flagCompressed != 0:
			w.room -= minPacked
		case entry&flagZero != 0 && m.head.version >= 3, entry&offsetMask == 0:
			off += m.ClusterSize()
			continue
		default:
			w.room -= m.ClusterSize()
		}
		if w.room < 0 {
			return errTooMuch
		}
		w.list.Add(off, min(m.ClusterSize(), m.Size()-off))
		off += m.ClusterSize()
	}
	return nil
}
