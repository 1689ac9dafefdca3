package output

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// PublishDir copies the directory src to dst. A new dst appears complete; when
// dst exists its files are replaced one by one, each atomically, and files that
// src does not have stay. Directories, regular files and symbolic links are
// copied; modes follow src and the umask, the owner is the caller.
func PublishDir(src, dst string) error {
	if err := publishDir(src, filepath.Clean(dst)); err != nil {
		return fmt.Errorf("cannot publish %q: %w", dst, err)
	}
	return nil
}

func publishDir(src, dst string) error {
	parent := filepath.Dir(dst)
	_ = SweepStale(parent)
	if st, err := os.Stat(dst); err == nil {
		if !st.IsDir() {
			return fmt.Errorf("%q is not a directory", dst)
		}
		return copyTree(src, dst, copyFile)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// A directory cannot be without a name. What takes time, copying and waiting
	// for the disk, is therefore done before it gets one.
	files, err := stage(src, parent)
	defer files.abort()
	if err != nil {
		return err
	}
	d, err := createHiddenDir(dst)
	if err != nil {
		return err
	}
	defer d.Close() // holds the lock until the end
	if err := copyTree(src, d.Name(), files.place); err != nil {
		return errors.Join(err, os.RemoveAll(d.Name()))
	}
	err = renameNew(d.Name(), dst)
	if errors.Is(err, fs.ErrExist) {
		// Somebody was faster: add to what is there.
		err = copyTree(src, dst, copyFile)
		return errors.Join(err, os.RemoveAll(d.Name()))
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(d.Name()))
	}
	return syncDir(parent)
}

// maxStaged bounds the files that are open at the same time.
const maxStaged = 200

// staged are copies of files that have no names yet, by the path of the original.
type staged map[string]*Pending

// stage copies the regular files below src to dir. Those that are too many are
// left to place.
func stage(src, dir string) (staged, error) {
	s := staged{}
	err := filepath.WalkDir(src, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || len(s) == maxStaged {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, err := hiddenName(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		s[path], err = copyPending(path, name, info.Mode().Perm())
		return err
	})
	return s, err
}

// place gives the copy of a file its name.
func (s staged) place(from, to string, perm fs.FileMode) error {
	p := s[from]
	if p == nil {
		return copyFile(from, to, perm)
	}
	p.path = to
	return p.link()
}

func (s staged) abort() {
	for _, p := range s {
		if p != nil {
			p.Abort()
		}
	}
}

// copyTree copies the contents of src into the existing directory dst, regular
// files by copyRegular.
func copyTree(src, dst string, copyRegular func(from, to string, perm fs.FileMode) error) error {
	return filepath.WalkDir(src, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil || rel == "." {
			return err
		}
		to := filepath.Join(dst, rel)
		info, err := e.Info()
		if err != nil {
			return err
		}
		switch {
		case e.IsDir():
			// Writable for us, whatever the source: more goes into it.
			err = os.Mkdir(to, info.Mode().Perm()|0o700)
			if errors.Is(err, fs.ErrExist) {
				err = nil
			}
			return err
		case info.Mode().IsRegular():
			return copyRegular(path, to, info.Mode().Perm())
		case info.Mode()&fs.ModeSymlink != 0:
			return copySymlink(path, to)
		}
		return fmt.Errorf("%q is neither a file, a directory nor a symbolic link", path)
	})
}

func copyFile(from, to string, perm fs.FileMode) error {
	p, err := copyPending(from, to, perm)
	if err != nil {
		return err
	}
	defer p.Abort()
	return p.replace()
}

// copyPending copies a file to one that is on the disk, but not yet named to.
func copyPending(from, to string, perm fs.FileMode) (_ *Pending, err error) {
	in, err := os.Open(from)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	p, err := create(to, openUnnamed)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.Abort()
		}
	}()
	if _, err := io.Copy(p.file, in); err != nil {
		return nil, err
	}
	made, err := p.file.Stat()
	if err != nil {
		return nil, err
	}
	// The file was created with 0666 less the umask; take the source's bits
	// as far as the umask allows, execute bits where read bits were allowed.
	allowed := made.Mode().Perm()
	allowed |= allowed >> 2 & 0o111
	if err := p.file.Chmod(perm & allowed); err != nil {
		return nil, err
	}
	return p, p.file.Sync()
}

func copySymlink(from, to string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	name, err := hiddenName(to)
	if err != nil {
		return err
	}
	if err := os.Symlink(target, name); err != nil {
		return err
	}
	if err := os.Rename(name, to); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
