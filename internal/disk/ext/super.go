package ext

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Features, from the table of the superblock in the kernel's documentation.
const (
	compatJournal     = 0x4
	compatXattr       = 0x8
	compatResizeInode = 0x10
	compatDirIndex    = 0x20

	incompatFiletype = 0x2
	incompatExtents  = 0x40
	incompat64bit    = 0x80
	incompatFlexBG   = 0x200

	roSparseSuper  = 0x1
	roLargeFile    = 0x2
	roHugeFile     = 0x8
	roDirNlink     = 0x20
	roExtraIsize   = 0x40
	roMetadataCsum = 0x400
)

const flagInodeZeroed = 0x4 // of a group: its inode table needs no zeroing

// inodeSeed begins the checksums of everything that belongs to an inode.
func (w *writer) inodeSeed(n *inode) uint32 {
	return checksum(w.seed, le32(uint32(n.number)), le32(0)) // the second is the generation
}

// encode gives the bytes of an inode.
func (w *writer) encode(n *inode) ([]byte, error) {
	var block []byte
	var err error
	switch {
	case n == w.resizeIno:
		block = make([]byte, 60)
		if len(n.extents) > 0 {
			binary.LittleEndian.PutUint32(block[13*4:], uint32(n.extents[0].physical)) // the double indirect block
		}
	case n.kind() == unix.S_IFLNK && len(n.target) <= fastSymlink:
		block = make([]byte, 60)
		copy(block, n.target)
	case n.kind() == unix.S_IFCHR || n.kind() == unix.S_IFBLK:
		block = deviceNumber(n.rdev)
	case n.kind() == unix.S_IFREG || n.kind() == unix.S_IFDIR || n.kind() == unix.S_IFLNK:
		if block, err = w.blockMap(n); err != nil {
			return nil, fmt.Errorf("cannot store %s: %w", n.path, err)
		}
	default:
		block = make([]byte, 60)
	}
	if n == w.journalIno {
		w.journalMap = block
	}
	b := make([]byte, inodeSize)
	le := binary.LittleEndian
	le.PutUint16(b, uint16(n.Mode))
	le.PutUint16(b[2:], uint16(n.UID))
	le.PutUint32(b[4:], uint32(n.size))
	seconds, extra := w.time(n.Mtime)
	for _, at := range []int{8, 12, 16, 144} { // access, change, modification, creation
		le.PutUint32(b[at:], seconds)
	}
	for _, at := range []int{132, 136, 140, 148} {
		le.PutUint32(b[at:], extra)
	}
	le.PutUint16(b[24:], uint16(n.GID))
	links := n.links
	if n.kind() == unix.S_IFDIR && links > maxLinks {
		links = 1
	}
	le.PutUint16(b[26:], uint16(links))
	sectors := n.blocks * (blockSize / 512)
	le.PutUint32(b[28:], uint32(sectors))
	le.PutUint16(b[116:], uint16(sectors>>32))
	le.PutUint32(b[32:], n.flags)
	copy(b[40:], block)
	le.PutUint32(b[104:], uint32(n.xattrBlock))
	le.PutUint16(b[118:], uint16(n.xattrBlock>>32))
	le.PutUint32(b[108:], uint32(n.size>>32))
	le.PutUint16(b[120:], uint16(n.UID>>16))
	le.PutUint16(b[122:], uint16(n.GID>>16))
	le.PutUint16(b[128:], extraSize)
	if n.inlineXattrs != nil {
		le.PutUint32(b[128+extraSize:], xattrMagic)
		copy(b[128+extraSize+4:], n.inlineXattrs)
	}
	if w.metadataCsum {
		sum := checksum(w.inodeSeed(n), b)
		le.PutUint16(b[124:], uint16(sum))
		le.PutUint16(b[130:], uint16(sum>>16))
	}
	return b, nil
}

func (w *writer) blockMap(n *inode) ([]byte, error) {
	if !w.ext4() {
		return w.indirectMap(n)
	}
	n.flags |= flagExtents
	return w.extentTree(n)
}

