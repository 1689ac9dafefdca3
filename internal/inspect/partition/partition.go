// Package partition reads partition tables: MS-DOS, with logical partitions,
// and GPT.
package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
)

// Partition is one partition.
type Partition struct {
	Number int    // as the kernel counts: logical partitions of MS-DOS tables from 5 on
	Offset int64  // in bytes
	Size   int64  // in bytes
	Type   string // of GPT a UUID in lower case, of MS-DOS two hexadecimal digits
	Name   string // of GPT
}

// ErrNoTable says that a disk has no partition table.
var ErrNoTable = errors.New("no partition table")

const sector = 512

// Read reads the table of a disk of size bytes, in the order of the table.
func Read(disk io.ReaderAt, size int64) ([]Partition, error) {
	mbr := make([]byte, sector)
	if size < 2*sector {
		return nil, ErrNoTable
	}
	if err := readAt(disk, mbr, 0); err != nil {
		return nil, err
	}
	if mbr[510] != 0x55 || mbr[511] != 0xaa {
		return nil, ErrNoTable
	}
	for i := range 4 {
		if mbr[446+16*i+4] == 0xee {
			return readGPT(disk, size)
		}
	}
	return readDOS(disk, mbr, size)
}

func readAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("cannot read the partition table at %d: %w", off, err)
}

func isExtended(kind byte) bool { return kind == 0x05 || kind == 0x0f || kind == 0x85 }

type record struct {
	status, kind byte
	start, count int64 // in sectors, start as written
}

func records(b []byte) (list [4]record) {
	for i := range list {
		e := b[446+16*i:]
		list[i] = record{e[0], e[4], int64(binary.LittleEndian.Uint32(e[8:])), int64(binary.LittleEndian.Uint32(e[12:]))}
	}
	return list
}

// maxLogical bounds a chain of logical partitions, which could be a circle.
const maxLogical = 256

func readDOS(disk io.ReaderAt, mbr []byte, size int64) ([]Partition, error) {
	primary := records(mbr)
	for _, r := range primary {
		// A boot sector of FAT ends in the same two bytes.
		if r.status&0x7f != 0 {
			return nil, ErrNoTable
		}
	}
	var parts []Partition
	add := func(number int, r record, base int64) error {
		p := Partition{Number: number, Offset: (base + r.start) * sector, Size: r.count * sector, Type: fmt.Sprintf("%02x", r.kind)}
		if p.Offset <= 0 || p.Size <= 0 || p.Offset > size-p.Size {
			return fmt.Errorf("partition %d, from %d on, does not fit on a disk of %d bytes", number, p.Offset, size)
		}
		parts = append(parts, p)
		return nil
	}
	logical := int64(-1)
	for i, r := range primary {
		switch {
		case r.kind == 0 || r.count == 0:
		case isExtended(r.kind):
			logical = r.start
		default:
			if err := add(i+1, r, 0); err != nil {
				return nil, err
			}
		}
	}
	if logical < 0 {
		if len(parts) == 0 {
			return nil, ErrNoTable
		}
		return parts, nil
	}
	extended, at := logical, logical
	number := 5
	for range maxLogical {
		b := make([]byte, sector)
		if err := readAt(disk, b, at*sector); err != nil {
			return nil, err
		}
		if b[510] != 0x55 || b[511] != 0xaa {
			return nil, fmt.Errorf("the extended boot record at sector %d has no signature", at)
		}
		list := records(b)
		if r := list[0]; r.kind != 0 && r.count != 0 {
			if err := add(number, r, at); err != nil {
				return nil, err
			}
			number++
		}
		if next := list[1]; !isExtended(next.kind) || next.count == 0 {
			return parts, nil
		} else {
			at = extended + next.start
		}
	}
	return nil, errors.New("the chain of logical partitions does not end")
}

const (
	gptEntryMin = 128
	maxEntries  = 4096
)

// readGPT reads the table at the beginning or, if it is damaged, at the end.
func readGPT(disk io.ReaderAt, size int64) ([]Partition, error) {
	var errs []error
	for _, block := range []int64{512, 4096} {
		for _, at := range []int64{block, size - block} {
			parts, err := gptAt(disk, size, at, block)
			if err == nil {
				return parts, nil
			}
			errs = append(errs, err)
		}
	}
	return nil, fmt.Errorf("cannot read the GPT: %w", errors.Join(errs...))
}

func gptAt(disk io.ReaderAt, size, at, block int64) ([]Partition, error) {
	h := make([]byte, sector)
	if err := readAt(disk, h, at); err != nil {
		return nil, err
	}
	if string(h[:8]) != "EFI PART" {
		return nil, fmt.Errorf("no header at %d", at)
	}
	le := binary.LittleEndian
	length := le.Uint32(h[12:])
	if length < 92 || length > sector {
		return nil, fmt.Errorf("the header at %d has %d bytes", at, length)
	}
	sum := le.Uint32(h[16:])
	clear(h[16:20])
	if crc32.ChecksumIEEE(h[:length]) != sum {
		return nil, fmt.Errorf("the header at %d has a wrong checksum", at)
	}
	first, entries, entrySize := int64(le.Uint64(h[72:])), le.Uint32(h[80:]), le.Uint32(h[84:])
	if entries > maxEntries || entrySize < gptEntryMin || entrySize > 4096 || first < 0 || first > size/block {
		return nil, fmt.Errorf("the header at %d is not sane", at)
	}
	table := make([]byte, entries*entrySize)
	if err := readAt(disk, table, first*block); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(table) != le.Uint32(h[88:]) {
		return nil, fmt.Errorf("the table of the header at %d has a wrong checksum", at)
	}
	parts := []Partition{}
	for i := range int(entries) {
		e := table[i*int(entrySize):][:gptEntryMin]
		if slices.Max(e[:16]) == 0 {
			continue
		}
		from, to := le.Uint64(e[32:]), le.Uint64(e[40:])
		if from == 0 || to < from || to >= uint64(size/block) {
			return nil, fmt.Errorf("partition %d does not fit on a disk of %d bytes", i+1, size)
		}
		parts = append(parts, Partition{
			Number: i + 1, Offset: int64(from) * block, Size: int64(to-from+1) * block, Type: uuid(e[:16]), Name: utf16Name(e[56:128]),
		})
	}
	return parts, nil
}

// uuid prints a UUID whose first three fields are stored little-endian.
func uuid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

func utf16Name(b []byte) string {
	units := make([]uint16, 0, len(b)/2)
	for i := 0; i+1 < len(b); i += 2 {
		units = append(units, binary.LittleEndian.Uint16(b[i:]))
	}
	name, _, _ := strings.Cut(string(utf16.Decode(units)), "\x00")
	return name
}
