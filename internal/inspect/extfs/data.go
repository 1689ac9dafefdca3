package extfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
)

// span is a run of blocks of a file; what no span has is zero.
type span struct {
	first uint64 // in the file
	count uint64
	start uint64 // on disk
}

// maxSpans bounds the memory that a damaged file can ask for.
const maxSpans = 1 << 24

// mapping finds where the blocks of a file are.
func (f *FS) mapping(i *inode) ([]span, error) {
	m := &mapper{FS: f, blocks: (uint64(i.size()) + uint64(f.blockSize) - 1) / uint64(f.blockSize)}
	var err error
	if i.flags()&flagExtents != 0 {
		err = m.extents(i.blocks(), -1)
	} else {
		err = m.table(i.blocks())
	}
	return m.spans, err
}

type mapper struct {
	*FS
	blocks uint64 // of the file
	spans  []span
	next   uint64 // first block of the file that was not seen yet
}

func (m *mapper) add(s span) error {
	if s.first < m.next || s.start == 0 || s.start > m.FS.blocks || s.count > m.FS.blocks-s.start {
		return errors.New("the map of its blocks is damaged")
	}
	m.next = s.first + s.count
	if n := len(m.spans); n > 0 {
		last := &m.spans[n-1]
		if last.first+last.count == s.first && last.start+last.count == s.start {
			last.count += s.count
			return nil
		}
		if n == maxSpans {
			return errors.New("the file is in too many pieces")
		}
	}
	m.spans = append(m.spans, s)
	return nil
}

// extents reads a node of a tree of extents; depth is that of its parent's
// expectation, -1 at the top.
func (m *mapper) extents(b []byte, depth int) error {
	if len(b) < 12 || le.Uint16(b) != 0xf30a {
		return errors.New("the tree of extents is damaged")
	}
	count, own := int(le.Uint16(b[2:])), int(le.Uint16(b[6:]))
	if own > 5 || depth >= 0 && own != depth || 12+12*count > len(b) {
		return errors.New("the tree of extents is damaged")
	}
	for n := range count {
		e := b[12+12*n:]
		if own > 0 {
			child, err := m.block(uint64(le.Uint32(e[4:])) | uint64(le.Uint16(e[8:]))<<32)
			if err != nil {
				return err
			}
			if err := m.extents(child, own-1); err != nil {
				return err
			}
			continue
		}
		s := span{first: uint64(le.Uint32(e)), count: uint64(le.Uint16(e[4:])), start: uint64(le.Uint32(e[8:])) | uint64(le.Uint16(e[6:]))<<32}
		const unwritten = 0x8000
		if s.count > unwritten {
			m.next = max(m.next, s.first+s.count-unwritten)
			continue // allocated, and zero until it is written
		}
		if err := m.add(s); err != nil {
			return err
		}
	}
	return nil
}

// table reads the twelve direct and three indirect pointers of older files.
func (m *mapper) table(b []byte) error {
	at := uint64(0)
	for n := range 15 {
		if err := m.pointer(le.Uint32(b[4*n:]), max(0, n-11), &at); err != nil {
			return err
		}
	}
	return nil
}

// pointer follows one, level times indirect, for the block *at of the file.
func (m *mapper) pointer(block uint32, level int, at *uint64) error {
	if *at >= m.blocks {
		return nil
	}
	per := uint64(m.blockSize / 4)
	if block == 0 {
		n := uint64(1)
		for range level {
			n *= per
		}
		*at += n
		return nil
	}
	if level == 0 {
		*at++
		return m.add(span{*at - 1, 1, uint64(block)})
	}
	b, err := m.block(uint64(block))
	if err != nil {
		return err
	}
	for n := range per {
		if err := m.pointer(le.Uint32(b[4*n:]), level-1, at); err != nil {
			return err
		}
	}
	return nil
}

// content reads a file.
func (f *FS) content(i *inode) (io.Reader, error) {
	if i.flags()&flagInline != 0 {
		data, err := f.inlineData(i)
		if err != nil {
			return nil, err
		}
		return bytes.NewReader(data), nil
	}
	spans, err := f.mapping(i)
	if err != nil {
		return nil, err
	}
	return &reader{fs: f, spans: spans, size: i.size()}, nil
}

// readAll reads what must fit into memory.
func (f *FS) readAll(i *inode, most int64) ([]byte, error) {
	if size := i.size(); size > most || size > int64(f.blocks)*f.blockSize {
		return nil, fmt.Errorf("its size, %d bytes, is out of range", size)
	}
	r, err := f.content(i)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// inlineData is content that is kept in the inode.
func (f *FS) inlineData(i *inode) ([]byte, error) {
	data := bytes.Clone(i.blocks())
	raw, err := f.rawXattrs(i)
	if err != nil {
		return nil, err
	}
	data = append(data, raw[inlineAttribute]...)
	if size := i.size(); size <= int64(len(data)) {
		data = data[:size]
	} else {
		return nil, fmt.Errorf("it has %d bytes, and %d of them are there", size, len(data))
	}
	return data, nil
}

type reader struct {
	fs    *FS
	spans []span
	size  int64
	pos   int64
}

func (r *reader) Read(p []byte) (int, error) {
	if r.pos >= r.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.size-r.pos)]
	block := uint64(r.pos / r.fs.blockSize)
	for len(r.spans) > 0 && r.spans[0].first+r.spans[0].count <= block {
		r.spans = r.spans[1:]
	}
	if len(r.spans) == 0 || r.spans[0].first > block {
		if len(r.spans) > 0 {
			p = p[:min(int64(len(p)), int64(r.spans[0].first)*r.fs.blockSize-r.pos)]
		}
		clear(p)
		r.pos += int64(len(p))
		return len(p), nil
	}
	s := r.spans[0]
	p = p[:min(int64(len(p)), int64(s.first+s.count)*r.fs.blockSize-r.pos)]
	err := readFull(r.fs.r, p, int64(s.start)*r.fs.blockSize+r.pos-int64(s.first)*r.fs.blockSize)
	if err != nil {
		return 0, err
	}
	r.pos += int64(len(p))
	return len(p), nil
}

func (i *inode) modTime() time.Time {
	seconds := int64(int32(le.Uint32(i.raw[16:])))
	nanos := int64(0)
	if i.extra() >= 12 {
		extra := le.Uint32(i.raw[136:])
		seconds += int64(extra&3) << 32
		nanos = int64(extra >> 2)
	}
	return time.Unix(seconds, nanos).UTC()
}
