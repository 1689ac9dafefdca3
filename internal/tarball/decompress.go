// Package tarball unpacks tar archives, compressed or not, into a directory.
package tarball

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// magics are the first bytes of what Decompress reads.
var magics = []struct {
	start string
	open  func(io.Reader) (io.ReadCloser, error)
}{
	{"\x1f\x8b", func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
	{"BZh", func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil }},
	{"\xfd7zXZ\x00", openXZ},
	{"\x28\xb5\x2f\xfd", openZstd},
}

func openXZ(r io.Reader) (io.ReadCloser, error) {
	d, err := xz.NewReader(r, xz.DefaultDictMax)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(d), nil
}

func openZstd(r io.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

// IsCompressed reports whether a stream that begins so is compressed in a way
// that Decompress knows. Six bytes are enough.
func IsCompressed(start []byte) bool {
	for _, m := range magics {
		if bytes.HasPrefix(start, []byte(m.start)) {
			return true
		}
	}
	return false
}

// Decompress returns the content of a stream that may be compressed with gzip,
// bzip2, xz or zstd, which its first bytes tell. Anything else is returned as it is.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	start, err := buffered.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for _, m := range magics {
		if bytes.HasPrefix(start, []byte(m.start)) {
			d, err := m.open(buffered)
			if err != nil {
				return nil, fmt.Errorf("cannot decompress: %w", err)
			}
			return d, nil
		}
	}
	return io.NopCloser(buffered), nil
}
