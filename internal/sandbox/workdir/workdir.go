// Package workdir makes, finds and removes the directories on the host in which
// builds work when memory is short.
//
// A directory in use is locked (flock(2)) by its build; one whose lock is free
// was left behind by a killed build and may be removed.
package workdir

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	prefix   = "dib_build."
	lockName = "lock"
	rootName = "root"
	attempts = 100
	// letters of the random part, eight of them
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
)

// ErrBusy says that a build uses the directory.
var ErrBusy = errors.New("directory is in use")

// Dir is a locked work directory.
type Dir struct {
	Path string   // absolute
	Lock *os.File // the lock holds until every copy of this descriptor is closed
}

// Root is the part of the directory that becomes visible in the sandbox.
func (d *Dir) Root() string { return filepath.Join(d.Path, rootName) }

// Create makes a directory named dib_build.XXXXXXXX, mode 0700, below parent
// and locks it.
func Create(parent string) (*Dir, error) {
	parent, err := filepath.Abs(parent)
	if err != nil {
		return nil, fmt.Errorf("cannot create a work directory: %w", err)
	}
	for range attempts {
		path := filepath.Join(parent, prefix+random())
		err := os.Mkdir(path, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot create a work directory: %w", err)
		}
		lock, err := acquire(path)
		if errors.Is(err, ErrBusy) || errors.Is(err, fs.ErrNotExist) {
			continue // a sweeping build took it for a stale one before it was locked
		}
		if err != nil {
			return nil, err
		}
		d := &Dir{Path: path, Lock: lock}
		if err := os.Mkdir(d.Root(), 0o755); err != nil {
			lock.Close()
			return nil, fmt.Errorf("cannot create a work directory: %w", err)
		}
		return d, nil
	}
	return nil, fmt.Errorf("cannot create a work directory in %q: every name tried is taken", parent)
}

func random() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	return string(b[:])
}

// acquire locks a work directory. ErrBusy: somebody else has it, or has removed it.
func acquire(path string) (*os.File, error) {
	name := filepath.Join(path, lockName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the work directory: %w", err)
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		f.Close()
		return nil, ErrBusy
	case err != nil:
		f.Close()
		return nil, fmt.Errorf("cannot lock %q: %w", name, err)
	}
	// The lock counts only if the file still is the one under this name.
	var own, named unix.Stat_t
	if unix.Fstat(int(f.Fd()), &own) != nil || unix.Lstat(name, &named) != nil || own.Dev != named.Dev || own.Ino != named.Ino {
		f.Close()
		return nil, ErrBusy
	}
	return f, nil
}

// Stale locks and returns the directories below parent that belong to uid and
// that no build uses.
func Stale(parent string, uid int) ([]*Dir, error) {
	parent, err := filepath.Abs(parent)
	if err != nil {
		return nil, fmt.Errorf("cannot look for stale work directories: %w", err)
	}
	entries, err := os.ReadDir(parent)
	if err != nil {
		return nil, fmt.Errorf("cannot look for stale work directories: %w", err)
	}
	var out []*Dir
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || len(e.Name()) != len(prefix)+8 {
			continue
		}
		path := filepath.Join(parent, e.Name())
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != uid {
			continue
		}
		lock, err := acquire(path)
		if err != nil {
			continue // in use, or going away
		}
		out = append(out, &Dir{Path: path, Lock: lock})
	}
	return out, nil
}

// Remove removes a locked directory and releases it. The lock file goes last,
// so that an interrupted removal is found again by Stale. Symbolic links are
// not followed and other mounts are not entered: one of them inside is an error.
func Remove(d *Dir) error {
	defer d.Lock.Close()
	if err := removeAll(d.Path); err != nil {
		return fmt.Errorf("cannot remove the work directory %q: %w", d.Path, err)
	}
	return nil
}

func removeAll(path string) error {
	parent, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	dir, err := openSame(parent, filepath.Base(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := empty(dir, lockName); err != nil {
		return err
	}
	if err := unix.Unlinkat(int(dir.Fd()), lockName, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return unix.Unlinkat(parent, filepath.Base(path), unix.AT_REMOVEDIR)
}

// openSame opens a directory, refusing symbolic links and mount points.
func openSame(parent int, name string) (*os.File, error) {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EACCES) {
		// The owner may give himself access again.
		if err = unix.Fchmodat(parent, name, 0o700, unix.AT_SYMLINK_NOFOLLOW); err == nil {
			fd, err = unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		}
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	var stx unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &stx); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if stx.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		unix.Close(fd)
		return nil, fmt.Errorf("%q is a mount point", name)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// empty removes everything in dir but the entry named keep.
func empty(dir *os.File, keep string) error {
	for {
		entries, err := dir.ReadDir(1024)
		progress := false
		for _, e := range entries {
			if e.Name() == keep {
				continue
			}
			if err := removeEntry(dir, e); err != nil {
				return err
			}
			progress = true
		}
		switch {
		case len(entries) == 0 && (err == nil || errors.Is(err, io.EOF)):
			return nil
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case progress:
			// Entries went away under the reader: some may have been skipped.
			if _, err := dir.Seek(0, 0); err != nil {
				return err
			}
		}
	}
}

// removeEntry removes one entry of dir. A build as root may have left files or
// directories with the immutable or the append-only flag; they lose it.
func removeEntry(dir *os.File, e fs.DirEntry) error {
	err := removeOnce(dir, e)
	if errors.Is(err, unix.EPERM) && clearFlags(dir, e.Name()) {
		err = removeOnce(dir, e)
	}
	return err
}

// clearFlags makes dir and its entry name changeable again and reports whether
// that changed anything.
func clearFlags(dir *os.File, name string) bool {
	cleared := clearFlagsOf(int(dir.Fd()))
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return cleared
	}
	defer unix.Close(fd)
	return clearFlagsOf(fd) || cleared
}

// Flags of linux/fs.h that keep an inode from being unlinked.
const fsImmutable, fsAppend = 0x10, 0x20

func clearFlagsOf(fd int) bool {
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&(fsImmutable|fsAppend) == 0 {
		return false
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^(fsImmutable|fsAppend))) == nil
}

func removeOnce(dir *os.File, e fs.DirEntry) error {
	fd := int(dir.Fd())
	if !e.IsDir() {
		err := unix.Unlinkat(fd, e.Name(), 0)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		return &fs.PathError{Op: "unlink", Path: e.Name(), Err: err}
	}
	sub, err := openSame(fd, e.Name())
	if err != nil {
		return err
	}
	err = empty(sub, "")
	sub.Close()
	if err != nil {
		return fmt.Errorf("%s/%w", e.Name(), err)
	}
	if err := unix.Unlinkat(fd, e.Name(), unix.AT_REMOVEDIR); err != nil {
		return &fs.PathError{Op: "rmdir", Path: e.Name(), Err: err}
	}
	return nil
}
