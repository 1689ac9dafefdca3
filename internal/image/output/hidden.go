package output

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"
)

// hiddenPattern matches the names that hiddenName makes, and no user's file.
var hiddenPattern = regexp.MustCompile(`^\..+\.dib-new-[0-9a-f]{8}$`)

// hiddenName makes a new temporary name beside path. Names need not be the
// same in two builds: nothing of them remains.
func hiddenName(path string) (string, error) {
	var r [4]byte
	if _, err := rand.Read(r[:]); err != nil {
		return "", err
	}
	dir, base := filepath.Split(path)
	// File names may be 255 bytes long; ours adds 18.
	if len(base) > 200 {
		base = base[:200]
	}
	return dir + "." + base + ".dib-new-" + hex.EncodeToString(r[:]), nil
}

// createHidden creates a locked file beside path. The lock is what tells
// SweepStale that its owner lives.
func createHidden(path string) (*os.File, error) {
	for range 100 {
		name, err := hiddenName(path)
		if err != nil {
			return nil, err
		}
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if lockNamed(f, name) {
			return f, nil
		}
		f.Close() // a sweep took it between its creation and its lock
	}
	return nil, fmt.Errorf("no temporary name beside %q could be had", path)
}

// createHiddenDir is createHidden for a directory.
func createHiddenDir(path string) (*os.File, error) {
	for range 100 {
		name, err := hiddenName(path)
		if err != nil {
			return nil, err
		}
		if err := os.Mkdir(name, 0o777); errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		d, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if lockNamed(d, name) {
			return d, nil
		}
		d.Close()
	}
	return nil, fmt.Errorf("no temporary name beside %q could be had", path)
}

// lockNamed locks f and reports whether name still leads to it.
func lockNamed(f *os.File, name string) bool {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return false
	}
	// A filesystem without locks: go on; a sweep cannot lock there either and
	// so leaves everything alone.
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(name)
	return err == nil && os.SameFile(mine, there)
}

// SweepStale removes what killed processes left in dir: hidden files and
// directories of this package whose lock is free. What others are still
// writing stays.
func SweepStale(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot look for unfinished files: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !hiddenPattern.MatchString(e.Name()) {
			continue
		}
		if err := sweep(filepath.Join(dir, e.Name())); err != nil {
			errs = append(errs, fmt.Errorf("cannot remove unfinished file: %w", err))
		}
	}
	return errors.Join(errs...)
}

func sweep(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		if err == unix.ENOENT || err == unix.ELOOP {
			return nil // finished by its owner, or not ours
		}
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Lstat(name); err != nil || !os.SameFile(mine, there) {
		return nil // renamed since
	}
	return os.RemoveAll(name)
}

// Scratch creates a hidden file beside path for another process to fill. The
// caller removes it; should it be killed before, whoever publishes there next does.
func Scratch(path string) (*os.File, error) {
	f, err := createHidden(path)
	if err != nil {
		return nil, fmt.Errorf("cannot create a temporary file beside %q: %w", path, err)
	}
	return f, nil
}
