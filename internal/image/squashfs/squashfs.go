// Package squashfs writes a root filesystem as a squashfs 4.0 image, as
// mksquashfs does: compressed, read-only, mountable by Linux since 4.14 (zstd).
//
// Owners, modes, times in whole seconds, extended attributes of the user,
// trusted and security namespaces, hard links, device nodes, sockets and holes
// are kept; proc and sys are empty directories. The bytes depend on the tree
// alone, not on the number of workers.
//
// Sources: https://dr-emann.github.io/squashfs/ (a description of the format);
// Linux, Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h.
package squashfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"runtime"

	"github.com/klauspost/compress/zstd"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/tree"
)

const (
	blockSize     = 128 << 10 // of file data, in bytes; mksquashfs's default
	metaSize      = 8 << 10   // of a metadata block before compression
	metaStored    = 1 << 15   // in the header of a metadata block: not compressed
	blockStored   = 1 << 24   // in the size of a data block: not compressed
	noFragment    = 1<<32 - 1
	noXattrs      = 1<<32 - 1
	noTable       = 1<<64 - 1
	superSize     = 96
	imagePadding  = 4096 // images are padded to this, so that a block device can hold them
	magic         = 0x73717368
	zstdID        = 6
	flagNoXattrs  = 0x200
	maxIDs        = 1 << 16
	maxHeaderSize = 256 // entries below one directory header
)

// Format is the squashfs output format.
type Format struct{}

// Name implements tree.Format.
func (Format) Name() string { return "squashfs" }

// Extension implements tree.Format. It is DIB's, not what suffix stripping
// expects (D56).
func (Format) Extension() string { return "squash" }

// Write implements tree.Format.
func (Format) Write(ctx context.Context, t *tree.Tree, out tree.Output, set tree.Settings, progress image.Progress) error {
	if err := write(ctx, t, out, set, progress); err != nil {
		return fmt.Errorf("cannot write squashfs: %w", err)
	}
	return nil
}

// superblock is the head of an image; all numbers are little-endian.
type superblock struct {
	Magic          uint32
	Inodes         uint32
	Time           uint32
	BlockSize      uint32
	Fragments      uint32
	Compression    uint16
	BlockLog       uint16
	Flags          uint16
	IDs            uint16
	Major, Minor   uint16
	Root           uint64
	BytesUsed      uint64
	IDTable        uint64
	XattrTable     uint64
	InodeTable     uint64
	DirectoryTable uint64
	FragmentTable  uint64
	ExportTable    uint64
}

func write(ctx context.Context, t *tree.Tree, out tree.Output, set tree.Settings, progress image.Progress) error {
	fs, err := newFilesystem(t, set)
	if err != nil {
		return err
	}
	workers := set.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	enc, err := newEncoder(workers)
	if err != nil {
		return err
	}
	defer enc.Close()
	w := &writer{out: out, enc: enc}
	if err := w.write(make([]byte, superSize)); err != nil {
		return err
	}
	frags, err := fs.writeData(ctx, w, workers, progress)
	if err != nil {
		return err
	}
	sb := superblock{
		Magic: magic, Inodes: uint32(fs.inodes), Time: fs.newest, BlockSize: blockSize, BlockLog: uint16(bits.TrailingZeros(blockSize)),
		Compression: zstdID, Fragments: uint32(len(frags)), Major: 4,
		XattrTable: noTable, FragmentTable: noTable, ExportTable: noTable,
	}
	inodes, dirs := &metadata{enc: enc}, &metadata{enc: enc}
	if sb.Root, err = fs.root.encode(fs, inodes, dirs); err != nil {
		return err
	}
	// The kernel wants the tables in this order.
	if sb.InodeTable, err = w.metadata(inodes); err != nil {
		return err
	}
	if sb.DirectoryTable, err = w.metadata(dirs); err != nil {
		return err
	}
	if len(frags) > 0 {
		if sb.FragmentTable, err = w.table(frags); err != nil {
			return err
		}
	}
	sb.IDs = uint16(len(fs.ids.list)) // 1<<16 ids would be stored as 0, and are refused before
	if sb.IDTable, err = w.table(fs.ids.list); err != nil {
		return err
	}
	if len(fs.xattrs.sets) == 0 {
		sb.Flags |= flagNoXattrs
	} else if sb.XattrTable, err = w.xattrs(&fs.xattrs); err != nil {
		return err
	}
	sb.BytesUsed = uint64(w.pos)
	if rest := w.pos % imagePadding; rest > 0 {
		if err := w.write(make([]byte, imagePadding-rest)); err != nil {
			return err
		}
	}
	_, err = out.WriteAt(encode(sb), 0)
	return err
}

