package fatfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/inspect"
)

// fill makes a filesystem of so many bits and size, with files in it.
func fill(t testing.TB, bits, size string) []byte {
	t.Helper()
	mkfs, err := exec.LookPath("/usr/sbin/mkfs.vfat")
	if err != nil {
		t.Skip("mkfs.vfat is not installed; scripts/install-test-deps does that")
	}
	if _, err := exec.LookPath("mcopy"); err != nil {
		t.Skip("mtools is not installed; scripts/install-test-deps does that")
	}
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	large := make([]byte, 100_000)
	for i := range large {
		large[i] = byte(i * i >> 7)
	}
	err = errors.Join(
		os.WriteFile(image, nil, 0o600), os.MkdirAll(dir+"/EFI/debian", 0o755), os.WriteFile(dir+"/EFI/debian/shimx64.efi", large, 0o644),
		os.WriteFile(dir+"/EFI/A rather long name, with ümlauts.txt", []byte("long"), 0o644), os.WriteFile(dir+"/EFI/EMPTY", nil, 0o644),
		os.WriteFile(dir+"/EFI/lower.txt", []byte("l"), 0o644),
	)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		if err := os.WriteFile(fmt.Sprintf("%s/EFI/debian/file-number-%02d", dir, i), []byte{byte(i)}, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, argv := range [][]string{
		{"truncate", "-s", size, image}, {mkfs, "-F", bits, "-n", "ESP", image}, {"mcopy", "-i", image, "-s", "-m", dir + "/EFI", "::"},
	} {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1", "LC_ALL=C.UTF-8")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestWalk(t *testing.T) {
	for bits, size := range map[string]string{"12": "2M", "16": "20M", "32": "40M"} {
		t.Run("FAT"+bits, func(t *testing.T) {
			f, err := Open(bytes.NewReader(fill(t, bits, size)))
			if err != nil {
				t.Fatal(err)
			}
			if f.Label() != "ESP" || fmt.Sprint(f.bits) != bits {
				t.Errorf("label %q, FAT%d", f.Label(), f.bits)
			}
			got := map[string]string{}
			err = f.Walk(func(e inspect.Entry) error {
				text := fmt.Sprintf("%o", e.Mode)
				if e.Content != nil {
					data, err := io.ReadAll(e.Content)
					if err != nil || int64(len(data)) != e.Size {
						t.Errorf("%s: %d bytes of %d, %v", e.Path, len(data), e.Size, err)
					}
					sum := 0
					for _, c := range data {
						sum += int(c)
					}
					text += fmt.Sprintf(" %d %d", len(data), sum)
					if e.ModTime.Year() < 2020 {
						t.Errorf("%s is of %v", e.Path, e.ModTime)
					}
				}
				got[e.Path] = text
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			sum := 0
			for i := range 100_000 {
				sum += int(byte(i * i >> 7))
			}
			for path, want := range map[string]string{
				".": "40755", "EFI": "40755", "EFI/debian/shimx64.efi": fmt.Sprintf("100755 100000 %d", sum), "EFI/lower.txt": "100755 1 108",
				"EFI/A rather long name, with ümlauts.txt": fmt.Sprintf("100755 4 %d", 'l'+'o'+'n'+'g'), "EFI/debian/file-number-39": "100755 1 39",
			} {
				if got[path] != want {
					t.Errorf("%s: %q, want %q", path, got[path], want)
				}
			}
			if len(got) != 3+3+1+40 {
				t.Errorf("%d files", len(got))
			}
		})
	}
}

func TestErrors(t *testing.T) {
	good := fill(t, "16", "20M")
	for _, data := range [][]byte{nil, make([]byte, 512), append([]byte{0xeb}, make([]byte, 1000)...)} {
		if Is(bytes.NewReader(data)) {
			t.Errorf("%d bytes are taken for a filesystem", len(data))
		}
	}
	f, err := Open(bytes.NewReader(good[:64<<10]))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Walk(func(inspect.Entry) error { return nil }); err == nil || !strings.Contains(err.Error(), "cannot read") {
		t.Errorf("half a filesystem: %v", err)
	}
}

func FuzzWalk(f *testing.F) {
	f.Add(fill(f, "12", "300K"))
	f.Fuzz(func(t *testing.T, data []byte) {
		image, err := Open(bytes.NewReader(data))
		if err != nil {
			return
		}
		files := 0
		_ = image.Walk(func(e inspect.Entry) error {
			if files++; files > 10000 {
				return errors.New("enough")
			}
			if e.Content != nil {
				_, err := io.Copy(io.Discard, io.LimitReader(e.Content, 1<<20))
				return err
			}
			return nil
		})
	})
}
