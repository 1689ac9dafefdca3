package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
)

// Stream is a file that is written front to back.
type Stream interface {
	io.Writer
	// Skip goes on n bytes further; what is skipped reads as zeros and takes
	// no room in the file.
	Skip(n int64) error
}

// Streamer is a Format whose files are written front to back, so that they can
// be digested on the way. Its Write gives the same bytes.
type Streamer interface {
	Format
	// Stream writes the image of src to out. See Format.Write.
	Stream(ctx context.Context, src *Source, out Stream, opts Options, progress Progress) error
}

// WriteStream is the Write of formats that can Stream.
func WriteStream(ctx context.Context, f Streamer, src *Source, out *os.File, opts Options, progress Progress) error {
	s := fileStream{f: out}
	if err := f.Stream(ctx, src, &s, opts, progress); err != nil {
		return err
	}
	// What was skipped last is not in the file yet.
	if err := out.Truncate(s.pos); err != nil {
		return fmt.Errorf("cannot write %s image: %w", f.Name(), err)
	}
	return nil
}

type fileStream struct {
	f   *os.File
	pos int64
}

func (s *fileStream) Write(p []byte) (int, error) {
	n, err := s.f.WriteAt(p, s.pos)
	s.pos += int64(n)
	return n, err
}

func (s *fileStream) Skip(n int64) error {
	s.pos += n
	return nil
}

// sparseUnit is the size of runs of zeros that WriteSparse skips, in bytes.
const sparseUnit = 64 << 10

// WriteSparse writes p and skips what of it is zeros, in units of 64 KiB.
func WriteSparse(out Stream, p []byte) error {
	for len(p) > 0 {
		n := min(sparseUnit, len(p))
		zero := isZero(p[:n])
		for n < len(p) {
			m := min(sparseUnit, len(p)-n)
			if isZero(p[n:n+m]) != zero {
				break
			}
			n += m
		}
		var err error
		if zero {
			err = out.Skip(int64(n))
		} else {
			_, err = out.Write(p[:n])
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// isZero compares every byte with the one before it, which is vectorised.
func isZero(p []byte) bool { return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1]) }

// streamPiece is how much CopyTo reads at a time, in bytes.
const streamPiece = 1 << 20

// CopyTo writes the whole disk to out, its holes skipped. Progress may be nil.
func (s *Source) CopyTo(ctx context.Context, out Stream, progress Progress) error {
	pos := int64(0)
	err := s.Chunks(ctx, streamPiece, progress, func(n int64, data []byte) error {
		if err := out.Skip(n*streamPiece - pos); err != nil {
			return err
		}
		pos = min((n+1)*streamPiece, s.size)
		return WriteSparse(out, data[:pos-n*streamPiece])
	})
	if err != nil {
		return err
	}
	return out.Skip(s.size - pos)
}