// newEncoder makes an encoder whose frames the kernel can unpack with a window
// of one block. Its EncodeAll may be called by several goroutines at a time.
func newEncoder(workers int) (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(workers+1),
		zstd.WithWindowSize(blockSize), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false))
}

// encode is the little-endian form of numbers.
func encode(values ...any) []byte {
	var b bytes.Buffer
	for _, v := range values {
		if s, ok := v.(string); ok {
			b.WriteString(s)
			continue
		}
		// Writing fixed-size values to memory cannot fail.
		_ = binary.Write(&b, binary.LittleEndian, v)
	}
	return b.Bytes()
}

// writer writes the image front to back.
type writer struct {
	out io.Writer
	enc *zstd.Encoder
	pos int64
}

func (w *writer) write(p []byte) error {
	n, err := w.out.Write(p)
	w.pos += int64(n)
	return err
}

// metadata writes the blocks of m and returns where they begin.
func (w *writer) metadata(m *metadata) (uint64, error) {
	start := uint64(w.pos)
	m.flush()
	return start, w.write(m.blocks.Bytes())
}

// table writes fixed-size values in metadata blocks and then where each block
// is; the result is where that list begins.
func (w *writer) table(values any) (uint64, error) {
	index, err := w.indexed(encode(values))
	if err != nil {
		return 0, err
	}
	start := uint64(w.pos)
	return start, w.write(encode(index))
}

func (w *writer) indexed(data []byte) ([]uint64, error) {
	var index []uint64
	for len(data) > 0 {
		n := min(len(data), metaSize)
		m := metadata{enc: w.enc}
		m.write(data[:n])
		start, err := w.metadata(&m)
		if err != nil {
			return nil, err
		}
		index, data = append(index, start), data[n:]
	}
	return index, nil
}

// xattrs writes the attributes, then the sets of them, then where those are.
func (w *writer) xattrs(x *xattrTable) (uint64, error) {
	start, err := w.metadata(x.pairs(w.enc))
	if err != nil {
		return 0, err
	}
	index, err := w.indexed(encode(x.ids))
	if err != nil {
		return 0, err
	}
	at := uint64(w.pos)
	return at, w.write(encode(start, uint32(len(x.ids)), uint32(0), index))
}

// metadata collects metadata blocks.
type metadata struct {
	enc    *zstd.Encoder
	blocks bytes.Buffer // finished, with their headers
	buf    []byte       // of the next
}

// here is the reference to what is written next: the block's offset from the
// beginning of the table, and the offset in the unpacked block.
func (m *metadata) here() (block uint32, offset uint16) {
	return uint32(m.blocks.Len()), uint16(len(m.buf))
}

func (m *metadata) write(p []byte) {
	for len(p) > 0 {
		n := min(len(p), metaSize-len(m.buf))
		m.buf, p = append(m.buf, p[:n]...), p[n:]
		if len(m.buf) == metaSize {
			m.flush()
		}
	}
}

func (m *metadata) flush() {
	if len(m.buf) == 0 {
		return
	}
	data, header := m.enc.EncodeAll(m.buf, nil), 0
	if len(data) >= len(m.buf) {
		data, header = m.buf, metaStored
	}
	m.blocks.Write(encode(uint16(header | len(data))))
	m.blocks.Write(data)
	m.buf = m.buf[:0]
}
