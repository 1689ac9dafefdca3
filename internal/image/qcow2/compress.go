package qcow2

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// deflateLevel is the fastest level that is never larger than qemu-img's output
// on Debian root filesystems: 0.5 % smaller, for a third of the CPU time (level 4
// is 2 % larger). qemu-img searches harder but limits matches to 4 KiB, which
// readers do not need: each cluster is unpacked in one piece.
const deflateLevel = 5

// compressor packs single clusters. It is not safe for concurrent use.
type compressor interface {
	// compress packs src into dst and reports the packed size, or false when
	// it does not fit. The same src gives the same bytes every time.
	compress(dst, src []byte) (n int, ok bool)
}

func newCompressor(t compressionType, clusterSize int64) (compressor, error) {
	if t == zlibCompression {
		w, err := flate.NewWriter(nil, deflateLevel)
		return &deflater{w: w}, err
	}
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedBetterCompression), // the default level is 1 % larger than qemu-img's output
		zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(max(zstd.MinWindowSize, int(clusterSize))),
		zstd.WithEncoderCRC(false), // as qemu-img writes them
		zstd.WithLowerEncoderMem(true))
	return &zstdPacker{e: e}, err
}

// deflater writes raw deflate streams, what the format calls zlib.
type deflater struct{ w *flate.Writer }

var errFull = errors.New("no room")

// fixedBuffer is a writer into a slice of fixed length.
type fixedBuffer struct {
	b []byte
	n int
}

func (f *fixedBuffer) Write(p []byte) (int, error) {
	n := copy(f.b[f.n:], p)
	f.n += n
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

func (d *deflater) compress(dst, src []byte) (int, bool) {
	out := fixedBuffer{b: dst}
	d.w.Reset(&out)
	if _, err := d.w.Write(src); err != nil {
		return 0, false
	}
	if err := d.w.Close(); err != nil {
		return 0, false
	}
	return out.n, true
}

type zstdPacker struct {
	e   *zstd.Encoder
	buf []byte
}

func (z *zstdPacker) compress(dst, src []byte) (int, bool) {
	z.buf = z.e.EncodeAll(src, z.buf[:0])
	if len(z.buf) > len(dst) {
		return 0, false
	}
	return copy(dst, z.buf), true
}

// decompressor unpacks single clusters; it is not safe for concurrent use.
type decompressor struct {
	kind compressionType
	in   bytes.Reader
	fl   io.ReadCloser
	zs   *zstd.Decoder
}

func newDecompressor(kind compressionType) *decompressor {
	return &decompressor{kind: kind}
}

// decompress fills dst from the stream at the beginning of src; what follows
// the stream is ignored. Memory is bounded whatever the stream says.
func (d *decompressor) decompress(dst, src []byte) error {
	d.in.Reset(src)
	var r io.Reader
	if d.kind == zlibCompression {
		if d.fl == nil {
			d.fl = flate.NewReader(&d.in)
		} else if err := d.fl.(flate.Resetter).Reset(&d.in, nil); err != nil {
			return err
		}
		r = d.fl
	} else {
		if d.zs == nil {
			zs, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderMaxMemory(16<<20))
			if err != nil {
				return err
			}
			d.zs = zs
		}
		if err := d.zs.Reset(&d.in); err != nil {
			return err
		}
		r = d.zs
	}
	if n, err := io.ReadFull(r, dst); err != nil {
		return fmt.Errorf("compressed data holds %d of %d bytes: %w", n, len(dst), err)
	}
	return nil
}
