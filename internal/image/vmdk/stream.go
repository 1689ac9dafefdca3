package vmdk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"math"
	"os"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zlib"

	"github.com/dib-builder/dib/internal/image"
)

// writer writes one image.
type writer struct {
	params
	out      *os.File
	capacity int64     // sectors
	id       hash.Hash // of the content

	// Of streamOptimized.
	pos       int64    // sectors
	directory []uint32 // where each grain table is
	table     []uint32 // of the grains that are being written
	current   int64    // number of that table
}

func (w *writer) identify(n int64, data []byte) {
	fmt.Fprintf(w.id, "%d:", n)
	w.id.Write(data)
}

// Types of markers.
const (
	markTable     = 1
	markDirectory = 2
	markFooter    = 3
)

// grain is one on its way through the compressor.
type grain struct {
	number int64
	data   []byte
	packed bytes.Buffer
	err    error
}

// compressionLevel trades speed for size as qcow2's compression does.
const compressionLevel = 6

// stream writes the subformat streamOptimized: header, descriptor, compressed
// grains with each table behind its grains, the directory, a footer.
func (w *writer) stream(ctx context.Context, src *image.Source, progress image.Progress) error {
	w.directory = make([]uint32, w.tables())
	w.table = make([]uint32, tableEntries)
	w.pos = grainSectors
	workers := w.workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	batch := make([]*grain, 0, 16*workers)
	flush := func() error {
		err := w.batch(batch, workers)
		batch = batch[:0]
		return err
	}
	err := src.Chunks(ctx, grainSize, progress, func(n int64, data []byte) error {
		w.identify(n, data)
		batch = append(batch, &grain{number: n, data: bytes.Clone(data)})
		if len(batch) == cap(batch) {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err == nil {
		err = w.endTable()
	}
	if err != nil {
		return err
	}
	return w.endStream()
}

// batch compresses grains side by side and writes them in order.
func (w *writer) batch(list []*grain, workers int) error {
	work := make(chan *grain)
	var wait sync.WaitGroup
	for range min(workers, len(list)) {
		wait.Go(func() {
			var z *zlib.Writer // large: shared by the grains of a worker
			for g := range work {
				z, g.err = g.compress(z)
			}
		})
	}
	for _, g := range list {
		work <- g
	}
	close(work)
	wait.Wait()
	for _, g := range list {
		if g.err != nil {
			return g.err
		}
		if table := g.number / tableEntries; table != w.current {
			if err := w.endTable(); err != nil {
				return err
			}
			w.current = table
		}
		w.table[g.number%tableEntries] = uint32(w.pos)
		mark := encode(uint64(g.number*grainSectors), uint32(g.packed.Len()))
		if err := w.append(mark, g.packed.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func (g *grain) compress(z *zlib.Writer) (*zlib.Writer, error) {
	if z == nil {
		var err error
		if z, err = zlib.NewWriterLevel(&g.packed, compressionLevel); err != nil {
			return nil, err
		}
	} else {
		z.Reset(&g.packed)
	}
	if _, err := z.Write(g.data); err != nil {
		return z, err
	}
	g.data = nil
	return z, z.Close()
}

// append writes parts one after the other, filled up to whole sectors.
func (w *writer) append(parts ...[]byte) error {
	data := bytes.Join(parts, nil)
	data = append(data, make([]byte, roundUp(int64(len(data)), sector)-int64(len(data)))...)
	if w.pos+int64(len(data))/sector > math.MaxUint32 {
		return errors.New("its data does not fit in 2 TiB")
	}
	if _, err := w.out.WriteAt(data, w.pos*sector); err != nil {
		return err
	}
	w.pos += int64(len(data)) / sector
	return nil
}

// mark writes the marker that announces sectors of metadata.
func (w *writer) mark(kind uint32, sectors int64) error {
	return w.append(encode(uint64(sectors), uint32(0), kind))
}

// endTable writes the table of the grains so far, if there are any.
func (w *writer) endTable() error {
	any := false
	for _, g := range w.table {
		any = any || g != 0
	}
	if !any {
		return nil
	}
	if err := w.mark(markTable, tableSectors); err != nil {
		return err
	}
	w.directory[w.current] = uint32(w.pos)
	err := w.append(encode(w.table))
	clear(w.table)
	return err
}

func (w *writer) endStream() error {
	size := max(roundUp(int64(len(w.directory))*4, sector)/sector, 1)
	if err := w.mark(markDirectory, size); err != nil {
		return err
	}
	h := w.header()
	h.Version, h.Compression = 3, 1
	h.Flags |= 3 << 16 // compressed grains, markers
	h.Overhead, h.DirectoryOffset = grainSectors, atEnd
	footer := h
	footer.DirectoryOffset = uint64(w.pos)
	if err := w.append(encode(w.directory), make([]byte, size*sector-int64(len(w.directory))*4)); err != nil {
		return err
	}
	if err := w.mark(markFooter, 1); err != nil {
		return err
	}
	if err := w.append(encode(footer)); err != nil {
		return err
	}
	if err := w.mark(0, 0); err != nil { // the end
		return err
	}
	return w.head(h)
}