// time gives a time as an inode has it: 32 bits of seconds, then two more and
// the nanoseconds.
func (w *writer) time(t unix.Timespec) (seconds, extra uint32) {
	if w.epoch > 0 && t.Sec >= w.epoch {
		t = unix.Timespec{Sec: w.epoch}
	}
	seconds = uint32(t.Sec)
	extra = uint32((t.Sec-int64(int32(seconds)))>>32)&3 | uint32(t.Nsec)<<2
	return seconds, extra
}

// deviceNumber is written the old way where both parts fit a byte.
func deviceNumber(rdev [2]uint32) []byte {
	block := make([]byte, 60)
	major, minor := rdev[0], rdev[1]
	if major < 256 && minor < 256 {
		binary.LittleEndian.PutUint32(block, major<<8|minor)
	} else {
		binary.LittleEndian.PutUint32(block[4:], minor&0xff|major<<8|(minor&^0xff)<<12)
	}
	return block
}

// inodeTables writes all inodes. Extent trees are made on the way, so this is
// the last step that takes blocks.
func (w *writer) inodeTables() error {
	all := []*inode{w.root, w.resizeIno}
	if w.journalIno != nil {
		all = append(all, w.journalIno)
	}
	all = append(all, w.inodes...)
	tables := map[int64][]byte{}
	for _, n := range all {
		b, err := w.encode(n)
		if err != nil {
			return err
		}
		group, index := (n.number-1)/w.perGroup, (n.number-1)%w.perGroup
		table := tables[group]
		if need := int((index + 1) * inodeSize); len(table) < need {
			table = append(table, make([]byte, need-len(table))...)
			tables[group] = table
		}
		copy(table[index*inodeSize:], b)
	}
	for group, table := range tables {
		if err := w.writeBlock(table, w.groupTable[group].inodeTable); err != nil {
			return err
		}
	}
	return nil
}

