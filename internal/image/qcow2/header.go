// Package qcow2 writes and reads QEMU's qcow2 disk images.
//
// It covers versions 2 (compat 0.10) and 3 (compat 1.1), all cluster sizes,
// zlib and zstd compressed clusters, and empty images with a backing file. It
// leaves out on purpose what a freshly built image never has: internal
// snapshots, encryption, external data files, bitmaps, subclusters.
//
// The format is described in QEMU's docs/interop/qcow2; field names here are
// the names used there.
package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	magic = 0x514649fb // "QFI\xfb"

	headerLenV2     = 72
	headerLenV3Min  = 104
	headerLenV3     = 112 // with compression_type and its padding
	maxBackingName  = 1023
	minClusterBits  = 9
	maxClusterBits  = 21 // QEMU refuses more
	defaultCluster  = 16 // 64 KiB, QEMU's default
	sectorSize      = 512
	maxL1Bytes      = 32 << 20 // QEMU's limit
	maxReftableSize = 8 << 20  // QEMU's limit, in bytes

	extEnd           = 0
	extBackingFormat = 0xe2792aca
	extFeatureNames  = 0x6803f857

	incompatDirty       = 1 << 0
	incompatCorrupt     = 1 << 1
	incompatCompression = 1 << 3
	compatLazyRefcounts = 1 << 0

	// L1 and standard L2 entries.
	flagCopied     = 1 << 63 // the cluster's refcount is exactly one
	flagCompressed = 1 << 62
	flagZero       = 1 << 0
	offsetMask     = 0x00fffffffffffe00
)

// compressionType is the header field of that name.
type compressionType uint8

const (
	zlibCompression compressionType = 0
	zstdCompression compressionType = 1
)

// header is the file header. Of the fields that are always zero in what we
// write, crypt_method is checked and autoclear_features is ignored.
type header struct {
	version          uint32 // 2 or 3
	clusterBits      uint
	size             uint64 // of the virtual disk in bytes
	l1Size           uint32 // entries
	l1Offset         uint64
	reftableOffset   uint64
	reftableClusters uint32
	incompatible     uint64
	compatible       uint64
	refcountOrder    uint32
	snapshots        uint32
	compression      compressionType
	backingFile      string
	backingFormat    string
}

func (h *header) clusterSize() int64 { return 1 << h.clusterBits }

// l2Bits is log2 of the number of entries of an L2 table, which fills one cluster.
func (h *header) l2Bits() uint { return h.clusterBits - 3 }

// l1Entries is the number of L1 entries needed for a disk of size bytes.
func l1Entries(size uint64, clusterBits uint) uint64 {
	shift := clusterBits + clusterBits - 3
	n := size >> shift
	if size&(1<<shift-1) != 0 {
		n++
	}
	return n
}

// encode returns the header with its extensions and backing file name: the
// used part of the image's first cluster.
func (h *header) encode() ([]byte, error) {
	be := binary.BigEndian
	n := headerLenV2
	if h.version >= 3 {
		n = headerLenV3
	}
	b := make([]byte, n)
	be.PutUint32(b[0:], magic)
	be.PutUint32(b[4:], h.version)
	be.PutUint32(b[20:], uint32(h.clusterBits))
	be.PutUint64(b[24:], h.size)
	be.PutUint32(b[36:], h.l1Size)
	be.PutUint64(b[40:], h.l1Offset)
	be.PutUint64(b[48:], h.reftableOffset)
	be.PutUint32(b[56:], h.reftableClusters)
	if h.version >= 3 {
		be.PutUint64(b[72:], h.incompatible)
		be.PutUint64(b[80:], h.compatible)
		be.PutUint32(b[96:], h.refcountOrder)
		be.PutUint32(b[100:], headerLenV3)
		b[104] = byte(h.compression)
	}
	if h.backingFormat != "" {
		b = appendExtension(b, extBackingFormat, []byte(h.backingFormat))
	}
	if names := h.featureNames(); len(names) > 0 {
		b = appendExtension(b, extFeatureNames, names)
	}
	b = appendExtension(b, extEnd, nil)
	if h.backingFile != "" {
		if len(h.backingFile) > maxBackingName {
			return nil, fmt.Errorf("backing file name is %d bytes long, the format allows %d", len(h.backingFile), maxBackingName)
		}
		be.PutUint64(b[8:], uint64(len(b)))
		be.PutUint32(b[16:], uint32(len(h.backingFile)))
		b = append(b, h.backingFile...)
	}
	if int64(len(b)) > h.clusterSize() {
		return nil, fmt.Errorf("header of %d bytes does not fit in a cluster of %d bytes", len(b), h.clusterSize())
	}
	return b, nil
}

// featureNames lets a program that does not know a feature bit of this image
// name it in its error message.
func (h *header) featureNames() []byte {
	var out []byte
	add := func(kind, bit byte, name string) {
		entry := make([]byte, 48)
		entry[0], entry[1] = kind, bit
		copy(entry[2:], name)
		out = append(out, entry...)
	}
	if h.incompatible&incompatCompression != 0 {
		add(0, 3, "compression type")
	}
	if h.compatible&compatLazyRefcounts != 0 {
		add(1, 0, "lazy refcounts")
	}
	return out
}

