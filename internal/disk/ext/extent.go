package ext

import (
	"encoding/binary"
)

const (
	extentMagic  = 0xf30a
	extentEntry  = 12
	inlineExtent = 4                                       // extents in an inode
	extentsBlock = (blockSize - extentEntry) / extentEntry // in a block
	maxExtent    = 32768                                   // blocks
)

// extent maps blocks of a file to blocks of the filesystem.
type extent struct{ logical, physical, count int64 }

// addRuns maps blocks from the logical block on.
func (n *inode) addRuns(logical int64, runs []run) {
	for _, r := range runs {
		n.blocks += r.count
		for r.count > 0 {
			if k := len(n.extents) - 1; k >= 0 {
				last := &n.extents[k]
				if last.logical+last.count == logical && last.physical+last.count == r.start && last.count < maxExtent {
					more := min(r.count, maxExtent-last.count)
					last.count += more
					logical, r.start, r.count = logical+more, r.start+more, r.count-more
					continue
				}
			}
			count := min(r.count, maxExtent)
			n.extents = append(n.extents, extent{logical, r.start, count})
			logical, r.start, r.count = logical+count, r.start+count, r.count-count
		}
	}
}

// extentNode is a block of an extent tree and where the part of the file that
// it maps begins.
type extentNode struct{ logical, block int64 }

func extentHeader(b []byte, entries, limit, depth int) {
	le := binary.LittleEndian
	le.PutUint16(b, extentMagic)
	le.PutUint16(b[2:], uint16(entries))
	le.PutUint16(b[4:], uint16(limit))
	le.PutUint16(b[6:], uint16(depth))
}

func putExtent(b []byte, e extent) {
	le := binary.LittleEndian
	le.PutUint32(b, uint32(e.logical))
	le.PutUint16(b[4:], uint16(e.count))
	le.PutUint16(b[6:], uint16(e.physical>>32))
	le.PutUint32(b[8:], uint32(e.physical))
}

func putIndex(b []byte, n extentNode) {
	le := binary.LittleEndian
	le.PutUint32(b, uint32(n.logical))
	le.PutUint32(b[4:], uint32(n.block))
	le.PutUint16(b[8:], uint16(n.block>>32))
}

// extentTree gives the 60 bytes of an inode that map its blocks, and writes the
// blocks of the tree that do not fit there.
func (w *writer) extentTree(n *inode) ([]byte, error) {
	root := make([]byte, 60)
	if len(n.extents) <= inlineExtent {
		extentHeader(root, len(n.extents), inlineExtent, 0)
		for i, e := range n.extents {
			putExtent(root[extentEntry*(1+i):], e)
		}
		return root, nil
	}
	var nodes []extentNode
	for rest := n.extents; len(rest) > 0; {
		part := rest[:min(len(rest), extentsBlock)]
		rest = rest[len(part):]
		node, err := w.extentBlock(n, part[0].logical, len(part), 0, func(b []byte, i int) { putExtent(b, part[i]) })
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, node)
	}
	depth := 1
	for ; len(nodes) > inlineExtent; depth++ {
		var above []extentNode
		for rest := nodes; len(rest) > 0; {
			part := rest[:min(len(rest), extentsBlock)]
			rest = rest[len(part):]
			node, err := w.extentBlock(n, part[0].logical, len(part), depth, func(b []byte, i int) { putIndex(b, part[i]) })
			if err != nil {
				return nil, err
			}
			above = append(above, node)
		}
		nodes = above
	}
	extentHeader(root, len(nodes), inlineExtent, depth)
	for i, node := range nodes {
		putIndex(root[extentEntry*(1+i):], node)
	}
	return root, nil
}

func (w *writer) extentBlock(n *inode, logical int64, entries, depth int, put func(b []byte, i int)) (extentNode, error) {
	runs, err := w.alloc.alloc(1)
	if err != nil {
		return extentNode{}, err
	}
	n.blocks++
	b := make([]byte, blockSize)
	extentHeader(b, entries, extentsBlock, depth)
	for i := range entries {
		put(b[extentEntry*(1+i):], i)
	}
	if w.metadataCsum {
		tail := extentEntry * (1 + extentsBlock)
		binary.LittleEndian.PutUint32(b[tail:], checksum(w.inodeSeed(n), b[:tail]))
	}
	return extentNode{logical, runs[0].start}, w.writeBlock(b, runs[0].start)
}
