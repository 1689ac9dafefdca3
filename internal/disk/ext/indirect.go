package ext

import (
	"encoding/binary"
	"errors"
	"sort"
)

// Block numbers in an inode of ext2 and ext3: twelve of data, then one block
// each that lists more, lists of lists, and lists of those.
const (
	directBlocks = 12
	pointers     = blockSize / 4
)

// indirectMap gives the 60 bytes of an inode that map its blocks, and writes the
// blocks of lists.
func (w *writer) indirectMap(n *inode) ([]byte, error) {
	root := make([]byte, 60)
	for i := range int64(directBlocks) {
		binary.LittleEndian.PutUint32(root[4*i:], uint32(n.physical(i)))
	}
	first, span := int64(directBlocks), int64(1)
	for level := range 3 {
		span *= pointers
		block, err := w.indirectBlock(n, first, span)
		if err != nil {
			return nil, err
		}
		binary.LittleEndian.PutUint32(root[4*(directBlocks+level):], uint32(block))
		first += span
	}
	if len(n.extents) > 0 {
		if last := n.extents[len(n.extents)-1]; last.logical+last.count > first {
			return nil, errors.New("it is too large for ext2 and ext3")
		}
	}
	return root, nil
}

// indirectBlock writes the list of the blocks from first on, of which it maps
// span, and returns where it is; 0 if they all are holes.
func (w *writer) indirectBlock(n *inode, first, span int64) (int64, error) {
	if !n.mapsAny(first, span) {
		return 0, nil
	}
	runs, err := w.alloc.alloc(1)
	if err != nil {
		return 0, err
	}
	n.blocks++
	b := make([]byte, blockSize)
	part := span / pointers
	for i := range int64(pointers) {
		block := int64(0)
		if part == 1 {
			block = n.physical(first + i)
		} else if block, err = w.indirectBlock(n, first+i*part, part); err != nil {
			return 0, err
		}
		binary.LittleEndian.PutUint32(b[4*i:], uint32(block))
	}
	return runs[0].start, w.writeBlock(b, runs[0].start)
}

// at is the index of the first extent that ends behind a logical block.
func (n *inode) at(logical int64) int {
	return sort.Search(len(n.extents), func(i int) bool { return n.extents[i].logical+n.extents[i].count > logical })
}

// physical is where a block of a file lies; 0 for a hole.
func (n *inode) physical(logical int64) int64 {
	if i := n.at(logical); i < len(n.extents) && n.extents[i].logical <= logical {
		return n.extents[i].physical + logical - n.extents[i].logical
	}
	return 0
}

func (n *inode) mapsAny(first, span int64) bool {
	i := n.at(first)
	return i < len(n.extents) && n.extents[i].logical < first+span
}
