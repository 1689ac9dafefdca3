package tarball

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/tree"
)

// Formats returns all formats of this package, sorted by name.
func Formats() []tree.Format {
	return []tree.Format{
		simple{name: "aci", layout: layout{root: "rootfs"}, finish: addManifest},
		cpio{name: "cpio"},
		cpio{name: "cpio.gz", compress: compressGzip},
		Docker{},
		OCI{},
		simple{name: "tar", layout: layout{root: "."}},
		simple{name: "tar.zst", layout: layout{root: "."}, compress: compressZstd},
		simple{name: "tgz", layout: layout{root: "."}, compress: compressGzip},
	}
}

// simple is an archive, perhaps compressed, and nothing around it.
type simple struct {
	name   string
	layout layout
	// finish adds members that are not from the tree.
	finish   func(a *archive, t *tree.Tree, set tree.Settings) error
	compress compressor
}

// compressor copies in to out, compressed.
type compressor func(ctx context.Context, in io.Reader, out io.Writer, set tree.Settings) error

func (s simple) Name() string      { return s.name }
func (s simple) Extension() string { return s.name }

func (s simple) Write(ctx context.Context, t *tree.Tree, out tree.Output, set tree.Settings, progress image.Progress) error {
	err := s.write(ctx, t, out, set, progress)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", s.name, err)
	}
	return nil
}

func (s simple) write(ctx context.Context, t *tree.Tree, out io.Writer, set tree.Settings, progress image.Progress) error {
	return compressed(ctx, out, set, s.compress, func(ctx context.Context, w io.Writer) error {
		b := bufio.NewWriterSize(w, 1<<20)
		a, err := writeTree(ctx, b, t, s.layout, set, progress)
		if err != nil {
			return err
		}
		if s.finish != nil {
			if err := s.finish(a, t, set); err != nil {
				return err
			}
		}
		if err := a.end(); err != nil {
			return err
		}
		return b.Flush()
	})
}

// compressed has an archive written to out, through compress unless that is nil.
func compressed(ctx context.Context, out io.Writer, set tree.Settings, compress compressor, plain func(context.Context, io.Writer) error) error {
	if compress == nil {
		return plain(ctx, out)
	}
	// The archive is read while it is compressed. Both sides end when one
	// fails, and both errors count.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := compress(ctx, r, out, set)
		if err == nil {
			// A compressor that stops early would leave half an archive.
			var n int64
			if n, err = io.Copy(io.Discard, r); err == nil && n > 0 {
				err = errors.New("the compressor ended before its input did")
			}
		}
		r.CloseWithError(errStopped)
		packed <- err
	}()
	err := plain(ctx, w)
	w.CloseWithError(err) // nil is the end of the file
	if perr := <-packed; perr != nil && (err == nil || errors.Is(err, errStopped)) {
		return perr
	}
	return err
}

// errStopped is what the archive sees when its compressor has failed.
var errStopped = errors.New("the compressor stopped")

const (
	// gzipLevel packs within 5 % of gzip -9; the higher levels gain 2 % more and
	// take twenty times as long.
	gzipLevel = 6
	// gzipBlock is compressed on its own, beginning with the dictionary of what
	// precedes it. The bytes depend on it, so it is part of the format.
	gzipBlock = 1 << 20
)

func compressGzip(ctx context.Context, in io.Reader, out io.Writer, set tree.Settings) error {
	if set.Gzip != nil {
		return set.Gzip(ctx, in, out)
	}
	z, err := pgzip.NewWriterLevel(out, gzipLevel)
	if err != nil {
		return err
	}
	if err := z.SetConcurrency(gzipBlock, workers(set)+1); err != nil {
		return err
	}
	if _, err := io.Copy(z, in); err != nil {
		z.Close()
		return err
	}
	return z.Close()
}

func compressZstd(_ context.Context, in io.Reader, out io.Writer, set tree.Settings) error {
	z, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(max(2, workers(set))))
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, in); err != nil {
		z.Close()
		return err
	}
	return z.Close()
}

func workers(set tree.Settings) int {
	if set.Workers > 0 {
		return set.Workers
	}
	return runtime.GOMAXPROCS(0)
}

// addManifest adds the manifest of an aci beside its rootfs.
func addManifest(a *archive, t *tree.Tree, set tree.Settings) error {
	if set.Manifest == nil {
		set.Warning("the aci has no manifest: ACI_MANIFEST names none")
		return nil
	}
	return a.file("manifest", set.Manifest, newest(t))
}
