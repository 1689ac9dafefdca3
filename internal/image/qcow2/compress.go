package qcow2

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// deflateLevel is the fastest level that is not larger than qemu-img's output
// on Debian root filesystems: 0.2 % smaller on that of trixie, where level 5 is
// 0.2 % larger. qemu-img searches harder but limits matches to 4 KiB, which
// readers do not need: each cluster is unpacked in one piece.
const deflateLevel = 6

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
	if looksRandom(src) {
		return 0, false
	}
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

// sampleStride is the distance in bytes between the bytes that looksRandom
// counts; odd, so that tables of aligned words are not judged by one column.
const sampleStride = 5

// looksRandom tells data that is compressed already, such as packed kernel
// modules, from data that deflate could pack by more than a percent or so: a
// sample of its bytes is spread as evenly as chance would. Deflate would need
// several times as long to find out.
func looksRandom(src []byte) bool {
	const least = 4096 // a smaller sample is uneven even when it is random
	if len(src) < least*sampleStride {
		return false
	}
	var count [256]int
	n := 0
	for i := 0; i < len(src); i += sampleStride {
		count[src[i]]++
		n++
	}
	// Pearson's chi-squared statistic has a mean of 255 and a deviation of
	// 22.6 for random bytes. Text and code are far above; what is much more
	// even than chance is a pattern, which deflate packs well.
	sum := 0
	for _, c := range count {
		sum += c * c
	}
	statistic := (256*sum - n*n) / n
	return statistic > 120 && statistic < 400
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
