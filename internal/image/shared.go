package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"
)

const (
	// pieceSize is how much of a shared disk is read at a time, in bytes.
	pieceSize = 1 << 20
	// windowPieces is how many pieces a shared disk holds in memory: as much as
	// the fastest reader may be ahead of the slowest.
	windowPieces = 64
)

// Share makes n sources of one, for n formats that are written at the same
// time. The data is read once, front to back, and held until all of them had
// it, 64 MiB at most; a source that is ahead waits for the others. So every
// one of them must read in ascending order, apart from what its workers do side by
// side, and must be closed when its format is written or has failed. Bytes that
// a source asks for a second time are read a second time.
//
// Closing the shared sources leaves src open.
func Share(ctx context.Context, src *Source, n int) []*Source {
	return share(ctx, src, n, windowPieces)
}

func share(ctx context.Context, src *Source, n, window int) []*Source {
	w := &sharedWindow{ctx: ctx, src: src, readers: n, size: window}
	w.changed.L = &w.mu
	for _, e := range src.extents {
		for off := e.Off; off < e.End(); off += pieceSize {
			w.pieces = append(w.pieces, Extent{off, min(pieceSize, e.End()-off)})
		}
	}
	w.stop = context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.changed.Broadcast()
	})
	list := make([]*Source, n)
	for i := range list {
		r := &sharedReader{window: w, had: map[int]int64{}}
		list[i] = &Source{r: r, file: src.file, size: src.size, extents: src.extents, shared: r}
	}
	return list
}

// sharedWindow holds the pieces of a disk that some reader has not had yet.
type sharedWindow struct {
	ctx    context.Context
	src    *Source
	pieces []Extent // all there are
	size   int      // the most that are held
	stop   func() bool

	mu      sync.Mutex
	changed sync.Cond
	readers int            // that are not closed
	held    map[int]*piece // by number
	next    int            // the first that was not read yet
	spare   [][]byte
}

// piece is one in memory, or on its way there.
type piece struct {
	data  []byte
	err   error
	ready bool
	done  int // readers that had all of it
	using int // readers that copy from it just now
}

// sharedReader is one reader's side of a window.
type sharedReader struct {
	window *sharedWindow
	had    map[int]int64 // bytes read of pieces that are held
	closed bool
}

// ReadAt implements io.ReaderAt for ranges within one extent.
func (r *sharedReader) ReadAt(p []byte, off int64) (int, error) {
	w := r.window
	n := 0
	for n < len(p) {
		at := off + int64(n)
		i := sort.Search(len(w.pieces), func(i int) bool { return w.pieces[i].End() > at })
		if i == len(w.pieces) || w.pieces[i].Off > at {
			return n, fmt.Errorf("internal error: image: a hole is read at %d", at)
		}
		part := p[n:min(int64(len(p)), int64(n)+w.pieces[i].End()-at)]
		if err := r.read(i, part, at); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// read fills p from piece i.
func (r *sharedReader) read(i int, p []byte, off int64) error {
	w := r.window
	w.mu.Lock()
	defer w.mu.Unlock()
	c, err := w.wait(r, i)
	if err != nil {
		return err
	}
	if c == nil { // everybody has had it, this reader too
		w.mu.Unlock()
		defer w.mu.Lock()
		return readFull(w.src, p, off)
	}
	c.using++
	w.mu.Unlock()
	copy(p, c.data[off-w.pieces[i].Off:])
	w.mu.Lock()
	c.using--
	before := r.had[i]
	r.had[i] += int64(len(p))
	if before < w.pieces[i].Len && r.had[i] >= w.pieces[i].Len && !r.closed {
		c.done++
	}
	w.release(i, c)
	return nil
}

// wait returns piece i when it is in memory, nil when it is gone already.
// Whoever comes first for the next piece reads it.
func (w *sharedWindow) wait(r *sharedReader, i int) (*piece, error) {
	for {
		if err := w.ctx.Err(); err != nil {
			return nil, err
		}
		c := w.held[i]
		switch {
		case r.closed:
			return nil, errors.New("internal error: image: a closed source is read")
		case c != nil && c.ready:
			return c, c.err
		case c == nil && i < w.next:
			return nil, nil
		case c == nil && len(w.held) < w.size:
			w.load()
			continue
		}
		w.changed.Wait()
	}
}

// load reads the next piece. It unlocks the window meanwhile.
func (w *sharedWindow) load() {
	if w.held == nil {
		w.held = map[int]*piece{}
	}
	i := w.next
	c := &piece{}
	if n := len(w.spare); n > 0 {
		c.data, w.spare = w.spare[n-1], w.spare[:n-1]
	} else {
		c.data = make([]byte, pieceSize)
	}
	c.data = c.data[:w.pieces[i].Len]
	w.held[i] = c
	w.next++
	w.mu.Unlock()
	err := readFull(w.src, c.data, w.pieces[i].Off)
	w.mu.Lock()
	c.err, c.ready = err, true
	w.release(i, c) // all may have been closed meanwhile
	w.changed.Broadcast()
}

// release drops a piece that all readers had.
func (w *sharedWindow) release(i int, c *piece) {
	if w.held[i] != c || !c.ready || c.using > 0 || c.done < w.readers {
		return
	}
	delete(w.held, i)
	w.spare = append(w.spare, c.data[:pieceSize])
	w.changed.Broadcast()
}

// close takes the reader out: nobody waits for it any more.
func (r *sharedReader) close() {
	w := r.window
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.closed {
		return
	}
	r.closed = true
	w.readers--
	for i, c := range w.held {
		if r.had[i] >= w.pieces[i].Len {
			c.done-- // done counts those who may still read
		}
		w.release(i, c)
	}
	if w.readers == 0 {
		w.stop()
		w.spare = nil
	}
	w.changed.Broadcast()
}

func readFull(src *Source, p []byte, off int64) error {
	n, err := src.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || err == io.EOF:
		return io.ErrUnexpectedEOF
	}
	return err
}
