package vmdk_test

import (
	"testing"

	"github.com/dib-builder/dib/internal/image/mapped/mappedtest"
	"github.com/dib-builder/dib/internal/image/vmdk"
)

func FuzzOpen(f *testing.F) {
	sparse, stream := mappedtest.Seed(f, vmdk.Format{}, ""), mappedtest.Seed(f, vmdk.Format{}, "subformat=streamOptimized")
	for _, packed := range []bool{false, true} {
		f.Add([]byte(nil), uint32(0), packed)
		f.Add([]byte(nil), uint32(700), packed)
		f.Add([]byte{0x0f, 0, 0, 0x7f, 0, 0, 0}, uint32(0), packed)          // a large disk
		f.Add([]byte{0x14, 0, 0, 0, 0, 0, 0}, uint32(0), packed)             // grains of nothing
		f.Add([]byte{0x2c, 0, 0, 0, 0, 0, 0}, uint32(0), packed)             // tables of nothing
		f.Add([]byte{0x08, 0, 1, 0xff, 0xff, 0xff, 0x7f}, uint32(0), packed) // a compressed grain without end
		f.Add([]byte{0x00, 0x2a, 0, 1, 0, 0, 0}, uint32(0), packed)          // a table that is the header
	}
	f.Fuzz(func(t *testing.T, edits []byte, cut uint32, packed bool) {
		seed := sparse
		if packed {
			seed = stream
		}
		data := mappedtest.Patch(seed, edits)
		mappedtest.Hostile(t, data[:len(data)-int(cut)%len(data)], vmdk.Open)
	})
}
