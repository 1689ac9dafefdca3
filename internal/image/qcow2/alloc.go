package qcow2

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// allocator hands out host clusters from the front of the file to its end and
// counts the references to each. Memory: two bytes for each host cluster.
type allocator struct {
	bits uint
	refs []uint16 // refcount of each host cluster so far

	// Packed data goes to [pack, packEnd), the unused end of the cluster last
	// used for it. Whole clusters in between do not waste that room.
	pack, packEnd int64
}

func (a *allocator) end() int64 { return int64(len(a.refs)) << a.bits }

// clusters allocates n adjacent whole clusters and returns their offset.
func (a *allocator) clusters(n int64) int64 {
	off := a.end()
	for range n {
		a.refs = append(a.refs, 1)
	}
	return off
}

// packed allocates n bytes, which may span clusters: each compressed cluster
// counts as one reference to every host cluster it touches.
func (a *allocator) packed(n int64) int64 {
	full := a.pack < a.packEnd && a.refs[a.pack>>a.bits] == math.MaxUint16
	if n > a.packEnd-a.pack && a.packEnd != a.end() || full {
		a.pack, a.packEnd = a.end(), a.end()
	}
	off := a.pack
	a.pack += n
	for a.packEnd < a.pack {
		a.refs = append(a.refs, 0)
		a.packEnd = a.end()
	}
	for c := off >> a.bits; c <= (a.pack-1)>>a.bits; c++ {
		a.refs[c]++
	}
	return off
}

// refcounts allocates and writes the refcount blocks and the table that lists
// them, counting those themselves.
func (a *allocator) refcounts(w io.WriterAt) (tableOffset, tableClusters int64, err error) {
	perBlock := int64(1) << a.bits / 2 // 16-bit refcounts
	perTable := int64(1) << a.bits / 8
	used := int64(len(a.refs))
	var blocks, tables int64
	for {
		b := ceilDiv(used+blocks+tables, perBlock)
		t := ceilDiv(b, perTable)
		if b == blocks && t == tables {
			break
		}
		blocks, tables = b, t
	}
	if blocks*8 > maxReftableSize {
		return 0, 0, fmt.Errorf("%d clusters of %d bytes need a refcount table larger than QEMU allows; use a larger cluster_size", used, 1<<a.bits)
	}
	tableOffset = a.clusters(tables)
	firstBlock := a.clusters(blocks)

	table := make([]byte, tables<<a.bits)
	block := make([]byte, 1<<a.bits)
	for i := range blocks {
		off := firstBlock + i<<a.bits
		binary.BigEndian.PutUint64(table[i*8:], uint64(off))
		clear(block)
		for j, refs := range a.refs[i*perBlock : min((i+1)*perBlock, int64(len(a.refs)))] {
			binary.BigEndian.PutUint16(block[j*2:], refs)
		}
		if _, err := w.WriteAt(block, off); err != nil {
			return 0, 0, err
		}
	}
	_, err = w.WriteAt(table, tableOffset)
	return tableOffset, tables, err
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
