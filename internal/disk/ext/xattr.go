package ext

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	xattrMagic      = 0xea020000
	xattrHeader     = 32 // of a block of attributes
	xattrEntry      = 16 // without the name
	inlineXattrSize = inodeSize - 128 - extraSize - 4
)

// xattrPrefixes are the beginnings of names that are stored as numbers. Longer
// ones come first.
var xattrPrefixes = []struct {
	text  string
	index byte
	whole bool // nothing follows
}{
	{"system.posix_acl_access", 2, true}, {"system.posix_acl_default", 3, true},
	{"user.", 1, false}, {"trusted.", 4, false}, {"security.", 6, false}, {"system.", 7, false},
}

// attribute is an extended attribute as it is stored.
type attribute struct {
	index byte
	name  string
	value []byte
}

func attributesOf(n *inode) ([]attribute, error) {
	var list []attribute
	for _, name := range slices.Sorted(maps.Keys(n.xattrs)) {
		i := slices.IndexFunc(xattrPrefixes, func(p struct {
			text  string
			index byte
			whole bool
		}) bool {
			return p.whole && name == p.text || !p.whole && strings.HasPrefix(name, p.text)
		})
		if i < 0 {
			return nil, fmt.Errorf("cannot store attribute %s of %s: ext4 has no such kind", name, n.path)
		}
		a := attribute{xattrPrefixes[i].index, strings.TrimPrefix(name, xattrPrefixes[i].text), n.xattrs[name]}
		if a.index == 2 || a.index == 3 {
			var err error
			if a.value, err = storedACL(a.value); err != nil {
				return nil, fmt.Errorf("cannot store attribute %s of %s: %w", name, n.path, err)
			}
		}
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b attribute) int {
		if a.index != b.index {
			return int(a.index) - int(b.index)
		}
		if len(a.name) != len(b.name) {
			return len(a.name) - len(b.name)
		}
		return strings.Compare(a.name, b.name)
	})
	return list, nil
}

// storedACL turns an access control list as system calls have it
// (linux/posix_acl_xattr.h) into the shorter form on the disk (fs/ext4/acl.h).
func storedACL(value []byte) ([]byte, error) {
	const callHeader, callEntry, version = 4, 8, 2
	if len(value) < callHeader || (len(value)-callHeader)%callEntry != 0 || binary.LittleEndian.Uint32(value) != version {
		return nil, fmt.Errorf("%x is not an access control list", value)
	}
	out := le32(1)
	for e := value[callHeader:]; len(e) > 0; e = e[callEntry:] {
		out = append(out, e[:4]...)
		switch tag := binary.LittleEndian.Uint16(e); tag {
		case 0x02, 0x08: // a named user or group
			out = append(out, e[4:8]...)
		}
	}
	return out, nil
}

func pad4(n int) int { return (n + 3) &^ 3 }

// sizeOf is the room that attributes take, with the four zero bytes that end
// the list of names.
func sizeOf(list []attribute) int {
	size := 4
	for _, a := range list {
		size += xattrEntry + pad4(len(a.name)) + pad4(len(a.value))
	}
	return size
}

// packXattrs writes attributes into a region: names from its beginning, values
// from its end. Offsets of values count from base bytes before the region.
// Blocks have hashes, inodes have none.
func packXattrs(list []attribute, region []byte, base int, hashed bool) {
	le := binary.LittleEndian
	at, end := 0, len(region)
	for _, a := range list {
		e := region[at:]
		end -= pad4(len(a.value))
		copy(region[end:], a.value)
		e[0], e[1] = byte(len(a.name)), a.index
		if len(a.value) > 0 {
			le.PutUint16(e[2:], uint16(base+end))
		}
		le.PutUint32(e[8:], uint32(len(a.value)))
		if hashed {
			le.PutUint32(e[12:], xattrHash(a))
		}
		copy(e[xattrEntry:], a.name)
		at += xattrEntry + pad4(len(a.name))
	}
}

func xattrHash(a attribute) uint32 {
	var hash uint32
	for i := range len(a.name) {
		hash = hash<<5 ^ hash>>27 ^ uint32(a.name[i])
	}
	padded := make([]byte, pad4(len(a.value)))
	copy(padded, a.value)
	for ; len(padded) > 0; padded = padded[4:] {
		hash = hash<<16 ^ hash>>16 ^ binary.LittleEndian.Uint32(padded)
	}
	return hash
}

// xattrData is a block of attributes, complete but for its checksum, which
// depends on where it is put.
func xattrData(list []attribute) []byte {
	b := make([]byte, blockSize)
	le := binary.LittleEndian
	le.PutUint32(b, xattrMagic)
	le.PutUint32(b[4:], 1) // inodes that share it
	le.PutUint32(b[8:], 1) // blocks
	packXattrs(list, b[xattrHeader:], xattrHeader, true)
	var hash uint32
	for _, a := range list {
		hash = hash<<16 ^ hash>>16 ^ xattrHash(a)
	}
	le.PutUint32(b[12:], hash)
	return b
}

// storeXattrs decides where the attributes of an inode go: into the inode if
// there is room, else all into a block of its own.
func (w *writer) storeXattrs(n *inode) error {
	list, err := attributesOf(n)
	if err != nil || len(list) == 0 {
		return err
	}
	size := sizeOf(list)
	if size <= inlineXattrSize {
		n.inlineXattrs = make([]byte, inlineXattrSize)
		packXattrs(list, n.inlineXattrs, 0, false)
		return nil
	}
	if size > blockSize-xattrHeader {
		return fmt.Errorf("cannot store the attributes of %s: they need %d bytes, and one block holds %d", n.path, size, blockSize-xattrHeader)
	}
	runs, err := w.alloc.alloc(1)
	if err != nil {
		return err
	}
	n.xattrBlock = runs[0].start
	n.blocks++
	b := xattrData(list)
	if w.metadataCsum {
		where := binary.LittleEndian.AppendUint64(nil, uint64(n.xattrBlock))
		binary.LittleEndian.PutUint32(b[16:], checksum(w.seed, where, b))
	}
	return w.writeBlock(b, n.xattrBlock)
}
