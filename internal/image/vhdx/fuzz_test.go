package vhdx

import (
	"io"
	"testing"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/mapped/mappedtest"
)

func FuzzOpen(f *testing.F) {
	seed := mappedtest.Seed(f, Format{}, "")
	add := func(cut uint32, edits ...byte) { f.Add(edits, cut) }
	add(0)
	add(3 << 20)
	add(0, 0x04, 0, 0x30, 0xff, 0xff, 0xff, 0x7f) // a block beyond the end
	add(0, 0x00, 0, 0x30, 0x07, 0, 0x50, 0)       // a block of a difference
	add(0, 0x08, 0, 0x21, 0xff, 0xff, 0xff, 0xff) // a large disk
	add(0, 0x00, 0, 0x21, 0, 0, 0, 0)             // blocks of nothing
	add(0, 0x04, 0, 0x21, 2, 0, 0, 0)             // a difference
	add(0, 0x08, 0, 0x03, 0xff, 0xff, 0, 0)       // many regions
	add(0, 0x20, 0, 0x03, 0, 0, 0, 0x7f)          // a region beyond the end
	add(0, 0x0a, 0, 0x20, 0xff, 0xff, 0, 0)       // many items
	add(0, 0x30, 0, 0x02, 1, 0, 0, 0)             // something in the log
	add(0, 0x10, 0, 0x03, 0, 0, 0, 0)             // an unknown region
	f.Fuzz(func(t *testing.T, edits []byte, cut uint32) {
		data := mappedtest.Patch(seed, edits)
		data = data[:len(data)-int(cut)%len(data)]
		// Checksums that are right let pass what they would hide.
		for _, s := range []struct{ at, size int }{{headersAt, headerSize}, {2 * headersAt, headerSize}, {regionsAt, regionSize}, {regionsAt + regionSize, regionSize}} {
			if s.at+s.size <= len(data) {
				seal(data[s.at : s.at+s.size])
			}
		}
		mappedtest.Hostile(t, data, func(r io.ReaderAt, size int64) (image.Disk, string, error) {
			d, err := Open(r, size)
			return d, "", err
		})
	})
}
