// Package vhdx writes and reads images of Hyper-V in the format that followed VHD.
//
// Source: Microsoft, [MS-VHDX] "Virtual Hard Disk v2 (VHDX) File Format".
package vhdx

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
	"os"
	"unicode/utf16"

	"github.com/dib-builder/dib/internal/image"
)

const (
	sector  = 512
	mib     = 1 << 20
	maxSize = 64 << 40

	// Places in the file.
	headersAt  = 64 << 10 // two, so far apart
	headerSize = 4 << 10
	regionsAt  = 192 << 10 // two, so far apart
	regionSize = 64 << 10
	logAt      = 1 * mib
	logSize    = 1 * mib
	metadataAt = 2 * mib
	batAt      = 3 * mib

	itemsAt = 64 << 10 // in the metadata, behind their table

	stateZero    = 2
	statePresent = 6

	minBlock = 1 * mib
	maxBlock = 256 * mib
)

// guid is written with its first three fields little-endian.
type guid [16]byte

func parseGUID(a uint32, b, c uint16, rest uint64) guid {
	var g guid
	binary.LittleEndian.PutUint32(g[0:], a)
	binary.LittleEndian.PutUint16(g[4:], b)
	binary.LittleEndian.PutUint16(g[6:], c)
	binary.BigEndian.PutUint64(g[8:], rest)
	return g
}

// What the specification calls its regions and items.
var (
	regionBAT      = parseGUID(0x2dc27766, 0xf623, 0x4200, 0x9d64115e9bfd4a08)
	regionMetadata = parseGUID(0x8b7ca206, 0x4790, 0x4b9a, 0xb8fe575f050f886e)

	itemParameters     = parseGUID(0xcaa16737, 0xfa36, 0x4d43, 0xb3b633f0aa44e76b)
	itemSize           = parseGUID(0x2fa54224, 0xcd1b, 0x4876, 0xb2115dbed83bf4b8)
	itemID             = parseGUID(0xbeca12ab, 0xb2e6, 0x4523, 0x93efc309e000c746)
	itemLogicalSector  = parseGUID(0x8141bf1d, 0xa96f, 0x4709, 0xba47f233a8faab5f)
	itemPhysicalSector = parseGUID(0xcda348c7, 0x445d, 0x4471, 0x9cc9e9885251c556)
)

// Format is the vhdx output format.
type Format struct{}

// Name implements image.Format.
func (Format) Name() string { return "vhdx" }

// Extension implements image.Format.
func (Format) Extension() string { return "vhdx" }

// Keys implements image.Format.
func (Format) Keys() []string {
	return []string{"block_size", "block_state_zero", "log_size", "size", "subformat"}
}

// Check implements image.Format.
func (Format) Check(opts image.Options, size int64) error {
	if size > maxSize {
		return fmt.Errorf("cannot make a vhdx image of %d bytes: the format ends at 64 TiB", size)
	}
	_, err := blockSize(opts, size)
	return err
}

// blockSize is what is asked for or, by default, what keeps the table of
// blocks below 16 MiB: small blocks waste less of the file.
func blockSize(opts image.Options, size int64) (int64, error) {
	block := int64(minBlock)
	for size/block > 2<<20 {
		block *= 2
	}
	for _, s := range opts.Settings {
		if s.Key != "block_size" {
			continue
		}
		n, err := image.ParseSize(s.Value)
		if err != nil || n < minBlock || n > maxBlock || bits.OnesCount64(uint64(n)) != 1 {
			return 0, fmt.Errorf("cannot use image option block_size=%s: want a power of two from 1M to 256M", s.Value)
		}
		block = n
	}
	rest := image.Options{}
	for _, s := range opts.Settings {
		if s.Key != "block_size" {
			rest.Settings = append(rest.Settings, s)
		}
	}
	return block, image.NoSettings("vhdx", rest, map[string]string{"subformat": "dynamic", "log_size": "1M", "block_state_zero": "on", "size": ""})
}

