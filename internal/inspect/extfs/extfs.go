// Package extfs reads ext2, ext3 and ext4 filesystems.
package extfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/inspect"
)

var le = binary.LittleEndian

// Features that the layout depends on.
const (
	fileType  = 0x2
	recover   = 0x4
	metaBG    = 0x10
	extents   = 0x40
	is64bit   = 0x80
	mmp       = 0x100
	flexBG    = 0x200
	eaInode   = 0x400
	csumSeed  = 0x2000
	largeDir  = 0x4000
	inline    = 0x8000
	casefold  = 0x20000
	supported = fileType | metaBG | extents | is64bit | mmp | flexBG | eaInode | csumSeed | largeDir | inline | casefold
)

// Flags of inodes.
const (
	flagCompressed = 0x4
	flagEncrypted  = 0x800
	flagExtents    = 0x80000
	flagInline     = 0x10000000
)

const rootInode = 2

// FS is an open filesystem.
type FS struct {
	r          io.ReaderAt
	blockSize  int64
	blocks     uint64
	firstBlock uint64
	perGroup   uint64 // blocks
	inodes     uint32
	inodesPer  uint32 // in a group
	inodeSize  int64
	descSize   int64
	incompat   uint32
	sparse     bool // not every group has a copy of the superblock
	firstMeta  uint64
	label      string
}

// Is reports whether there is such a filesystem.
func Is(r io.ReaderAt) bool {
	magic := make([]byte, 2)
	n, _ := r.ReadAt(magic, 1024+56)
	return n == 2 && le.Uint16(magic) == 0xef53
}

// Open reads the superblock.
func Open(r io.ReaderAt) (*FS, error) {
	sb := make([]byte, 1024)
	if err := readFull(r, sb, 1024); err != nil {
		return nil, err
	}
	if le.Uint16(sb[56:]) != 0xef53 {
		return nil, errors.New("not an ext2, ext3 or ext4 filesystem")
	}
	f := &FS{
		r: r, inodes: le.Uint32(sb), firstBlock: uint64(le.Uint32(sb[20:])), perGroup: uint64(le.Uint32(sb[32:])),
		inodesPer: le.Uint32(sb[40:]), inodeSize: 128, descSize: 32, incompat: le.Uint32(sb[96:]),
		sparse: le.Uint32(sb[100:])&1 != 0, firstMeta: uint64(le.Uint32(sb[0x104:])),
	}
	f.label, _, _ = strings.Cut(string(sb[120:136]), "\x00")
	shift := le.Uint32(sb[24:])
	f.blocks = uint64(le.Uint32(sb[4:]))
	if le.Uint32(sb[76:]) > 0 {
		f.inodeSize = int64(le.Uint16(sb[88:]))
	}
	if f.incompat&is64bit != 0 {
		f.descSize = int64(le.Uint16(sb[0xfe:]))
		f.blocks |= uint64(le.Uint32(sb[0x150:])) << 32
	}
	if shift > 6 || f.perGroup == 0 || f.inodesPer == 0 || f.inodeSize < 128 || f.descSize < 32 || f.descSize > 1024 || f.blocks == 0 || f.blocks > 1<<48 {
		return nil, errors.New("the superblock is damaged")
	}
	f.blockSize = 1024 << shift
	if f.inodeSize > f.blockSize {
		return nil, errors.New("the superblock is damaged")
	}
	if f.incompat&recover != 0 {
		return nil, errors.New("the filesystem was not unmounted: its journal has to be replayed first, as e2fsck does")
	}
	if unknown := f.incompat &^ supported; unknown != 0 {
		return nil, fmt.Errorf("the filesystem has features that are not understood (incompatible features %#x)", unknown)
	}
	return f, nil
}

// Label is the name that was given to the filesystem.
func (f *FS) Label() string { return f.label }

func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("cannot read %d bytes at %d: %w", len(p), off, err)
}

func (f *FS) block(n uint64) ([]byte, error) {
	if n == 0 || n >= f.blocks {
		return nil, fmt.Errorf("block %d is outside of the filesystem", n)
	}
	b := make([]byte, f.blockSize)
	return b, readFull(f.r, b, int64(n)*f.blockSize)
}