func appendExtension(b []byte, kind uint32, data []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	b = append(b, data...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

// ErrNotQcow2 is wrapped by Open's error for a file without the format's magic.
var ErrNotQcow2 = errors.New("not a qcow2 image")

// decodeHeader reads and validates the header of an image file of fileSize bytes.
func decodeHeader(r io.ReaderAt, fileSize int64) (*header, error) {
	be := binary.BigEndian
	b := make([]byte, headerLenV3)
	n, err := r.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if n < 4 || be.Uint32(b) != magic {
		return nil, ErrNotQcow2
	}
	if n < headerLenV2 {
		return nil, io.ErrUnexpectedEOF
	}
	h := &header{
		version:          be.Uint32(b[4:]),
		size:             be.Uint64(b[24:]),
		l1Size:           be.Uint32(b[36:]),
		l1Offset:         be.Uint64(b[40:]),
		reftableOffset:   be.Uint64(b[48:]),
		reftableClusters: be.Uint32(b[56:]),
		refcountOrder:    4,
		snapshots:        be.Uint32(b[60:]),
	}
	headerLen := uint32(headerLenV2)
	switch {
	case h.version == 2:
	case h.version != 3:
		return nil, fmt.Errorf("version %d is unknown", h.version)
	case n < headerLenV3Min:
		return nil, io.ErrUnexpectedEOF
	default:
		h.incompatible = be.Uint64(b[72:])
		h.compatible = be.Uint64(b[80:])
		h.refcountOrder = be.Uint32(b[96:])
		headerLen = be.Uint32(b[100:])
		if headerLen > 104 && n > 104 {
			h.compression = compressionType(b[104])
		}
	}
	bits, crypt := be.Uint32(b[20:]), be.Uint32(b[32:])
	if bits < minClusterBits || bits > maxClusterBits {
		return nil, fmt.Errorf("cluster size of 2^%d bytes is outside 2^%d to 2^%d", bits, minClusterBits, maxClusterBits)
	}
	h.clusterBits = uint(bits)
	if crypt != 0 {
		return nil, fmt.Errorf("the image is encrypted (method %d)", crypt)
	}
	if err := h.validate(headerLen, fileSize); err != nil {
		return nil, err
	}
	if err := h.decodeExtensions(r, int64(headerLen)); err != nil {
		return nil, err
	}
	return h, h.decodeBackingFile(r, be.Uint64(b[8:]), be.Uint32(b[16:]))
}

func (h *header) validate(headerLen uint32, fileSize int64) error {
	if h.version >= 3 && (headerLen < headerLenV3Min || headerLen%8 != 0 || int64(headerLen) > h.clusterSize()) {
		return fmt.Errorf("header length %d is invalid", headerLen)
	}
	if h.refcountOrder > 6 {
		return fmt.Errorf("refcount width of 2^%d bits is invalid", h.refcountOrder)
	}
	if h.incompatible&incompatCorrupt != 0 {
		return errors.New("the image is marked corrupt")
	}
	if rest := h.incompatible &^ (incompatDirty | incompatCorrupt | incompatCompression); rest != 0 {
		return fmt.Errorf("incompatible features %#x are not understood", rest)
	}
	if (h.incompatible&incompatCompression != 0) != (h.compression != zlibCompression) || h.compression > zstdCompression {
		return fmt.Errorf("compression type %d is invalid", h.compression)
	}
	if h.size > 1<<63-1 {
		return fmt.Errorf("disk size %d is too large", h.size)
	}
	if need := l1Entries(h.size, h.clusterBits); uint64(h.l1Size) < need {
		return fmt.Errorf("L1 table of %d entries is too small for a disk of %d bytes", h.l1Size, h.size)
	}
	l1Bytes := int64(h.l1Size) * 8
	switch {
	case l1Bytes > maxL1Bytes:
		return fmt.Errorf("L1 table of %d entries is larger than QEMU allows", h.l1Size)
	case l1Bytes == 0:
	case h.l1Offset%uint64(h.clusterSize()) != 0:
		return fmt.Errorf("L1 table at %d does not begin at a cluster", h.l1Offset)
	case h.l1Offset > uint64(fileSize) || l1Bytes > fileSize-int64(h.l1Offset):
		return fmt.Errorf("L1 table at %d lies beyond the end of the file", h.l1Offset)
	}
	return nil
}

// decodeExtensions reads the header extensions, which begin at off.
func (h *header) decodeExtensions(r io.ReaderAt, off int64) error {
	var head [8]byte
	for off+8 <= h.clusterSize() {
		if _, err := r.ReadAt(head[:], off); err == io.EOF {
			return nil // a version 2 file may end without the closing extension
		} else if err != nil {
			return err
		}
		kind, length := binary.BigEndian.Uint32(head[:]), int64(binary.BigEndian.Uint32(head[4:]))
		off += 8
		if kind == extEnd {
			return nil
		}
		if length > h.clusterSize()-off {
			return fmt.Errorf("header extension %#x of %d bytes is longer than the first cluster", kind, length)
		}
		if kind == extBackingFormat {
			if length > 255 {
				return fmt.Errorf("backing format name of %d bytes is too long", length)
			}
			name := make([]byte, length)
			if _, err := readFull(r, name, off); err != nil {
				return err
			}
			h.backingFormat = string(name)
		}
		off += (length + 7) &^ 7
	}
	return nil
}

func (h *header) decodeBackingFile(r io.ReaderAt, off uint64, length uint32) error {
	if off == 0 || length == 0 {
		return nil
	}
	if length > maxBackingName || off > uint64(h.clusterSize()) || uint64(length) > uint64(h.clusterSize())-off {
		return fmt.Errorf("backing file name of %d bytes at %d is outside the first cluster", length, off)
	}
	name := make([]byte, length)
	if _, err := readFull(r, name, int64(off)); err != nil {
		return err
	}
	h.backingFile = string(name)
	return nil
}

// readFull is r.ReadAt where a short read is always an error.
func readFull(r io.ReaderAt, p []byte, off int64) (int, error) {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return n, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
