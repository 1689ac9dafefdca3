package ext

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	dirHeader = 8 // of an entry, before the name
	dirTail   = 12
	dxEntry   = 8
	dxTail    = 8
	// rootInfo is where the index of a hashed directory begins in its first
	// block: after the entries for "." and "..".
	rootInfo  = 24
	rootIndex = rootInfo + 8
	nodeIndex = 8

	hashHalfMD4  = 1
	flagIndex    = 0x1000  // EXT4_INDEX_FL
	flagExtents  = 0x80000 // EXT4_EXTENTS_FL
	lostFoundLen = 4       // blocks, as mke2fs gives it
)

// fileTypes are the types in directory entries.
var fileTypes = map[uint32]byte{
	unix.S_IFREG: 1, unix.S_IFDIR: 2, unix.S_IFCHR: 3, unix.S_IFBLK: 4, unix.S_IFIFO: 5, unix.S_IFSOCK: 6, unix.S_IFLNK: 7,
}

func entrySize(name string) int { return (dirHeader + len(name) + 3) &^ 3 }

// putEntry writes an entry that occupies size bytes.
func putEntry(b []byte, name string, n *inode, size int) {
	le := binary.LittleEndian
	le.PutUint32(b, uint32(n.number))
	le.PutUint16(b[4:], uint16(size))
	b[6] = byte(len(name))
	b[7] = fileTypes[n.kind()]
	copy(b[dirHeader:], name)
}

// room is what the entries of a block may take.
func (w *writer) room() int {
	if w.metadataCsum {
		return blockSize - dirTail
	}
	return blockSize
}

// leaf makes a block of entries, the last of which takes what is left.
func (w *writer) leaf(entries []entry) []byte {
	b := make([]byte, blockSize)
	at := 0
	for i, e := range entries {
		size := entrySize(e.name)
		if i == len(entries)-1 {
			size = w.room() - at
		}
		putEntry(b[at:], e.name, e.inode, size)
		at += size
	}
	if len(entries) == 0 {
		binary.LittleEndian.PutUint16(b[4:], uint16(w.room()))
	}
	return b
}

// sealLeaf writes the checksum at the end of a block of entries, in what looks
// like an unused entry.
func (w *writer) sealLeaf(dir *inode, b []byte) {
	if !w.metadataCsum {
		return
	}
	t := b[blockSize-dirTail:]
	binary.LittleEndian.PutUint16(t[4:], dirTail)
	t[7] = 0xde
	binary.LittleEndian.PutUint32(t[8:], checksum(w.inodeSeed(dir), b[:blockSize-dirTail]))
}

// directoryBlocks makes the blocks of a directory: one block is searched from
// its beginning, more are found through a tree of hashes.
func (w *writer) directoryBlocks(dir *inode) ([][]byte, error) {
	dots := []entry{{".", dir}, {"..", dir.parent}}
	all := append(slices.Clone(dots), dir.entries...)
	size := 0
	for _, e := range all {
		size += entrySize(e.name)
	}
	if size <= w.room() {
		b := w.leaf(all)
		w.sealLeaf(dir, b)
		blocks := [][]byte{b}
		if dir.path == "/"+lostFound {
			for len(blocks) < lostFoundLen {
				empty := w.leaf(nil)
				w.sealLeaf(dir, empty)
				blocks = append(blocks, empty)
			}
		}
		return blocks, nil
	}
	dir.flags |= flagIndex
	return w.hashed(dir)
}

// indexEntry leads to the block of the names from a hash on.
type indexEntry struct {
	hash  uint32
	block int
}

func (w *writer) hashed(dir *inode) ([][]byte, error) {
	type hashedEntry struct {
		entry
		hash, minor uint32
	}
	list := make([]hashedEntry, len(dir.entries))
	for i, e := range dir.entries {
		list[i].entry = e
		list[i].hash, list[i].minor = halfMD4(e.name, w.hashSeedWords)
	}
	slices.SortStableFunc(list, func(a, b hashedEntry) int {
		if a.hash != b.hash {
			if a.hash < b.hash {
				return -1
			}
			return 1
		}
		if a.minor < b.minor {
			return -1
		}
		return 1
	})
	blocks := [][]byte{nil} // the first is the root of the index
	var index []indexEntry
	var part []entry
	size, first, last := 0, uint32(0), uint32(0)
	flush := func() {
		b := w.leaf(part)
		w.sealLeaf(dir, b)
		index = append(index, indexEntry{first, len(blocks)})
		blocks = append(blocks, b)
		part, size = nil, 0
	}
	for _, e := range list {
		if size+entrySize(e.name) > w.room() {
			flush()
			first = e.hash
			if e.hash == last {
				first |= 1 // the names with this hash begin in the block before
			}
		}
		part = append(part, e.entry)
		size += entrySize(e.name)
		last = e.hash
	}
	flush()
	rootLimit, nodeLimit := w.indexLimit(rootIndex), w.indexLimit(nodeIndex)
	levels := 0
	if len(index) > rootLimit {
		levels = 1
		var above []indexEntry
		for rest := index; len(rest) > 0; {
			part := rest[:min(len(rest), nodeLimit)]
			rest = rest[len(part):]
			above = append(above, indexEntry{part[0].hash, len(blocks)})
			b := make([]byte, blockSize)
			binary.LittleEndian.PutUint16(b[4:], blockSize) // looks like one unused entry
			w.putIndex(dir, b, nodeIndex, part)
			blocks = append(blocks, b)
		}
		index = above
		if len(index) > rootLimit {
			return nil, fmt.Errorf("cannot store %s: %d names are too many for one directory", dir.path, len(dir.entries))
		}
	}
	root := make([]byte, blockSize)
	putEntry(root, ".", dir, 12)
	putEntry(root[12:], "..", dir.parent, blockSize-12)
	root[rootInfo+4] = hashHalfMD4
	root[rootInfo+5] = 8 // size of this information
	root[rootInfo+6] = byte(levels)
	w.putIndex(dir, root, rootIndex, index)
	blocks[0] = root
	return blocks, nil
}

func (w *writer) indexLimit(at int) int {
	room := blockSize - at
	if w.metadataCsum {
		room -= dxTail
	}
	return room / dxEntry
}

// putIndex writes index entries from a place in a block on, and the checksum
// behind them. The first entry needs no hash; how many there are stands there.
func (w *writer) putIndex(dir *inode, b []byte, at int, list []indexEntry) {
	le := binary.LittleEndian
	limit := w.indexLimit(at)
	for i, e := range list {
		le.PutUint32(b[at+dxEntry*i:], e.hash)
		le.PutUint32(b[at+dxEntry*i+4:], uint32(e.block))
	}
	le.PutUint16(b[at:], uint16(limit))
	le.PutUint16(b[at+2:], uint16(len(list)))
	if w.metadataCsum {
		tail := b[at+dxEntry*limit:]
		sum := checksum(w.inodeSeed(dir), b[:at+dxEntry*len(list)], tail[:4], make([]byte, 4))
		le.PutUint32(tail[4:], sum)
	}
}
