package sourcerepos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/sourcerepo"
	"github.com/dib-builder/dib/internal/treepath"
)

// migrate makes the directory of the cache, out of that of early versions of
// DIB where there is one. Two builds may do so at once.
func (b *builder) migrate() error {
	parent := filepath.Dir(b.cache)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(b.cache); errors.Is(err, fs.ErrNotExist) {
		err := os.Rename(filepath.Join(parent, "repository-sources"), b.cache)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return os.MkdirAll(b.cache, 0o755)
}

// entry is what the cache has, or will have, of one source.
type entry struct {
	path string
	lock *os.File
}

// open takes the lock of a source's entry, exclusively.
func (b *builder) open(ctx context.Context, s sourcerepo.Source) (*entry, error) {
	e := &entry{path: filepath.Join(b.cache, s.CacheName())}
	var err error
	if e.lock, err = b.lock(ctx, e.path+".lock", true, s.Public()); err != nil {
		return nil, err
	}
	old := filepath.Join(b.cache, s.OldCacheName())
	if !e.exists() {
		if err := os.Rename(old, e.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			e.close()
			return nil, fmt.Errorf("cannot take over a cache entry of an early version: %w", err)
		}
	}
	return e, nil
}

func (e *entry) exists() bool {
	_, err := os.Lstat(e.path)
	return err == nil
}

// share lets other builds read the entry, too, but not change it.
func (e *entry) share() error { return unix.Flock(int(e.lock.Fd()), unix.LOCK_SH) }

func (e *entry) close() { e.lock.Close() }

// lockDelay is the time between two tries to take a lock.
const lockDelay = 100 * time.Millisecond

// lock takes a lock of flock(2), as DIB's shell code does, waiting as long as
// it takes. The kernel releases it when the process ends in whatever way.
func (b *builder) lock(ctx context.Context, path string, exclusive bool, what string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", what, err)
	}
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	for said := false; ; said = true {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("cannot lock %s (%s): %w", what, path, err)
		}
		if !said {
			b.say("waiting for another build that is at work on %s (%s)", what, path)
		}
		if err := pause(ctx, lockDelay); err != nil {
			f.Close()
			return nil, err
		}
	}
}

// inTree is where a path of the image is on the host. Links are followed as
// they are in the image; what does not exist yet is taken as it is written.
func (b *builder) inTree(name string) (string, error) {
	path, err := treepath.Resolve(b.tree, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	parent, err := b.inTree(filepath.Dir(name))
	if err != nil {
		return "", err
	}
	path = filepath.Join(parent, filepath.Base(name))
	if st, err := os.Lstat(path); err == nil && st.Mode()&fs.ModeSymlink != 0 {
		return "", fmt.Errorf("%s is a link in the image that leads nowhere", name)
	}
	return path, nil
}
