package convert_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/checksum"
	"github.com/dib-builder/dib/internal/image/convert"
	"github.com/dib-builder/dib/internal/image/formats"
)

// randomDisk makes a sparse raw disk whose last sectors are zeros.
func randomDisk(t *testing.T, seed uint64, size int64) string {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 11))
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for range rnd.IntN(8) {
		p := make([]byte, rnd.IntN(200_000)+1)
		for i := range p {
			if p[i] = byte(i >> 8); rnd.IntN(3) > 0 {
				p[i] = byte(rnd.Uint32())
			}
		}
		if off := rnd.Int64N(size) - int64(len(p)) - 4096; off >= 0 {
			if _, err := f.WriteAt(p, off); err != nil {
				t.Fatal(err)
			}
		}
	}
	return path
}

func qemuImg(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("qemu-img is not installed; scripts/install-test-deps does that")
	}
	out, err := exec.Command("qemu-img", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// qemuName is what qemu-img calls a format.
func qemuName(format string) string {
	if format == "vhd" || format == "vhd-fixed" {
		return "vpc"
	}
	return format
}

func run(t *testing.T, r convert.Request) convert.Result {
	t.Helper()
	res, err := convert.Run(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// readable are the formats that can be read, too.
func readable() []image.Format {
	return slices.DeleteFunc(formats.All(), func(f image.Format) bool {
		return f.Name() == "gcp" || f.Name() == "raw.gz" || f.Name() == "raw.zst"
	})
}

// TestPairs goes from every format to every other, and has QEMU look at the result.
func TestPairs(t *testing.T) {
	for i, from := range readable() {
		for j, to := range readable() {
			t.Run(from.Name()+" to "+to.Name(), func(t *testing.T) {
				dir := t.TempDir()
				disk := randomDisk(t, uint64(100*i+j), int64(1+5*i+j)<<20+int64(j)*512)
				first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
				if from.Name() == "raw" || from.Name() == "vhd-fixed" {
					// A fixed vhd made by qemu-img has another size.
					run(t, convert.Request{In: disk, From: "raw", Out: first, Type: from.Name()})
				} else {
					qemuImg(t, "convert", "-f", "raw", "-O", qemuName(from.Name()), disk, first)
				}
				var done, total int64
				res := run(t, convert.Request{In: first, Out: second, Type: to.Name(), Options: image.Options{Compress: true}, Progress: func(d, n int64) { done, total = d, n }})
				if res.Format != to.Name() || done != total {
					t.Errorf("%+v, %d of %d bytes done", res, done, total)
				}
				if out := qemuImg(t, "compare", "-f", "raw", "-F", qemuName(to.Name()), disk, second); !strings.Contains(out, "Images are identical") {
					t.Error(out)
				}
			})
		}
	}
}

// TestPacked writes what only other programs read again.
func TestPacked(t *testing.T) {
	dir := t.TempDir()
	disk := randomDisk(t, 9, 3<<20)
	want, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	vdi := filepath.Join(dir, "disk.vdi")
	run(t, convert.Request{In: disk, Out: vdi})
	for name, program := range map[string]string{"out.raw.gz": "gzip", "OUT.RAW.ZST": "zstd"} {
		out := filepath.Join(dir, name)
		run(t, convert.Request{In: vdi, Out: out})
		got, err := exec.Command("sh", "-c", program+` -dc < "$1"`, "sh", out).Output()
		if err != nil || string(got) != string(want) {
			t.Errorf("%s: %d bytes, want %d: %v", name, len(got), len(want), err)
		}
	}
}

// TestChain takes random disks through all formats and back.
func TestChain(t *testing.T) {
	count := 4
	if !testing.Short() {
		count = 20
	}
	for seed := range count {
		dir := t.TempDir()
		disk := randomDisk(t, uint64(1000+seed), 1<<20+int64(seed)*313*512)
		in := disk
		for _, step := range []struct{ format, settings string }{
			{"qcow2", "compression_type=zstd"}, {"vmdk", "subformat=streamOptimized"}, {"vdi", ""}, {"vhd", ""}, {"vmdk", ""}, {"qcow2", "cluster_size=4k"}, {"raw", ""},
		} {
			settings, err := image.ParseSettings(step.settings)
			if err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(dir, step.format+step.settings)
			run(t, convert.Request{In: in, Out: out, Type: step.format, Options: image.Options{Compress: true, Settings: settings}})
			in = out
		}
		want, err1 := os.ReadFile(disk)
		got, err2 := os.ReadFile(in)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if string(want) != string(got) {
			t.Errorf("seed %d: %d bytes became %d others", seed, len(want), len(got))
		}
	}
}

func TestResize(t *testing.T) {
	dir := t.TempDir()
	disk := randomDisk(t, 5, 8<<20)
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("the last data"), 6<<20-13); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(6 << 20); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(8 << 20); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[string]int64{"": 8 << 20, "10M": 10 << 20, "+1M": 9 << 20, "6M": 6 << 20} {
		for _, name := range []string{"out.raw", "out.qcow2"} {
			out := filepath.Join(dir, size+name)
			if res := run(t, convert.Request{In: disk, Out: out, Size: size}); res.Size != want {
				t.Errorf("%q: %d bytes, want %d", size, res.Size, want)
			}
			got, err := formats.Open(out, "")
			if err != nil {
				t.Fatal(err)
			}
			data := make([]byte, 13)
			if _, err := got.ReadAt(data, 6<<20-13); err != nil && !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			if got.Size() != want || string(data) != "the last data" {
				t.Errorf("%q: %s has %d bytes, with %q", size, name, got.Size(), data)
			}
			got.Close()
		}
	}
}

// TestRefusals checks that nothing is written when something is wrong.
func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("disk.raw"), []byte(strings.Repeat("data", 1<<18)), 0o644); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, "convert", "-O", "qcow2", at("disk.raw"), at("snap.qcow2"))
	qemuImg(t, "snapshot", "-c", "before", at("snap.qcow2"))
	qemuImg(t, "create", "-q", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", at("over.qcow2"))
	data, err := os.ReadFile(at("snap.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("cut.qcow2"), data[:300_000], 0o644); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := image.ParseSettings("bogus=1")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		r     convert.Request
		usage bool
		want  string
	}{
		{"no such input", convert.Request{In: "missing", Out: "out.raw"}, false, "no such file"},
		{"no such type", convert.Request{In: "disk.raw", Out: "out", Type: "floppy"}, true, `cannot write format "floppy"; want one of`},
		{"a type made of files", convert.Request{In: "disk.raw", Out: "out", Type: "tar"}, true, `cannot write format "tar"`},
		{"a name without a format", convert.Request{In: "disk.raw", Out: "out"}, true, "tells no format"},
		{"no such input format", convert.Request{In: "disk.raw", Out: "out.raw", From: "floppy"}, false, `format "floppy" cannot be read`},
		{"an option", convert.Request{In: "disk.raw", Out: "out.qcow2", Options: image.Options{Settings: settings}}, true, "bogus"},
		{"not a size", convert.Request{In: "disk.raw", Out: "out.qcow2", Size: "big"}, true, `"big" is not a size`},
		{"nothing", convert.Request{In: "disk.raw", Out: "out.qcow2", Size: "0"}, true, "cannot have 0 bytes"},
		{"too much", convert.Request{In: "disk.raw", Out: "out.qcow2", Size: "+4096P"}, true, "too much"},
		{"too much for the format", convert.Request{In: "disk.raw", Out: "out.vmdk", Size: "3T"}, false, "2 TiB"},
		{"data behind the end", convert.Request{In: "disk.raw", Out: "out.qcow2", Size: "512k"}, false, "there is data behind that"},
		{"snapshots", convert.Request{In: "snap.qcow2", Out: "out.raw"}, false, "1 internal snapshots"},
		{"itself", convert.Request{In: "disk.raw", Out: "disk.raw", Overwrite: true}, false, "the image is read from it"},
		{"what it is based on", convert.Request{In: "over.qcow2", Out: "disk.raw", Overwrite: true}, false, "the image is read from it"},
		{"a directory", convert.Request{In: "disk.raw", Out: "missing/out.raw"}, false, "no such file"},
	} {
		c.r.In, c.r.Out = at(c.r.In), at(c.r.Out)
		_, err := convert.Run(context.Background(), c.r)
		var usage convert.UsageError
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &usage) != c.usage {
			t.Errorf("%s: %v, want %q, for wrong usage: %v", c.name, err, c.want, c.usage)
		}
	}
	after, err := os.ReadDir(dir)
	if err != nil || len(after) != len(before) {
		t.Errorf("files are %v, were %v", after, before)
	}
}

func TestOldFileAndChecksums(t *testing.T) {
	dir := t.TempDir()
	disk, out := randomDisk(t, 3, 2<<20), filepath.Join(dir, "out.qcow2")
	sums, err := checksum.Parse("sha256")
	if err != nil {
		t.Fatal(err)
	}
	count := func() int {
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	for i, c := range []struct {
		overwrite bool
		files     int
		kept      bool
	}{{false, 2, false}, {true, 2, false}, {false, 4, true}} {
		res := run(t, convert.Request{In: disk, Out: out, Checksums: sums, Overwrite: c.overwrite})
		if (res.Kept != "") != c.kept || count() != c.files {
			t.Errorf("round %d: %d files, kept %q", i, count(), res.Kept)
		}
	}
	if text, err := exec.Command("sha256sum", "-c", out+".sha256").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, text)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := convert.Run(ctx, convert.Request{In: out, Out: filepath.Join(dir, "late.raw")}); !errors.Is(err, context.Canceled) || count() != 4 {
		t.Errorf("%v, %d files", err, count())
	}
}
