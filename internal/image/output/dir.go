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
		return copyTree(src, dst)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d, err := createHiddenDir(dst)
	if err != nil {
		return err
	}
	defer d.Close() // holds the lock until the end
	if err := copyTree(src, d.Name()); err != nil {
		return errors.Join(err, os.RemoveAll(d.Name()))
	}
	err = renameNew(d.Name(), dst)
	if errors.Is(err, fs.ErrExist) {
		// Somebody was faster: add to what is there.
		err = copyTree(src, dst)
		return errors.Join(err, os.RemoveAll(d.Name()))
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(d.Name()))
	}
	return syncDir(parent)
}

// copyTree copies the contents of src into the existing directory dst.
func copyTree(src, dst string) error {
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
			return copyFile(path, to, info.Mode().Perm())
		case info.Mode()&fs.ModeSymlink != 0:
			return copySymlink(path, to)
		}
		return fmt.Errorf("%q is neither a file, a directory nor a symbolic link", path)
	})
}

func copyFile(from, to string, perm fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	p, err := create(to, openUnnamed)
	if err != nil {
		return err
	}
	defer p.Abort()
	if _, err := io.Copy(p.file, in); err != nil {
		return err
	}
	made, err := p.file.Stat()
	if err != nil {
		return err
	}
	// The file was created with 0666 less the umask; take the source's bits
	// as far as the umask allows, execute bits where read bits were allowed.
	allowed := made.Mode().Perm()
	allowed |= allowed >> 2 & 0o111
	if err := p.file.Chmod(perm & allowed); err != nil {
		return err
	}
	if err := p.file.Sync(); err != nil {
		return err
	}
	return p.replace()
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
