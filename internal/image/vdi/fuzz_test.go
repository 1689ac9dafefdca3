package vdi_test

import (
	"testing"

	"github.com/dib-builder/dib/internal/image/mapped/mappedtest"
	"github.com/dib-builder/dib/internal/image/vdi"
)

func FuzzOpen(f *testing.F) {
	seed := mappedtest.Seed(f, vdi.Format{}, "")
	f.Add([]byte(nil), uint32(0))
	f.Add([]byte{0x00, 0x02, 0, 9, 0, 0, 0}, uint32(0))             // a block beyond the end
	f.Add([]byte{0x80, 0x01, 0, 0xff, 0xff, 0xff, 0x7f}, uint32(0)) // many blocks
	f.Add([]byte{0x73, 0x01, 0, 0xff, 0xff, 0xff, 0x7f}, uint32(9)) // a large disk, a file cut short
	f.Fuzz(func(t *testing.T, edits []byte, cut uint32) {
		data := mappedtest.Patch(seed, edits)
		mappedtest.Hostile(t, data[:len(data)-int(cut)%len(data)], vdi.Open)
	})
}
