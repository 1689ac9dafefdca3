package packed

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/pgzip"

	"github.com/dib-builder/dib/internal/image"
)

func disk(t *testing.T) (*image.Source, []byte) {
	t.Helper()
	want := make([]byte, 5<<20+512)
	copy(want[2<<20:], strings.Repeat("some data ", 100_000))
	want[len(want)-1] = 1
	extents := []image.Extent{{Off: 2 << 20, Len: 1_000_000}, {Off: int64(len(want)) - 1, Len: 1}}
	src, err := image.NewSource(bytes.NewReader(want), int64(len(want)), extents)
	if err != nil {
		t.Fatal(err)
	}
	return src, want
}

func write(t *testing.T, name string, src *image.Source, workers int) string {
	t.Helper()
	for _, f := range Formats() {
		if f.Name() != name {
			continue
		}
		out, err := os.Create(filepath.Join(t.TempDir(), "disk."+f.Extension()))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		if err := f.Write(context.Background(), src, out, image.Options{Workers: workers}, nil); err != nil {
			t.Fatal(err)
		}
		return out.Name()
	}
	t.Fatalf("there is no format %s", name)
	return ""
}

func output(t *testing.T, argv ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, &stderr)
	}
	return out
}

// TestPrograms lets the programs of a Debian read what is written.
func TestPrograms(t *testing.T) {
	src, want := disk(t)
	for name, argv := range map[string][]string{"raw.gz": {"gzip", "-dc"}, "raw.zst": {"zstd", "-q", "-dc"}} {
		path := write(t, name, src, 0)
		if got := output(t, append(argv, path)...); !bytes.Equal(got, want) {
			t.Errorf("%s reads differently", name)
		}
	}
	path := write(t, "gcp", src, 0)
	if got := string(output(t, "tar", "--numeric-owner", "--full-time", "--utc", "-tvzf", path)); got != "-rw-r--r-- 0/0      1073741824 1970-01-01 00:00:00 disk.raw\n" {
		t.Errorf("tar lists %q", got)
	}
	dir := t.TempDir()
	output(t, "tar", "-C", dir, "-Sxzf", path)
	f, err := os.Open(filepath.Join(dir, "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("disk.raw differs (%v)", err)
	}
}

func TestWorkersDoNotMatter(t *testing.T) {
	src, _ := disk(t)
	for _, name := range []string{"raw.gz", "raw.zst"} {
		one, err := os.ReadFile(write(t, name, src, 1))
		if err != nil {
			t.Fatal(err)
		}
		many, err := os.ReadFile(write(t, name, src, 5))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one, many) {
			t.Errorf("%s differs with more workers", name)
		}
	}
}

// TestGNUHeader: sizes around the limit of octal numbers.
func TestGNUHeader(t *testing.T) {
	for _, size := range []int64{1 << 30, 7 << 30, 8 << 30, 2 << 40} {
		h, err := tar.NewReader(bytes.NewReader(gnuHeader(size))).Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Name != "disk.raw" || h.Size != size || h.Format != tar.FormatGNU {
			t.Errorf("size %d: %+v", size, h)
		}
		if n := block + size + gnuTail(size); n%record != 0 || gnuTail(size) < 2*block {
			t.Errorf("size %d: the archive has %d bytes", size, n)
		}
	}
}

func TestGCPIsOneArchive(t *testing.T) {
	src, want := disk(t)
	f, err := os.Open(write(t, "gcp", src, 2))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := pgzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	r := tar.NewReader(z)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the disk differs (%v)", err)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("after it: %v", err)
	}
}
