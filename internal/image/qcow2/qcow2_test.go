package qcow2_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/qcow2"
)

// disk is the contents of a small raw disk and where its data is.
type disk struct {
	data    []byte
	extents []image.Extent
}

func (d disk) source(tb testing.TB) *image.Source {
	tb.Helper()
	s, err := image.NewSource(bytes.NewReader(d.data), int64(len(d.data)), d.extents)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// fill puts n bytes of one kind at off: text compresses, noise does not,
// zeros are data that turns out to be empty.
func (d *disk) fill(off, n int, kind string, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	p := d.data[off : off+n]
	for i := range p {
		switch kind {
		case "text":
			p[i] = "the quick brown fox\n"[(i*7+rng.IntN(3))%20]
		case "noise":
			p[i] = byte(rng.Uint32())
		case "ones":
			p[i] = 0xff
		case "zeros":
			p[i] = 0
		}
	}
	d.extents = append(d.extents, image.Extent{Off: int64(off), Len: int64(n)})
}

// mixed is a disk with every kind of content and odd boundaries.
func mixed() disk {
	d := disk{data: make([]byte, 5<<20+777)}
	d.fill(100, 70_000, "text", 1)
	d.fill(131_072, 65_536, "noise", 2)
	d.fill(200_000, 300_000, "text", 3)
	d.fill(600_000, 200_000, "zeros", 4)
	d.fill(900_001, 333_333, "noise", 5)
	d.fill(1_500_000, 1, "ones", 6)
	d.fill(2_000_000, 1_000_000, "ones", 7)
	d.fill(5<<20-5, 782, "text", 8)
	return d
}

func write(tb testing.TB, path string, d disk, opts image.Options) {
	tb.Helper()
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	if err := (qcow2.Format{}).Write(context.Background(), d.source(tb), f, opts, nil); err != nil {
		tb.Fatal(err)
	}
}

// sectors is data padded as a virtual disk is.
func sectors(data []byte) []byte {
	return append(bytes.Clone(data), make([]byte, (512-len(data)%512)%512)...)
}

func readAll(tb testing.TB, path string) []byte {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		tb.Fatal(err)
	}
	m, err := qcow2.Open(f, st.Size())
	if err != nil {
		tb.Fatal(err)
	}
	out, err := io.ReadAll(io.NewSectionReader(m, 0, m.Size()))
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// qemuImg runs the judge, or does nothing where it is not installed.
func qemuImg(tb testing.TB, args ...string) string {
	tb.Helper()
	path, err := exec.LookPath("qemu-img")
	if err != nil {
		tb.Log("qemu-img is not installed: not judged by it")
		return ""
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

var variants = []struct {
	name     string
	compress bool
	settings string
}{
	{"default", true, ""},
	{"uncompressed", false, ""},
	{"version 2", true, "compat=0.10"},
	{"version 2 uncompressed", false, "compat=0.10"},
	{"smallest clusters", true, "cluster_size=512"},
	{"smallest clusters version 2", true, "cluster_size=512,compat=0.10"},
	{"1 KiB clusters uncompressed", false, "cluster_size=1k"},
	{"4 KiB clusters", true, "cluster_size=4096"},
	{"largest clusters", true, "cluster_size=2M"},
	{"zstd", true, "compression_type=zstd"},
	{"zstd small clusters", true, "compression_type=zstd,cluster_size=1k"},
	{"lazy refcounts", true, "lazy_refcounts=on,refcount_bits=16,preallocation=off"},
}

func TestRoundTrip(t *testing.T) {
	d := mixed()
	raw := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(raw, sectors(d.data), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range variants {
		t.Run(tc.name, func(t *testing.T) {
			settings, err := image.ParseSettings(tc.settings)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "disk.qcow2")
			write(t, path, d, image.Options{Compress: tc.compress, Settings: settings})
			if !bytes.Equal(readAll(t, path), sectors(d.data)) {
				t.Error("what was read differs from what was written")
			}
			qemuImg(t, "check", "-f", "qcow2", path)
			qemuImg(t, "compare", "-f", "raw", "-F", "qcow2", raw, path)
		})
	}
}

func TestAnySizeAndHoles(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		d := disk{data: make([]byte, rapid.IntRange(0, 300_000).Draw(rt, "size"))}
		off := 0
		for len(d.extents) < 12 {
			off += rapid.IntRange(0, 40_000).Draw(rt, "hole")
			n := rapid.IntRange(1, 60_000).Draw(rt, "data")
			if off+n > len(d.data) {
				break
			}
			d.fill(off, n, rapid.SampledFrom([]string{"text", "noise", "ones", "zeros"}).Draw(rt, "kind"), uint64(off))
			off += n + 1
		}
		settings := image.Settings{
			{Key: "cluster_size", Value: fmt.Sprint(1 << rapid.IntRange(9, 17).Draw(rt, "bits"))},
			{Key: "compat", Value: rapid.SampledFrom([]string{"0.10", "1.1"}).Draw(rt, "compat")},
		}
		opts := image.Options{Compress: rapid.Bool().Draw(rt, "compress"), Settings: settings, Workers: 2}
		path := filepath.Join(dir, "disk.qcow2")
		write(t, path, d, opts)
		if !bytes.Equal(readAll(t, path), sectors(d.data)) {
			rt.Fatal("what was read differs from what was written")
		}
		// The judge is a process each time: ask it now and then.
		if n++; n%10 == 1 {
			qemuImg(t, "check", "-f", "qcow2", path)
		}
	})
}

// TestManyClusters needs several refcount blocks, and a refcount table and an
// L1 table of several clusters.
func TestManyClusters(t *testing.T) {
	d := disk{data: make([]byte, 12<<20)}
	d.fill(512, 11<<20, "noise", 1)
	d.fill(11<<20+4096, 500_000, "text", 2)
	for _, compress := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "disk.qcow2")
		write(t, path, d, image.Options{Compress: compress, Settings: image.Settings{{Key: "cluster_size", Value: "512"}}})
		if !bytes.Equal(readAll(t, path), d.data) {
			t.Error("what was read differs from what was written")
		}
		qemuImg(t, "check", "-f", "qcow2", path)
	}
}

