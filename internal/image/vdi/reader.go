package vdi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/mapped"
)

const (
	signature = 0xbeda107f

	typeDynamic = 1
	typeStatic  = 2

	entryUnused = 0xffffffff
	entryZero   = 0xfffffffe
)

// Is reports whether the file looks like a VDI image.
func Is(r io.ReaderAt) bool {
	b := make([]byte, 4)
	return mapped.ReadFull(r, b, 64) == nil && binary.LittleEndian.Uint32(b) == signature
}

// Open reads the header of a dynamic or static image of size bytes. Variant
// says which it is.
func Open(r io.ReaderAt, size int64) (disk image.Disk, variant string, err error) {
	disk, variant, err = open(r, size)
	if err != nil {
		return nil, "", fmt.Errorf("cannot read vdi image: %w", err)
	}
	return disk, variant, nil
}

func open(r io.ReaderAt, size int64) (image.Disk, string, error) {
	b := make([]byte, sector)
	if err := mapped.ReadFull(r, b, 0); err != nil {
		return nil, "", err
	}
	le := binary.LittleEndian
	if le.Uint32(b[64:]) != signature {
		return nil, "", errors.New("it has no header of a vdi image")
	}
	if v := le.Uint32(b[68:]); v>>16 != 1 {
		return nil, "", fmt.Errorf("version %d.%d of the format is unknown", v>>16, v&0xffff)
	}
	variant := "dynamic"
	switch kind := le.Uint32(b[76:]); kind {
	case typeDynamic:
	case typeStatic:
		variant = "static"
	default:
		return nil, "", fmt.Errorf("it is of type %d, a difference to another image; merge them first (VBoxManage clonemedium)", kind)
	}
	tableAt, dataAt := int64(le.Uint32(b[340:])), int64(le.Uint32(b[344:]))
	capacity, block, extra := le.Uint64(b[368:]), int64(le.Uint32(b[376:])), le.Uint32(b[380:])
	blocks := int64(le.Uint32(b[384:]))
	switch {
	case le.Uint32(b[360:]) != sector:
		return nil, "", fmt.Errorf("sectors of %d bytes are not supported", le.Uint32(b[360:]))
	case extra != 0:
		return nil, "", fmt.Errorf("blocks with %d additional bytes are not supported", extra)
	case block < 4096 || block > 256<<20 || block&(block-1) != 0:
		return nil, "", fmt.Errorf("blocks of %d bytes are not supported", block)
	case blocks > maxBlocks || capacity > uint64(blocks)*uint64(block):
		return nil, "", fmt.Errorf("a disk of %d bytes does not fit into %d blocks of %d", capacity, blocks, block)
	case tableAt < sector || tableAt+4*blocks > size:
		return nil, "", fmt.Errorf("its table of %d blocks at %d lies beyond the end of the file", blocks, tableAt)
	}
	table := mapped.Table{R: r, Order: le}
	return mapped.New("vdi", r, size, mapped.Layout{
		Size: int64(capacity), BlockSize: block,
		Find: func(n int64) (mapped.Place, error) {
			entry, err := table.Get(tableAt, n, blocks)
			if err != nil || entry == entryUnused || entry == entryZero {
				return mapped.Place{}, err
			}
			return mapped.Place{Kind: mapped.Plain, Off: dataAt + int64(entry)*block}, nil
		},
	}), variant, nil
}
