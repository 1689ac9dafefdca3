package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Image is an open qcow2 image. It reads the active state; it is safe for
// concurrent use. The file is untrusted: damaged images give errors, and
// memory stays below a few clusters.
type Image struct {
	// Backing supplies what the image does not hold, when the header names a
	// backing file. Reads past its end give zeros.
	Backing io.ReaderAt

	r        io.ReaderAt
	fileSize int64
	head     *header

	mu        sync.Mutex // guards what follows: the last L2 table and compressed cluster used
	l2        []byte
	l2Offset  int64 // 0 for none: the header is there
	cluster   []byte
	clusterIs uint64 // the L2 entry of cluster, 0 for none
	packed    []byte
	unpack    *decompressor
}

// ErrBacking is wrapped by reads that need a backing file when none was set.
var ErrBacking = errors.New("the backing file is needed")

// Open reads the header of the image in r, a file of size bytes. The error
// wraps ErrNotQcow2 when it is something else.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	h, err := decodeHeader(r, size)
	if err != nil {
		return nil, fmt.Errorf("cannot read qcow2 header: %w", err)
	}
	return &Image{r: r, fileSize: size, head: h, unpack: newDecompressor(h.compression)}, nil
}

// Size is the size of the virtual disk in bytes.
func (m *Image) Size() int64 { return int64(m.head.size) }

// Version is 2 (compat 0.10) or 3 (compat 1.1).
func (m *Image) Version() int { return int(m.head.version) }

// Snapshots is the number of internal snapshots, which cannot be read.
func (m *Image) Snapshots() int { return int(m.head.snapshots) }

// Compression is how compressed clusters are packed, if there are any: zlib or zstd.
func (m *Image) Compression() string {
	if m.head.compression == zstdCompression {
		return "zstd"
	}
	return "zlib"
}

// ClusterSize is in bytes.
func (m *Image) ClusterSize() int64 { return m.head.clusterSize() }

// BackingFile returns the name and format of the backing file as written in
// the header, empty when there is none.
func (m *Image) BackingFile() (name, format string) {
	return m.head.backingFile, m.head.backingFormat
}

// ReadAt implements io.ReaderAt for the virtual disk.
func (m *Image) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("cannot read qcow2 image: negative offset")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	done := 0
	for done < len(p) {
		if off >= m.Size() {
			return done, io.EOF
		}
		inCluster := off & (m.ClusterSize() - 1)
		n := min(int64(len(p)-done), m.ClusterSize()-inCluster, m.Size()-off)
		if err := m.readCluster(p[done:done+int(n)], off); err != nil {
			return done, fmt.Errorf("cannot read qcow2 image at %d: %w", off, err)
		}
		done += int(n)
		off += n
	}
	return done, nil
}

// readCluster fills p from the guest offset off, within one cluster.
func (m *Image) readCluster(p []byte, off int64) error {
	entry, err := m.lookup(off)
	if err != nil {
		return err
	}
	in := off & (m.ClusterSize() - 1)
	switch {
	case entry&flagCompressed != 0:
		if err := m.loadCompressed(entry); err != nil {
			return err
		}
		copy(p, m.cluster[in:])
	case entry&flagZero != 0 && m.head.version >= 3:
		clear(p)
	case entry&offsetMask == 0:
		return m.readBacking(p, off)
	default:
		host := int64(entry & offsetMask)
		if host&(m.ClusterSize()-1) != 0 {
			return fmt.Errorf("data at %d does not begin at a cluster", host)
		}
		// A file may end inside its last cluster; the rest reads as zeros.
		return m.readHost(p, host+in)
	}
	return nil
}

func (m *Image) readHost(p []byte, off int64) error {
	if off >= m.fileSize {
		return fmt.Errorf("data at %d lies beyond the end of the file", off)
	}
	n, err := m.r.ReadAt(p, off)
	if err != nil && err != io.EOF {
		return err
	}
	clear(p[n:])
	return nil
}

func (m *Image) readBacking(p []byte, off int64) error {
	if m.head.backingFile == "" {
		clear(p)
		return nil
	}
	if m.Backing == nil {
		return fmt.Errorf("%w: %q", ErrBacking, m.head.backingFile)
	}
	n, err := m.Backing.ReadAt(p, off)
	if err != nil && err != io.EOF {
		return err
	}
	clear(p[n:])
	return nil
}

// lookup finds the L2 entry of a guest offset; 0 means unallocated.
func (m *Image) lookup(off int64) (uint64, error) {
	if at, err := m.table(off); err != nil || at == 0 {
		return 0, err
	}
	slot := off >> m.head.clusterBits & (1<<m.head.l2Bits() - 1)
	return binary.BigEndian.Uint64(m.l2[slot*8:]), nil
}

// table makes m.l2 the L2 table of a guest offset and returns where it is; 0
// means that there is none.
func (m *Image) table(off int64) (int64, error) {
	l1 := off >> (m.head.clusterBits + m.head.l2Bits())
	var e [8]byte
	// The L1 table is not kept: it may be as large as 32 MiB, and neighbours
	// share their L2 table anyway.
	if _, err := readFull(m.r, e[:], int64(m.head.l1Offset)+l1*8); err != nil {
		return 0, fmt.Errorf("L1 entry %d: %w", l1, err)
	}
	table := int64(binary.BigEndian.Uint64(e[:]) & offsetMask)
	if table != 0 && table != m.l2Offset {
		if err := m.loadL2(table); err != nil {
			return 0, fmt.Errorf("L2 table of L1 entry %d: %w", l1, err)
		}
	}
	return table, nil
}

func (m *Image) loadL2(table int64) error {
	if table&(m.ClusterSize()-1) != 0 {
		return fmt.Errorf("offset %d does not begin at a cluster", table)
	}
	if m.l2 == nil {
		m.l2 = make([]byte, m.ClusterSize())
	}
	m.l2Offset = 0
	if _, err := readFull(m.r, m.l2, table); err != nil {
		return err
	}
	m.l2Offset = table
	return nil
}

// loadCompressed makes m.cluster the contents of a compressed cluster.
func (m *Image) loadCompressed(entry uint64) error {
	if entry == m.clusterIs {
		return nil
	}
	bits := compressedOffsetBits(m.head.clusterBits)
	host := int64(entry & (1<<bits - 1))
	sectors := int64(entry&(flagCompressed-1)>>bits) + 1
	length := min(sectors*sectorSize-host%sectorSize, m.fileSize-host)
	if length <= 0 {
		return fmt.Errorf("compressed data at %d lies beyond the end of the file", host)
	}
	if m.cluster == nil {
		m.cluster = make([]byte, m.ClusterSize())
	}
	m.packed = sized(m.packed, length) // at most two clusters, by the width of the sector count
	m.clusterIs = 0
	if _, err := readFull(m.r, m.packed, host); err != nil {
		return err
	}
	if err := m.unpack.decompress(m.cluster, m.packed); err != nil {
		return fmt.Errorf("compressed data at %d: %w", host, err)
	}
	m.clusterIs = entry
	return nil
}