// descriptor reads that of a group of blocks.
func (f *FS) descriptor(group uint64) ([]byte, error) {
	perBlock := uint64(f.blockSize / f.descSize)
	meta := group / perBlock
	at := f.firstBlock + 1 + meta
	if f.incompat&metaBG != 0 && meta >= f.firstMeta {
		first := meta * perBlock
		at = f.firstBlock + first*f.perGroup
		if f.hasSuper(first) {
			at++
		}
	}
	d := make([]byte, f.descSize)
	return d, readFull(f.r, d, int64(at)*f.blockSize+int64(group%perBlock)*f.descSize)
}

func (f *FS) hasSuper(group uint64) bool {
	if !f.sparse || group <= 1 {
		return true
	}
	for _, base := range []uint64{3, 5, 7} {
		for n := base; n <= group; n *= base {
			if n == group {
				return true
			}
		}
	}
	return false
}

// inode is one in the form it has on disk.
type inode struct {
	number uint32
	raw    []byte
}

func (f *FS) inode(number uint32) (*inode, error) {
	if number == 0 || number > f.inodes {
		return nil, fmt.Errorf("there is no inode %d", number)
	}
	group, index := (number-1)/f.inodesPer, (number-1)%f.inodesPer
	d, err := f.descriptor(uint64(group))
	if err != nil {
		return nil, err
	}
	table := uint64(le.Uint32(d[8:]))
	if f.incompat&is64bit != 0 && f.descSize >= 64 {
		table |= uint64(le.Uint32(d[0x28:])) << 32
	}
	if table == 0 || table >= f.blocks {
		return nil, fmt.Errorf("the inodes of group %d are outside of the filesystem", group)
	}
	i := &inode{number, make([]byte, f.inodeSize)}
	return i, readFull(f.r, i.raw, int64(table)*f.blockSize+int64(index)*f.inodeSize)
}

func (i *inode) mode() uint32   { return uint32(le.Uint16(i.raw)) }
func (i *inode) kind() uint32   { return i.mode() & inspect.TypeMask }
func (i *inode) flags() uint32  { return le.Uint32(i.raw[32:]) }
func (i *inode) blocks() []byte { return i.raw[40:100] }
func (i *inode) uid() uint32 {
	return uint32(le.Uint16(i.raw[2:])) | uint32(le.Uint16(i.raw[120:]))<<16
}
func (i *inode) gid() uint32 {
	return uint32(le.Uint16(i.raw[24:])) | uint32(le.Uint16(i.raw[122:]))<<16
}
func (i *inode) links() uint32 { return uint32(le.Uint16(i.raw[26:])) }
func (i *inode) size() int64 {
	return int64(uint64(le.Uint32(i.raw[4:])) | uint64(le.Uint32(i.raw[108:])&0x7fffffff)<<32)
}

// extra is the part of the inode that only larger ones have, up to where
// attributes begin.
func (i *inode) extra() int {
	if len(i.raw) < 132 {
		return 0
	}
	n := int(le.Uint16(i.raw[128:]))
	if 128+n > len(i.raw) {
		return 0
	}
	return n
}

func (i *inode) device() (major, minor uint32) {
	if old := le.Uint32(i.blocks()); old != 0 {
		return old >> 8 & 0xff, old & 0xff
	}
	v := le.Uint32(i.blocks()[4:])
	return v & 0xfff00 >> 8, v&0xff | v>>12&0xfff00
}

// Walk implements inspect.Walker.
func (f *FS) Walk(visit func(inspect.Entry) error) error {
	w := &walk{FS: f, visit: visit, seen: map[uint32]bool{}}
	return w.file(".", rootInode, 0)
}

// maxDepth is more than a path can have: PATH_MAX is 4096.
const maxDepth = 2048

type walk struct {
	*FS
	visit func(inspect.Entry) error
	seen  map[uint32]bool // directories
}

