package squashfs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/image"
)

// fragment is the entry of a block of tails in the fragment table.
type fragment struct {
	Start  uint64
	Size   uint32
	Unused uint32
}

// block is one block of data on its way to the image.
type block struct {
	data   []byte
	packed []byte
	ready  chan struct{}
	placed func(pos int64, size uint32) // called in the order of the blocks
}

// packer compresses blocks with several workers and writes them in the order
// in which they came.
type packer struct {
	w       *writer
	ctx     context.Context
	cancel  context.CancelCauseFunc
	work    chan *block
	ordered chan *block
	wait    sync.WaitGroup
}

func newPacker(ctx context.Context, w *writer, workers int) *packer {
	p := &packer{w: w, work: make(chan *block, 2*workers), ordered: make(chan *block, 4*workers)}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	for range workers {
		p.wait.Go(func() {
			for b := range p.work {
				b.packed = w.enc.EncodeAll(b.data, nil)
				close(b.ready)
			}
		})
	}
	p.wait.Go(func() {
		for b := range p.ordered {
			<-b.ready
			if p.ctx.Err() != nil {
				continue // only empty the queue
			}
			data, size := b.packed, uint32(len(b.packed))
			if len(data) >= len(b.data) {
				data, size = b.data, uint32(len(b.data))|blockStored
			}
			b.placed(w.pos, size)
			if err := w.write(data); err != nil {
				p.cancel(err)
			}
		}
	})
	return p
}

// add hands over a block, which the caller must not touch any more.
func (p *packer) add(data []byte, placed func(pos int64, size uint32)) error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	b := &block{data: data, ready: make(chan struct{}), placed: placed}
	p.work <- b
	p.ordered <- b
	return nil
}

// finish waits until all is written.
func (p *packer) finish() error {
	close(p.work)
	close(p.ordered)
	p.wait.Wait()
	err := context.Cause(p.ctx)
	p.cancel(nil)
	return err
}

// writeData writes the content of all files and returns the fragment table.
// Files that are shorter than a block share blocks.
func (fs *filesystem) writeData(ctx context.Context, w *writer, workers int, progress image.Progress) ([]fragment, error) {
	total, done := int64(0), int64(0)
	for _, n := range fs.files {
		total += n.e.Size
	}
	p := newPacker(ctx, w, workers)
	d := &dataWriter{p: p, zeros: make([]byte, blockSize)}
	var err error
	for _, n := range fs.files {
		if err = d.file(n); err != nil {
			err = fmt.Errorf("cannot store %q: %w", n.e.Path, err)
			break
		}
		if done += n.e.Size; progress != nil {
			progress(done, total)
		}
	}
	if err == nil {
		err = d.flushFragment()
	}
	if err != nil {
		p.cancel(err)
	}
	if ferr := p.finish(); err == nil {
		err = ferr
	}
	frags := make([]fragment, len(d.frags))
	for i, f := range d.frags {
		frags[i] = *f
	}
	return frags, err
}

type dataWriter struct {
	p     *packer
	zeros []byte
	frags []*fragment
	tail  []byte // the fragment block that is being filled
}

func (d *dataWriter) file(n *node) error {
	if n.e.Size == 0 {
		return nil
	}
	f, err := n.e.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	// The source knows where the filesystem has holes, and does not read them.
	src, err := image.FileSource(f)
	if err != nil {
		return err
	}
	if src.Size() != n.e.Size {
		return io.ErrUnexpectedEOF
	}
	if n.e.Size < blockSize {
		return d.small(n, src)
	}
	n.blocks = make([]uint32, (n.e.Size+blockSize-1)/blockSize)
	first := true
	for i := range n.blocks {
		off := int64(i) * blockSize
		data := make([]byte, min(blockSize, n.e.Size-off))
		if got, err := src.ReadAt(data, off); got < len(data) {
			return fmt.Errorf("short read: %w", err)
		}
		if bytes.Equal(data, d.zeros[:len(data)]) {
			n.sparse += int64(len(data)) // a size of 0 says so
			continue
		}
		begins := first
		first = false
		err := d.p.add(data, func(pos int64, size uint32) {
			if begins {
				n.start = pos
			}
			n.blocks[i] = size
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *dataWriter) small(n *node, src *image.Source) error {
	if len(d.tail)+int(n.e.Size) > blockSize {
		if err := d.flushFragment(); err != nil {
			return err
		}
	}
	at := len(d.tail)
	d.tail = append(d.tail, d.zeros[:n.e.Size]...)
	if got, err := src.ReadAt(d.tail[at:], 0); got < int(n.e.Size) {
		return fmt.Errorf("short read: %w", err)
	}
	n.fragment, n.offset = uint32(len(d.frags)), uint32(at)
	return nil
}

func (d *dataWriter) flushFragment() error {
	if len(d.tail) == 0 {
		return nil
	}
	f := new(fragment)
	d.frags = append(d.frags, f)
	data := d.tail
	d.tail = nil
	return d.p.add(data, func(pos int64, size uint32) { f.Start, f.Size = uint64(pos), size })
}

// device is the kernel's encoding of the number of a device.
func device(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// typeOf is the number of a type of inode, in its basic form.
func typeOf(mode uint32) uint16 {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return 1
	case unix.S_IFREG:
		return 2
	case unix.S_IFLNK:
		return 3
	case unix.S_IFBLK:
		return 4
	case unix.S_IFCHR:
		return 5
	case unix.S_IFIFO:
		return 6
	}
	return 7 // a socket
}

// extended turns a basic type into the one with room for more.
const extended = 7
