package report

import (
	"bytes"
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/formats"
	"github.com/dib-builder/dib/internal/image/qcow2"
)

var update = flag.Bool("update", false, "write golden files anew")

func command(t *testing.T, input string, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	if path, err := exec.LookPath("/usr/sbin/" + argv[0]); err == nil {
		cmd.Path, cmd.Err = path, nil
	}
	if cmd.Err != nil {
		t.Skip(argv[0] + " is not installed; scripts/install-test-deps does that")
	}
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1", "LC_ALL=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

func empty(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// patch writes data into a file.
func patch(t *testing.T, path string, off int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, off); err != nil {
		t.Fatal(err)
	}
}

// root makes an ext4 filesystem with a small system.
func root(t *testing.T, path string, size int64) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"usr/lib/os-release": "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian \x1b[1m12\"\n", "boot/vmlinuz-6.1.0-9-amd64": "kernel",
		"usr/lib/modules/6.1.0-9-amd64/modules.dep": "", "var/lib/dpkg/status": "Package: a\nStatus: install ok installed\n\nPackage: b\nStatus: install ok installed\n",
		"usr/share/doc/file": strings.Repeat("text ", 10_000),
	} {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../usr/lib/os-release", filepath.Join(dir, "etc/os-release")); err != nil {
		t.Fatal(err)
	}
	empty(t, path, size)
	command(t, "", "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-N", "256", "-L", "cloudimg-rootfs", "-U", "8a3c1d2e-0f4b-4c6d-9e8f-123456789abc", "-d", dir, path)
}

// disk makes a whole one with three partitions.
func disk(t *testing.T, dir string) string {
	t.Helper()
	path, part := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "part")
	empty(t, path, 64<<20)
	command(t, "label: gpt\nlabel-id: 8a3c1d2e-0f4b-4c6d-9e8f-123456789abd\n"+
		"start=2048, size=16384, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=ESP\n"+
		"start=18432, size=65536, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root\n"+
		"start=83968, size=8192, type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F\n"+
		"start=92160, size=2048, type=21686148-6449-6E6F-744E-656564454649, name=\"BIOS\"\n", "sfdisk", "-q", path)
	patch(t, path, 0x180, []byte("GRUB \x00Geom\x00"))
	place := func(off int64) {
		data, err := os.ReadFile(part)
		if err != nil {
			t.Fatal(err)
		}
		patch(t, path, off, data)
	}
	empty(t, part, 8<<20)
	command(t, "", "mkfs.vfat", "-F", "12", "-n", "ESP", "-i", "1234abcd", part)
	program := filepath.Join(dir, "BOOTX64.EFI")
	if err := os.WriteFile(program, []byte("MZ"), 0o644); err != nil {
		t.Fatal(err)
	}
	command(t, "", "mmd", "-i", part, "::EFI", "::EFI/BOOT")
	command(t, "", "mcopy", "-i", part, program, "::EFI/BOOT/BOOTX64.EFI")
	place(2048 * 512)
	root(t, part, 32<<20)
	place(18432 * 512)
	empty(t, part, 4<<20)
	command(t, "", "mkswap", "-q", "-L", "swap", "-U", "8a3c1d2e-0f4b-4c6d-9e8f-123456789abe", part)
	place(83968 * 512)
	return path
}

func inspectFile(t *testing.T, path string) Report {
	t.Helper()
	f, err := formats.Open(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := Inspect(context.Background(), filepath.Base(path), f)
	if err != nil {
		t.Fatal(err)
	}
	if r.FileSize <= 0 || r.RealSize <= 0 || r.RealSize > r.FileSize+1<<20 {
		t.Errorf("the file has %d bytes, %d of them on disk", r.FileSize, r.RealSize)
	}
	// They depend on the filesystem and on how well data was compressed.
	r.FileSize, r.RealSize = 2<<20, 1<<20+4096
	return r
}

func TestGolden(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	text, err := jsonschema.UnmarshalJSON(strings.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	if err := compiler.AddResource("inspect.json", text); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("inspect.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		make func(t *testing.T, dir string) string
	}{
		{"disk", func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "disk.qcow2")
			src, err := image.OpenSource(disk(t, dir))
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			out, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			if err := (qcow2.Format{}).Write(context.Background(), src, out, image.Options{Compress: true}, nil); err != nil {
				t.Fatal(err)
			}
			return path
		}},
		{"filesystem", func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "root.img")
			root(t, path, 16<<20)
			return path
		}},
		{"damaged", func(t *testing.T, dir string) string {
			path := disk(t, dir)
			patch(t, path, 2048*512+512, bytes.Repeat([]byte{0xff}, 4096)) // the allocation table
			patch(t, path, 18432*512+1024+96, []byte{0x46})                // a journal that needs to be replayed
			return path
		}},
		{"no-table", func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "text.img")
			if err := os.WriteFile(path, []byte(strings.Repeat("no disk at all\n", 1000)), 0o644); err != nil {
				t.Fatal(err)
			}
			return path
		}},
		{"broken-table", func(t *testing.T, dir string) string {
			path := disk(t, dir)
			patch(t, path, 512, make([]byte, 512))
			patch(t, path, 64<<20-512, make([]byte, 512))
			return path
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := inspectFile(t, c.make(t, t.TempDir()))
			var asText, asJSON bytes.Buffer
			if err := r.WriteText(&asText); err != nil {
				t.Fatal(err)
			}
			if err := r.WriteJSON(&asJSON); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(asText.String(), "\x1b") {
				t.Error("the image steers the terminal")
			}
			for suffix, got := range map[string]string{".txt": asText.String(), ".json": asJSON.String()} {
				golden := filepath.Join("testdata", c.name+suffix)
				if *update {
					if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), got); diff != "" {
					t.Errorf("%s differs (-want +got):\n%s", golden, diff)
				}
			}
			value, err := jsonschema.UnmarshalJSON(&asJSON)
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(value); err != nil {
				t.Errorf("the schema does not describe the report: %v", err)
			}
		})
	}
}

func TestAmount(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 512: "512 B", 1024: "1 KiB", 1536: "1.5 KiB", 3 << 20: "3 MiB", 5<<30 + 1: "5.0 GiB", 1 << 62: "4 EiB"} {
		if got := amount(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
