// Package treecopy copies a root filesystem as it is: owners, modes, times,
// links, holes, device nodes, extended attributes and inode flags.
package treecopy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Copy copies everything in the directory from, and its own attributes, to the
// directory to, which exists and holds nothing but directories (where other
// filesystems are mounted, for instance). It needs root. Hard links stay links
// as long as they do not lead from one filesystem to another.
func Copy(from, to string) error {
	c := copier{from: from, to: to, links: map[inode]string{}, buf: make([]byte, 256<<10)}
	if err := c.dir("."); err != nil {
		return err
	}
	// Times of directories last, as filling them changes them, and flags after
	// that, as they forbid changes. Children come before their parents.
	for i := len(c.dirs) - 1; i >= 0; i-- {
		if err := setTimes(filepath.Join(to, c.dirs[i].name), &c.dirs[i].st); err != nil {
			return err
		}
	}
	for i := len(c.flagged) - 1; i >= 0; i-- {
		if err := changeFlags(filepath.Join(to, c.flagged[i].name), c.flagged[i].flags, 0); err != nil {
			return err
		}
	}
	return nil
}

// Attributes gives the directory to owner, mode, extended attributes and times
// of the directory from.
func Attributes(from, to string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: from, Err: err}
	}
	if err := setAttributes(from, to, &st); err != nil {
		return err
	}
	return setTimes(to, &st)
}

// Remove removes a directory with everything in it, also what inode flags
// protect, but nothing of other filesystems that are mounted in it.
func Remove(dir string) error {
	var top unix.Stat_t
	if err := unix.Lstat(dir, &top); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &os.PathError{Op: "lstat", Path: path, Err: err}
		}
		if st.Dev != top.Dev {
			return fmt.Errorf("another filesystem is mounted at %s", path)
		}
		flags, err := readFlags(path, &st)
		if err != nil || flags == 0 {
			return err
		}
		return changeFlags(path, 0, flags)
	})
	if err == nil {
		err = os.RemoveAll(dir)
	}
	if err != nil {
		return fmt.Errorf("cannot remove %s: %w", dir, err)
	}
	return nil
}

type inode struct{ dev, ino uint64 }

type copier struct {
	from, to string
	links    map[inode]string // where an inode with several names was copied to, relative
	dirs     []entry
	flagged  []entry
	buf      []byte
}

type entry struct {
	name  string
	st    unix.Stat_t
	flags uint32
}

// dir copies a directory that exists in to already.
func (c *copier) dir(name string) error {
	src, dst := filepath.Join(c.from, name), filepath.Join(c.to, name)
	var st unix.Stat_t
	if err := unix.Lstat(src, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: src, Err: err}
	}
	entries, err := os.ReadDir(src)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.entry(filepath.Join(name, e.Name())); err != nil {
			return err
		}
	}
	if err := setAttributes(src, dst, &st); err != nil {
		return err
	}
	c.dirs = append(c.dirs, entry{name: name, st: st})
	return c.remember(name, src, &st)
}

func (c *copier) remember(name, src string, st *unix.Stat_t) error {
	flags, err := readFlags(src, st)
	if err == nil && flags != 0 {
		c.flagged = append(c.flagged, entry{name: name, flags: flags})
	}
	return err
}

func (c *copier) entry(name string) error {
	src, dst := filepath.Join(c.from, name), filepath.Join(c.to, name)
	var st unix.Stat_t
	if err := unix.Lstat(src, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: src, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		if err := os.Mkdir(dst, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if at, err := os.Lstat(dst); err != nil || !at.IsDir() {
			return fmt.Errorf("cannot copy directory %s: %s is none: %w", src, dst, errors.Join(err, unix.ENOTDIR))
		}
		return c.dir(name)
	}
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := c.links[id]; ok {
			err := unix.Linkat(unix.AT_FDCWD, filepath.Join(c.to, first), unix.AT_FDCWD, dst, 0)
			if !errors.Is(err, unix.EXDEV) {
				return pathError("link", dst, err)
			}
		} else {
			c.links[id] = name
		}
	}
	if err := c.make(src, dst, &st); err != nil {
		return err
	}
	if err := setAttributes(src, dst, &st); err != nil {
		return err
	}
	if err := setTimes(dst, &st); err != nil {
		return err
	}
	if kind != unix.S_IFREG {
		return nil
	}
	return c.remember(name, src, &st)
}

