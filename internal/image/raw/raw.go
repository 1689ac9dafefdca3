// Package raw writes the disk as it is: a sparse file, byte for byte.
//
// A caller that no longer needs the source may rename it instead.
package raw

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/image"
)

// chunk is how much is copied between two looks at the context, in bytes.
const chunk = 8 << 20

// Format is the raw output format. It knows no settings and cannot compress;
// image.Options.Compress is a wish it ignores.
type Format struct{}

// Name implements image.Format.
func (Format) Name() string { return "raw" }

// Extension implements image.Format.
func (Format) Extension() string { return "raw" }

// Keys implements image.Format. There are none to speak of: DIB only moves the
// raw disk to its place, whatever the settings are.
func (Format) Keys() []string { return nil }

// Check implements image.Format.
func (Format) Check(opts image.Options, _ int64) error {
	for _, s := range opts.Settings {
		switch {
		case s.Key == "preallocation" && s.Value == "off":
		case s.Key == "preallocation", s.Key == "size", s.Key == "extent_size_hint", s.Key == "nocow":
			return fmt.Errorf("cannot use image option %s=%s: %w", s.Key, s.Value, image.ErrUnsupported)
		default:
			return fmt.Errorf("cannot use image option %s=%s: raw has no such option", s.Key, s.Value)
		}
	}
	return nil
}

// Write implements image.Format. Where the filesystem can, the copy shares the
// source's blocks.
func (f Format) Write(ctx context.Context, src *image.Source, out *os.File, opts image.Options, progress image.Progress) error {
	if err := f.Check(opts, src.Size()); err != nil {
		return err
	}
	if err := write(ctx, src, out, progress); err != nil {
		return fmt.Errorf("cannot write raw image: %w", err)
	}
	return nil
}

// Stream implements image.Streamer.
func (f Format) Stream(ctx context.Context, src *image.Source, out image.Stream, opts image.Options, progress image.Progress) error {
	if err := f.Check(opts, src.Size()); err != nil {
		return err
	}
	if err := src.CopyTo(ctx, out, progress); err != nil {
		return fmt.Errorf("cannot write raw image: %w", err)
	}
	return nil
}

func write(ctx context.Context, src *image.Source, out *os.File, progress image.Progress) error {
	total := src.DataSize()
	if in := src.File(); in != nil && unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		if progress != nil {
			progress(total, total)
		}
		return nil
	}
	if err := out.Truncate(src.Size()); err != nil {
		return err
	}
	c := copier{src: src, out: out, inKernel: src.File() != nil && !src.Shared()}
	done := int64(0)
	for _, e := range src.Extents() {
		for off := e.Off; off < e.End(); {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := c.copy(off, min(chunk, e.End()-off))
			if err != nil {
				return err
			}
			off += n
			done += n
			if progress != nil {
				progress(done, total)
			}
		}
	}
	return nil
}

// copier copies ranges, inside the kernel as long as that works.
type copier struct {
	src      *image.Source
	out      *os.File
	inKernel bool
	buf      []byte
}

// copy copies up to n bytes at off and reports how many, at least one.
func (c *copier) copy(off, n int64) (int64, error) {
	if c.inKernel {
		from, to := off, off
		done, err := unix.CopyFileRange(int(c.src.File().Fd()), &from, int(c.out.Fd()), &to, int(n), 0)
		if err == nil && done > 0 {
			return int64(done), nil
		}
		// Different filesystems, an old kernel, a block device: copy by hand,
		// which also gives the proper error if there is one.
		c.inKernel = false
	}
	if c.buf == nil {
		c.buf = make([]byte, min(chunk, 1<<20))
	}
	p := c.buf[:min(n, int64(len(c.buf)))]
	if got, err := c.src.ReadAt(p, off); got < len(p) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	_, err := c.out.WriteAt(p, off)
	return int64(len(p)), err
}
