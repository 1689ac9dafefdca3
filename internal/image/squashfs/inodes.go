package squashfs

import (
	"bytes"
	"fmt"
	"math"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/image/tree"
)

// filesystem is the tree as inodes.
type filesystem struct {
	root   *node
	files  []*node // regular files in the order of the tree, each inode once
	inodes int
	newest uint32
	ids    idTable
	xattrs xattrTable
}

// node is one inode.
type node struct {
	e        *tree.Entry
	number   uint32
	links    uint32
	uid, gid uint16
	xattr    uint32 // noXattrs for none
	children []child
	parent   *node // of a directory

	// Where the data is.
	start    int64
	blocks   []uint32
	sparse   int64
	fragment uint32
	offset   uint32

	written bool
	block   uint32 // where the inode is
	at      uint16
}

// child is a name in a directory; the tree has them sorted.
type child struct {
	name string
	node *node
}

func newFilesystem(t *tree.Tree, set tree.Settings) (*filesystem, error) {
	fs := &filesystem{ids: idTable{at: map[uint32]uint16{}}, xattrs: xattrTable{at: map[string]uint32{}}}
	dirs := map[string]*node{}
	groups := map[int]*node{}
	for i := range t.Entries {
		e := &t.Entries[i]
		if e.Path != "proc" && e.Below("proc") || e.Path != "sys" && e.Below("sys") {
			continue
		}
		n := groups[e.Group]
		if e.Group == 0 || n == nil {
			var err error
			if n, err = fs.add(e, set); err != nil {
				return nil, fmt.Errorf("cannot store %q: %w", e.Path, err)
			}
			groups[e.Group] = n
		}
		n.links++
		if e.Type() == unix.S_IFDIR {
			n.links++
			dirs[e.Path] = n
		}
		if e.Path == "." {
			fs.root, n.parent = n, n
			continue
		}
		parent := dirs[path.Dir(e.Path)]
		if parent == nil {
			return nil, fmt.Errorf("internal error: squashfs: %q comes before its directory", e.Path)
		}
		if e.Type() == unix.S_IFDIR {
			n.parent = parent
			parent.links++
		}
		parent.children = append(parent.children, child{path.Base(e.Path), n})
	}
	if fs.root == nil {
		return nil, fmt.Errorf("internal error: squashfs: the tree has no root")
	}
	return fs, nil
}

func (fs *filesystem) add(e *tree.Entry, set tree.Settings) (*node, error) {
	fs.inodes++
	n := &node{e: e, number: uint32(fs.inodes), fragment: noFragment}
	var err error
	if n.uid, err = fs.ids.index(e.UID); err != nil {
		return nil, err
	}
	if n.gid, err = fs.ids.index(e.GID); err != nil {
		return nil, err
	}
	var left []string
	n.xattr, left = fs.xattrs.index(e.Xattrs)
	for _, name := range left {
		set.Warning(fmt.Sprintf("attribute %s of %q is left out: squashfs holds user, trusted and security attributes only", name, e.Path))
	}
	if e.Type() == unix.S_IFREG {
		fs.files = append(fs.files, n)
	}
	fs.newest = max(fs.newest, seconds(e.ModTime))
	return n, nil
}

func seconds(t int64) uint32 { return uint32(min(max(t, 0), math.MaxUint32)) }

// encode writes the inodes below a directory and then its own, because
// directories say where their inodes are. The result is the reference to it.
func (n *node) encode(fs *filesystem, inodes, dirs *metadata) (uint64, error) {
	for _, c := range n.children {
		if c.node.e.Type() == unix.S_IFDIR {
			if _, err := c.node.encode(fs, inodes, dirs); err != nil {
				return 0, err
			}
		} else if !c.node.written {
			c.node.place(inodes, c.node.inode())
		}
	}
	block, offset := dirs.here()
	list, err := n.list()
	if err != nil {
		return 0, fmt.Errorf("cannot store directory %q: %w", n.e.Path, err)
	}
	dirs.write(list)
	size := len(list) + 3 // as if it had "." and ".."
	if size <= math.MaxUint16 && n.xattr == noXattrs {
		n.place(inodes, encode(n.header(0), block, n.links, uint16(size), offset, n.parent.number))
	} else {
		n.place(inodes, encode(n.header(extended), n.links, uint32(size), block, n.parent.number, uint16(0), offset, n.xattr))
	}
	return uint64(n.block)<<16 | uint64(n.at), nil
}

func (n *node) place(inodes *metadata, data []byte) {
	n.block, n.at = inodes.here()
	n.written = true
	inodes.write(data)
}

