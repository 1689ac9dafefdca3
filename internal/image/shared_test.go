package image

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"
)

// counter counts how often every byte is read.
type counter struct {
	data []byte
	mu   sync.Mutex
	hits []uint8
	fail error // from the second MiB on
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil && off >= 1<<20 {
		return 0, c.fail
	}
	for i := range p {
		c.hits[off+int64(i)]++
	}
	return copy(p, c.data[off:]), nil
}

// sparse makes a disk of data between holes.
func sparse(t interface{ Fatal(...any) }, rnd *rand.Rand, size int) (*counter, *Source) {
	c := &counter{data: make([]byte, size), hits: make([]uint8, size)}
	var extents []Extent
	for off := rnd.IntN(size); off < size; off += rnd.IntN(2 << 20) {
		n := min(1+rnd.IntN(3<<20), size-off)
		for i := off; i < off+n; i++ {
			c.data[i] = byte(i%255 + 1)
		}
		extents = append(extents, Extent{int64(off), int64(n)})
		off += n
	}
	src, err := NewSource(c, int64(size), extents)
	if err != nil {
		t.Fatal(err)
	}
	return c, src
}

// once fails unless every byte of data was read once and no hole ever.
func (c *counter) once(t interface{ Fatalf(string, ...any) }, extents []Extent) {
	want := make([]uint8, len(c.hits))
	for _, e := range extents {
		for i := e.Off; i < e.End(); i++ {
			want[i] = 1
		}
	}
	if !bytes.Equal(want, c.hits) {
		for i := range want {
			if want[i] != c.hits[i] {
				t.Fatalf("byte %d is read %d times, want %d", i, c.hits[i], want[i])
			}
		}
	}
}

// TestShare: readers of different pace and piece, one of them with workers, in
// a window that holds next to nothing.
func TestShare(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		c, src := sparse(rt, rnd, 1+rnd.IntN(8<<20))
		g, ctx := errgroup.WithContext(context.Background())
		list := share(ctx, src, 3, 1+rnd.IntN(3))
		for i, size := range []int{64 << 10, 1 << 20, 3<<20 + 5} {
			g.Go(func() error {
				defer list[i].Close()
				return list[i].Chunks(ctx, size, nil, func(n int64, data []byte) error {
					want := c.data[n*int64(size) : min(int64(len(c.data)), (n+1)*int64(size))]
					if !bytes.Equal(data[:len(want)], want) {
						return errors.New("the data differs")
					}
					return nil
				})
			})
		}
		if err := g.Wait(); err != nil {
			rt.Fatal(err)
		}
		c.once(rt, src.Extents())
	})
}

func TestShareWithoutAReader(t *testing.T) {
	c, src := sparse(t, rand.New(rand.NewPCG(1, 1)), 20<<20)
	list := share(context.Background(), src, 2, 1)
	list[1].Close() // has failed before it read anything
	list[1].Close()
	if err := list[0].Chunks(context.Background(), 1<<20, nil, func(int64, []byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	c.once(t, src.Extents())
	if _, err := list[1].ReadAt(make([]byte, 1), src.Extents()[0].Off); err == nil {
		t.Error("a closed source is read")
	}
}

func TestShareReadsAgain(t *testing.T) {
	c, src := sparse(t, rand.New(rand.NewPCG(2, 1)), 20<<20)
	list := share(context.Background(), src, 1, 1)
	for range 2 {
		got := make([]byte, len(c.data))
		if n, err := list[0].ReadAt(got, 0); n != len(got) || !bytes.Equal(got, c.data) {
			t.Fatalf("the data differs (%d, %v)", n, err)
		}
	}
}

func TestShareEnds(t *testing.T) {
	bad := errors.New("bad sector")
	c, src := sparse(t, rand.New(rand.NewPCG(3, 1)), 20<<20)
	c.fail = bad
	for _, s := range share(context.Background(), src, 2, 4) {
		if _, err := s.ReadAt(make([]byte, 20<<20), 0); !errors.Is(err, bad) {
			t.Errorf("error is %v", err)
		}
	}
	c.fail = nil
	ctx, cancel := context.WithCancel(context.Background())
	list := share(ctx, src, 2, 1)
	done := make(chan error)
	go func() {
		_, err := list[0].ReadAt(make([]byte, 20<<20), 0) // waits for the other, who never reads
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}
