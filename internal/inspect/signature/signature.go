// Package signature finds out what kind of filesystem, or what else, a
// partition holds, and how it is called, from its first blocks.
//
// Sources: the superblocks' descriptions in the kernel's documentation of ext4,
// xfs and btrfs; mkswap(8), LVM2's lib/format_text/layout.h, the LUKS1 and
// LUKS2 on-disk formats, ECMA-119, squashfs 4.0.
package signature

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"strings"

	"github.com/dib-builder/dib/internal/inspect/fatfs"
)

// Content is what a partition holds.
type Content struct {
	Type  string // as blkid(8) names it: ext4, vfat, swap, LVM2_member, crypto_LUKS ...
	Label string
	UUID  string
	// Size and Used are in bytes: what the filesystem spans, or of vfat what
	// there is for files, and how much of that is in use. Negative: not known.
	Size, Used int64
}

var le, be = binary.LittleEndian, binary.BigEndian

// probes in the order of their certainty; each reads one piece of the disk.
var probes = []struct {
	at, size int64
	read     func(b []byte) (Content, bool)
}{
	{0, 512, luks}, {0, 512, xfs}, {1024, 1024, ext}, {0x10000, 4096, btrfs}, {0, 4096, swap},
	{0, 2048, lvm}, {0, 96, squashfs}, {0x8000, 2048, iso9660},
}

// Identify looks at a partition. Without ok it knows nothing of it.
func Identify(r io.ReaderAt) (c Content, ok bool) {
	for _, p := range probes {
		b := make([]byte, p.size)
		if n, _ := r.ReadAt(b, p.at); n < len(b) {
			continue
		}
		if c, ok := p.read(b); ok {
			return c, true
		}
	}
	return fat(r)
}

// multiply is a*b, or -1 when that cannot be a size.
func multiply(a, b uint64) int64 {
	high, low := bits.Mul64(a, b)
	if high != 0 || low > 1<<62 {
		return -1
	}
	return int64(low)
}

// difference is size-free, or -1 when one of them is out of range.
func difference(size, free int64) int64 {
	if size < 0 || free < 0 || free > size {
		return -1
	}
	return size - free
}

func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return strings.TrimRight(s, " ")
}

func uuid(b []byte) string {
	if [16]byte(b[:16]) == [16]byte{} {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

func ext(b []byte) (Content, bool) {
	if le.Uint16(b[56:]) != 0xef53 {
		return Content{}, false
	}
	const (
		hasJournal = 0x4                          // compatible
		ofExt4     = 0x40 | 0x80 | 0x200 | 0x8000 // extents, 64bit, flex_bg, inline_data; incompatible
		ofExt4ro   = 0x8 | 0x10 | 0x20 | 0x40     // huge_file, gdt_csum, dir_nlink, extra_isize
		is64bit    = 0x80
	)
	compat, incompat, ro := le.Uint32(b[92:]), le.Uint32(b[96:]), le.Uint32(b[100:])
	c := Content{Type: "ext2", Label: text(b[120:136]), UUID: uuid(b[104:120])}
	switch {
	case incompat&ofExt4 != 0 || ro&ofExt4ro != 0:
		c.Type = "ext4"
	case compat&hasJournal != 0:
		c.Type = "ext3"
	}
	blocks, free := uint64(le.Uint32(b[4:])), uint64(le.Uint32(b[12:]))
	if incompat&is64bit != 0 {
		blocks |= uint64(le.Uint32(b[0x150:])) << 32
		free |= uint64(le.Uint32(b[0x158:])) << 32
	}
	block := uint64(1024) << min(le.Uint32(b[24:]), 32)
	c.Size = multiply(blocks, block)
	c.Used = difference(c.Size, multiply(free, block))
	return c, true
}

func xfs(b []byte) (Content, bool) {
	if string(b[:4]) != "XFSB" {
		return Content{}, false
	}
	c := Content{Type: "xfs", Label: text(b[108:120]), UUID: uuid(b[32:48])}
	block := uint64(be.Uint32(b[4:]))
	c.Size = multiply(be.Uint64(b[8:]), block)
	c.Used = difference(c.Size, multiply(be.Uint64(b[144:]), block))
	return c, true
}

func btrfs(b []byte) (Content, bool) {
	if string(b[0x40:0x48]) != "_BHRfS_M" {
		return Content{}, false
	}
	return Content{
		Type: "btrfs", Label: text(b[0x12b:0x22b]), UUID: uuid(b[0x20:]),
		Size: multiply(le.Uint64(b[0x70:]), 1), Used: multiply(le.Uint64(b[0x78:]), 1),
	}, true
}

func swap(b []byte) (Content, bool) {
	if string(b[4086:]) != "SWAPSPACE2" {
		return Content{}, false
	}
	return Content{
		Type: "swap", Label: text(b[0x41c:0x42c]), UUID: uuid(b[0x40c:]),
		Size: multiply(uint64(le.Uint32(b[1028:]))+1, 4096), Used: -1,
	}, true
}

func lvm(b []byte) (Content, bool) {
	for at := 0; at < len(b); at += 512 {
		label := b[at : at+512]
		if string(label[:8]) != "LABELONE" || string(label[24:32]) != "LVM2 001" {
			continue
		}
		c := Content{Type: "LVM2_member", Size: -1, Used: -1}
		if header := le.Uint32(label[20:]); header <= 512-40 {
			id := label[header:]
			if strings.Trim(string(id[:32]), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789#!") == "" {
				c.UUID = fmt.Sprintf("%s-%s-%s-%s-%s-%s-%s", id[:6], id[6:10], id[10:14], id[14:18], id[18:22], id[22:26], id[26:32])
				c.Size = multiply(le.Uint64(id[32:]), 1)
			}
		}
		return c, true
	}
	return Content{}, false
}

func luks(b []byte) (Content, bool) {
	if string(b[:6]) != "LUKS\xba\xbe" {
		return Content{}, false
	}
	c := Content{Type: "crypto_LUKS", UUID: text(b[168:208]), Size: -1, Used: -1}
	if be.Uint16(b[6:]) == 2 {
		c.Label = text(b[24:72])
	}
	return c, true
}

func squashfs(b []byte) (Content, bool) {
	if string(b[:4]) != "hsqs" || le.Uint16(b[28:]) != 4 {
		return Content{}, false
	}
	size := multiply(le.Uint64(b[40:]), 1)
	return Content{Type: "squashfs", Size: size, Used: size}, true
}

func iso9660(b []byte) (Content, bool) {
	if b[0] != 1 || string(b[1:6]) != "CD001" {
		return Content{}, false
	}
	size := multiply(uint64(le.Uint32(b[80:])), uint64(le.Uint16(b[128:])))
	return Content{Type: "iso9660", Label: text(b[40:72]), Size: size, Used: size}, true
}

func fat(r io.ReaderAt) (Content, bool) {
	fs, err := fatfs.Open(r)
	if err != nil {
		return Content{}, false
	}
	c := Content{Type: "vfat", Label: fs.Label(), UUID: fmt.Sprintf("%04X-%04X", fs.Serial()>>16, fs.Serial()&0xffff), Used: -1}
	size, used, ok, err := fs.Usage()
	if c.Size = size; ok && err == nil {
		c.Used = used
	}
	return c, true
}
