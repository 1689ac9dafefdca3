package ext

import (
	"fmt"
	"math"
)

const (
	inodeSize      = 256
	extraSize      = 32 // of the fields after the classical 128 bytes
	blocksPerGroup = blockSize * 8
	flexGroups     = 16 // groups whose bitmaps and inode tables lie together
	logFlexGroups  = 4
	inodesPerBlock = blockSize / inodeSize
	maxReservedGDT = blockSize / 4

	rootInode      = 2
	resizeInode    = 7
	journalInode   = 8
	firstInode     = 11 // lost+found
	reservedInodes = 10
)

// geometry is what the size of a filesystem decides. It counts blocks.
type geometry struct {
	descSize    int64 // bytes of a group descriptor
	blocks      int64
	groups      int64
	gdt         int64 // blocks of group descriptors
	reservedGDT int64 // blocks kept for more of them
	perGroup    int64 // inodes in a group
	tableBlocks int64 // of a group's inode table
}

func (g geometry) inodes() int64 { return g.groups * g.perGroup }

// groupBlocks is the size of one group; the last may be shorter.
func (g geometry) groupBlocks(group int64) int64 {
	return min(blocksPerGroup, g.blocks-group*blocksPerGroup)
}

// overhead is what a group loses to the superblock and what follows it.
func (g geometry) overhead(group int64) int64 {
	if !hasSuper(group) {
		return 0
	}
	return 1 + g.gdt + g.reservedGDT
}

// hasSuper says whether a group has a copy of the superblock: 0, 1 and the
// powers of 3, 5 and 7.
func hasSuper(group int64) bool {
	if group <= 1 {
		return true
	}
	for _, base := range []int64{3, 5, 7} {
		n := base
		for n < group {
			n *= base
		}
		if n == group {
			return true
		}
	}
	return false
}

func ceil(n, unit int64) int64 { return (n + unit - 1) / unit }

// arrange computes the geometry as mke2fs does. Where the last group would be
// too short to be worth it, it is left out.
func arrange(length int64, s settings) (geometry, error) {
	g := geometry{blocks: length / blockSize, descSize: 64}
	if !s.ext4() {
		g.descSize = 32
	}
	for {
		if g.blocks < 64 {
			return g, fmt.Errorf("%d bytes are too few for an ext filesystem", length)
		}
		if g.blocks > math.MaxUint32 {
			return g, fmt.Errorf("%d bytes are too many: filesystems above 16 TiB are not supported here", length)
		}
		g.groups = ceil(g.blocks, blocksPerGroup)
		g.gdt = ceil(g.groups*g.descSize, blockSize)
		g.reservedGDT = reservedGDT(g, s)
		inodes := s.inodes
		if inodes == 0 {
			inodes = g.blocks * blockSize / s.ratio
		}
		per := ceil(max(inodes, firstInode+1), g.groups)
		if per > blockSize*8 {
			return g, fmt.Errorf("%d inodes are too many for a filesystem of %d bytes", inodes, length)
		}
		g.tableBlocks = ceil(per, inodesPerBlock)
		g.perGroup = g.tableBlocks * inodesPerBlock
		last := g.groupBlocks(g.groups - 1)
		need := g.overhead(g.groups-1) + 2 + g.tableBlocks
		if last >= need+50 || g.groups == 1 && last > need+10 {
			return g, nil
		}
		if g.groups == 1 {
			return g, fmt.Errorf("%d bytes are too few for an ext filesystem with %d inodes", length, inodes)
		}
		g.blocks -= last
	}
}

// reservedGDT is how many blocks of descriptors the filesystem may gain when
// it grows: to 1024 times its size, or to what resize= says.
func reservedGDT(g geometry, s settings) int64 {
	target := s.resizeMax
	if target == 0 {
		target = math.MaxUint32
		if g.blocks < target/1024 {
			target = g.blocks * 1024
		}
	}
	n := ceil(ceil(target, blocksPerGroup), blockSize/g.descSize) - g.gdt
	return min(max(n, 0), maxReservedGDT)
}
