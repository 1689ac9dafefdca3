package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/dib-builder/dib/internal/blockdev"
)

// Offsets in a master boot record, and the geometry that all partitioning
// tools assume for the cylinder/head/sector fields nobody reads any more.
const (
	mbrDiskID    = 440
	mbrEntries   = 446
	mbrSignature = 510
	entrySize    = 16

	chsHeads     = 255
	chsSectors   = 63
	chsCylinders = 1024
)

// recordSize is what a boot record occupies, whatever the sector size.
const recordSize = 512

// Sector is a boot record and where it belongs.
type Sector struct {
	LBA  int64
	Data [recordSize]byte
}

// EncodeMBR gives the boot records of a table, without boot code.
func EncodeMBR(t *blockdev.Table) []Sector {
	sectors := make([]Sector, len(t.Records))
	for i, r := range t.Records {
		s := &sectors[i]
		s.LBA = r.LBA
		if i == 0 {
			binary.LittleEndian.PutUint32(s.Data[mbrDiskID:], t.DiskID)
		}
		for k, e := range r.Entries {
			putEntry(s.Data[mbrEntries+k*entrySize:], e)
		}
		s.Data[mbrSignature], s.Data[mbrSignature+1] = 0x55, 0xaa
	}
	return sectors
}

func putEntry(b []byte, e blockdev.Entry) {
	if e == (blockdev.Entry{}) {
		return
	}
	if e.Boot {
		b[0] = 0x80
	}
	putCHS(b[1:4], e.LBA)
	b[4] = e.Type
	putCHS(b[5:8], e.LBA+e.Length-1)
	binary.LittleEndian.PutUint32(b[8:], uint32(e.Start))
	binary.LittleEndian.PutUint32(b[12:], uint32(e.Length))
}

// putCHS writes a sector number as head, sector and cylinder; what lies beyond
// the last cylinder is written as FE FF FF.
func putCHS(b []byte, lba int64) {
	c := lba / (chsHeads * chsSectors)
	if c >= chsCylinders {
		b[0], b[1], b[2] = 0xfe, 0xff, 0xff
		return
	}
	b[0] = byte(lba / chsSectors % chsHeads)
	b[1] = byte(lba%chsSectors+1) | byte(c>>2&0xc0)
	b[2] = byte(c)
}

// maxLogical bounds the chain of extended boot records that DecodeMBR follows.
const maxLogical = 4096

// ErrNoTable says that a disk has no MS-DOS partition table.
var ErrNoTable = errors.New("no MS-DOS partition table")

// DecodeMBR reads the table of a disk of the given number of sectors. It
// returns the records, with unknown names, as EncodeMBR would write them.
func DecodeMBR(r io.ReaderAt, sectorSize int, sectors int64) (*blockdev.Table, error) {
	var s [recordSize]byte
	if err := readRecord(r, &s, 0, sectorSize); err != nil {
		return nil, err
	}
	t := &blockdev.Table{Label: "mbr", DiskID: binary.LittleEndian.Uint32(s[mbrDiskID:])}
	master := decodeRecord(&s, 0, 0, 0)
	t.Records = []blockdev.BootRecord{master}
	var extended *blockdev.Entry
	for i, e := range master.Entries {
		switch {
		case e.Type == 0:
			continue
		case e.LBA+e.Length > sectors:
			return nil, fmt.Errorf("partition %d ends at sector %d of %d", i+1, e.LBA+e.Length, sectors)
		case isExtended(e.Type) && extended != nil:
			return nil, fmt.Errorf("partition %d is a second extended partition", i+1)
		case isExtended(e.Type):
			extended = &master.Entries[i]
		default:
			t.Partitions = append(t.Partitions, partition(e, i+1))
		}
	}
	if extended != nil {
		if err := decodeChain(r, t, *extended, sectorSize, sectors); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func decodeChain(r io.ReaderAt, t *blockdev.Table, extended blockdev.Entry, sectorSize int, sectors int64) error {
	var s [recordSize]byte
	next, previous := extended.LBA, int64(0)
	for n := 0; ; n++ {
		// Only forward links are followed, so that a loop cannot trap us.
		if next <= previous || next >= sectors || n >= maxLogical {
			return fmt.Errorf("chain of extended boot records leads from sector %d to %d", previous, next)
		}
		if err := readRecord(r, &s, next, sectorSize); err != nil {
			return err
		}
		record := decodeRecord(&s, next, next, extended.LBA)
		t.Records = append(t.Records, record)
		e, link := record.Entries[0], record.Entries[1]
		if e.Type != 0 {
			if e.LBA+e.Length > sectors {
				return fmt.Errorf("logical partition %d ends at sector %d of %d", 5+n, e.LBA+e.Length, sectors)
			}
			t.Partitions = append(t.Partitions, partition(e, 5+n))
		}
		if link.Type == 0 {
			return nil
		}
		next, previous = link.LBA, next
	}
}

func isExtended(code uint8) bool { return code == 0x05 || code == 0x0f || code == 0x85 }

func partition(e blockdev.Entry, number int) blockdev.Partition {
	return blockdev.Partition{Number: number, Start: e.LBA, Length: e.Length, Type: e.Type, Boot: e.Boot}
}

func readRecord(r io.ReaderAt, s *[recordSize]byte, lba int64, sectorSize int) error {
	if _, err := r.ReadAt(s[:], lba*int64(sectorSize)); err != nil {
		return fmt.Errorf("cannot read sector %d: %w", lba, err)
	}
	if s[mbrSignature] != 0x55 || s[mbrSignature+1] != 0xaa {
		return fmt.Errorf("sector %d: %w", lba, ErrNoTable)
	}
	return nil
}

// decodeRecord reads four entries; the first counts from base, the others from
// linkBase, which is what extended boot records do.
func decodeRecord(s *[recordSize]byte, lba, base, linkBase int64) blockdev.BootRecord {
	r := blockdev.BootRecord{LBA: lba}
	for i := range r.Entries {
		b := s[mbrEntries+i*entrySize:]
		e := blockdev.Entry{
			Boot: b[0] == 0x80, Type: b[4],
			Start: int64(binary.LittleEndian.Uint32(b[8:])), Length: int64(binary.LittleEndian.Uint32(b[12:])),
		}
		if e.Type == 0 {
			continue
		}
		e.LBA = base + e.Start
		if i > 0 {
			e.LBA = linkBase + e.Start
		}
		r.Entries[i] = e
	}
	return r
}
