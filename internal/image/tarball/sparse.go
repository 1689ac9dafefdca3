package tarball

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"

	"github.com/dib-builder/dib/internal/image"
)

// What makes a file sparse in an archive. It is the content that decides, not
// how the filesystem of the build happens to store it, so that the same tree
// gives the same archive everywhere; and only where it pays, because simple
// readers of tar do not know sparse files.
const (
	sparseUnit  = 4 << 10  // holes begin and end at multiples of this
	minHole     = 64 << 10 // shorter runs of zeros are data
	minSaving   = 1 << 20  // files with less to save are stored in full
	maxSegments = 1 << 16  // bounds the map of a file that alternates
)

// segments returns the parts of f, size bytes long, that are not holes, or nil
// if it is to be stored in full. Holes of the filesystem are not read.
func segments(f *os.File, size int64) ([]image.Extent, error) {
	if size < minSaving {
		return nil, nil
	}
	src, err := image.FileSource(f)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, sparseUnit)
	buf := make([]byte, 1<<20)
	var found []image.Extent
	saved := int64(0)
	end := int64(0) // of the data found so far
	data := func(off, n int64) {
		if hole := off - end; len(found) == 0 || hole >= minHole {
			if off >= minHole {
				saved += hole
				found = append(found, image.Extent{Off: off, Len: n})
			} else {
				found = append(found, image.Extent{Off: 0, Len: off + n})
			}
		} else {
			last := &found[len(found)-1]
			last.Len = off + n - last.Off
		}
		end = off + n
	}
	for _, e := range src.Extents() {
		stop := min((e.End()+sparseUnit-1)&^(sparseUnit-1), size)
		for off := e.Off &^ (sparseUnit - 1); off < stop; off += int64(len(buf)) {
			p := buf[:min(int64(len(buf)), stop-off)]
			if n, err := src.ReadAt(p, off); n < len(p) {
				return nil, fmt.Errorf("cannot look for holes: %w", err)
			}
			for at := 0; at < len(p); at += sparseUnit {
				unit := p[at:min(at+sparseUnit, len(p))]
				if !bytes.Equal(unit, zeros[:len(unit)]) {
					data(off+int64(at), int64(len(unit)))
				}
			}
		}
	}
	if rest := size - end; rest >= minHole {
		saved += rest
	} else if rest > 0 {
		data(size-rest, rest)
	}
	if saved < minSaving || len(found) > maxSegments {
		return nil, nil
	}
	if len(found) == 0 {
		found = []image.Extent{} // nothing but a hole
	}
	return found, nil
}

// sparse turns the header of a regular file into that of a sparse one in GNU
// tar's format 1.0, and returns the map that precedes its data.
func (h *header) sparse(parts []image.Extent, size int64) []byte {
	// An empty segment at the end tells where the file ends.
	if n := len(parts); n == 0 || parts[n-1].End() < size {
		parts = append(parts[:n:n], image.Extent{Off: size})
	}
	var m bytes.Buffer
	fmt.Fprintf(&m, "%d\n", len(parts))
	stored := int64(0)
	for _, p := range parts {
		fmt.Fprintf(&m, "%d\n%d\n", p.Off, p.Len)
		stored += p.Len
	}
	m.Write(make([]byte, padding(int64(m.Len()))))
	h.records = append(h.records,
		record{"GNU.sparse.major", "1"}, record{"GNU.sparse.minor", "0"},
		record{"GNU.sparse.name", h.name}, record{"GNU.sparse.realsize", strconv.FormatInt(size, 10)})
	h.name = path.Join(path.Dir(h.name), "GNUSparseFile.0", path.Base(h.name))
	h.size = int64(m.Len()) + stored
	return m.Bytes()
}

// copySegments writes the parts of a file one after the other.
func copySegments(w io.Writer, f *os.File, parts []image.Extent, buf []byte) error {
	for _, p := range parts {
		if n, err := io.CopyBuffer(w, struct{ io.Reader }{io.NewSectionReader(f, p.Off, p.Len)}, buf); err != nil {
			return err
		} else if n != p.Len {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}