// header is what all inodes begin with.
func (n *node) header(more uint16) []byte {
	return encode(typeOf(n.e.Mode)+more, uint16(n.e.Perm()), n.uid, n.gid, seconds(n.e.ModTime), n.number)
}

// inode encodes everything but directories.
func (n *node) inode() []byte {
	more, xattr := uint16(0), []byte(nil)
	if n.xattr != noXattrs {
		more, xattr = extended, encode(n.xattr)
	}
	switch n.e.Type() {
	case unix.S_IFREG:
		return n.regular()
	case unix.S_IFLNK:
		return encode(n.header(more), n.links, uint32(len(n.e.Target)), n.e.Target, xattr)
	case unix.S_IFBLK, unix.S_IFCHR:
		return encode(n.header(more), n.links, device(n.e.Major, n.e.Minor), xattr)
	}
	return encode(n.header(more), n.links, xattr)
}

func (n *node) regular() []byte {
	if n.xattr == noXattrs && n.links == 1 && n.sparse == 0 && n.e.Size <= math.MaxUint32 && n.start <= math.MaxUint32 {
		return encode(n.header(0), uint32(n.start), n.fragment, n.offset, uint32(n.e.Size), n.blocks)
	}
	return encode(n.header(extended), uint64(n.start), uint64(n.e.Size), uint64(n.sparse), n.links, n.fragment, n.offset, n.xattr, n.blocks)
}

// list encodes the names in a directory. Those whose inodes are in the same
// metadata block and have near numbers share a header.
func (n *node) list() ([]byte, error) {
	var out bytes.Buffer
	for i := 0; i < len(n.children); {
		first := n.children[i].node
		var entries bytes.Buffer
		count := 0
		for ; i < len(n.children) && count < maxHeaderSize; i++ {
			c := n.children[i]
			delta := int64(c.node.number) - int64(first.number)
			if c.node.block != first.block || delta < math.MinInt16 || delta > math.MaxInt16 {
				break
			}
			if len(c.name) > 256 {
				return nil, fmt.Errorf("the name %q has more than 256 bytes", c.name)
			}
			entries.Write(encode(c.node.at, int16(delta), typeOf(c.node.e.Mode), uint16(len(c.name)-1), c.name))
			count++
		}
		out.Write(encode(uint32(count-1), first.block, first.number))
		out.Write(entries.Bytes())
	}
	if out.Len() > math.MaxUint32-3 {
		return nil, fmt.Errorf("it has too many names")
	}
	return out.Bytes(), nil
}

// idTable numbers the owners.
type idTable struct {
	list []uint32
	at   map[uint32]uint16
}

func (t *idTable) index(id uint32) (uint16, error) {
	if at, ok := t.at[id]; ok {
		return at, nil
	}
	if len(t.list) == maxIDs-1 {
		return 0, fmt.Errorf("there are more than %d owners and groups", maxIDs-1)
	}
	t.at[id] = uint16(len(t.list))
	t.list = append(t.list, id)
	return t.at[id], nil
}

// xattrTable numbers the different sets of attributes.
type xattrTable struct {
	sets [][]byte // encoded
	ids  []xattrID
	at   map[string]uint32
}

// xattrID is the entry of a set in the table.
type xattrID struct {
	Ref   uint64
	Count uint32
	Size  uint32
}

var xattrPrefixes = []string{"user.", "trusted.", "security."} // in the order of their numbers

// index returns the number of a set, and the names that it cannot hold.
func (x *xattrTable) index(list []tree.Xattr) (uint32, []string) {
	var set bytes.Buffer
	var left []string
	count := uint32(0)
	for _, a := range list {
		kind, name := -1, ""
		for i, p := range xattrPrefixes {
			if rest, ok := strings.CutPrefix(a.Name, p); ok {
				kind, name = i, rest
			}
		}
		if kind < 0 {
			left = append(left, a.Name)
			continue
		}
		set.Write(encode(uint16(kind), uint16(len(name)), name, uint32(len(a.Value)), a.Value))
		count++
	}
	if count == 0 {
		return noXattrs, left
	}
	key := set.String()
	at, ok := x.at[key]
	if !ok {
		at = uint32(len(x.sets))
		x.at[key] = at
		x.sets = append(x.sets, set.Bytes())
		x.ids = append(x.ids, xattrID{Count: count, Size: uint32(set.Len())})
	}
	return at, left
}

// pairs encodes all sets and notes where each is.
func (x *xattrTable) pairs(enc *zstd.Encoder) *metadata {
	m := &metadata{enc: enc}
	for i, set := range x.sets {
		block, offset := m.here()
		x.ids[i].Ref = uint64(block)<<16 | uint64(offset)
		m.write(set)
	}
	return m
}
