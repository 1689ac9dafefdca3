package checksum

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func names(list []Algorithm) string {
	var names []string
	for _, a := range list {
		names = append(names, a.Name)
	}
	return strings.Join(names, " ")
}

func TestParse(t *testing.T) {
	for value, want := range map[string]string{
		"": "", "0": "", "1": "md5 sha256", "md5": "md5", "sha256": "sha256", "md5,sha256": "md5 sha256",
		"sha256 md5": "md5 sha256", "sha256sum,md5sum": "md5 sha256", "blake3,sha512,sha512": "sha512 blake3",
	} {
		got, err := Parse(value)
		if err != nil || names(got) != want {
			t.Errorf("%q: %q, %v; want %q", value, names(got), err, want)
		}
	}
	for _, value := range []string{"2", "sha1", "md5,sha1", "true", "md5 sha-256", ",", " "} {
		t.Run("D11 unknown value "+value, func(t *testing.T) {
			if got, err := Parse(value); err == nil || !strings.Contains(err.Error(), "DIB_CHECKSUM=") {
				t.Errorf("%q is %q, %v", value, names(got), err)
			}
		})
	}
}

func TestLine(t *testing.T) {
	for path, want := range map[string]string{
		"out/a b*.raw": "00ff  out/a b*.raw\n",
		"a\\b\nc":      "\\00ff  a\\\\b\\nc\n",
	} {
		if got := (Sum{"md5", "00ff"}).Line(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

func everything(t *testing.T) []Algorithm {
	t.Helper()
	list, err := Parse("md5 sha256 sha512 blake3")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestFile writes in order, out of order and sparsely, and wants the same as
// the standard library of the whole.
func TestFile(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 300_000) // not a multiple of a chunk
	data = data[:len(data)-7]
	holes := bytes.Clone(data)
	clear(holes[100_000 : len(holes)-50])
	for _, c := range []struct {
		name  string
		want  []byte
		write func(t *testing.T, f *File)
	}{
		{"nothing", nil, func(*testing.T, *File) {}},
		{"in order", data, func(t *testing.T, f *File) {
			for rest := data; len(rest) > 0; {
				n := min(len(rest), 77_777)
				if _, err := f.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
		}},
		{"with a header at the end", data, func(t *testing.T, f *File) {
			_, err := f.Write(append(make([]byte, 512), data[512:]...))
			if err == nil {
				_, err = f.WriteAt(data[:512], 0)
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
		{"by somebody else, with holes", holes, func(t *testing.T, f *File) {
			out := f.File()
			_, err := out.Write(holes[:100_000])
			if err == nil {
				_, err = out.WriteAt(holes[len(holes)-50:], int64(len(holes)-50))
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := os.Create(filepath.Join(t.TempDir(), "f"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			f := NewFile(out, everything(t))
			defer f.Close()
			c.write(t, f)
			sums, err := f.Sums(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			a, b, d := md5.Sum(c.want), sha256.Sum256(c.want), sha512.Sum512(c.want)
			for i, want := range [][]byte{a[:], b[:], d[:]} {
				if sums[i].Hex != hex.EncodeToString(want) {
					t.Errorf("%s is %s, want %x", sums[i].Name, sums[i].Hex, want)
				}
			}
			if len(c.want) == 0 && sums[3].Hex != "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262" {
				t.Errorf("blake3 of nothing is %s", sums[3].Hex)
			}
		})
	}
}

func TestD12_every_failure_counts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]Algorithm{everything(t)[:1], everything(t)[1:2], everything(t)} {
		f, err := os.OpenFile(path, os.O_WRONLY, 0) // cannot be read
		if err != nil {
			t.Fatal(err)
		}
		if sums, err := Of(context.Background(), f, list); err == nil {
			t.Errorf("checksums of an unreadable file: %v", sums)
		}
		f.Close()
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Of(ctx, f, everything(t)); err == nil {
		t.Error("a cancelled reading succeeds")
	}
}
