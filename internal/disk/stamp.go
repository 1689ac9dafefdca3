package disk

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

// Facts of the ext2/3/4 format used here; names and offsets are those of
// Documentation/filesystems/ext4 in the Linux source.
const (
	superOffset = 1024
	extMagic    = 0xef53

	incompat64bit  = 0x80   // incompat: 64bit, group descriptors have high halves
	incompatSeed   = 0x2000 // incompat: checksum seed is stored
	roMetadataCsum = 0x400  // read-only compat: metadata checksums

	rootInode = 2

	goodOldInodeSize = 128
)

// rootAttrs are the attributes of the root directory, which mke2fs -d does not
// take from its source.
type rootAttrs struct {
	mode, uid, gid uint32
	mtime          int64
}

// superblock is what stamping needs of a superblock.
type superblock struct {
	blockSize, inodeSize, inodesPerGroup, inodes, groups int64
	descSize, firstDesc                                  int64 // bytes; offset in the filesystem
	csum                                                 bool
	seed                                                 uint32
}

// stamp makes the times of all inodes of a fresh filesystem at base in f
// independent of when and where it was made: change and access times become
// the modification time, and no time is later than epoch (seconds; 0 for no
// limit). It also gives the root directory its attributes. mke2fs before
// 1.47.1 copies change times, which nobody can set on the source.
func stamp(f readerWriterAt, base, epoch int64, root rootAttrs) error {
	fs := section{f, base}
	sb, err := readSuperblock(fs)
	if err != nil {
		return err
	}
	for g := int64(0); g < sb.groups; g++ {
		if err := stampGroup(fs, sb, g, epoch, root); err != nil {
			return err
		}
	}
	return nil
}

type readerWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

type section struct {
	f    readerWriterAt
	base int64
}

func (s section) read(b []byte, off int64) error {
	if _, err := s.f.ReadAt(b, s.base+off); err != nil {
		return fmt.Errorf("cannot read the filesystem at byte %d: %w", s.base+off, err)
	}
	return nil
}

