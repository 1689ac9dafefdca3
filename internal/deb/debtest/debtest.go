// Package debtest makes Debian packages in memory, for tests.
package debtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"sort"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Epoch is the time of everything inside the packages.
var Epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Package describes a package.
type Package struct {
	Control     string            // the control file
	Scripts     map[string]string // further files of the control part, by name; scripts begin with #!
	Files       []tar.Header      // the file system part; sizes are filled in
	Content     map[string]string // of regular files, by name
	Compression string            // suffix of both parts: ".xz", ".gz", ".zst" or ""
}

// Build returns the .deb.
func (p Package) Build() []byte {
	var control []tar.Header
	content := map[string]string{"./control": p.Control}
	control = append(control, tar.Header{Name: "./control", Typeflag: tar.TypeReg, Mode: 0o644})
	names := make([]string, 0, len(p.Scripts))
	for n := range p.Scripts {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		mode := int64(0o644)
		if len(p.Scripts[n]) > 1 && p.Scripts[n][:2] == "#!" {
			mode = 0o755
		}
		control = append(control, tar.Header{Name: "./" + n, Typeflag: tar.TypeReg, Mode: mode})
		content["./"+n] = p.Scripts[n]
	}
	var out bytes.Buffer
	out.WriteString("!<arch>\n")
	Member(&out, "debian-binary", []byte("2.0\n"))
	Member(&out, "control.tar"+p.Compression, Compress(p.Compression, Tar(control, content)))
	Member(&out, "data.tar"+p.Compression, Compress(p.Compression, Tar(p.Files, p.Content)))
	return out.Bytes()
}

// Member appends a member to an ar archive.
func Member(w io.Writer, name string, data []byte) {
	fmt.Fprintf(w, "%-16s%-12d%-6d%-6d%-8s%-10d`\n%s", name, Epoch.Unix(), 0, 0, "100644", len(data), data)
	if len(data)%2 == 1 {
		io.WriteString(w, "\n")
	}
}

// Tar makes a tar stream.
func Tar(headers []tar.Header, content map[string]string) []byte {
	var out bytes.Buffer
	t := tar.NewWriter(&out)
	for _, h := range headers {
		data := content[h.Name]
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(data))
		}
		if h.ModTime.IsZero() {
			h.ModTime = Epoch
		}
		must(t.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg {
			_, err := io.WriteString(t, data)
			must(err)
		}
	}
	must(t.Close())
	return out.Bytes()
}

// Compress compresses as a suffix says.
func Compress(suffix string, data []byte) []byte {
	var out bytes.Buffer
	var z io.WriteCloser
	var err error
	switch suffix {
	case "":
		return data
	case ".gz":
		z = gzip.NewWriter(&out)
	case ".xz":
		z, err = xz.NewWriter(&out)
	case ".zst":
		z, err = zstd.NewWriter(&out)
	default:
		err = fmt.Errorf("unknown compression %q", suffix)
	}
	must(err)
	_, err = z.Write(data)
	must(err)
	must(z.Close())
	return out.Bytes()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
