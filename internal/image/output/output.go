// Package output publishes finished files under their final names.
//
// A file appears complete or not at all, never overwrites another silently, and
// a killed process leaves nothing partial behind: data is written to a file
// without a name in the destination directory, which the kernel frees when its
// last descriptor closes. Where a filesystem cannot do that, a hidden locked
// file stands in, and whoever publishes there next removes it.
package output

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Policy says what becomes of a file that already has the final name.
type Policy struct {
	// Overwrite replaces it, together with its checksum files, which would
	// otherwise describe a file that is gone. The default is to rename it; see
	// OldName.
	Overwrite bool
	// Now is the clock that names a renamed file; its location is the local
	// time wanted. Nil means time.Now.
	Now func() time.Time
}

// Pending is a file that does not have its final name yet. It is not safe for
// concurrent use.
type Pending struct {
	path string // final name
	file *os.File
	name string // current name; empty for a file without one

	sidecars []sidecar
}

// Create begins a file that Commit will name path. The directory must exist
// and be writable; the file's mode follows the umask. Leftovers of killed
// processes in that directory are removed on the way.
func Create(path string) (*Pending, error) {
	// Failing to tidy up is no reason not to build.
	_ = SweepStale(filepath.Dir(path))
	return create(path, openUnnamed)
}

func create(path string, unnamed func(dir string) (*os.File, error)) (*Pending, error) {
	dir := filepath.Dir(path)
	if st, err := os.Lstat(path); err == nil && st.IsDir() {
		return nil, fmt.Errorf("cannot write %q: it is a directory", path)
	}
	p := &Pending{path: path}
	f, err := unnamed(dir)
	if errors.Is(err, errNoUnnamed) {
		f, err = createHidden(path)
		if err == nil {
			p.name = f.Name()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot create %q: %w", path, err)
	}
	p.file = f
	return p, nil
}

// File is the file to write to. It must not be closed.
func (p *Pending) File() *os.File { return p.file }

// Path is the name Commit will give.
func (p *Pending) Path() string { return p.path }

// Abort drops the file. It does nothing after Commit, so it can be deferred.
func (p *Pending) Abort() {
	if p.file == nil {
		return
	}
	for _, s := range p.sidecars {
		s.file.Abort()
	}
	if p.name != "" {
		_ = os.Remove(p.name) // before the close that frees the lock
	}
	_ = p.file.Close()
	p.file = nil
}

// Commit makes the contents durable and gives the file and its checksum files
// their names. It returns the name that a file of that name was moved to, or "". The Pending is used
// up; on error nothing of the new file remains and the old one keeps its name.
func (p *Pending) Commit(policy Policy) (kept string, err error) {
	if p.file == nil {
		return "", fmt.Errorf("internal error: output: %q committed twice", p.path)
	}
	defer p.Abort()
	if err := errors.Join(p.file.Sync(), p.syncSidecars()); err != nil {
		return "", fmt.Errorf("cannot finish %q: %w", p.path, err)
	}
	if policy.Overwrite {
		// The old checksums go first: a file without any is better than one with wrong ones.
		err = removeChecksums(p.path)
		if err == nil {
			err = p.replace()
		}
	} else {
		kept, err = p.keepOld(policy.Now)
	}
	if err == nil {
		err = p.publishSidecars()
	}
	if err != nil {
		return kept, fmt.Errorf("cannot finish %q: %w", p.path, err)
	}
	if err := syncDir(filepath.Dir(p.path)); err != nil {
		return kept, fmt.Errorf("cannot finish %q: %w", p.path, err)
	}
	return kept, nil
}

// keepOld names the file, moving aside whatever has the name.
func (p *Pending) keepOld(now func() time.Time) (kept string, err error) {
	if now == nil {
		now = time.Now
	}
	// Another process may take the name between the two steps; after a few
	// rounds that is no accident any more.
	for range 10 {
		err = p.link()
		if !errors.Is(err, fs.ErrExist) {
			break
		}
		name, aerr := moveAside(p.path, now())
		if aerr != nil {
			return "", aerr
		}
		if name == "" {
			continue
		}
		kept = name
		// Before the new file appears, which they would describe wrongly.
		if merr := moveChecksums(p.path, kept); merr != nil {
			return "", errors.Join(merr, renameNew(kept, p.path))
		}
	}
	switch {
	case kept == "":
		return "", err
	case err != nil:
		return "", errors.Join(err, renameNew(kept, p.path), moveChecksums(kept, p.path))
	}
	return kept, nil
}

// link gives the file its final name; fs.ErrExist when that is taken.
func (p *Pending) link() error {
	if p.name == "" {
		return linkUnnamed(p.file, p.path)
	}
	if err := renameNew(p.name, p.path); err != nil {
		return err
	}
	p.name = ""
	return nil
}

// replace gives the file its final name whether or not that is taken.
func (p *Pending) replace() error {
	if p.name == "" {
		err := p.link()
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		// Only a rename replaces atomically, and only a name can be renamed.
		// The lock lets a sweep remove it should we die between the two.
		// A filesystem without locks is never swept.
		_ = unix.Flock(int(p.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		name, err := hiddenName(p.path)
		if err != nil {
			return err
		}
		if err := linkUnnamed(p.file, name); err != nil {
			return err
		}
		p.name = name
	}
	if err := os.Rename(p.name, p.path); err != nil {
		return err
	}
	p.name = ""
	return nil
}

// errNoUnnamed means that unnamed files cannot be used in a directory.
var errNoUnnamed = errors.New("no unnamed files here")

// openUnnamed opens a file without a name that can later be linked into dir.
func openUnnamed(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o666)
	switch err {
	case nil:
	case unix.EOPNOTSUPP, unix.EISDIR, unix.EINVAL, unix.ENOSYS:
		// The filesystem, or all of this kernel, does not know the flag.
		return nil, errNoUnnamed
	default:
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), filepath.Join(dir, "(unnamed)"))
	// Linking goes through /proc; find out now rather than after the build.
	if _, err := os.Stat(procPath(f)); err != nil {
		f.Close()
		return nil, errNoUnnamed
	}
	return f, nil
}

func procPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func linkUnnamed(f *os.File, name string) error {
	err := unix.Linkat(unix.AT_FDCWD, procPath(f), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &os.LinkError{Op: "link", Old: "unnamed file", New: name, Err: err}
	}
	return nil
}

// renameNew renames without ever replacing: fs.ErrExist when to is taken.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP {
		// This filesystem cannot promise it; look first.
		if _, lerr := os.Lstat(to); lerr == nil {
			err = unix.EEXIST
		} else {
			err = unix.Rename(from, to)
		}
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: a filesystem without it
		return err
	}
	return nil
}
