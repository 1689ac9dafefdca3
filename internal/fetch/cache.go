package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/event"
)

// BlobPath is where the cache keeps the blob of a SHA-256 sum.
func (c *Client) BlobPath(sum string) string {
	return filepath.Join(c.o.Dir, "blobs", "sha256", sum[:2], sum)
}

// Blob makes one blob available and returns its path in the cache. What it
// returns has been checked, in this call, by size and sum.
func (c *Client) Blob(ctx context.Context, b Blob) (string, error) {
	return c.blob(ctx, b, func(int64) {})
}

func (c *Client) blob(ctx context.Context, b Blob, count func(int64)) (path string, err error) {
	if err := b.check(); err != nil {
		return "", err
	}
	path = c.BlobPath(b.SHA256)
	if c.cached(b, path, true) {
		count(b.Size)
		return path, nil
	}
	if c.o.Offline {
		return "", fmt.Errorf("cannot get %s: %w", b.name(), ErrOffline)
	}
	part, err := c.lockPart(ctx, b.SHA256)
	if err != nil {
		return "", fmt.Errorf("cannot lock the download of %s: %w", b.name(), err)
	}
	defer part.Close()
	if c.cached(b, path, false) { // another build was quicker
		count(b.Size)
		return path, nil
	}
	if err := c.download(ctx, b, part, count); err != nil {
		return "", err
	}
	return path, c.publish(part, path)
}

// PutBlob stores what write produces, if it has the size and sum that b names,
// and returns its path. It serves content that is made from another blob, such
// as a decompressed index; b.URLs is not used.
func (c *Client) PutBlob(ctx context.Context, b Blob, write func(io.Writer) error) (string, error) {
	if err := b.check(); err != nil {
		return "", err
	}
	path := c.BlobPath(b.SHA256)
	if c.cached(b, path, true) {
		return path, nil
	}
	part, err := c.lockPart(ctx, b.SHA256)
	if err != nil {
		return "", fmt.Errorf("cannot lock %s: %w", path, err)
	}
	defer part.Close()
	if err := part.Truncate(0); err != nil {
		return "", err
	}
	sum := sha256.New()
	n := &counter{}
	if err := write(io.MultiWriter(part, sum, n)); err != nil {
		return "", err
	}
	if err := b.verify(n.n, sum); err != nil {
		return "", err
	}
	return path, c.publish(part, path)
}

// HasBlob tells whether a blob is in the cache with its right size; its sum is not looked at.
func (c *Client) HasBlob(b Blob) bool {
	st, err := os.Stat(c.BlobPath(b.SHA256))
	return err == nil && st.Size() == b.Size
}

// cached tells whether the cache holds the blob, reading it whole to be sure.
// A damaged copy is removed.
func (c *Client) cached(b Blob, path string, warn bool) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err == nil {
		err = b.verify(n, sum)
	}
	if err == nil {
		return true
	}
	if warn {
		c.o.Events.Emit(event.Warn(fmt.Sprintf("the cached file %s is damaged (%v); it is fetched again", path, err)))
	}
	_ = os.Remove(path)
	return false
}

func (b Blob) check() error {
	if _, err := hex.DecodeString(b.SHA256); err != nil || len(b.SHA256) != 2*sha256.Size || b.Size < 0 {
		return fmt.Errorf("internal error: fetch: bad sum %q or size %d of %s", b.SHA256, b.Size, b.name())
	}
	return nil
}

func (b Blob) name() string {
	if len(b.URLs) > 0 {
		return b.URLs[0]
	}
	return "sha256:" + b.SHA256
}

func (b Blob) verify(size int64, sum hash.Hash) error {
	if size != b.Size {
		return &MismatchError{What: "size", Want: strconv.FormatInt(b.Size, 10), Got: strconv.FormatInt(size, 10)}
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != b.SHA256 {
		return &MismatchError{What: "sha256", Want: b.SHA256, Got: got}
	}
	return nil
}

// lockPart opens the partial download of a blob and takes its lock, so that of
// several builds one downloads and the others wait. The lock is released by
// closing the file, also by the kernel when the process is killed; the bytes
// stay and are resumed.
func (c *Client) lockPart(ctx context.Context, sum string) (*os.File, error) {
	dir := filepath.Join(c.o.Dir, "blobs", "partial")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	name := filepath.Join(dir, sum)
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return nil, err
		}
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil && sameFile(f, name):
			return f, nil
		case err == nil: // published or removed between opening and locking
			f.Close()
		case errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR):
			f.Close()
			if err := c.o.Sleep(ctx, 100*time.Millisecond); err != nil {
				return nil, err
			}
		default:
			f.Close()
			return nil, err
		}
	}
}

func sameFile(f *os.File, name string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(name)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// publish gives a complete partial file its final name. It holds the lock of
// the partial name, and rename is atomic: readers see all or nothing.
func (c *Client) publish(part *os.File, path string) error {
	if err := part.Chmod(0o444); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Rename(part.Name(), path); err != nil {
		return fmt.Errorf("cannot keep a download in the cache: %w", err)
	}
	return nil
}

// writeAtomic replaces path with data whose modification time is mtime.
func writeAtomic(path string, data []byte, mtime time.Time) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := os.Chtimes(f.Name(), mtime, mtime); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

func notExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
