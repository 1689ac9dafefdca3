// Package mappedtest holds what the tests of all readers of image files share.
package mappedtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/dib-builder/dib/internal/image"
)

// Seed is an image of a small disk as format writes it.
func Seed(t testing.TB, format image.Format, settings string) []byte {
	t.Helper()
	disk := make([]byte, 3<<20+512)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 3000 {
		disk[70_000+i] = byte(rnd.Uint32())
	}
	copy(disk[2<<20:], bytes.Repeat([]byte("some text "), 7000))
	src, err := image.NewSource(bytes.NewReader(disk), int64(len(disk)), []image.Extent{{Off: 0, Len: int64(len(disk))}})
	if err != nil {
		t.Fatal(err)
	}
	set, err := image.ParseSettings(settings)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "seed"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := format.Write(context.Background(), src, f, image.Options{Settings: set, Compress: true, Workers: 1}, nil); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Limits of what reading a file of a few MiB may cost.
const (
	maxTime  = 20 * time.Second
	maxAlloc = 512 << 20
)

// Hostile reads a disk of a file that may hold anything: it has to end, and to
// need no more than a bound of memory.
func Hostile(t *testing.T, data []byte, open func(io.ReaderAt, int64) (image.Disk, string, error)) {
	t.Helper()
	start := time.Now()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	read(t, data, open)
	runtime.ReadMemStats(&after)
	if spent := time.Since(start); spent > maxTime {
		t.Errorf("reading %d bytes took %v", len(data), spent)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > maxAlloc {
		t.Errorf("reading %d bytes allocated %d", len(data), n)
	}
}

func read(t *testing.T, data []byte, open func(io.ReaderAt, int64) (image.Disk, string, error)) {
	t.Helper()
	d, _, err := open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxTime)
	defer cancel()
	list, err := d.Extents(ctx)
	if err != nil {
		return
	}
	if _, err := image.NewSource(d, d.Size(), list); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100_000)
	left := 64
	for _, e := range list {
		for off := e.Off; off < e.End() && left > 0; off += int64(len(buf)) {
			left--
			if _, err := d.ReadAt(buf, off); err != nil && !errors.Is(err, io.EOF) {
				return
			}
		}
	}
	_, _ = d.ReadAt(buf, max(0, d.Size()-100))
}

// Patch is a seed with edits: groups of seven bytes, three for the place and
// four to be there.
func Patch(seed, edits []byte) []byte {
	out := bytes.Clone(seed)
	for ; len(edits) >= 7; edits = edits[7:] {
		at := int(edits[0]) | int(edits[1])<<8 | int(edits[2])<<16
		if at+4 <= len(out) {
			copy(out[at:], edits[3:7])
		}
	}
	return out
}
