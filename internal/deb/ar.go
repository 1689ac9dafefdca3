package deb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// arMagic begins every ar(5) archive.
const arMagic = "!<arch>\n"

// arHeaderSize is the length of the header of a member: name 16, mtime 12,
// owner 6, group 6, mode 8, size 10 and the two end bytes.
const arHeaderSize = 60

// arReader reads the common ar format, as far as deb(5) uses it.
type arReader struct {
	r    io.Reader
	cur  io.LimitedReader
	pad  int64 // bytes after the current member
	init bool
}

func newArReader(r io.Reader) *arReader { return &arReader{r: r} }

// next skips to the next member and returns its name and size, or io.EOF.
func (a *arReader) next() (name string, size int64, body io.Reader, err error) {
	if !a.init {
		var magic [len(arMagic)]byte
		if _, err := io.ReadFull(a.r, magic[:]); err != nil || string(magic[:]) != arMagic {
			return "", 0, nil, errors.New("not an ar archive")
		}
		a.init = true
	}
	if skip := a.cur.N + a.pad; skip > 0 {
		if _, err := io.CopyN(io.Discard, a.r, skip); err != nil {
			return "", 0, nil, fmt.Errorf("ar member is cut short: %w", err)
		}
	}
	var h [arHeaderSize]byte
	switch _, err := io.ReadFull(a.r, h[:]); {
	case err == io.EOF:
		return "", 0, nil, io.EOF
	case err != nil:
		return "", 0, nil, fmt.Errorf("ar header is cut short: %w", err)
	}
	if !bytes.Equal(h[58:], []byte("`\n")) {
		return "", 0, nil, errors.New("ar header is damaged")
	}
	size, err = strconv.ParseInt(strings.TrimRight(string(h[48:58]), " "), 10, 64)
	if err != nil || size < 0 {
		return "", 0, nil, fmt.Errorf("ar member size %q is not a number", h[48:58])
	}
	name = strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/")
	a.cur = io.LimitedReader{R: a.r, N: size}
	a.pad = size & 1
	return name, size, &a.cur, nil
}
