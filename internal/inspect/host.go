package inspect

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// HostTree reads a directory of the host, such as one where a filesystem is
// mounted, with what is mounted below it.
type HostTree struct{ Dir string }

// Walk implements Walker.
func (t *HostTree) Walk(visit func(Entry) error) error {
	return t.file(".", visit)
}

func (t *HostTree) file(path string, visit func(Entry) error) error {
	name := filepath.Join(t.Dir, path)
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	// Subvolumes of btrfs count their inodes from the beginning.
	e := Entry{
		Path: path, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Size: st.Size, ModTime: time.Unix(st.Mtim.Unix()).UTC(), ID: st.Ino ^ st.Dev<<44, Links: uint32(st.Nlink),
	}
	var err error
	if e.Xattrs, err = xattrs(name); err != nil {
		return err
	}
	switch st.Mode & TypeMask {
	case Regular:
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		e.Content = io.LimitReader(f, st.Size)
	case Symlink:
		if e.Target, err = os.Readlink(name); err != nil {
			return err
		}
	case Char, Block:
		e.Major, e.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
	if err := visit(e); err != nil || st.Mode&TypeMask != Dir {
		return Skipped(e, err)
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := t.file(filepath.Join(path, entry.Name()), visit); err != nil {
			return err
		}
	}
	return nil
}

func xattrs(name string) (map[string]string, error) {
	fail := func(err error) (map[string]string, error) {
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil, nil
		}
		return nil, &os.PathError{Op: "listxattr", Path: name, Err: err}
	}
	list, err := grow(func(b []byte) (int, error) { return unix.Llistxattr(name, b) })
	if err != nil || len(list) == 0 {
		if err != nil {
			return fail(err)
		}
		return nil, nil
	}
	attrs := map[string]string{}
	for len(list) > 0 {
		attr := unix.ByteSliceToString(list)
		list = list[len(attr)+1:]
		value, err := grow(func(b []byte) (int, error) { return unix.Lgetxattr(name, attr, b) })
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return fail(err)
		}
		attrs[attr] = string(value)
	}
	return attrs, nil
}

// grow calls get with larger buffers until the result fits.
func grow(get func([]byte) (int, error)) ([]byte, error) {
	for size := 1024; ; size *= 8 {
		b := make([]byte, size)
		n, err := get(b)
		if errors.Is(err, unix.ERANGE) && size < 1<<20 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}
