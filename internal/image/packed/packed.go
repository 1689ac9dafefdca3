// Package packed writes the raw disk compressed as one stream: raw.gz, raw.zst,
// and gcp, the archive that Google Compute Engine imports.
//
// Sources: RFC 1952 (gzip); RFC 8878 (zstd); for gcp, Google Cloud, "Manually
// import boot disks": a disk of whole GiB in the file disk.raw, in a tar of
// the old GNU format, in gzip; for that format, GNU tar manual, "Basic Tar Format".
package packed

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"

	"github.com/dib-builder/dib/internal/image"
)

// Format is a way to pack a disk.
type Format struct {
	name, extension string
	unit            int64 // the size of the disk is rounded up to a multiple of this
	pack            func(out io.Writer, workers int) (io.WriteCloser, error)
	// head and tail are what is around the disk, inside the compression.
	head func(size int64) []byte
	tail func(size int64) int64 // a number of zeros
}

// Formats are all formats of this package, sorted by name.
func Formats() []image.Format {
	return []image.Format{
		Format{name: "gcp", extension: "tar.gz", unit: 1 << 30, pack: packGzip, head: gnuHeader, tail: gnuTail},
		Format{name: "raw.gz", extension: "raw.gz", unit: 1, pack: packGzip},
		Format{name: "raw.zst", extension: "raw.zst", unit: 1, pack: packZstd},
	}
}

// Name implements image.Format.
func (f Format) Name() string { return f.name }

// Extension implements image.Format.
func (f Format) Extension() string { return f.extension }

// Keys implements image.Format. As of raw, there are none.
func (Format) Keys() []string { return nil }

// Check implements image.Format.
func (f Format) Check(opts image.Options, _ int64) error {
	return image.NoSettings(f.name, opts, map[string]string{"size": ""})
}

// Write implements image.Format.
func (f Format) Write(ctx context.Context, src *image.Source, out *os.File, opts image.Options, progress image.Progress) error {
	return image.WriteStream(ctx, f, src, out, opts, progress)
}

// Stream implements image.Streamer. The data is compressed whatever
// Options.Compress says: it is what the format is for.
func (f Format) Stream(ctx context.Context, src *image.Source, out image.Stream, opts image.Options, progress image.Progress) error {
	if err := f.Check(opts, src.Size()); err != nil {
		return err
	}
	workers := opts.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	if err := f.stream(ctx, src, out, workers, progress); err != nil {
		return fmt.Errorf("cannot write %s image: %w", f.name, err)
	}
	return nil
}

func (f Format) stream(ctx context.Context, src *image.Source, out io.Writer, workers int, progress image.Progress) error {
	z, err := f.pack(out, workers)
	if err != nil {
		return err
	}
	err = f.fill(ctx, src, &filled{ctx: ctx, w: z}, progress)
	// Also ends the compressor's goroutines after an error.
	if cerr := z.Close(); err == nil {
		err = cerr
	}
	return err
}

// fill writes what is then compressed.
func (f Format) fill(ctx context.Context, src *image.Source, out *filled, progress image.Progress) error {
	size := (src.Size() + f.unit - 1) / f.unit * f.unit
	if f.head != nil {
		if _, err := out.Write(f.head(size)); err != nil {
			return err
		}
	}
	if err := src.CopyTo(ctx, out, progress); err != nil {
		return err
	}
	if err := out.Skip(size - src.Size()); err != nil {
		return err
	}
	if f.tail != nil {
		return out.Skip(f.tail(size))
	}
	return nil
}

// filled is an image.Stream that writes holes in full.
type filled struct {
	ctx context.Context
	w   io.Writer
}

var zeros [1 << 20]byte

func (f *filled) Write(p []byte) (int, error) { return f.w.Write(p) }

func (f *filled) Skip(n int64) error {
	for n > 0 {
		if err := f.ctx.Err(); err != nil {
			return err
		}
		m, err := f.w.Write(zeros[:min(n, int64(len(zeros)))])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

const (
	// gzipLevel packs as the formats do that compress block by block.
	gzipLevel = 6
	// gzipBlock is compressed on its own, beginning with the dictionary of what
	// precedes it. The bytes depend on it, so it is part of the format.
	gzipBlock = 1 << 20
)

func packGzip(out io.Writer, workers int) (io.WriteCloser, error) {
	z, err := pgzip.NewWriterLevel(out, gzipLevel)
	if err != nil {
		return nil, err
	}
	return z, z.SetConcurrency(gzipBlock, workers+1)
}

func packZstd(out io.Writer, workers int) (io.WriteCloser, error) {
	// With one worker the encoder takes another way, with other bytes.
	return zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(max(2, workers)))
}

const (
	block  = 512
	record = 20 * block // archives are padded to this, as tar does
)

// gnuHeader is the header of disk.raw in the old GNU format. Its time is fixed:
// equal disks give equal archives.
func gnuHeader(size int64) []byte {
	b := make([]byte, block)
	copy(b, "disk.raw")
	copy(b[100:], "0000644\x00")
	copy(b[108:], "0000000\x00")
	copy(b[116:], "0000000\x00")
	if size < 1<<33 {
		copy(b[124:], fmt.Sprintf("%011o\x00", size))
	} else { // as a binary number
		b[124] = 0x80
		for i, shift := 135, 0; shift < 64; i, shift = i-1, shift+8 {
			b[i] = byte(size >> shift)
		}
	}
	copy(b[136:], "00000000000\x00")
	b[156] = '0'
	copy(b[257:], "ustar  \x00")
	copy(b[148:], "        ") // what the checksum takes for itself
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// gnuTail is the length of what ends the archive.
func gnuTail(size int64) int64 {
	pos := block + (size+block-1)/block*block
	return (pos+2*block+record-1)/record*record - size - block
}
