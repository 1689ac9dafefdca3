package ext

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Source is where the files of a filesystem come from.
type Source struct {
	// Dir is the directory that becomes the root of the filesystem; empty for a
	// filesystem without files.
	Dir string
	// Facts are what the tree cannot hold, by clean absolute path inside the
	// filesystem.
	Facts map[string]Fact
	// Mkdirs are directories to be made besides, absolute, parents first.
	Mkdirs []string
	// Root is the attributes of the root directory where Dir does not say them.
	Root Attributes
}

// Fact is what one path should be but is not.
type Fact struct {
	Node   *Node // a device; the tree has an empty regular file in its place
	Flags  uint32
	Xattrs map[string][]byte
}

// Node is a device node. Mode has its type and permissions.
type Node struct {
	Mode         uint32
	Major, Minor uint32
	UID, GID     uint32
}

// Attributes of an inode. Mode has the type.
type Attributes struct {
	Mode     uint32
	UID, GID uint32
	Mtime    unix.Timespec
}

// inode is a file to be written.
type inode struct {
	Attributes
	number       int64
	path         string // of its first name, for reading and for messages
	links        uint32
	flags        uint32
	xattrs       map[string][]byte
	size         int64
	rdev         [2]uint32
	target       string // of a symbolic link
	parent       *inode // of a directory
	entries      []entry
	extents      []extent
	blocks       int64 // of data, extent trees and attributes
	inlineXattrs []byte
	xattrBlock   int64
}

func (n *inode) kind() uint32 { return n.Mode & unix.S_IFMT }

// entry is a name in a directory.
type entry struct {
	name  string
	inode *inode
}

// maxName is the longest name in a directory, bytes.
const maxName = 255

// maxLinks is the highest number of names; a directory with more says 1.
const maxLinks = 65000

type scanner struct {
	src    Source
	inodes []*inode             // in the order of their numbers, from lost+found on
	linked map[[2]uint64]*inode // by device and inode number of the host
	facts  map[string]bool      // used
}

// scan reads the tree: names, attributes and links, but no contents.
func scan(src Source) (root *inode, inodes []*inode, err error) {
	s := scanner{src: src, linked: map[[2]uint64]*inode{}, facts: map[string]bool{}}
	root = &inode{number: rootInode, path: "/", links: 2, Attributes: src.Root}
	root.Mode = root.Mode&^uint32(unix.S_IFMT) | unix.S_IFDIR
	root.parent = root
	lost := &inode{path: "/lost+found", links: 2, parent: root, Attributes: Attributes{Mode: unix.S_IFDIR | 0o700, Mtime: src.Root.Mtime}}
	if src.Dir != "" {
		var st unix.Stat_t
		if err := unix.Stat(src.Dir, &st); err != nil {
			return nil, nil, fmt.Errorf("cannot read %s: %w", src.Dir, err)
		}
		root.Attributes = attributes(&st)
		if root.xattrs, err = readXattrs(src.Dir); err != nil {
			return nil, nil, err
		}
		s.inodes = append(s.inodes, lost)
		if err := s.directory(root, lost); err != nil {
			return nil, nil, err
		}
	} else {
		s.inodes = append(s.inodes, lost)
		root.entries = []entry{{lostFound, lost}}
		root.links++
	}
	s.apply(root)
	for _, dir := range src.Mkdirs {
		if err := s.mkdir(root, dir); err != nil {
			return nil, nil, err
		}
	}
	for name := range src.Facts {
		if !s.facts[name] {
			return nil, nil, fmt.Errorf("cannot record what %s should be: the tree has no such file", name)
		}
	}
	for i, n := range s.inodes {
		n.number = firstInode + int64(i)
	}
	return root, s.inodes, nil
}

const lostFound = "lost+found"

func attributes(st *unix.Stat_t) Attributes {
	return Attributes{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Mtime: st.Mtim}
}

func (s *scanner) hostPath(name string) string { return filepath.Join(s.src.Dir, name) }

