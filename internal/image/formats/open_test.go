package formats_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/formats"
)

// content is the whole disk of an image, read through the extents.
func content(t *testing.T, f *formats.File) []byte {
	t.Helper()
	src, err := image.DiskSource(context.Background(), f, f.Size())
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, f.Size())
	if n, err := src.ReadAt(data, 0); int64(n) < f.Size() {
		t.Fatalf("%d bytes: %v", n, err)
	}
	// What the extents leave out is zeros indeed.
	whole := make([]byte, f.Size())
	if n, err := f.ReadAt(whole, 0); int64(n) < f.Size() || err != nil && err != io.EOF {
		t.Fatalf("%d bytes: %v", n, err)
	}
	if !bytes.Equal(data, whole) {
		t.Error("the extents leave out data")
	}
	return data
}

// TestOpenQEMU reads images that qemu-img made.
func TestOpenQEMU(t *testing.T) {
	for _, c := range []struct{ format, flags, options, detail string }{
		{"qcow2", "", "", ""}, {"qcow2", "-c", "", ""}, {"qcow2", "-c", "compression_type=zstd", ""},
		{"qcow2", "", "cluster_size=512", ""}, {"qcow2", "-c", "compat=0.10,cluster_size=2M", ""}, {"qcow2", "", "preallocation=metadata", ""},
		{"vhd", "", "", "dynamic"}, {"vhd", "", "subformat=fixed", "fixed"}, {"vhd", "", "force_size=on", "dynamic"},
		{"vmdk", "", "", "monolithicSparse"}, {"vmdk", "-c", "subformat=streamOptimized", "streamOptimized"}, {"vmdk", "", "zeroed_grain=on", "monolithicSparse"},
		{"vdi", "", "", "dynamic"}, {"vdi", "", "static=on", "static"}, {"vhdx", "", "", ""}, {"vhdx", "", "block_size=1M,block_state_zero=off", ""}, {"vhdx", "", "subformat=fixed", ""},
		{"raw", "", "", ""},
	} {
		t.Run(strings.TrimSpace(c.format+" "+c.options+" "+c.flags), func(t *testing.T) {
			for seed, size := range []int64{512, 3<<20 + 512, 40<<20 - 512} {
				raw := randomDisk(t, 100+uint64(seed), size)
				out := filepath.Join(t.TempDir(), "image")
				name := c.format
				if q, ok := qemuName[c.format]; ok {
					name = q
				}
				args := []string{"convert", "-f", "raw", "-O", name}
				if c.flags != "" {
					args = append(args, c.flags)
				}
				if c.options != "" {
					args = append(args, "-o", c.options)
				}
				qemuImg(t, append(args, raw, out)...)
				f, err := formats.Open(out, "")
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				want, err := os.ReadFile(raw)
				if err != nil {
					t.Fatal(err)
				}
				// Without force_size qemu-img rounds a vpc up to a geometry.
				got := content(t, f)
				if len(got) > len(want) && c.format == "vhd" {
					want = append(want, make([]byte, len(got)-len(want))...)
				}
				if f.Format != c.format || f.Details["subformat"] != c.detail || !bytes.Equal(got, want) {
					t.Errorf("seed %d: a %s (%v) of %d bytes, which are right: %v", seed, f.Format, f.Details, len(got), bytes.Equal(got, want))
				}
			}
		})
	}
}

// TestOpenOverlay reads images that hold a difference only.
func TestOpenOverlay(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	raw := randomDisk(t, 7, 5<<20)
	qemuImg(t, "convert", "-f", "raw", "-O", "vmdk", raw, at("base.vmdk"))
	qemuImg(t, "create", "-q", "-f", "qcow2", "-b", "base.vmdk", "-F", "vmdk", at("middle.qcow2"), "7M")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-b", at("middle.qcow2"), "-F", "qcow2", at("top.qcow2"))
	for _, write := range []string{"write -P 7 1M 100k", "write -z 2M 1M", "write -P 9 6M 512"} {
		qemuIO(t, write, at("top.qcow2"))
	}
	f, err := formats.Open(at("top.qcow2"), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(f.Files()) != 3 || f.Backing != at("middle.qcow2") {
		t.Errorf("%d files, on top of %s", len(f.Files()), f.Backing)
	}
	qemuImg(t, "convert", "-O", "raw", at("top.qcow2"), at("want"))
	want, err := os.ReadFile(at("want"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, f), want) {
		t.Error("the overlay reads differently")
	}
}

func TestOpenRefusals(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	put := func(name, text string) {
		if err := os.WriteFile(at(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	create := func(format, name string, args ...string) {
		qemuImg(t, append(append([]string{"create", "-q", "-f", format}, args...), at(name), "4M")...)
	}
	if err := os.Mkdir(at("other"), 0o755); err != nil {
		t.Fatal(err)
	}
	put("other/secret", strings.Repeat("x", 4<<20))
	put("empty", "")
	put("gzip", "\x1f\x8b\x08data")
	put("bad.vhd", "conectix"+strings.Repeat("\x00", 2000))
	create("qcow2", "elsewhere", "-b", at("other/secret"), "-F", "raw")
	create("qcow2", "above", "-u", "-b", "../secret", "-F", "raw")
	create("qcow2", "gone", "-u", "-b", "missing", "-F", "raw")
	create("qcow2", "itself", "-u", "-b", "itself", "-F", "qcow2")
	create("qcow2", "protocol", "-u", "-b", "nbd://127.0.0.1/x", "-F", "raw")
	create("vmdk", "flat.vmdk", "-o", "subformat=monolithicFlat")
	create("vmdk", "split.vmdk", "-o", "subformat=twoGbMaxExtentSparse")
	if err := os.Symlink("other/secret", at("link")); err != nil {
		t.Fatal(err)
	}
	create("qcow2", "linked", "-u", "-b", "link", "-F", "raw")
	create("vmdk", "base.vmdk")
	qemuImg(t, "create", "-q", "-f", "vmdk", "-b", at("base.vmdk"), "-F", "vmdk", at("diff.vmdk"))
	for name, want := range map[string]string{
		"missing": "no such file", "other": "not a regular file", "empty": "it is empty", "gzip": "compressed with gzip",
		"bad.vhd": "footer is damaged", "elsewhere": "not in its own directory", "above": "not in its own directory",
		"gone": "no such file", "itself": "more than 16 files", "protocol": "not in its own directory", "linked": "not a regular file",
		"flat.vmdk": "several files", "split.vmdk": "several files", "split-s001.vmdk": "several files",
		"diff.vmdk": "difference to another image",
	} {
		f, err := formats.Open(at(name), "")
		if err == nil {
			f.Close()
			t.Errorf("%s can be opened", name)
		} else if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), fmt.Sprintf("%q", at(name))) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	// The caller may know better.
	f, err := formats.Open(at("gzip"), "raw")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if string(content(t, f)) != "\x1f\x8b\x08data" {
		t.Error("a raw disk reads differently")
	}
	if _, err := formats.Open(at("gzip"), "qcow2"); err == nil || !strings.Contains(err.Error(), "not a qcow2 image") {
		t.Errorf("as qcow2: %v", err)
	}
}
