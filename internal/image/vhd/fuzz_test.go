package vhd_test

import (
	"encoding/binary"
	"testing"

	"github.com/dib-builder/dib/internal/image/mapped/mappedtest"
	"github.com/dib-builder/dib/internal/image/vhd"
)

// resum makes the checksums right again, which would hide what is behind them.
func resum(b []byte, at, from, size int) {
	if len(b) < from+size {
		return
	}
	part := b[from : from+size]
	clear(part[at : at+4])
	sum := uint32(0)
	for _, c := range part {
		sum += uint32(c)
	}
	binary.BigEndian.PutUint32(part[at:], ^sum)
}

func FuzzOpen(f *testing.F) {
	dynamic, fixed := mappedtest.Seed(f, vhd.Dynamic{}, ""), mappedtest.Seed(f, vhd.Fixed{}, "")
	f.Add([]byte(nil), uint32(0), false)
	f.Add([]byte(nil), uint32(0), true)
	f.Add([]byte(nil), uint32(600), false)
	f.Add([]byte{0x00, 0x06, 0, 0, 9, 0, 0}, uint32(0), false)             // a block beyond the end
	f.Add([]byte{0x30, 0x00, 0, 0, 0, 0xff, 0xff}, uint32(1), false)       // a large disk
	f.Add([]byte{0x1c, 0x02, 0, 0x7f, 0xff, 0xff, 0xff}, uint32(1), false) // a large table
	f.Add([]byte{0x20, 0x02, 0, 0, 0, 0, 0}, uint32(1), false)             // blocks of nothing
	f.Add([]byte{0x3c, 0x00, 0, 0, 0, 0, 4, 1, 2, 3}, uint32(1), false)    // a difference
	f.Fuzz(func(t *testing.T, edits []byte, cut uint32, flat bool) {
		seed := dynamic
		if flat {
			seed = fixed
		}
		data := mappedtest.Patch(seed, edits)
		data = data[:len(data)-int(cut)%len(data)]
		resum(data, 64, 0, 512)
		resum(data, 36, 512, 1024)
		resum(data, 64, max(0, len(data)-512), 512)
		mappedtest.Hostile(t, data, vhd.Open)
	})
}