// make makes one thing that is no directory.
func (c *copier) make(src, dst string, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return c.file(src, dst, st.Size)
	case unix.S_IFLNK:
		target, err := os.Readlink(src)
		if err != nil {
			return err
		}
		return os.Symlink(target, dst)
	}
	// Devices, pipes and sockets.
	return pathError("mknod", dst, unix.Mknod(dst, st.Mode&unix.S_IFMT|0o600, int(st.Rdev)))
}

// file copies the data of a file, holes as holes.
func (c *copier) file(src, dst string, size int64) (err error) {
	in, err := os.OpenFile(src, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NOATIME, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := out.Close(); err == nil {
			err = cerr
		}
	}()
	if err := out.Truncate(size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		start, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole is left
		}
		if err != nil {
			return pathError("seek", src, err)
		}
		end, err := unix.Seek(int(in.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return pathError("seek", src, err)
		}
		end = min(end, size)
		if _, err := io.CopyBuffer(io.NewOffsetWriter(out, start), io.NewSectionReader(in, start, end-start), c.buf); err != nil {
			return fmt.Errorf("cannot copy %s: %w", src, err)
		}
		at = end
	}
	return nil
}

// setAttributes sets all but the times. The order matters: a new owner takes
// set-user-id bits and capabilities away, access lists change the mode.
func setAttributes(src, dst string, st *unix.Stat_t) error {
	if err := unix.Lchown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return pathError("lchown", dst, err)
	}
	if err := copyXattrs(src, dst); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	return pathError("chmod", dst, unix.Chmod(dst, st.Mode&0o7777))
}

func setTimes(path string, st *unix.Stat_t) error {
	times := []unix.Timespec{st.Atim, st.Mtim}
	return pathError("utimensat", path, unix.UtimesNanoAt(unix.AT_FDCWD, path, times, unix.AT_SYMLINK_NOFOLLOW))
}

func copyXattrs(src, dst string) error {
	names, err := grow(func(b []byte) (int, error) { return unix.Llistxattr(src, b) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return pathError("llistxattr", src, err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value, err := grow(func(b []byte) (int, error) { return unix.Lgetxattr(src, name, b) })
		if err != nil {
			return fmt.Errorf("cannot read extended attribute %s of %s: %w", name, src, err)
		}
		if err := unix.Lsetxattr(dst, name, value, 0); err != nil {
			return fmt.Errorf("cannot set extended attribute %s of %s: %w", name, dst, err)
		}
	}
	return nil
}

// grow calls get with a buffer that is large enough.
func grow(get func([]byte) (int, error)) ([]byte, error) {
	for {
		size, err := get(nil)
		if err != nil || size == 0 {
			return nil, err
		}
		buf := make([]byte, size)
		n, err := get(buf)
		if errors.Is(err, unix.ERANGE) {
			continue // it grew in between
		}
		return buf[:max(n, 0)], err
	}
}

// Inode flags that stand for something in an image, from linux/fs.h.
const (
	immutableFlag  = 0x10 // FS_IMMUTABLE_FL
	appendOnlyFlag = 0x20 // FS_APPEND_FL
)

// readFlags reads those flags of a file or directory.
func readFlags(path string, st *unix.Stat_t) (uint32, error) {
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return 0, nil
	}
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &x); err != nil {
		return 0, pathError("statx", path, err)
	}
	var flags uint32
	if x.Attributes&unix.STATX_ATTR_IMMUTABLE != 0 {
		flags |= immutableFlag
	}
	if x.Attributes&unix.STATX_ATTR_APPEND != 0 {
		flags |= appendOnlyFlag
	}
	return flags, nil
}

// changeFlags adds and removes inode flags.
func changeFlags(path string, add, remove uint32) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return pathError("open", path, err)
	}
	defer unix.Close(fd)
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return fmt.Errorf("cannot read the inode flags of %s: %w", path, err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^remove|add)); err != nil {
		return fmt.Errorf("cannot set the inode flags of %s: %w", path, err)
	}
	return nil
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}
