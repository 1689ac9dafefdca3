package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sort"

	"golang.org/x/sys/unix"
)

// Extent is a run of bytes that may hold data: [Off, Off+Len).
type Extent struct{ Off, Len int64 }

// End is the offset of the first byte after the extent.
func (e Extent) End() int64 { return e.Off + e.Len }

// Source is a sparse raw disk. Bytes outside its extents are zero and are
// never read. It is safe for concurrent use.
type Source struct {
	r       io.ReaderAt
	file    *os.File      // nil when the source is not a file
	shared  *sharedReader // nil when the source reads for itself alone
	size    int64
	extents []Extent
}

// OpenSource opens a raw disk file. Close releases it.
func OpenSource(path string) (*Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open raw image: %w", err)
	}
	s, err := FileSource(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

// FileSource makes a Source of an open file or block device, which must not
// change while the Source is used.
func FileSource(f *os.File) (*Source, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("cannot measure %q: %w", f.Name(), err)
	}
	extents, err := dataExtents(f, size)
	if err != nil {
		return nil, fmt.Errorf("cannot find the data of %q: %w", f.Name(), err)
	}
	return &Source{r: f, file: f, size: size, extents: extents}, nil
}

// NewSource makes a Source of anything readable. Extents must be in order,
// apart from each other and inside size.
func NewSource(r io.ReaderAt, size int64, extents []Extent) (*Source, error) {
	if size < 0 {
		return nil, fmt.Errorf("internal error: image: negative source size %d", size)
	}
	last := int64(0)
	for _, e := range extents {
		if e.Off < last || e.Len <= 0 || e.Len > size || e.Off > size-e.Len {
			return nil, fmt.Errorf("internal error: image: extent %d+%d is out of place in a source of %d bytes", e.Off, e.Len, size)
		}
		last = e.End()
	}
	return &Source{r: r, size: size, extents: extents}, nil
}

// Size is the size of the disk in bytes.
func (s *Source) Size() int64 { return s.size }

// Extents lists, in order, the parts that may hold data. The caller must not
// change the slice.
func (s *Source) Extents() []Extent { return s.extents }

// DataSize is the number of bytes in all extents.
func (s *Source) DataSize() int64 {
	n := int64(0)
	for _, e := range s.extents {
		n += e.Len
	}
	return n
}

// File returns the file below the source, or nil.
func (s *Source) File() *os.File { return s.file }

// Shared says whether the data is read once for several formats, so that
// copying it around ReadAt would be reading it again.
func (s *Source) Shared() bool { return s.shared != nil }

// Close closes the file below the source, if any, unless the source is shared.
func (s *Source) Close() error {
	if s.shared != nil {
		s.shared.close()
		return nil
	}
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// ReadAt implements io.ReaderAt. Holes cost no read.
func (s *Source) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("internal error: image: negative offset")
	}
	if off >= s.size {
		return 0, io.EOF
	}
	n, atEnd := len(p), false
	if int64(n) > s.size-off {
		n, atEnd = int(s.size-off), true
	}
	end := off + int64(n)
	i := sort.Search(len(s.extents), func(i int) bool { return s.extents[i].End() > off })
	pos := off // everything before pos is filled
	for ; i < len(s.extents) && s.extents[i].Off < end; i++ {
		from, to := max(s.extents[i].Off, off), min(s.extents[i].End(), end)
		clear(p[pos-off : from-off])
		if got, err := s.r.ReadAt(p[from-off:to-off], from); got < int(to-from) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF // the file shrank under us
			}
			return int(from-off) + got, fmt.Errorf("cannot read raw image at %d: %w", from, err)
		}
		pos = to
	}
	clear(p[pos-off : n])
	if atEnd {
		return n, io.EOF
	}
	return n, nil
}

// dataExtents asks the filesystem where data is. A filesystem that does not
// know gets one extent for everything: correct, only slower.
func dataExtents(f *os.File, size int64) ([]Extent, error) {
	if size == 0 {
		return nil, nil
	}
	whole := []Extent{{0, size}}
	fd := int(f.Fd())
	var out []Extent
	for pos := int64(0); pos < size; {
		start, err := unix.Seek(fd, pos, unix.SEEK_DATA)
		switch {
		case err == unix.ENXIO:
			return out, nil // only a hole is left
		case err == unix.EINVAL || err == unix.EOPNOTSUPP:
			return whole, nil
		case err != nil:
			return nil, err
		}
		end, err := unix.Seek(fd, start, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		start, end = min(start, size), min(end, size)
		if end <= start {
			return out, nil
		}
		out = append(out, Extent{start, end - start})
		pos = end
	}
	return out, nil
}