// Write implements image.Format.
func (f Format) Write(ctx context.Context, src *image.Source, out *os.File, opts image.Options, progress image.Progress) error {
	if err := f.Check(opts, src.Size()); err != nil {
		return err
	}
	block, err := blockSize(opts, src.Size())
	if err != nil {
		return err
	}
	if err := write(ctx, src, out, block, progress); err != nil {
		return fmt.Errorf("cannot write vhdx image: %w", err)
	}
	return nil
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// chunkRatio is how many entries of blocks stand before one of a bitmap, which
// only differences to other images have.
func chunkRatio(block int64) int64 { return (1 << 23) * sector / block }

// entries is the length of the table for so many blocks.
func entries(blocks, ratio int64) int64 {
	if blocks == 0 {
		return 0
	}
	return blocks + (blocks-1)/ratio
}

func write(ctx context.Context, src *image.Source, out *os.File, block int64, progress image.Progress) error {
	size := roundUp(src.Size(), sector)
	blocks, ratio := (size+block-1)/block, chunkRatio(block)
	table := make([]byte, roundUp(max(8*entries(blocks, ratio), 1), mib))
	le := binary.LittleEndian
	for n := range blocks {
		le.PutUint64(table[8*(n+n/ratio):], stateZero)
	}
	pos := int64(batAt + len(table))
	id := sha256.New()
	fmt.Fprintf(id, "vhdx of %d bytes in blocks of %d ", size, block)
	err := src.Chunks(ctx, int(block), progress, func(n int64, data []byte) error {
		fmt.Fprintf(id, "%d:", n)
		id.Write(data)
		le.PutUint64(table[8*(n+n/ratio):], uint64(pos)|statePresent)
		_, err := out.WriteAt(data, pos)
		pos += block
		return err
	})
	if err != nil {
		return err
	}
	sum := id.Sum(nil)
	type part struct {
		data []byte
		off  int64
	}
	parts := []part{{identifier(), 0}, {metadata(size, block, sum), metadataAt}, {table, batAt}}
	regions := regionTable(uint32(len(table)))
	for i := range int64(2) {
		parts = append(parts, part{header(uint64(i+1), sum), headersAt * (i + 1)}, part{regions, regionsAt + i*regionSize})
	}
	for _, p := range parts {
		if _, err := out.WriteAt(p.data, p.off); err != nil {
			return err
		}
	}
	return out.Truncate(pos)
}

func identifier() []byte {
	b := make([]byte, 8+512)
	copy(b, "vhdxfile")
	for i, u := range utf16.Encode([]rune("dib")) {
		binary.LittleEndian.PutUint16(b[8+2*i:], u)
	}
	return b
}

// seal fills in the checksum of a structure, in which it counts as zeros.
func seal(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[4:], checksum(b))
	return b
}

func checksum(b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, b[:4])
	sum = crc32.Update(sum, table, make([]byte, 4))
	return crc32.Update(sum, table, b[8:])
}

// unique makes an id of the image of a part of the hash of its content, so
// that equal disks give equal files.
func unique(sum []byte) guid {
	g := guid(sum[:16])
	g[7] = g[7]&0x0f | 0x80 // version 8: made by a rule of its own; in the third field, which is little-endian
	g[8] = g[8]&0x3f | 0x80
	return g
}

// header says that there is nothing in the log. Of the two the one with the
// higher sequence number counts.
func header(sequence uint64, sum []byte) []byte {
	b := make([]byte, headerSize)
	le := binary.LittleEndian
	copy(b, "head")
	le.PutUint64(b[8:], sequence)
	file, data := unique(sum), unique(sum[16:])
	copy(b[16:], file[:])
	copy(b[32:], data[:])
	le.PutUint16(b[66:], 1) // version
	le.PutUint32(b[68:], logSize)
	le.PutUint64(b[72:], logAt)
	return seal(b)
}

func regionTable(tableSize uint32) []byte {
	b := make([]byte, regionSize)
	le := binary.LittleEndian
	copy(b, "regi")
	le.PutUint32(b[8:], 2)
	for i, r := range []struct {
		id     guid
		at     uint64
		length uint32
	}{{regionBAT, batAt, tableSize}, {regionMetadata, metadataAt, mib}} {
		e := b[16+32*i:]
		copy(e, r.id[:])
		le.PutUint64(e[16:], r.at)
		le.PutUint32(e[24:], r.length)
		le.PutUint32(e[28:], 1) // required
	}
	return seal(b)
}

func metadata(size, block int64, sum []byte) []byte {
	const (
		ofDisk   = 1 << 1
		required = 1 << 2
	)
	le := binary.LittleEndian
	u32 := func(n uint32) []byte { return le.AppendUint32(nil, n) }
	disk := unique(sum[8:])
	b := make([]byte, mib)
	copy(b, "metadata")
	items := []struct {
		id    guid
		flags uint32
		data  []byte
	}{
		{itemParameters, required, append(u32(uint32(block)), u32(0)...)},
		{itemSize, required | ofDisk, le.AppendUint64(nil, uint64(size))},
		{itemID, required | ofDisk, disk[:]},
		{itemLogicalSector, required | ofDisk, u32(sector)},
		{itemPhysicalSector, required | ofDisk, u32(sector)},
	}
	le.PutUint16(b[10:], uint16(len(items)))
	at := itemsAt
	for i, item := range items {
		e := b[32+32*i:]
		copy(e, item.id[:])
		le.PutUint32(e[16:], uint32(at))
		le.PutUint32(e[20:], uint32(len(item.data)))
		le.PutUint32(e[24:], item.flags)
		at += copy(b[at:], item.data)
	}
	return b
}