// describe writes bitmaps, group descriptors and superblocks.
func (w *writer) describe() error {
	last := firstInode + int64(len(w.inodes)) - 1 // inodes are used from the first to this one
	dirs := make([]int64, w.groups)
	for _, n := range append([]*inode{w.root}, w.inodes...) {
		if n.kind() == unix.S_IFDIR {
			dirs[(n.number-1)/w.perGroup]++
		}
	}
	table := make([]byte, w.gdt*blockSize)
	freeInodes := w.geometry.inodes() - last
	for g := range w.groups {
		used := min(max(last-g*w.perGroup, 0), w.perGroup)
		blockMap := w.alloc.bitmap(g)
		inodeMap := make([]byte, blockSize)
		for i := range int64(len(inodeMap) * 8) {
			if i < used || i >= w.perGroup {
				inodeMap[i/8] |= 1 << (i % 8)
			}
		}
		if err := w.writeBlock(blockMap, w.groupTable[g].blockBitmap); err != nil {
			return err
		}
		if err := w.writeBlock(inodeMap, w.groupTable[g].inodeBitmap); err != nil {
			return err
		}
		free := w.alloc.freeIn(g*blocksPerGroup, w.groupBlocks(g))
		w.putDesc(table[g*w.descSize:][:w.descSize], g, free, used, dirs[g], blockMap, inodeMap)
	}
	for g := range w.groups {
		if !hasSuper(g) {
			continue
		}
		at := g * blocksPerGroup * blockSize
		super := w.superblock(g, freeInodes)
		offset := at
		if g == 0 {
			offset += 1024
		}
		if err := w.writeAt(super, offset); err != nil {
			return err
		}
		if err := w.writeAt(table, at+blockSize); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) putDesc(b []byte, group, free, used, dirs int64, blockMap, inodeMap []byte) {
	le := binary.LittleEndian
	d := w.groupTable[group]
	split32 := func(low, high int, n int64) {
		le.PutUint32(b[low:], uint32(n))
		if high < len(b) {
			le.PutUint32(b[high:], uint32(n>>32))
		}
	}
	split16 := func(low, high int, n int64) {
		le.PutUint16(b[low:], uint16(n))
		if high < len(b) {
			le.PutUint16(b[high:], uint16(n>>16))
		}
	}
	split32(0, 0x20, d.blockBitmap)
	split32(4, 0x24, d.inodeBitmap)
	split32(8, 0x28, d.inodeTable)
	split16(0xc, 0x2c, free)
	split16(0xe, 0x2e, w.perGroup-used)
	split16(0x10, 0x30, dirs)
	if !w.metadataCsum {
		return
	}
	le.PutUint16(b[0x12:], flagInodeZeroed)
	split16(0x18, 0x38, int64(checksum(w.seed, blockMap)))
	split16(0x1a, 0x3a, int64(checksum(w.seed, inodeMap[:w.perGroup/8])))
	split16(0x1c, 0x32, w.perGroup-used)
	le.PutUint16(b[0x1e:], uint16(checksum(w.seed, le32(uint32(group)), b)))
}

func (w *writer) superblock(group, freeInodes int64) []byte {
	b := make([]byte, 1024)
	le := binary.LittleEndian
	put32 := func(at int, n int64) { le.PutUint32(b[at:], uint32(n)) }
	put16 := func(at int, n int64) { le.PutUint16(b[at:], uint16(n)) }
	reserved := int64(float64(w.blocks) * w.reserved / 100)
	put32(0, w.geometry.inodes())
	put32(4, w.blocks)
	put32(8, reserved)
	put32(0xc, w.alloc.free)
	put32(0x10, freeInodes)
	put32(0x18, 2) // 1024 << 2 bytes a block
	put32(0x1c, 2)
	put32(0x20, blocksPerGroup)
	put32(0x24, blocksPerGroup)
	put32(0x28, w.perGroup)
	put32(0x30, w.now)
	put16(0x36, -1) // no check after a number of mounts
	put16(0x38, 0xef53)
	put16(0x3a, 1) // clean
	put16(0x3c, 1) // go on after errors
	put32(0x40, w.now)
	put32(0x4c, 1) // revision
	put32(0x54, firstInode)
	put16(0x58, inodeSize)
	put16(0x5a, group)
	compat := int64(compatXattr | compatResizeInode | compatDirIndex)
	if w.journalIno != nil {
		compat |= compatJournal
	}
	put32(0x5c, compat)
	incompat, ro := int64(incompatFiletype), int64(roSparseSuper|roLargeFile)
	if w.ext4() {
		incompat |= incompatExtents | incompat64bit | incompatFlexBG
		ro |= roHugeFile | roDirNlink | roExtraIsize
		put16(0xfe, w.descSize)
		b[0x174] = logFlexGroups
	}
	put32(0x60, incompat)
	if w.metadataCsum {
		ro |= roMetadataCsum
		b[0x175] = 1 // CRC-32C
	}
	put32(0x64, ro)
	copy(b[0x68:], w.uuid[:])
	copy(b[0x78:], w.label)
	put16(0xce, w.reservedGDT)
	if n := w.journalIno; n != nil {
		put32(0xe0, journalInode)
		b[0xfd] = 1 // a copy of the journal's map follows
		copy(b[0x10c:], w.journalMap)
		put32(0x10c+15*4, n.size>>32)
		put32(0x10c+16*4, n.size)
	}
	copy(b[0xec:], w.hashSeed[:])
	b[0xfc] = hashHalfMD4
	put32(0x100, 0xc) // user attributes and access control lists by default
	put32(0x108, w.now)
	put16(0x15c, extraSize)
	put16(0x15e, extraSize)
	put32(0x160, 2) // hashes are of unsigned bytes
	if w.metadataCsum {
		put32(0x3fc, int64(checksum(^uint32(0), b[:0x3fc])))
	}
	return b
}