// TestPackedTightly mixes clusters that compress with such that do not: the
// room beside compressed data must be used again.
func TestPackedTightly(t *testing.T) {
	const cluster, pairs = 65536, 40
	d := disk{data: make([]byte, 2*pairs*cluster)}
	for i := range pairs {
		d.fill(2*i*cluster, cluster, "ones", 1)
		d.fill((2*i+1)*cluster, cluster, "noise", uint64(i))
	}
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	write(t, path, d, image.Options{Compress: true})
	// The plain clusters, one of packed data, and five of metadata.
	if size, limit := fileSize(t, path), int64(pairs+1+5)*cluster; size > limit {
		t.Errorf("image has %d bytes, want at most %d", size, limit)
	}
}

// TestSameBytes pins that neither the number of workers nor how the source's
// holes are recorded changes the image.
func TestSameBytes(t *testing.T) {
	d := mixed()
	whole := disk{data: d.data, extents: []image.Extent{{Off: 0, Len: int64(len(d.data))}}}
	digest := func(d disk, workers int) [32]byte {
		path := filepath.Join(t.TempDir(), "disk.qcow2")
		write(t, path, d, image.Options{Compress: true, Workers: workers})
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return sha256.Sum256(data)
	}
	want := digest(d, 1)
	for _, workers := range []int{2, 3, 16} {
		if digest(d, workers) != want {
			t.Errorf("%d workers write another image than one", workers)
		}
	}
	if digest(whole, 2) != want {
		t.Error("zeros that are data give another image than holes")
	}
}

func TestInfo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	for _, tc := range []struct {
		settings string
		want     []string
	}{
		{"", []string{"compat: 1.1", "compression type: zlib", "refcount bits: 16", "virtual size: 5 MiB (5243904 bytes)", "cluster_size: 65536"}},
		{"compat=0.10,cluster_size=128k", []string{"compat: 0.10", "refcount bits: 16", "cluster_size: 131072"}},
		{"compression_type=zstd,lazy_refcounts=on", []string{"compression type: zstd", "lazy refcounts: true"}},
	} {
		settings, _ := image.ParseSettings(tc.settings)
		write(t, path, mixed(), image.Options{Compress: true, Settings: settings})
		info := qemuImg(t, "info", path)
		for _, want := range tc.want {
			if info != "" && !strings.Contains(info, want) {
				t.Errorf("%q: qemu-img info lacks %q:\n%s", tc.settings, want, info)
			}
		}
	}
}

// TestReadsForeignImages reads what qemu-img wrote.
func TestReadsForeignImages(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("qemu-img is not installed")
	}
	d := mixed()
	dir := t.TempDir()
	raw, path := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "disk.qcow2")
	if err := os.WriteFile(raw, sectors(d.data), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{},
		{"-c"},
		{"-c", "-o", "compat=0.10"},
		{"-c", "-o", "compression_type=zstd"},
		{"-c", "-o", "cluster_size=2M"},
		{"-o", "preallocation=metadata,cluster_size=1k"},
		{"-S", "0", "-o", "refcount_bits=1"},
	} {
		args = append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, args...), raw, path)
		qemuImg(t, args...)
		if !bytes.Equal(readAll(t, path), sectors(d.data)) {
			t.Errorf("qemu-img %s: read wrongly", strings.Join(args, " "))
		}
	}
}

