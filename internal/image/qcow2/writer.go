package qcow2

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/dib-builder/dib/internal/image"
)

// Format is the qcow2 output format. With image.Options.Compress clusters that
// become smaller are stored compressed. Clusters of zeros are left out.
//
// Settings are those of qemu-img: compat (0.10, 1.1), cluster_size,
// compression_type (zlib, zstd), lazy_refcounts; refcount_bits=16 and
// preallocation=off are accepted.
type Format struct{}

// Name implements image.Format.
func (Format) Name() string { return "qcow2" }

// Extension implements image.Format.
func (Format) Extension() string { return "qcow2" }

// Keys implements image.Format.
func (Format) Keys() []string { return slices.Clone(keys) }

// Check implements image.Format.
func (Format) Check(opts image.Options, size int64) error {
	_, err := parseOptions(opts, size)
	return err
}

// Write implements image.Format. The virtual disk is the source rounded up to
// whole sectors of 512 bytes. Memory stays below 64 MiB for images of up to
// some hundred gigabytes with the default cluster size.
func (Format) Write(ctx context.Context, src *image.Source, out *os.File, opts image.Options, progress image.Progress) error {
	p, err := parseOptions(opts, src.Size())
	if err != nil {
		return err
	}
	b := newBuilder(out, p, src.Size())
	if err := convert(ctx, src, p, opts.Workers, progress, b.add); err != nil {
		return fmt.Errorf("cannot write qcow2 image: %w", err)
	}
	if err := b.finish(); err != nil {
		return fmt.Errorf("cannot write qcow2 image: %w", err)
	}
	return nil
}

// CreateOverlay fills out, an empty file, with an image that holds no data of
// its own: the guest sees backingFile (of backingFormat, "raw" or "qcow2") and,
// when size in bytes is larger than it, zeros after it. A relative backingFile
// is relative to the directory of the overlay.
func CreateOverlay(out *os.File, backingFile, backingFormat string, size int64) error {
	p, err := parseOptions(image.Options{}, size)
	if err != nil {
		return err
	}
	b := newBuilder(out, p, size)
	b.head.backingFile, b.head.backingFormat = backingFile, backingFormat
	if err := b.finish(); err != nil {
		return fmt.Errorf("cannot write qcow2 overlay of %q: %w", backingFile, err)
	}
	return nil
}

// storage says how a guest cluster is stored.
type storage uint8

const (
	storeNothing storage = iota // reads as zeros
	storePlain
	storePacked
)

// builder lays an image out on its file. Guest clusters arrive in ascending
// order, so only one L2 table is open at a time; it is written when the next
// one begins.
//
// File order: header, then data and L2 tables as they come, L1 table, refcount
// table and blocks.
type builder struct {
	file  *os.File
	out   *joiner
	head  header
	alloc allocator

	l1      []byte // big endian as on disk
	l2      []byte
	l2Index int64 // L1 index of l2, or -1
}

func newBuilder(file *os.File, p params, size int64) *builder {
	size = (size + sectorSize - 1) &^ (sectorSize - 1)
	b := &builder{
		file: file,
		out:  &joiner{w: file},
		head: header{
			version:       p.version,
			clusterBits:   p.clusterBits,
			size:          uint64(size),
			refcountOrder: 4,
			compression:   p.compression,
		},
		alloc:   allocator{bits: p.clusterBits},
		l2:      make([]byte, 1<<p.clusterBits),
		l2Index: -1,
	}
	if p.compression != zlibCompression {
		b.head.incompatible |= incompatCompression
	}
	if p.lazyRefcounts {
		b.head.compatible |= compatLazyRefcounts
	}
	b.head.l1Size = uint32(max(1, l1Entries(uint64(size), p.clusterBits)))
	b.l1 = make([]byte, int64(b.head.l1Size)*8)
	b.alloc.clusters(1) // the header's
	return b
}

// add stores one guest cluster; index must be larger than in every call before.
func (b *builder) add(index int64, how storage, data []byte) error {
	if how == storeNothing {
		return nil
	}
	l1 := index >> b.head.l2Bits()
	if l1 != b.l2Index {
		if err := b.closeL2(); err != nil {
			return err
		}
		b.l2Index = l1
	}
	var off int64
	var entry uint64
	if how == storePlain {
		off = b.alloc.clusters(1)
		entry = uint64(off) | flagCopied
	} else {
		off = b.alloc.packed(int64(len(data)))
		// The entry counts the sectors after the first that the data touches.
		sectors := (off+int64(len(data))-1)/sectorSize - off/sectorSize
		entry = flagCompressed | uint64(sectors)<<compressedOffsetBits(b.head.clusterBits) | uint64(off)
	}
	slot := index & (1<<b.head.l2Bits() - 1)
	binary.BigEndian.PutUint64(b.l2[slot*8:], entry)
	_, err := b.out.WriteAt(data, off)
	return err
}

// compressedOffsetBits is the number of low bits of a compressed L2 entry that
// hold the host offset; the sector count follows up to bit 61.
func compressedOffsetBits(clusterBits uint) uint { return 62 - (clusterBits - 8) }

func (b *builder) closeL2() error {
	if b.l2Index < 0 {
		return nil
	}
	off := b.alloc.clusters(1)
	binary.BigEndian.PutUint64(b.l1[b.l2Index*8:], uint64(off)|flagCopied)
	_, err := b.out.WriteAt(b.l2, off)
	clear(b.l2)
	b.l2Index = -1
	return err
}

func (b *builder) finish() error {
	if err := b.closeL2(); err != nil {
		return err
	}
	cs := b.head.clusterSize()
	l1Offset := b.alloc.clusters(ceilDiv(int64(len(b.l1)), cs))
	if _, err := b.out.WriteAt(b.l1, l1Offset); err != nil {
		return err
	}
	tableOffset, tableClusters, err := b.alloc.refcounts(b.out)
	if err != nil {
		return err
	}
	b.head.l1Offset = uint64(l1Offset)
	b.head.reftableOffset = uint64(tableOffset)
	b.head.reftableClusters = uint32(tableClusters)
	head, err := b.head.encode()
	if err != nil {
		return err
	}
	if _, err := b.out.WriteAt(head, 0); err != nil {
		return err
	}
	if err := b.out.flush(); err != nil {
		return err
	}
	// Readers expect whole clusters; what was not written is a hole of zeros.
	return b.file.Truncate(b.alloc.end())
}

// joinSize is how much a joiner collects before it writes, in bytes.
const joinSize = 512 << 10

// joiner joins adjacent small writes: compressed clusters are a few kilobytes
// each, and a system call for each would cost more than copying them.
type joiner struct {
	w   io.WriterAt
	buf []byte
	off int64 // of buf in the file
}

// WriteAt implements io.WriterAt. Errors may appear in a later call.
func (j *joiner) WriteAt(p []byte, off int64) (int, error) {
	if off != j.off+int64(len(j.buf)) || len(j.buf)+len(p) > joinSize {
		if err := j.flush(); err != nil {
			return 0, err
		}
		j.off = off
	}
	if len(p) >= joinSize {
		n, err := j.w.WriteAt(p, off)
		j.off = off + int64(n)
		return n, err
	}
	j.buf = append(j.buf, p...)
	return len(p), nil
}

func (j *joiner) flush() error {
	if len(j.buf) == 0 {
		return nil
	}
	_, err := j.w.WriteAt(j.buf, j.off)
	j.off += int64(len(j.buf))
	j.buf = j.buf[:0]
	return err
}