func (w *walk) file(path string, number uint32, depth int) error {
	i, err := w.inode(number)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	e, err := w.entry(path, i)
	if err != nil {
		return fmt.Errorf("%s (inode %d): %w", path, number, err)
	}
	if err := w.visit(e); err != nil || i.kind() != inspect.Dir {
		return inspect.Skipped(e, err)
	}
	if w.seen[number] || depth > maxDepth {
		return fmt.Errorf("%s (inode %d): the directory contains itself", path, number)
	}
	w.seen[number] = true
	names, err := w.directory(i)
	if err != nil {
		return fmt.Errorf("%s (inode %d): %w", path, number, err)
	}
	for _, n := range names {
		at := n.name
		if path != "." {
			at = path + "/" + n.name
		}
		if err := w.file(at, n.inode, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (f *FS) entry(path string, i *inode) (inspect.Entry, error) {
	if i.flags()&(flagCompressed|flagEncrypted) != 0 {
		return inspect.Entry{}, errors.New("compressed and encrypted files cannot be read")
	}
	e := inspect.Entry{
		Path: path, Mode: i.mode(), UID: i.uid(), GID: i.gid(), ModTime: i.modTime(), ID: uint64(i.number), Links: i.links(),
	}
	var err error
	if e.Xattrs, err = f.xattrs(i); err != nil {
		return e, err
	}
	switch i.kind() {
	case inspect.Regular:
		e.Size = i.size()
		e.Content, err = f.content(i)
	case inspect.Symlink:
		e.Target, err = f.target(i)
	case inspect.Char, inspect.Block:
		e.Major, e.Minor = i.device()
	case inspect.Dir, inspect.Fifo, inspect.Socket:
	default:
		err = fmt.Errorf("its type %#o is unknown", i.kind())
	}
	return e, err
}

// target is where a symbolic link leads.
func (f *FS) target(i *inode) (string, error) {
	size := i.size()
	if size <= 0 || size > 4096 {
		return "", fmt.Errorf("a symbolic link of %d bytes", size)
	}
	if size < 60 && i.flags()&(flagExtents|flagInline) == 0 {
		return string(i.blocks()[:size]), nil
	}
	b, err := f.readAll(i, 4096)
	return string(b), err
}

type name struct {
	name  string
	inode uint32
}

// directory lists what is in one, in byte order.
func (f *FS) directory(i *inode) ([]name, error) {
	const most = 1 << 30
	data, err := f.readAll(i, most)
	if err != nil {
		return nil, err
	}
	var names []name
	if i.flags()&flagInline != 0 {
		// Two areas: what fits into the inode, behind the parent's number, and the rest.
		names, err = appendNames(names, data[min(4, len(data)):min(60, len(data))])
		if err == nil && len(data) > 60 {
			names, err = appendNames(names, data[60:])
		}
	} else {
		for len(data) > 0 && err == nil {
			n := min(f.blockSize, int64(len(data)))
			names, err = appendNames(names, data[:n])
			data = data[n:]
		}
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(names, func(a, b name) int { return strings.Compare(a.name, b.name) })
	for n := 1; n < len(names); n++ {
		if names[n].name == names[n-1].name {
			return nil, fmt.Errorf("the directory has %q twice", names[n].name)
		}
	}
	return names, nil
}

// appendNames reads one block. Those of an index look like empty entries.
func appendNames(names []name, b []byte) ([]name, error) {
	for len(b) >= 8 {
		length := int(le.Uint16(b[4:]))
		if length == 0 || length == 0xffff {
			length = len(b) // a block of 64 KiB
		}
		size := int(b[6])
		if length < 8 || length > len(b) || 8+size > length {
			return nil, errors.New("the directory is damaged")
		}
		number, text := le.Uint32(b), string(b[8:8+size])
		if number != 0 && text != "." && text != ".." {
			if text == "" || strings.ContainsAny(text, "/\x00") {
				return nil, fmt.Errorf("the directory has the name %q", text)
			}
			names = append(names, name{text, number})
		}
		b = b[length:]
	}
	return names, nil
}