func TestOverlay(t *testing.T) {
	dir := t.TempDir()
	d := mixed()
	base := filepath.Join(dir, "base.qcow2")
	write(t, base, d, image.Options{Compress: true})
	path := filepath.Join(dir, "over.qcow2")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 20 << 20
	if err := qcow2.CreateOverlay(f, "base.qcow2", "qcow2", size); err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	m, err := qcow2.Open(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	if name, format := m.BackingFile(); name != "base.qcow2" || format != "qcow2" {
		t.Errorf("backing file is %q, %q", name, format)
	}
	if _, err := m.ReadAt(make([]byte, 1), 0); !errors.Is(err, qcow2.ErrBacking) {
		t.Errorf("reading without the backing file: %v", err)
	}
	m.Backing = bytes.NewReader(d.data)
	got, err := io.ReadAll(io.NewSectionReader(m, 0, m.Size()))
	if err != nil {
		t.Fatal(err)
	}
	if want := append(bytes.Clone(d.data), make([]byte, size-len(d.data))...); !bytes.Equal(got, want) {
		t.Error("the overlay shows something else than its base")
	}
	qemuImg(t, "check", path)
	if out := qemuImg(t, "compare", path, base); out != "" && !strings.Contains(out, "identical") {
		t.Errorf("qemu-img compare: %s", out)
	}
}

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		settings    string
		size        int64
		want        string // part of the error; empty for none
		unsupported bool
	}{
		{"compat=0.10", 0, "", false},
		{"compat=v3,cluster_size=2M", 1 << 50, "", false},
		{"compat=2", 0, "want 0.10 or 1.1", false},
		{"cluster_size=4M", 0, "power of two", false},
		{"cluster_size=256", 0, "power of two", false},
		{"cluster_size=100000", 0, "power of two", false},
		{"cluster_size=big", 0, "not a size", false},
		{"cluster_size=512", 129 << 30, "larger cluster_size", false},
		{"cluster_size=512", 128 << 30, "", false},
		{"compat=0.10,compression_type=zstd", 0, "needs compat=1.1", false},
		{"lazy_refcounts,compat=0.10", 0, "needs compat=1.1", false},
		{"lazy_refcounts=perhaps", 0, "on or off", false},
		{"preallocation=full", 0, "preallocation=full", true},
		{"encryption=off", 0, "", false},
		{"encryption", 0, "encryption=on", true},
		{"refcount_bits=1", 0, "refcount_bits=1", true},
		{"subformat=fixed", 0, "no such option", false},
	} {
		settings, err := image.ParseSettings(tc.settings)
		if err != nil {
			t.Fatal(err)
		}
		err = qcow2.Format{}.Check(image.Options{Settings: settings}, tc.size)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q, size %d: %v, want %q", tc.settings, tc.size, err, tc.want)
		}
		if errors.Is(err, image.ErrUnsupported) != tc.unsupported {
			t.Errorf("%q: unsupported is %v", tc.settings, !tc.unsupported)
		}
	}
}

func TestCancelledWrite(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := disk{data: make([]byte, 8<<20)}
	d.fill(0, len(d.data), "ones", 1)
	calls := 0
	err = qcow2.Format{}.Write(ctx, d.source(t), f, image.Options{Compress: true, Workers: 1}, func(done, total int64) {
		calls++
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if calls > 4 {
		t.Errorf("work went on for %d batches", calls)
	}
}

type brokenReader struct{ at int64 }

var errBroken = errors.New("broken disk")

func (r brokenReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.at {
		return 0, errBroken
	}
	clear(p)
	return len(p), nil
}

func TestReadErrorIsReported(t *testing.T) {
	src, err := image.NewSource(brokenReader{at: 3 << 20}, 8<<20, []image.Extent{{Off: 0, Len: 8 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = qcow2.Format{}.Write(context.Background(), src, f, image.Options{Compress: true}, nil)
	if !errors.Is(err, errBroken) || !strings.HasPrefix(err.Error(), "cannot write qcow2 image: ") {
		t.Errorf("error is %v", err)
	}
}

func TestProgressReachesTotal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var last, total int64
	err = qcow2.Format{}.Write(context.Background(), mixed().source(t), f, image.Options{}, func(d, n int64) {
		if d < last {
			t.Errorf("progress went back from %d to %d", last, d)
		}
		last, total = d, n
	})
	if err != nil || last != total || total == 0 {
		t.Errorf("ended at %d of %d, %v", last, total, err)
	}
}

// FuzzOpen reads damaged images through every path of the reader.
func FuzzOpen(f *testing.F) {
	d := disk{data: make([]byte, 9000)}
	d.fill(0, 3000, "text", 1)
	d.fill(4096, 600, "noise", 2)
	dir := f.TempDir()
	for i, settings := range []string{"cluster_size=512", "cluster_size=512,compat=0.10", "cluster_size=1k,compression_type=zstd", "cluster_size=4k"} {
		s, _ := image.ParseSettings(settings)
		path := filepath.Join(dir, fmt.Sprint(i))
		write(f, path, d, image.Options{Compress: true, Settings: s})
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Add([]byte("QFI\xfb"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := qcow2.Open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		m.BackingFile()
		if list, err := m.Extents(context.Background()); err == nil {
			if _, err := image.NewSource(m, m.Size(), list); err != nil {
				t.Fatal(err)
			}
		}
		buf := make([]byte, 4096)
		for off := int64(0); off < min(m.Size(), 1<<20); off += int64(len(buf)) {
			if _, err := m.ReadAt(buf, off); err != nil && err != io.EOF {
				break
			}
		}
		_, _ = m.ReadAt(buf, max(0, m.Size()-100))
	})
}