func readSuperblock(fs section) (*superblock, error) {
	b := make([]byte, 1024)
	if err := fs.read(b, superOffset); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if le.Uint16(b[0x38:]) != extMagic {
		return nil, fmt.Errorf("no ext filesystem at byte %d", fs.base)
	}
	logBlock := le.Uint32(b[0x18:])
	sb := &superblock{
		inodes: int64(le.Uint32(b[0x0:])), inodesPerGroup: int64(le.Uint32(b[0x28:])),
		inodeSize: goodOldInodeSize, descSize: 32,
	}
	if le.Uint32(b[0x4c:]) > 0 {
		sb.inodeSize = int64(le.Uint16(b[0x58:]))
	}
	incompat := le.Uint32(b[0x60:])
	if incompat&incompat64bit != 0 {
		sb.descSize = int64(le.Uint16(b[0xfe:]))
	}
	if logBlock > 6 || sb.inodesPerGroup == 0 || sb.inodeSize < goodOldInodeSize || sb.inodeSize > 65536 || sb.descSize < 32 || sb.inodes < 1 {
		return nil, fmt.Errorf("ext filesystem at byte %d has an impossible superblock", fs.base)
	}
	sb.blockSize = 1024 << logBlock
	sb.groups = (sb.inodes + sb.inodesPerGroup - 1) / sb.inodesPerGroup
	sb.firstDesc = (int64(le.Uint32(b[0x14:])) + 1) * sb.blockSize
	if sb.csum = le.Uint32(b[0x64:])&roMetadataCsum != 0; sb.csum {
		sb.seed = crc32c(math.MaxUint32, b[0x68:0x78])
		if incompat&incompatSeed != 0 {
			sb.seed = le.Uint32(b[0x270:])
		}
	}
	return sb, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c is the checksum without the inversions that package crc32 adds.
func crc32c(crc uint32, b []byte) uint32 { return ^crc32.Update(^crc, castagnoli, b) }

func stampGroup(fs section, sb *superblock, group, epoch int64, root rootAttrs) error {
	desc := make([]byte, sb.descSize)
	if err := fs.read(desc, sb.firstDesc+group*sb.descSize); err != nil {
		return err
	}
	le := binary.LittleEndian
	table := int64(le.Uint32(desc[0x8:]))
	unused := int64(0)
	if sb.csum {
		unused = int64(le.Uint16(desc[0x1c:]))
	}
	if sb.descSize >= 64 {
		table |= int64(le.Uint32(desc[0x28:])) << 32
		if sb.csum {
			unused |= int64(le.Uint16(desc[0x32:])) << 16
		}
	}
	used := sb.inodesPerGroup - unused
	if used <= 0 {
		return nil
	}
	inodes := make([]byte, used*sb.inodeSize)
	if err := fs.read(inodes, table*sb.blockSize); err != nil {
		return err
	}
	for i := range used {
		number := group*sb.inodesPerGroup + i + 1
		inode := inodes[i*sb.inodeSize : (i+1)*sb.inodeSize]
		if le.Uint16(inode[0x0:]) == 0 || le.Uint16(inode[0x1a:]) == 0 {
			continue // mode or link count 0: free or internal
		}
		if number == rootInode {
			setRoot(inode, root)
		}
		stampInode(inode, epoch)
		if sb.csum {
			sumInode(inode, sb.seed, uint32(number))
		}
		// Only used inodes are written, so that the file stays sparse.
		if _, err := fs.f.WriteAt(inode, fs.base+table*sb.blockSize+i*sb.inodeSize); err != nil {
			return fmt.Errorf("cannot write inode %d: %w", number, err)
		}
	}
	return nil
}

func setRoot(inode []byte, a rootAttrs) {
	le := binary.LittleEndian
	le.PutUint16(inode[0x0:], uint16(a.mode&0o7777)|0o040000)
	le.PutUint16(inode[0x2:], uint16(a.uid))
	le.PutUint16(inode[0x78:], uint16(a.uid>>16))
	le.PutUint16(inode[0x18:], uint16(a.gid))
	le.PutUint16(inode[0x7a:], uint16(a.gid>>16))
	putTime(inode, 0x10, 0x88, a.mtime, 0)
}

// stampInode sets access and change time from the modification time, whole
// seconds and nanoseconds alike.
func stampInode(inode []byte, epoch int64) {
	sec, extra := getTime(inode, 0x10, 0x88)
	if epoch > 0 && sec > epoch {
		sec, extra = epoch, 0
	}
	putTime(inode, 0x10, 0x88, sec, extra)
	putTime(inode, 0x08, 0x8c, sec, extra)
	putTime(inode, 0x0c, 0x84, sec, extra)
	putTime(inode, -1, 0x90, sec, extra)
}

// hasExtra says whether the field at off lies in the part of the inode beyond
// the first 128 bytes that is in use.
func hasExtra(inode []byte, off int) bool {
	if len(inode) <= goodOldInodeSize {
		return false
	}
	size := int(binary.LittleEndian.Uint16(inode[0x80:]))
	return goodOldInodeSize+size >= off+4 && off+4 <= len(inode)
}

// getTime reads a time: seconds in 34 bits, the upper two in the extra field,
// and that field's 30 bits of nanoseconds.
func getTime(inode []byte, at, extraAt int) (sec int64, nsec uint32) {
	sec = int64(int32(binary.LittleEndian.Uint32(inode[at:])))
	if hasExtra(inode, extraAt) {
		extra := binary.LittleEndian.Uint32(inode[extraAt:])
		sec += int64(extra&3) << 32
		nsec = extra >> 2
	}
	return sec, nsec
}

// putTime writes a time; at -1 is the creation time, which lies in the extra
// part altogether.
func putTime(inode []byte, at, extraAt int, sec int64, nsec uint32) {
	if at < 0 {
		if !hasExtra(inode, extraAt+4) {
			return
		}
		at, extraAt = extraAt, extraAt+4
	}
	binary.LittleEndian.PutUint32(inode[at:], uint32(sec))
	if hasExtra(inode, extraAt) {
		high := uint32((sec-int64(int32(sec)))>>32) & 3
		binary.LittleEndian.PutUint32(inode[extraAt:], nsec<<2|high)
	}
}

// sumInode computes the checksum over number, generation and the inode with
// its checksum fields zero.
func sumInode(inode []byte, seed, number uint32) {
	le := binary.LittleEndian
	high := hasExtra(inode, 0x80) // i_checksum_hi at 0x82
	le.PutUint16(inode[0x7c:], 0)
	if high {
		le.PutUint16(inode[0x82:], 0)
	}
	var n [4]byte
	le.PutUint32(n[:], number)
	crc := crc32c(crc32c(seed, n[:]), inode[0x64:0x68])
	crc = crc32c(crc, inode)
	le.PutUint16(inode[0x7c:], uint16(crc))
	if high {
		le.PutUint16(inode[0x82:], uint16(crc>>16))
	}
}