// directory reads the names in a directory, in byte order. The root gets its
// lost+found, whose place in the tree is taken if there is one.
func (s *scanner) directory(dir, lost *inode) error {
	listed, err := os.ReadDir(s.hostPath(dir.path))
	if err != nil {
		return fmt.Errorf("cannot read the tree: %w", err)
	}
	if lost != nil {
		dir.entries = append(dir.entries, entry{lostFound, lost})
		dir.links++
	}
	for _, e := range listed {
		if len(e.Name()) > maxName {
			return fmt.Errorf("cannot store %q: its name is longer than %d bytes", path.Join(dir.path, e.Name()), maxName)
		}
		if lost != nil && e.Name() == lostFound {
			if !e.IsDir() {
				return fmt.Errorf("cannot store /%s: that is the directory where fsck puts what it finds", lostFound)
			}
			continue
		}
		n, err := s.file(path.Join(dir.path, e.Name()), dir)
		if err != nil {
			return err
		}
		dir.entries = append(dir.entries, entry{e.Name(), n})
	}
	slices.SortFunc(dir.entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return nil
}

func (s *scanner) file(name string, parent *inode) (*inode, error) {
	host := s.hostPath(name)
	var st unix.Stat_t
	if err := unix.Lstat(host, &st); err != nil {
		return nil, fmt.Errorf("cannot read the tree: %w", &fs.PathError{Op: "lstat", Path: name, Err: err})
	}
	id := [2]uint64{st.Dev, st.Ino}
	if other := s.linked[id]; other != nil {
		other.links++
		s.apply2(name, other)
		return other, nil
	}
	n := &inode{path: name, links: 1, Attributes: attributes(&st)}
	s.inodes = append(s.inodes, n)
	var err error
	if n.xattrs, err = readXattrs(host); err != nil {
		return nil, err
	}
	switch n.kind() {
	case unix.S_IFDIR:
		n.links, n.parent = 2, parent
		parent.links++
		s.apply(n)
		return n, s.directory(n, nil)
	case unix.S_IFREG:
		n.size = st.Size
	case unix.S_IFLNK:
		if n.target, err = os.Readlink(host); err != nil {
			return nil, fmt.Errorf("cannot read the tree: %w", err)
		}
		n.size = int64(len(n.target))
	case unix.S_IFCHR, unix.S_IFBLK:
		n.rdev = [2]uint32{unix.Major(st.Rdev), unix.Minor(st.Rdev)}
	}
	if st.Nlink > 1 {
		s.linked[id] = n
	}
	s.apply(n)
	return n, nil
}

// apply corrects an inode by what is known of its path.
func (s *scanner) apply(n *inode) { s.apply2(n.path, n) }

func (s *scanner) apply2(name string, n *inode) {
	f, ok := s.src.Facts[name]
	if !ok {
		return
	}
	s.facts[name] = true
	if f.Node != nil {
		n.Mode, n.UID, n.GID = f.Node.Mode, f.Node.UID, f.Node.GID
		n.rdev, n.size = [2]uint32{f.Node.Major, f.Node.Minor}, 0
	}
	n.flags |= f.Flags
	for key, value := range f.Xattrs {
		if n.xattrs == nil {
			n.xattrs = map[string][]byte{}
		}
		n.xattrs[key] = value
	}
}

// mkdir makes a directory that the tree does not have.
func (s *scanner) mkdir(root *inode, name string) error {
	parent := root
	for _, part := range strings.Split(strings.Trim(path.Dir(name), "/"), "/") {
		if part == "" {
			continue
		}
		i := slices.IndexFunc(parent.entries, func(e entry) bool { return e.name == part })
		if i < 0 || parent.entries[i].inode.kind() != unix.S_IFDIR {
			return fmt.Errorf("cannot make the mount point %s: it has no parent directory", name)
		}
		parent = parent.entries[i].inode
	}
	n := &inode{path: name, links: 2, parent: parent, Attributes: Attributes{Mode: unix.S_IFDIR | 0o755, Mtime: s.src.Root.Mtime}}
	s.inodes = append(s.inodes, n)
	parent.links++
	parent.entries = append(parent.entries, entry{path.Base(name), n})
	slices.SortFunc(parent.entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return nil
}

// readXattrs reads the extended attributes of a file of the host.
func readXattrs(host string) (map[string][]byte, error) {
	names, err := listXattrs(host)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	attrs := map[string][]byte{}
	for _, name := range names {
		if strings.HasPrefix(name, "trusted.overlay.") {
			continue // of the filesystem the tree lies on
		}
		value := make([]byte, blockSize)
		n, err := unix.Lgetxattr(host, name, value)
		if errors.Is(err, unix.ERANGE) {
			return nil, fmt.Errorf("cannot store attribute %s of %s: it is larger than a block", name, host)
		}
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read attribute %s of %s: %w", name, host, err)
		}
		attrs[name] = value[:n]
	}
	return attrs, nil
}

func listXattrs(host string) ([]string, error) {
	var small [1024]byte
	buf := small[:]
	n, err := unix.Llistxattr(host, buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, 64<<10)
		n, err = unix.Llistxattr(host, buf)
	}
	if errors.Is(err, unix.EOPNOTSUPP) || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the attributes of %s: %w", host, err)
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	return names, nil
}
