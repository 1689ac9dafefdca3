package checksum

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/dib-builder/dib/internal/image"
)

// File is a file that is digested while it is written front to back. Once
// anything is written out of order, the digests are computed by reading the
// finished file instead. It is not safe for concurrent use.
type File struct {
	file       *os.File
	algorithms []Algorithm
	stream     *digester // nil when the digests come from reading
	end        int64     // the file is at least as long as this in the end
}

// NewFile wraps an empty file. Close must be called in the end.
func NewFile(f *os.File, list []Algorithm) *File {
	c := &File{file: f, algorithms: list}
	if len(list) > 0 {
		c.stream = newDigester(list)
	}
	return c
}

// Write implements io.Writer.
func (c *File) Write(p []byte) (int, error) {
	n, err := c.file.Write(p)
	if c.stream != nil {
		c.stream.write(p[:n])
	}
	return n, err
}

// Digesting says whether digests are computed while the file is written.
func (c *File) Digesting() bool { return c.stream != nil }

// Skip implements image.Stream. What is skipped last is in the file once
// anything is written after it or Sums is called.
func (c *File) Skip(n int64) error {
	if n <= 0 {
		return nil
	}
	end, err := c.file.Seek(n, io.SeekCurrent)
	if err != nil {
		return err
	}
	c.end = end
	if c.stream != nil {
		c.stream.skip(n)
	}
	return nil
}

// WriteAt implements io.WriterAt.
func (c *File) WriteAt(p []byte, off int64) (int, error) {
	c.Close()
	return c.file.WriteAt(p, off)
}

// File gives the file itself to a writer that needs more than Write; the
// digests then come from reading.
func (c *File) File() *os.File {
	c.Close()
	return c.file
}

// Close drops the digests of the stream. The file stays open.
func (c *File) Close() {
	if c.stream != nil {
		c.stream.stop()
		c.stream = nil
	}
}

// Sums returns the checksums of all that was written. Every digest is checked
// for itself: none can fail unseen (D12).
func (c *File) Sums(ctx context.Context) ([]Sum, error) {
	if st, err := c.file.Stat(); err != nil {
		return nil, fmt.Errorf("cannot finish the file: %w", err)
	} else if st.Size() < c.end {
		if err := c.file.Truncate(c.end); err != nil {
			return nil, fmt.Errorf("cannot finish the file: %w", err)
		}
	}
	if len(c.algorithms) == 0 {
		return nil, nil
	}
	if d := c.stream; d != nil {
		c.stream = nil
		return d.sums(), nil
	}
	return Of(ctx, c.file, c.algorithms)
}

// Of reads a file once, its holes not at all, and returns its checksums.
func Of(ctx context.Context, f *os.File, list []Algorithm) ([]Sum, error) {
	src, err := image.FileSource(f)
	if err != nil {
		return nil, fmt.Errorf("cannot compute checksums: %w", err)
	}
	d := newDigester(list)
	buf := make([]byte, chunk)
	for off := int64(0); off < src.Size(); off += chunk {
		p := buf[:min(chunk, src.Size()-off)]
		err := ctx.Err()
		if err == nil {
			var n int
			if n, err = src.ReadAt(p, off); n == len(p) {
				err = nil
			}
		}
		if err != nil {
			d.stop()
			return nil, fmt.Errorf("cannot compute checksums: %w", err)
		}
		d.write(p)
	}
	return d.sums(), nil
}
