package disk

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"unicode/utf16"

	"github.com/google/uuid"

	"github.com/dib-builder/dib/internal/blockdev"
)

// Numbers of a GUID partition table, from the UEFI specification, chapter 5.
const (
	gptRevision   = 0x00010000
	gptHeaderSize = 92
	gptEntries    = 128
	gptEntrySize  = 128
	gptProtective = 0xee
)

// piece is some bytes and where they belong on a disk.
type piece struct {
	offset int64 // bytes
	data   []byte
}

// encodeGPT gives the protective MBR and both copies of a table of a disk,
// without boot code.
func encodeGPT(d *blockdev.Disk) ([]piece, error) {
	t := d.Table
	sector := int64(d.SectorSize)
	total := d.Size / sector
	entries, err := gptEntryArray(t)
	if err != nil {
		return nil, fmt.Errorf("cannot write the partition table of disk %q: %w", d.Name, err)
	}
	disk, err := guidBytes(t.DiskGUID)
	if err != nil {
		return nil, fmt.Errorf("cannot write the partition table of disk %q: %w", d.Name, err)
	}
	entrySectors := int64(len(entries)) / sector
	header := func(self, other, array int64) []byte {
		h := make([]byte, sector)
		copy(h, "EFI PART")
		le := binary.LittleEndian
		le.PutUint32(h[8:], gptRevision)
		le.PutUint32(h[12:], gptHeaderSize)
		le.PutUint64(h[24:], uint64(self))
		le.PutUint64(h[32:], uint64(other))
		le.PutUint64(h[40:], uint64(t.FirstUsable))
		le.PutUint64(h[48:], uint64(t.LastUsable))
		copy(h[56:], disk[:])
		le.PutUint64(h[72:], uint64(array))
		le.PutUint32(h[80:], gptEntries)
		le.PutUint32(h[84:], gptEntrySize)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:gptHeaderSize]))
		return h
	}
	last := total - 1
	return []piece{
		{0, protectiveMBR(total)},
		{sector, header(1, last, 2)},
		{2 * sector, entries},
		{(last - entrySectors) * sector, entries},
		{last * sector, header(last, 1, last-entrySectors)},
	}, nil
}

// protectiveMBR makes programs that know no GPT see a disk that is in use.
// Its CHS fields are those of the specification, not those of a real place.
func protectiveMBR(total int64) []byte {
	b := make([]byte, recordSize)
	e := b[mbrEntries:]
	e[2] = 0x02
	e[4] = gptProtective
	e[5], e[6], e[7] = 0xff, 0xff, 0xff
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(total-1, 0xffffffff)))
	b[mbrSignature], b[mbrSignature+1] = 0x55, 0xaa
	return b
}

func gptEntryArray(t *blockdev.Table) ([]byte, error) {
	array := make([]byte, gptEntries*gptEntrySize)
	for _, p := range t.Partitions {
		e := array[(p.Number-1)*gptEntrySize:][:gptEntrySize]
		kind, err := guidBytes(p.TypeGUID)
		if err != nil {
			return nil, fmt.Errorf("partition %q: %w", p.Name, err)
		}
		id, err := guidBytes(p.PartUUID)
		if err != nil {
			return nil, fmt.Errorf("partition %q: %w", p.Name, err)
		}
		copy(e, kind[:])
		copy(e[16:], id[:])
		binary.LittleEndian.PutUint64(e[32:], uint64(p.Start))
		binary.LittleEndian.PutUint64(e[40:], uint64(p.Start+p.Length-1))
		for i, unit := range utf16.Encode([]rune(p.Name)) {
			binary.LittleEndian.PutUint16(e[56+2*i:], unit)
		}
	}
	return array, nil
}

// guidBytes is a GUID as it is stored: its first three fields little-endian.
func guidBytes(text string) ([16]byte, error) {
	u, err := uuid.Parse(text)
	if err != nil {
		return u, fmt.Errorf("%q is not a GUID: %w", text, err)
	}
	for _, field := range []struct{ from, to int }{{0, 3}, {4, 5}, {6, 7}} {
		for i, k := field.from, field.to; i < k; i, k = i+1, k-1 {
			u[i], u[k] = u[k], u[i]
		}
	}
	return u, nil
}
