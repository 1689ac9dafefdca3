package formats_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/formats"
	"github.com/dib-builder/dib/internal/image/qcow2"
)

// view opens what a format wrote as the disk a guest would see.
var view = map[string]func(f *os.File, size int64) (io.ReaderAt, int64, error){
	"gcp": func(f *os.File, _ int64) (io.ReaderAt, int64, error) {
		z, err := pgzip.NewReader(f)
		if err != nil {
			return nil, 0, err
		}
		defer z.Close()
		r := tar.NewReader(z)
		if _, err := r.Next(); err != nil {
			return nil, 0, err
		}
		return memory(io.LimitReader(r, 4<<20)) // the rest of a GiB is zeros
	},
	"raw.gz": func(f *os.File, _ int64) (io.ReaderAt, int64, error) {
		z, err := pgzip.NewReader(f)
		if err != nil {
			return nil, 0, err
		}
		defer z.Close()
		return memory(z)
	},
	"raw.zst": func(f *os.File, _ int64) (io.ReaderAt, int64, error) {
		z, err := zstd.NewReader(f)
		if err != nil {
			return nil, 0, err
		}
		defer z.Close()
		return memory(z)
	},
	"raw": func(f *os.File, size int64) (io.ReaderAt, int64, error) { return f, size, nil },
	"qcow2": func(f *os.File, size int64) (io.ReaderAt, int64, error) {
		m, err := qcow2.Open(f, size)
		if err != nil {
			return nil, 0, err
		}
		return m, m.Size(), nil
	},
}

// memory reads everything there is.
func memory(r io.Reader) (io.ReaderAt, int64, error) {
	data, err := io.ReadAll(r)
	return bytes.NewReader(data), int64(len(data)), err
}

func TestRegistry(t *testing.T) {
	var names []string
	for _, f := range formats.All() {
		names = append(names, f.Name())
		if got, ok := formats.Lookup(f.Name()); !ok || got.Name() != f.Name() {
			t.Errorf("%s is not found", f.Name())
		}
	}
	if !slices.IsSorted(names) || len(names) < 2 {
		t.Errorf("formats are %v", names)
	}
	if _, ok := formats.Lookup("floppy"); ok {
		t.Error("floppy is found")
	}
}

// TestConformance is what every format promises, on a sparse file.
func TestConformance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.raw")
	want := make([]byte, 3<<20+512)
	copy(want[1<<20:], bytes.Repeat([]byte("some data "), 20_000))
	want[len(want)-1] = 1
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(len(want))); err != nil {
		t.Fatal(err)
	}
	for _, at := range [][2]int{{1 << 20, 1<<20 + 200_000}, {len(want) - 1, len(want)}} {
		if _, err := f.WriteAt(want[at[0]:at[1]], int64(at[0])); err != nil {
			t.Fatal(err)
		}
	}
	memory, err := image.NewSource(bytes.NewReader(want), int64(len(want)), []image.Extent{{Off: 0, Len: int64(len(want))}})
	if err != nil {
		t.Fatal(err)
	}
	file, err := image.FileSource(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range formats.All() {
		for name, src := range map[string]*image.Source{"file": file, "memory": memory} {
			t.Run(format.Name()+"/"+name, func(t *testing.T) {
				opts := image.Options{Compress: true}
				if err := format.Check(opts, src.Size()); err != nil {
					t.Fatal(err)
				}
				out, err := os.Create(filepath.Join(t.TempDir(), "out."+format.Extension()))
				if err != nil {
					t.Fatal(err)
				}
				defer out.Close()
				var done, total int64
				if err := format.Write(context.Background(), src, out, opts, func(d, n int64) { done, total = d, n }); err != nil {
					t.Fatal(err)
				}
				if done != total || total == 0 {
					t.Errorf("progress ended at %d of %d", done, total)
				}
				if _, err := out.Seek(0, io.SeekStart); err != nil {
					t.Fatal(err)
				}
				st, err := out.Stat()
				if err != nil {
					t.Fatal(err)
				}
				r, size, err := look(t, format.Name())(out, st.Size())
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(io.NewSectionReader(r, 0, size))
				// Some formats know whole MiB only and fill up with zeros.
				if err != nil || len(got) < len(want) || !bytes.Equal(got[:len(want)], want) || len(bytes.Trim(got[len(want):], "\x00")) > 0 {
					t.Errorf("the disk reads differently (%d bytes, %v)", len(got), err)
				}
			})
		}
		t.Run(format.Name()+"/cancelled", func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			out, err := os.Create(filepath.Join(t.TempDir(), "out"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			if err := format.Write(ctx, memory, out, image.Options{}, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("error is %v", err)
			}
		})
		t.Run(format.Name()+"/options", func(t *testing.T) {
			err := format.Check(image.Options{Settings: image.Settings{{Key: "bogus", Value: "1"}}}, 0)
			if err == nil || errors.Is(err, image.ErrUnsupported) || !strings.Contains(err.Error(), "bogus=1") {
				t.Errorf("an unknown option gives %v", err)
			}
			err = format.Check(image.Options{Settings: image.Settings{{Key: "size", Value: "1G"}}}, 0)
			if !errors.Is(err, image.ErrUnsupported) {
				t.Errorf("an option only qemu-img has gives %v", err)
			}
		})
	}
}
