package qcow2

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/dib-builder/dib/internal/image"
)

const (
	// batchBytes is how much of the source one worker takes at a time: large
	// enough to make hand-over cheap, small enough to keep all workers busy.
	batchBytes = 512 << 10
	// memoryBudget bounds the buffers of all batches in flight, in bytes.
	memoryBudget = 32 << 20
)

// batch is a group of guest clusters on its way from reader to builder. Its
// buffers are used again and again.
type batch struct {
	index  []int64   // guest clusters, ascending
	how    []storage // of each
	length []int     // of the packed form of each
	plain  []byte    // contents, one cluster after the other
	packed []byte    // packed contents, each at its cluster's place
	ready  chan error
}

// convert reads every guest cluster that may hold data, packs it on several
// goroutines and hands the results to add in ascending order from one
// goroutine. All goroutines have ended when it returns.
func convert(ctx context.Context, src *image.Source, p params, workers int, progress image.Progress, add func(int64, storage, []byte) error) error {
	cs := int64(1) << p.clusterBits
	perBatch := max(batchBytes>>p.clusterBits, 1)
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	inFlight := min(2*workers, memoryBudget/int(2*int64(perBatch)*cs))
	workers = min(workers, inFlight)

	packers := make([]compressor, workers)
	for i := range packers {
		if !p.compress {
			break
		}
		var err error
		if packers[i], err = newCompressor(p.compression, cs); err != nil {
			return err
		}
	}

	g, ctx := errgroup.WithContext(ctx)
	// Each channel has room for every batch, so only waiting for a free batch
	// or a ready one ever blocks.
	free := make(chan *batch, inFlight)
	work := make(chan *batch, inFlight)
	order := make(chan *batch, inFlight)
	for range inFlight {
		free <- &batch{ready: make(chan error, 1)}
	}

	g.Go(func() error {
		defer close(work)
		defer close(order)
		return distribute(ctx, dataClusters(src.Extents(), p.clusterBits), perBatch, free, func(b *batch) {
			order <- b
			work <- b
		})
	})
	for _, c := range packers {
		g.Go(func() error {
			for b := range work {
				b.ready <- b.pack(src, cs, c)
			}
			return nil
		})
	}
	g.Go(func() error {
		total := countClusters(src.Extents(), p.clusterBits) * cs
		done := int64(0)
		for b := range order {
			select {
			case err := <-b.ready:
				if err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := b.each(cs, add); err != nil {
				return err
			}
			done += int64(len(b.index)) * cs
			if progress != nil {
				progress(done, total)
			}
			free <- b
		}
		return ctx.Err()
	})
	return g.Wait()
}

// distribute fills free batches with cluster numbers and sends them on.
func distribute(ctx context.Context, clusters iter.Seq[int64], perBatch int, free <-chan *batch, send func(*batch)) error {
	var b *batch
	for c := range clusters {
		if b == nil {
			select {
			case b = <-free:
				b.index = b.index[:0]
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if b.index = append(b.index, c); len(b.index) == perBatch {
			send(b)
			b = nil
		}
	}
	if b != nil {
		send(b)
	}
	return nil
}

// dataClusters yields, ascending and once each, the clusters that extents touch.
func dataClusters(extents []image.Extent, bits uint) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		next := int64(0)
		for _, e := range extents {
			for next = max(next, e.Off>>bits); next <= (e.End()-1)>>bits; next++ {
				if !yield(next) {
					return
				}
			}
		}
	}
}

// countClusters is the number of clusters that dataClusters yields.
func countClusters(extents []image.Extent, bits uint) int64 {
	n, next := int64(0), int64(0)
	for _, e := range extents {
		first, last := max(next, e.Off>>bits), (e.End()-1)>>bits
		if last >= first {
			n += last - first + 1
			next = last + 1
		}
	}
	return n
}

// pack reads the batch's clusters and decides how each is stored. A nil
// compressor stores them plain.
func (b *batch) pack(src *image.Source, cs int64, c compressor) error {
	n := len(b.index)
	b.plain = sized(b.plain, int64(n)*cs)
	b.how = sized(b.how, int64(n))
	b.length = sized(b.length, int64(n))
	if c != nil {
		b.packed = sized(b.packed, int64(n)*cs)
	}
	if err := b.read(src, cs); err != nil {
		return err
	}
	for i := range n {
		from, to := int64(i)*cs, int64(i+1)*cs
		in := b.plain[from:to]
		b.how[i] = storePlain
		if allZero(in) {
			b.how[i] = storeNothing
		} else if c != nil {
			// Only what gets smaller is worth unpacking again.
			if n, ok := c.compress(b.packed[from:to-1], in); ok {
				b.how[i], b.length[i] = storePacked, n
			}
		}
	}
	return nil
}

// read fills plain, with one read for each run of neighbours. The disk's last
// cluster may be partial; the rest of it is zeros.
func (b *batch) read(src *image.Source, cs int64) error {
	for i := 0; i < len(b.index); {
		j := i + 1
		for j < len(b.index) && b.index[j] == b.index[j-1]+1 {
			j++
		}
		p := b.plain[int64(i)*cs : int64(j)*cs]
		n, err := src.ReadAt(p, b.index[i]*cs)
		if err != nil && err != io.EOF {
			return err
		}
		if n < len(p) && b.index[i]*cs+int64(n) != src.Size() {
			return fmt.Errorf("cannot read raw image at %d: %w", b.index[i]*cs+int64(n), io.ErrUnexpectedEOF)
		}
		clear(p[n:])
		i = j
	}
	return nil
}

// each hands the packed batch to add.
func (b *batch) each(cs int64, add func(int64, storage, []byte) error) error {
	for i, index := range b.index {
		data := b.plain[int64(i)*cs : int64(i+1)*cs]
		if b.how[i] == storePacked {
			data = b.packed[int64(i)*cs:][:b.length[i]]
		}
		if err := add(index, b.how[i], data); err != nil {
			return err
		}
	}
	return nil
}

// sized returns s with length n, keeping its memory when it is large enough.
func sized[T any](s []T, n int64) []T {
	if int64(cap(s)) < n {
		return make([]T, n)
	}
	return s[:n]
}

// allZero reports whether b holds nothing but zeros: its first byte is zero and
// every byte equals the one before it. The comparison is vectorised.
func allZero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}
