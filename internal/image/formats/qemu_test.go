package formats_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/formats"
)

// qemuName is what qemu-img calls a format.
var qemuName = map[string]string{"vhd": "vpc", "vhd-fixed": "vpc", "vhdx": "vhdx", "vpc": "vpc", "vdi": "vdi", "vmdk": "vmdk", "qcow2": "qcow2"}

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

// look opens an image with a reader of ours or, where there is none, with QEMU's.
func look(t *testing.T, format string) func(*os.File, int64) (io.ReaderAt, int64, error) {
	t.Helper()
	if f, ok := view[format]; ok {
		return f
	}
	return func(f *os.File, _ int64) (io.ReaderAt, int64, error) {
		plain := filepath.Join(t.TempDir(), "plain.raw")
		qemuImg(t, "convert", "-f", qemuName[format], "-O", "raw", f.Name(), plain)
		data, err := os.ReadFile(plain)
		return bytes.NewReader(data), int64(len(data)), err
	}
}

// randomDisk makes a sparse file: runs of noise, text and zeros between holes,
// and an odd tail.
func randomDisk(t *testing.T, seed uint64, size int64) string {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 7))
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for range rnd.IntN(12) {
		p := make([]byte, rnd.IntN(300_000)+1)
		switch rnd.IntN(3) {
		case 0:
			for i := range p {
				p[i] = byte(rnd.Uint32())
			}
		case 1:
			copy(p, bytes.Repeat([]byte("some text "), len(p)/10+1))
		}
		off := max(0, rnd.Int64N(size)-int64(len(p)))
		if rnd.IntN(4) == 0 {
			off = max(0, size-int64(len(p)))
		}
		if _, err := f.WriteAt(p[:min(int64(len(p)), size-off)], off); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func writeImage(t *testing.T, f image.Format, raw, out string, opts image.Options) {
	t.Helper()
	src, err := image.OpenSource(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	o, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if err := f.Write(context.Background(), src, o, opts, nil); err != nil {
		t.Fatal(err)
	}
}

// TestQEMU lets QEMU read what is written of random disks.
func TestQEMU(t *testing.T) {
	for _, c := range []struct {
		format, settings string
		checked          bool // by qemu-img check, which does not know vpc
	}{
		{"vdi", "", true}, {"vhd", "", false}, {"vhd-fixed", "", false}, {"vpc", "", false},
		{"vmdk", "", true}, {"vmdk", "subformat=streamOptimized,adapter_type=lsilogic", true},
	} {
		t.Run(strings.TrimSuffix(c.format+" "+c.settings, " "), func(t *testing.T) {
			f, ok := formats.Lookup(c.format)
			if !ok {
				t.Fatal("there is no such format")
			}
			settings, err := image.ParseSettings(c.settings)
			if err != nil {
				t.Fatal(err)
			}
			for seed, size := range []int64{512, 1 << 20, 3<<20 + 512, 64 << 20, 33<<20 - 512, 100<<20 + 3*512, 3 << 30, 4<<20 + 512, 31 << 20} {
				if size > 1<<30 && c.format == "vhd-fixed" {
					continue // as large as the disk, for nothing new
				}
				raw := randomDisk(t, uint64(seed), size)
				out := filepath.Join(t.TempDir(), "out."+f.Extension())
				writeImage(t, f, raw, out, image.Options{Settings: settings, Name: "out." + f.Extension(), Workers: 1})
				if text := qemuImg(t, "compare", "-f", "raw", "-F", qemuName[c.format], raw, out); !strings.Contains(text, "Images are identical") {
					t.Errorf("seed %d: %s", seed, text)
				}
				if c.checked {
					qemuImg(t, "check", "-f", qemuName[c.format], out)
				}
				var info struct {
					Format string `json:"format"`
					Size   int64  `json:"virtual-size"`
				}
				if err := json.Unmarshal([]byte(qemuImg(t, "info", "--output=json", out)), &info); err != nil {
					t.Fatal(err)
				}
				want := size
				if c.format == "vhd-fixed" {
					want = (size + 1<<20 - 1) >> 20 << 20
				}
				// A fixed vhd begins like a raw disk: only its name or its end tells.
				if info.Size != want && !(c.format == "vhd-fixed" && info.Format == "raw") || info.Format != qemuName[c.format] && c.format != "vhd-fixed" {
					t.Errorf("seed %d: %d bytes, but info says %+v", seed, size, info)
				}
				if size > 1<<30 {
					continue
				}
				again := filepath.Join(t.TempDir(), "again")
				writeImage(t, f, raw, again, image.Options{Settings: settings, Name: "out." + f.Extension(), Workers: 3})
				if !sameFiles(t, out, again) {
					t.Errorf("seed %d: with more workers the bytes differ", seed)
				}
			}
		})
	}
}

func sameFiles(t *testing.T, a, b string) bool {
	t.Helper()
	out, err := exec.Command("cmp", a, b).CombinedOutput()
	if err != nil {
		t.Logf("%s", out)
	}
	return err == nil
}

func TestLimits(t *testing.T) {
	for name, size := range map[string]int64{"vhd": 2041 << 30, "vmdk": 2<<40 + 512, "vdi": 513 << 40, "vhdx": 65 << 40} {
		f, _ := formats.Lookup(name)
		if err := f.Check(image.Options{}, size); err == nil || !strings.Contains(err.Error(), fmt.Sprint(size)) {
			t.Errorf("%s of %d bytes: %v", name, size, err)
		}
		if err := f.Check(image.Options{}, 10<<30); err != nil {
			t.Errorf("%s of 10 GiB: %v", name, err)
		}
	}
}

func TestSettings(t *testing.T) {
	list, err := image.ParseSettings("compat=0.10,subformat=streamOptimized,bogus=1,size=5")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, format string
		types        []string
		want         string
	}{
		{"D59 each gets what it knows", "qcow2", []string{"qcow2", "vmdk"}, "compat bogus size"},
		{"D59 each gets what it knows, vmdk", "vmdk", []string{"qcow2", "vmdk"}, "subformat bogus size"},
		{"D59 what nobody knows is not lost", "qcow2", []string{"qcow2", "raw"}, "compat subformat bogus size"},
		{"raw gets nothing", "raw", []string{"qcow2", "raw"}, ""},
		{"files get nothing", "tar", []string{"tar"}, ""},
	} {
		var keys []string
		for _, s := range formats.Settings(list, c.format, c.types) {
			keys = append(keys, s.Key)
		}
		if got := strings.Join(keys, " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func qemuIO(t *testing.T, command, path string) {
	t.Helper()
	if out, err := exec.Command("qemu-io", "-c", command, path).CombinedOutput(); err != nil {
		t.Fatalf("qemu-io %s: %v\n%s", command, err, out)
	}
}
