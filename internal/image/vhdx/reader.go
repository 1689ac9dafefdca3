package vhdx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/mapped"
)

const (
	maxRegions = 2047
	maxItems   = 2047

	hasParent = 1 << 1
)

// Is reports whether the file looks like a VHDX image.
func Is(r io.ReaderAt) bool {
	b := make([]byte, 8)
	return mapped.ReadFull(r, b, 0) == nil && string(b) == "vhdxfile"
}

// Open reads the header of an image in a file of size bytes. Differences to
// other images are refused, and so are images that were not closed, for what
// is in their log is nowhere else.
func Open(r io.ReaderAt, size int64) (image.Disk, error) {
	d, err := open(r, size)
	if err != nil {
		return nil, fmt.Errorf("cannot read vhdx image: %w", err)
	}
	return d, nil
}

func open(r io.ReaderAt, size int64) (image.Disk, error) {
	if !Is(r) {
		return nil, errors.New("it has no identifier of a vhdx image")
	}
	if err := checkHeaders(r); err != nil {
		return nil, err
	}
	table, err := readRegions(r, size)
	if err != nil {
		return nil, err
	}
	p, err := readMetadata(r, table[regionMetadata])
	if err != nil {
		return nil, err
	}
	return p.disk(r, size, table[regionBAT])
}

// sealed reads a structure and checks its signature and checksum.
func sealed(r io.ReaderAt, signature string, at int64, size int) ([]byte, error) {
	b := make([]byte, size)
	if err := mapped.ReadFull(r, b, at); err != nil {
		return nil, err
	}
	if string(b[:4]) != signature || binary.LittleEndian.Uint32(b[4:]) != checksum(b) {
		return nil, fmt.Errorf("the structure %q at %d is damaged", signature, at)
	}
	return b, nil
}

// checkHeaders looks at the header that counts: the later of the sound ones.
func checkHeaders(r io.ReaderAt) error {
	le := binary.LittleEndian
	var last []byte
	var errs []error
	for i := range int64(2) {
		b, err := sealed(r, "head", headersAt*(i+1), headerSize)
		switch {
		case err != nil:
			errs = append(errs, err)
		case last == nil || le.Uint64(b[8:]) > le.Uint64(last[8:]):
			last = b
		}
	}
	switch {
	case last == nil:
		return errors.Join(errs...)
	case le.Uint16(last[66:]) != 1:
		return fmt.Errorf("version %d of the format is unknown", le.Uint16(last[66:]))
	case guid(last[48:64]) != guid{}:
		return errors.New("it was not closed: its log has to be replayed first, as qemu-img check -r all does")
	}
	return nil
}

// region is a part of the file.
type region struct{ at, length int64 }

// readRegions finds the table of blocks and the metadata.
func readRegions(r io.ReaderAt, size int64) (map[guid]region, error) {
	b, err := sealed(r, "regi", regionsAt, regionSize)
	if err != nil {
		var second error
		if b, second = sealed(r, "regi", regionsAt+regionSize, regionSize); second != nil {
			return nil, errors.Join(err, second)
		}
	}
	le := binary.LittleEndian
	count := le.Uint32(b[8:])
	if count > maxRegions || 16+32*int(count) > len(b) {
		return nil, fmt.Errorf("%d regions are too many", count)
	}
	found := map[guid]region{}
	for i := range int(count) {
		e := b[16+32*i:]
		id, at, length := guid(e[:16]), le.Uint64(e[16:]), int64(le.Uint32(e[24:]))
		if id != regionBAT && id != regionMetadata {
			if le.Uint32(e[28:])&1 != 0 {
				return nil, fmt.Errorf("it needs a region %x, which is unknown", id)
			}
			continue
		}
		if at < mib || at > uint64(size) || length > size-int64(at) {
			return nil, fmt.Errorf("its region of %d bytes at %d lies beyond the end of the file", length, at)
		}
		found[id] = region{int64(at), length}
	}
	if len(found) != 2 {
		return nil, errors.New("it lacks the table of blocks or the metadata")
	}
	return found, nil
}

// parameters are the metadata that say how to read the disk.
type parameters struct {
	size, block, sector int64
}

func readMetadata(r io.ReaderAt, in region) (parameters, error) {
	var p parameters
	if in.length < itemsAt {
		return p, fmt.Errorf("its metadata have %d bytes only", in.length)
	}
	b := make([]byte, itemsAt)
	if err := mapped.ReadFull(r, b, in.at); err != nil {
		return p, fmt.Errorf("its metadata: %w", err)
	}
	le := binary.LittleEndian
	count := int(le.Uint16(b[10:]))
	if string(b[:8]) != "metadata" || count > maxItems {
		return p, errors.New("its metadata are damaged")
	}
	for i := range count {
		e := b[32+32*i:]
		id, at, length := guid(e[:16]), int64(le.Uint32(e[16:])), int64(le.Uint32(e[20:]))
		if at > in.length || length > in.length-at {
			return p, fmt.Errorf("its metadata item %d lies beyond their end", i)
		}
		item := make([]byte, 8)
		if err := mapped.ReadFull(r, item[:min(length, 8)], in.at+at); err != nil {
			return p, fmt.Errorf("its metadata item %d: %w", i, err)
		}
		switch id {
		case itemParameters:
			p.block = int64(le.Uint32(item))
			if le.Uint32(item[4:])&hasParent != 0 {
				return p, errors.New("it is a difference to another image; merge them first")
			}
		case itemSize:
			if n := le.Uint64(item); n > maxSize {
				return p, fmt.Errorf("a disk of %d bytes is more than the 64 TiB of the format", n)
			}
			p.size = int64(le.Uint64(item))
		case itemLogicalSector:
			p.sector = int64(le.Uint32(item))
		case itemID, itemPhysicalSector:
		default:
			if le.Uint32(e[24:])&(1<<2) != 0 {
				return p, fmt.Errorf("it needs the metadata item %x, which is unknown", id)
			}
		}
	}
	switch {
	case p.block < minBlock || p.block > maxBlock || bits.OnesCount64(uint64(p.block)) != 1:
		return p, fmt.Errorf("blocks of %d bytes are not supported", p.block)
	case p.sector != 512 && p.sector != 4096:
		return p, fmt.Errorf("sectors of %d bytes are not supported", p.sector)
	}
	return p, nil
}

func (p parameters) disk(r io.ReaderAt, size int64, table region) (image.Disk, error) {
	ratio := (1 << 23) * p.sector / p.block
	count := entries((p.size+p.block-1)/p.block, ratio)
	if 8*count > table.length {
		return nil, fmt.Errorf("a disk of %d bytes does not fit into its table of %d", p.size, table.length)
	}
	bat := mapped.Table{R: r, Order: binary.LittleEndian}
	return mapped.New("vhdx", r, size, mapped.Layout{
		Size: p.size, BlockSize: p.block,
		Find: func(n int64) (mapped.Place, error) {
			i := n + n/ratio
			low, err := bat.Get(table.at, 2*i, 2*count)
			if err != nil {
				return mapped.Place{}, err
			}
			high, err := bat.Get(table.at, 2*i+1, 2*count)
			if err != nil {
				return mapped.Place{}, err
			}
			switch state := low & 7; state {
			case statePresent:
				return mapped.Place{Kind: mapped.Plain, Off: int64(uint64(high)<<32 | uint64(low)&^(mib-1))}, nil
			case 0, 1, stateZero, 3: // not present, undefined, zeros, unmapped
				return mapped.Place{}, nil
			default:
				return mapped.Place{}, fmt.Errorf("a block in state %d, which a whole image has not", state)
			}
		},
	}), nil
}
