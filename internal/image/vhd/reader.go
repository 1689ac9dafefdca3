package vhd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/mapped"
)

const typeDifferencing = 4

// Is reports whether a file of size bytes is a VHD image: one begins with a
// copy of its footer, or is a disk with a footer behind it.
func Is(r io.ReaderAt, size int64) bool {
	_, err := findFooter(r, size)
	return err == nil
}

var errNoFooter = errors.New("it has no footer of a vhd image")

// findFooter reads the footer or, if it is damaged, the copy of it.
func findFooter(r io.ReaderAt, size int64) ([]byte, error) {
	err := errNoFooter
	for _, at := range []int64{size - sector, 0} {
		b := make([]byte, sector)
		if at < 0 || mapped.ReadFull(r, b, at) != nil || string(b[:8]) != "conectix" {
			continue
		}
		if !sound(b, 64) {
			err = fmt.Errorf("its footer at %d has a wrong checksum", at)
			continue
		}
		return b, nil
	}
	return nil, err
}

// sound checks the checksum of a structure, which is at at and counts as zeros.
func sound(b []byte, at int) bool {
	sum := checksum(b) // the complement of the sum of all bytes
	for _, c := range b[at : at+4] {
		sum += uint32(c)
	}
	return sum == binary.BigEndian.Uint32(b[at:])
}

// Open reads the header of a fixed or dynamic image in a file of size bytes.
// Variant says which it is.
func Open(r io.ReaderAt, size int64) (disk image.Disk, variant string, err error) {
	disk, variant, err = open(r, size)
	if err != nil {
		return nil, "", fmt.Errorf("cannot read vhd image: %w", err)
	}
	return disk, variant, nil
}

func open(r io.ReaderAt, size int64) (image.Disk, string, error) {
	foot, err := findFooter(r, size)
	if err != nil {
		return nil, "", err
	}
	be := binary.BigEndian
	capacity := be.Uint64(foot[48:])
	switch kind := be.Uint32(foot[60:]); kind {
	case typeFixed:
		if capacity > uint64(size-sector) {
			return nil, "", fmt.Errorf("a disk of %d bytes does not fit into the file", capacity)
		}
		disk, err := image.Flat(r, int64(capacity))
		return disk, "fixed", err
	case typeDynamic:
		if capacity > maxSize {
			return nil, "", fmt.Errorf("a dynamic disk of %d bytes is more than the 2040 GiB of the format", capacity)
		}
		disk, err := dynamic(r, size, int64(capacity), be.Uint64(foot[16:]))
		return disk, "dynamic", err
	case typeDifferencing:
		return nil, "", errors.New("it is a difference to another image; merge them first")
	default:
		return nil, "", fmt.Errorf("its type %d is unknown", kind)
	}
}

func dynamic(r io.ReaderAt, size, capacity int64, headerAt uint64) (image.Disk, error) {
	head := make([]byte, 2*sector)
	if headerAt > uint64(size) {
		return nil, fmt.Errorf("its header at %d lies beyond the end of the file", headerAt)
	}
	if err := mapped.ReadFull(r, head, int64(headerAt)); err != nil {
		return nil, fmt.Errorf("its header at %d: %w", headerAt, err)
	}
	be := binary.BigEndian
	if string(head[:8]) != "cxsparse" || !sound(head, 36) {
		return nil, fmt.Errorf("its header at %d is damaged", headerAt)
	}
	tableAt, entries, block := be.Uint64(head[16:]), int64(be.Uint32(head[28:])), int64(be.Uint32(head[32:]))
	switch {
	case block < 4096 || block > 256<<20 || block&(block-1) != 0:
		return nil, fmt.Errorf("blocks of %d bytes are not supported", block)
	case (capacity+block-1)/block > entries:
		return nil, fmt.Errorf("a disk of %d bytes does not fit into %d blocks of %d", capacity, entries, block)
	case tableAt > uint64(size) || 4*entries > size-int64(tableAt):
		return nil, fmt.Errorf("its table of %d blocks at %d lies beyond the end of the file", entries, tableAt)
	}
	// Which sectors of a block were written is of interest to differences only:
	// the others are zeros in the file as well.
	bitmap := roundUp(max(block/sector/8, 1), sector)
	table := mapped.Table{R: r, Order: be}
	return mapped.New("vhd", r, size, mapped.Layout{
		Size: capacity, BlockSize: block,
		Find: func(n int64) (mapped.Place, error) {
			entry, err := table.Get(int64(tableAt), n, entries)
			if err != nil || entry == unused {
				return mapped.Place{}, err
			}
			return mapped.Place{Kind: mapped.Plain, Off: int64(entry)*sector + bitmap}, nil
		},
	}), nil
}
