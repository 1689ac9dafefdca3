package formats_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/checksum"
	"github.com/dib-builder/dib/internal/image/formats"
)

// readCounter counts what is read of a file.
type readCounter struct {
	f     *os.File
	mu    sync.Mutex
	bytes int64
}

func (r *readCounter) ReadAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	r.bytes += int64(len(p))
	r.mu.Unlock()
	return r.f.ReadAt(p, off)
}

// TestOnePass writes all formats side by side: the disk's data is read once, and
// the files and their checksums are those of formats written one by one.
func TestOnePass(t *testing.T) {
	for seed, size := range []int64{512, 90<<20 + 512, 130 << 20} {
		raw, err := os.Open(randomDisk(t, uint64(seed+40), size))
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		plain, err := image.FileSource(raw)
		if err != nil {
			t.Fatal(err)
		}
		counter := &readCounter{f: raw}
		src, err := image.NewSource(counter, plain.Size(), plain.Extents())
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		digests, err := checksum.Parse("md5,sha256,sha512,blake3")
		if err != nil {
			t.Fatal(err)
		}
		all := formats.All()
		if seed > 0 { // once is enough for a whole GiB
			all = slices.DeleteFunc(all, func(f image.Format) bool { return f.Name() == "gcp" })
		}
		sums := make([][]checksum.Sum, len(all))
		g, ctx := errgroup.WithContext(context.Background())
		shared := image.Share(ctx, src, len(all))
		for i, f := range all {
			g.Go(func() error {
				defer shared[i].Close()
				out, err := os.Create(filepath.Join(dir, f.Name()))
				if err != nil {
					return err
				}
				defer out.Close()
				file := checksum.NewFile(out, digests)
				defer file.Close()
				opts := image.Options{Compress: true, Name: f.Name()}
				if s, ok := f.(image.Streamer); ok {
					err = s.Stream(ctx, shared[i], file, opts, nil)
				} else {
					err = f.Write(ctx, shared[i], file.File(), opts, nil)
				}
				if err == nil {
					sums[i], err = file.Sums(ctx)
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		if counter.bytes != src.DataSize() {
			t.Errorf("disk %d: %d bytes are read, %d are data", seed, counter.bytes, src.DataSize())
		}
		for i, f := range all {
			alone := filepath.Join(dir, "alone")
			writeImage(t, f, raw.Name(), alone, image.Options{Compress: true, Name: f.Name()})
			if !sameFiles(t, alone, filepath.Join(dir, f.Name())) {
				t.Errorf("disk %d: %s differs from one written alone", seed, f.Name())
			}
			again, err := os.Open(alone)
			if err != nil {
				t.Fatal(err)
			}
			want, err := checksum.Of(context.Background(), again, digests)
			again.Close()
			if err != nil {
				t.Fatal(err)
			}
			for j := range want {
				if want[j] != sums[i][j] {
					t.Errorf("disk %d: %s of %s is wrong", seed, want[j].Name, f.Name())
				}
			}
		}
	}
}
