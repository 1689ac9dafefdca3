package image_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/dib-builder/dib/internal/image"
)

func TestParseSettings(t *testing.T) {
	for _, tc := range []struct {
		text string
		want image.Settings
		bad  bool
	}{
		{"", nil, false},
		{"compat=0.10", image.Settings{{Key: "compat", Value: "0.10"}}, false},
		{"a=1,b=2=3,a=", image.Settings{{Key: "a", Value: "1"}, {Key: "b", Value: "2=3"}, {Key: "a"}}, false},
		{"file=x,,y,lazy", image.Settings{{Key: "file", Value: "x,y"}, {Key: "lazy", Value: "on"}}, false},
		{"a=1,", image.Settings{{Key: "a", Value: "1"}}, false},
		{"=1", nil, true},
	} {
		got, err := image.ParseSettings(tc.text)
		if (err != nil) != tc.bad {
			t.Errorf("%q: error is %v", tc.text, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tc.text, diff)
		}
	}
}

func TestSettingsGetTakesTheLast(t *testing.T) {
	s := image.Settings{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}, {Key: "a", Value: "3"}}
	if v, ok := s.Get("a"); !ok || v != "3" {
		t.Errorf("a is %q, %v", v, ok)
	}
	if _, ok := s.Get("c"); ok {
		t.Error("c is there")
	}
}

func FuzzParseSettings(f *testing.F) {
	for _, seed := range []string{"", "a=b", "a,,b=,c", ",,,=", "compat=0.10,cluster_size=2M"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		settings, err := image.ParseSettings(text)
		for _, s := range settings {
			if err == nil && s.Key == "" {
				t.Errorf("%q has an item without a name", text)
			}
		}
	})
}

func TestParseSize(t *testing.T) {
	for _, tc := range []struct {
		text string
		want int64 // -1 for an error
	}{
		{"0", 0}, {"512", 512}, {"64k", 65536}, {"2M", 2 << 20}, {"3G", 3 << 30}, {"1t", 1 << 40}, {"7b", 7},
		{"9223372036854775807", math.MaxInt64}, {"8191P", 8191 << 50},
		{"", -1}, {"k", -1}, {"-1", -1}, {"1.5M", -1}, {"8192P", -1}, {"9223372036854775808", -1}, {"1kk", -1},
	} {
		got, err := image.ParseSize(tc.text)
		if (err != nil) != (tc.want < 0) || err == nil && got != tc.want {
			t.Errorf("%q: %d, %v; want %d", tc.text, got, err, tc.want)
		}
	}
}

// countingReader fails the test when a hole is read.
type countingReader struct {
	t       *rapid.T
	data    []byte
	extents []image.Extent
}

func (r countingReader) ReadAt(p []byte, off int64) (int, error) {
	for _, e := range r.extents {
		if off >= e.Off && off+int64(len(p)) <= e.End() {
			return copy(p, r.data[off:]), nil
		}
	}
	r.t.Fatalf("a hole is read: %d+%d", off, len(p))
	return 0, nil
}

func TestSourceReadAt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(0, 2000).Draw(rt, "size")
		data := make([]byte, size)
		var extents []image.Extent
		for off := 0; off < size; {
			off += rapid.IntRange(0, 300).Draw(rt, "hole")
			n := min(rapid.IntRange(1, 300).Draw(rt, "data"), size-off)
			if n <= 0 {
				break
			}
			for i := off; i < off+n; i++ {
				data[i] = byte(i%255 + 1)
			}
			extents = append(extents, image.Extent{Off: int64(off), Len: int64(n)})
			off += n
		}
		src, err := image.NewSource(countingReader{rt, data, extents}, int64(size), extents)
		if err != nil {
			rt.Fatal(err)
		}
		off := rapid.IntRange(0, size+10).Draw(rt, "off")
		p := bytes.Repeat([]byte{0xee}, rapid.IntRange(0, 700).Draw(rt, "len"))
		n, err := src.ReadAt(p, int64(off))
		var want []byte
		if off < size {
			want = data[off:min(size, off+len(p))]
		}
		if !bytes.Equal(p[:n], want) {
			rt.Fatalf("read %x, want %x", p[:n], want)
		}
		if n < len(p) && err != io.EOF {
			rt.Fatalf("short read of %d gives %v", n, err)
		}
	})
}

func TestNewSourceRejectsBadExtents(t *testing.T) {
	for _, extents := range [][]image.Extent{
		{{Off: 0, Len: 0}},
		{{Off: -1, Len: 5}},
		{{Off: 90, Len: 11}},
		{{Off: 5, Len: math.MaxInt64}},
		{{Off: 10, Len: 10}, {Off: 15, Len: 10}},
	} {
		if _, err := image.NewSource(bytes.NewReader(nil), 100, extents); err == nil {
			t.Errorf("%v is accepted", extents)
		}
	}
}

func TestFileSource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{8 << 20, 40<<20 + 4096} {
		if _, err := f.WriteAt([]byte("data"), off); err != nil {
			t.Fatal(err)
		}
	}
	src, err := image.OpenSource(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if src.Size() != 64<<20 {
		t.Errorf("size is %d", src.Size())
	}
	// Not every filesystem records holes; that this one does shows in the
	// file's block count.
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 < 1<<20 && src.DataSize() > 1<<20 {
		t.Errorf("%d bytes are taken for data, the file has %d blocks", src.DataSize(), st.Blocks)
	}
	got := make([]byte, 8)
	if _, err := src.ReadAt(got, 40<<20+4094); err != nil || string(got) != "\x00\x00data\x00\x00" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestShrinkingFileIsAnError(t *testing.T) {
	src, err := image.NewSource(bytes.NewReader(make([]byte, 10)), 100, []image.Extent{{Off: 0, Len: 100}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.ReadAt(make([]byte, 50), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error is %v", err)
	}
}
