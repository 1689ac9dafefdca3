// Package convert makes one image file of another.
package convert

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/checksum"
	"github.com/dib-builder/dib/internal/image/formats"
	"github.com/dib-builder/dib/internal/image/output"
)

// Request says what to convert.
type Request struct {
	In, Out   string
	From      string // format of In; empty to find out from its content
	Type      string // format of Out; empty to take it from its name
	Size      string // of the disk, see ParseSize; empty to keep it
	Options   image.Options
	Checksums []checksum.Algorithm
	Overwrite bool // what has the name Out, instead of renaming it
	Progress  image.Progress
}

// Result is what was done.
type Result struct {
	Format string // of the file written
	Size   int64  // of its disk
	Kept   string // name that a file with the name Out was given, or empty
}

// UsageError is about a request that no image could fulfil.
type UsageError struct{ error }

// TypeOf finds the format for a file from its name.
func TypeOf(name string) (string, error) {
	lower := strings.ToLower(filepath.Base(name))
	if strings.HasSuffix(lower, ".img") {
		return "raw", nil
	}
	for _, f := range formats.All() {
		if strings.HasSuffix(lower, "."+f.Name()) {
			return f.Name(), nil
		}
	}
	return "", fmt.Errorf("the name %q tells no format; name one with -t: %s", name, strings.Join(names(), ", "))
}

func names() []string {
	var list []string
	for _, f := range formats.All() {
		list = append(list, f.Name())
	}
	return list
}

// ParseSize reads the wish for a size: a number of bytes as image.ParseSize
// reads it, or such a number after a plus sign to add to what the disk has.
func ParseSize(text string, now int64) (int64, error) {
	digits, more := strings.CutPrefix(text, "+")
	n, err := image.ParseSize(digits)
	switch {
	case err != nil:
		return 0, err
	case more && n > 1<<62-now:
		return 0, fmt.Errorf("%q is too much for a disk of %d bytes", text, now)
	case more:
		return now + n, nil
	case n == 0:
		return 0, errors.New("a disk cannot have 0 bytes")
	}
	return n, nil
}

// Run converts. The file at Out appears when it is complete or not at all.
func Run(ctx context.Context, r Request) (Result, error) {
	format, err := r.check()
	if err != nil {
		return Result{}, UsageError{err}
	}
	in, err := formats.Open(r.In, r.From)
	if err != nil {
		return Result{}, err
	}
	defer in.Close()
	if in.Snapshots > 0 {
		return Result{}, fmt.Errorf("cannot convert %q: it has %d internal snapshots, which would be lost; delete them first (qemu-img snapshot -d)", r.In, in.Snapshots)
	}
	if err := distinct(in, r.Out); err != nil {
		return Result{}, err
	}
	res := Result{Format: format.Name(), Size: in.Size()}
	if r.Size != "" {
		if res.Size, err = ParseSize(r.Size, in.Size()); err != nil {
			return Result{}, UsageError{fmt.Errorf("cannot use size %q: %w", r.Size, err)}
		}
	}
	r.Options.Name = filepath.Base(r.Out)
	if err := format.Check(r.Options, res.Size); err != nil {
		return Result{}, err
	}
	src, err := source(ctx, in, res.Size)
	if err != nil {
		return Result{}, fmt.Errorf("cannot convert %q: %w", r.In, err)
	}
	res.Kept, err = r.write(ctx, src, format)
	if err != nil {
		return Result{}, fmt.Errorf("cannot convert %q: %w", r.In, err)
	}
	return res, nil
}

// check finds the format to write and looks at what does not depend on In.
func (r Request) check() (image.Format, error) {
	name := r.Type
	if name == "" {
		var err error
		if name, err = TypeOf(r.Out); err != nil {
			return nil, err
		}
	}
	format, ok := formats.Lookup(name)
	if !ok {
		return nil, fmt.Errorf("cannot write format %q; want one of %s", name, strings.Join(names(), ", "))
	}
	if r.Size != "" {
		if _, err := ParseSize(r.Size, 1); err != nil {
			return nil, fmt.Errorf("cannot use size %q: %w", r.Size, err)
		}
	}
	return format, format.Check(r.Options, 0)
}

// distinct makes sure that the result replaces nothing that is being read.
func distinct(in *formats.File, out string) error {
	st, err := os.Stat(out)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot write %q: %w", out, err)
	}
	for _, f := range in.Files() {
		if other, err := f.Stat(); err == nil && os.SameFile(st, other) {
			return fmt.Errorf("cannot write %q: the image is read from it; choose another name", out)
		}
	}
	return nil
}

// source is the disk with the size that it shall have.
func source(ctx context.Context, in *formats.File, size int64) (*image.Source, error) {
	if in.Format == "raw" && size == in.Size() {
		// With the file at hand the kernel may copy, or share blocks.
		return image.FileSource(in.Files()[0])
	}
	if size < in.Size() {
		list, err := in.Extents(ctx)
		if err != nil {
			return nil, err
		}
		if err := onlyZeros(ctx, in, list, size); err != nil {
			return nil, err
		}
	}
	return image.DiskSource(ctx, in, size)
}

var errData = errors.New("data")

// onlyZeros makes sure that there is nothing in a disk from an offset on.
func onlyZeros(ctx context.Context, in *formats.File, list []image.Extent, from int64) error {
	var rest []image.Extent
	for _, e := range list {
		if off := max(e.Off, from); off < e.End() {
			rest = append(rest, image.Extent{Off: off, Len: e.End() - off})
		}
	}
	s, err := image.NewSource(in, in.Size(), rest)
	if err != nil {
		return err
	}
	err = s.Chunks(ctx, 1<<20, nil, func(int64, []byte) error { return errData })
	if errors.Is(err, errData) {
		return fmt.Errorf("the disk of %d bytes cannot become one of %d: there is data behind that (a GPT has a copy at the end); shrink what is on it first", in.Size(), from)
	}
	return err
}

func (r Request) write(ctx context.Context, src *image.Source, format image.Format) (kept string, err error) {
	pending, err := output.Create(r.Out)
	if err != nil {
		return "", err
	}
	defer pending.Abort()
	if err := format.Write(ctx, src, pending.File(), r.Options, r.Progress); err != nil {
		return "", err
	}
	sums, err := checksum.Of(ctx, pending.File(), r.Checksums)
	if err != nil {
		return "", err
	}
	for _, s := range sums {
		if err := pending.Attach("."+s.Name, []byte(s.Line(r.Out))); err != nil {
			return "", err
		}
	}
	return pending.Commit(output.Policy{Overwrite: r.Overwrite})
}
