// Package tree holds a finished root filesystem as the formats that are made
// of files, rather than of a disk, see it: one list of entries, in a fixed
// order, in which the directory on the host and the side table of what it
// could not hold are already one.
package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/sidetable"
)

// Inode flags of an Entry, as in FS_IOC_SETFLAGS.
const (
	FlagImmutable = sidetable.FlagImmutable
	FlagAppend    = sidetable.FlagAppend
)

// Tree is a root filesystem that does not change any more.
type Tree struct {
	// Entries are sorted: the root first, every directory before what it
	// holds, names of a directory in byte order.
	Entries []Entry
}

// Entry is one name in the tree.
type Entry struct {
	Path         string // relative to the root, "." for the root itself; any bytes but NUL
	Mode         uint32 // type, permission and set-id bits, as stat(2) has them
	UID, GID     uint32
	Size         int64  // of a regular file, in bytes
	ModTime      int64  // seconds since 1970
	Major, Minor uint32 // of a device node
	Target       string // of a symbolic link
	// Group is the same positive number for all names of one file that has
	// several in the tree, else 0.
	Group  int
	Xattrs []Xattr // sorted by name
	Flags  uint32  // FlagImmutable, FlagAppend

	file string // where the content is
}

// Xattr is an extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Type is the file type, one of unix.S_IFREG and its like.
func (e *Entry) Type() uint32 { return e.Mode & unix.S_IFMT }

// Perm is the mode without the type.
func (e *Entry) Perm() uint32 { return e.Mode & 0o7777 }

// Below reports whether the entry is dir or lies below it.
func (e *Entry) Below(dir string) bool {
	rest, ok := strings.CutPrefix(e.Path, dir)
	return ok && (rest == "" || rest[0] == '/')
}

// Open opens the content of a regular file.
func (e *Entry) Open() (*os.File, error) {
	f, err := os.OpenFile(e.file, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && st.Size() != e.Size {
		err = fmt.Errorf("%s has changed its size from %d to %d bytes since it was listed", e.file, e.Size, st.Size())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Options say how a directory is to be read.
type Options struct {
	Side []sidetable.Entry // what the directory could not hold; see Table.Resolve
	// Epoch is the latest time that a file may have, in seconds since 1970;
	// 0 sets no limit.
	Epoch int64
	// Enter lists mount points below the directory, as full paths, that belong to
	// the tree.
	Enter []string
}

// Read lists the tree in dir. What is mounted below it is not
// entered, unless it is listed in opt.Enter.
func Read(ctx context.Context, dir string, opt Options) (*Tree, error) {
	r := reader{ctx: ctx, dir: dir, opt: opt, side: map[string]*sidetable.Entry{}, groups: map[inode]*[]int{}}
	for i := range opt.Side {
		r.side[opt.Side[i].Path] = &opt.Side[i]
	}
	if err := r.walk(".", 0); err != nil {
		return nil, fmt.Errorf("cannot read the image tree: %w", err)
	}
	n := 0
	for i := range r.entries { // number the groups in the order of their first names
		members := r.groups[r.inodes[i]]
		if members == nil || len(*members) < 2 || (*members)[0] != i {
			continue
		}
		n++
		for _, m := range *members {
			r.entries[m].Group = n
		}
	}
	return &Tree{Entries: r.entries}, nil
}

type inode struct {
	dev, ino uint64
}

type reader struct {
	ctx     context.Context
	dir     string
	opt     Options
	side    map[string]*sidetable.Entry
	entries []Entry
	inodes  []inode // of each entry
	groups  map[inode]*[]int
}

const statMask = unix.STATX_BASIC_STATS

func (r *reader) walk(path string, parentDev uint64) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	file := filepath.Join(r.dir, path)
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, file, unix.AT_SYMLINK_NOFOLLOW, statMask, &st); err != nil {
		return &os.PathError{Op: "statx", Path: file, Err: err}
	}
	e := Entry{
		Path: path, Mode: uint32(st.Mode), UID: st.Uid, GID: st.Gid, ModTime: r.clamp(st.Mtime.Sec), file: file,
		Flags: uint32(st.Attributes) & (FlagImmutable | FlagAppend),
	}
	var err error
	if e.Xattrs, err = readXattrs(file); err != nil {
		return fmt.Errorf("cannot read the extended attributes of %s: %w", file, err)
	}
	if side := r.side[path]; side != nil {
		e.apply(side)
	}
	switch e.Type() {
	case unix.S_IFREG:
		e.Size = int64(st.Size)
	case unix.S_IFLNK:
		if e.Target, err = os.Readlink(file); err != nil {
			return err
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if uint32(st.Mode)&unix.S_IFMT == e.Type() {
			e.Major, e.Minor = st.Rdev_major, st.Rdev_minor
		}
	}
	dev := unix.Mkdev(st.Dev_major, st.Dev_minor)
	id := inode{dev, st.Ino}
	if e.Type() != unix.S_IFDIR && st.Nlink > 1 {
		if r.groups[id] == nil {
			r.groups[id] = new([]int)
		}
		*r.groups[id] = append(*r.groups[id], len(r.entries))
	}
	r.entries = append(r.entries, e)
	r.inodes = append(r.inodes, id)
	if e.Type() != unix.S_IFDIR || path != "." && dev != parentDev && !slices.Contains(r.opt.Enter, file) {
		return nil
	}
	names, err := readNames(file)
	if err != nil {
		return err
	}
	for _, name := range names {
		if path != "." {
			name = path + "/" + name
		}
		if err := r.walk(name, dev); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) clamp(sec int64) int64 {
	if r.opt.Epoch != 0 {
		return min(sec, r.opt.Epoch)
	}
	return sec
}

// apply adds what the side table knows.
func (e *Entry) apply(side *sidetable.Entry) {
	e.Flags |= side.Flags
	if n := side.Node; n != nil {
		e.Mode, e.UID, e.GID = n.Mode, side.UID, side.GID
		e.Major, e.Minor = n.Major, n.Minor
	}
	for name, value := range side.Xattrs {
		at, found := slices.BinarySearchFunc(e.Xattrs, name, func(x Xattr, name string) int { return strings.Compare(x.Name, name) })
		if found {
			e.Xattrs[at].Value = value
		} else {
			e.Xattrs = slices.Insert(e.Xattrs, at, Xattr{name, value})
		}
	}
}

// readNames lists a directory in byte order, which is the same everywhere.
func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func readXattrs(file string) ([]Xattr, error) {
	list, err := grow(func(buf []byte) (int, error) { return unix.Llistxattr(file, buf) })
	if errors.Is(err, unix.ENOTSUP) || err == nil && len(list) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []Xattr
	for _, name := range bytes.Split(bytes.TrimSuffix(list, []byte{0}), []byte{0}) {
		value, err := grow(func(buf []byte) (int, error) { return unix.Lgetxattr(file, string(name), buf) })
		if errors.Is(err, unix.ENODATA) {
			continue // listed, but not for us to see
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		found = append(found, Xattr{string(name), value})
	}
	slices.SortFunc(found, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// grow calls read with room enough for what it returns.
func grow(read func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := read(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		buf := make([]byte, n)
		n, err = read(buf)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		return buf[:max(n, 0)], err
	}
}
