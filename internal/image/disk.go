package image

import (
	"context"
	"io"
	"os"
)

// Disk is the disk inside an image file, for reading. It is safe for
// concurrent use. The file is not trusted: whatever it holds, reading it ends
// in an error at worst.
type Disk interface {
	io.ReaderAt
	// Size is the size of the disk in bytes.
	Size() int64
	// Extents lists, in order and apart from each other, the parts that may
	// hold data; everything else reads as zeros. It takes time and memory in
	// proportion to the size of the file, and not more than a bound of memory.
	Extents(ctx context.Context) ([]Extent, error)
}

// DiskSource makes a Source of size bytes of a disk. What lies beyond the end
// of the disk is zeros.
func DiskSource(ctx context.Context, d Disk, size int64) (*Source, error) {
	list, err := d.Extents(ctx)
	if err != nil {
		return nil, err
	}
	return NewSource(d, size, Clip(list, size))
}

// Clip returns the parts of extents that lie before size.
func Clip(list []Extent, size int64) []Extent {
	for i, e := range list {
		if e.End() <= size {
			continue
		}
		out := append([]Extent(nil), list[:i]...)
		if e.Off < size {
			out = append(out, Extent{e.Off, size - e.Off})
		}
		return out
	}
	return list
}

// maxExtents bounds the memory of an ExtentList (16 bytes each).
const maxExtents = 1 << 20

// ExtentList collects extents in ascending order. Neighbours become one; when
// there are too many, so do those with the smallest gaps between them, which
// costs a reader time but changes nothing of what he reads.
type ExtentList struct {
	list []Extent
	gap  int64 // as small as this is none
	most int   // 0 for maxExtents
}

// Add appends the extent of length bytes at off, which is not before the last.
func (l *ExtentList) Add(off, length int64) {
	if length <= 0 {
		return
	}
	if n := len(l.list); n > 0 && off-l.list[n-1].End() <= l.gap {
		last := &l.list[n-1]
		last.Len = max(last.Len, off+length-last.Off)
		return
	}
	l.list = append(l.list, Extent{off, length})
	if l.most == 0 {
		l.most = maxExtents
	}
	for len(l.list) > l.most {
		l.gap = max(2*l.gap, 4096)
		l.shrink()
	}
}

// shrink joins what the gap of now allows.
func (l *ExtentList) shrink() {
	kept := l.list[:1]
	for _, e := range l.list[1:] {
		last := &kept[len(kept)-1]
		if e.Off-last.End() <= l.gap {
			last.Len = e.End() - last.Off
		} else {
			kept = append(kept, e)
		}
	}
	l.list = kept
}

// List returns what was added.
func (l *ExtentList) List() []Extent { return l.list }

// Union returns what is in one of two lists of extents.
func Union(a, b []Extent) []Extent {
	var out ExtentList
	for len(a) > 0 || len(b) > 0 {
		if len(b) == 0 || len(a) > 0 && a[0].Off <= b[0].Off {
			out.Add(a[0].Off, a[0].Len)
			a = a[1:]
		} else {
			out.Add(b[0].Off, b[0].Len)
			b = b[1:]
		}
	}
	return out.List()
}

// flat is a disk that a file holds as it is.
type flat struct {
	*Source
}

// Flat is the disk in the first size bytes of r, at least as many as it has.
// When r is a file, its holes are holes of the disk.
func Flat(r io.ReaderAt, size int64) (Disk, error) {
	var extents []Extent
	if size > 0 {
		extents = []Extent{{0, size}}
	}
	if f, ok := r.(*os.File); ok {
		var err error
		if extents, err = dataExtents(f, size); err != nil {
			return nil, err
		}
	}
	s, err := NewSource(r, size, extents)
	return flat{s}, err
}

// Extents implements Disk.
func (f flat) Extents(context.Context) ([]Extent, error) { return f.extents, nil }
