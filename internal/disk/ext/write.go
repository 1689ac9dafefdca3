package ext

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Write makes a filesystem at offset base of w, which must read as zeros
// there, and fills it. ErrNoSpace is wrapped where the files do not fit.
func Write(ctx context.Context, out io.WriterAt, base int64, src Source, o Options) error {
	s, err := read(o)
	if err != nil {
		return err
	}
	g, err := arrange(o.Length, s)
	if err != nil {
		return err
	}
	root, inodes, err := scan(src)
	if err != nil {
		return err
	}
	if need := firstInode + int64(len(inodes)) - 1; need > g.inodes() {
		return fmt.Errorf("%w: there are %d inodes for %d files; give mke2fs a smaller -i", ErrNoSpace, g.inodes(), need)
	}
	w := &writer{settings: s, geometry: g, out: out, base: base, alloc: newAllocator(g.blocks), root: root, inodes: inodes, dir: src.Dir}
	w.seed = checksum(^uint32(0), s.uuid[:])
	for i := range w.hashSeedWords {
		w.hashSeedWords[i] = binary.LittleEndian.Uint32(s.hashSeed[4*i:])
	}
	w.now = s.epoch
	if w.now == 0 {
		w.now = root.Mtime.Sec
	}
	if err := w.write(ctx); err != nil {
		if errors.Is(err, ErrNoSpace) {
			return fmt.Errorf("%w (%d MiB)", err, o.Length>>20)
		}
		return err
	}
	return nil
}

type writer struct {
	settings
	geometry
	out   io.WriterAt
	base  int64
	dir   string // of the tree
	now   int64  // seconds
	alloc *allocator

	seed          uint32 // of metadata checksums
	hashSeedWords [4]uint32

	root       *inode
	inodes     []*inode
	groupTable []groupDesc
	journalIno *inode
	resizeIno  *inode
	journalMap []byte // of blocks, as in its inode
}

// groupDesc is where the metadata of a group lie.
type groupDesc struct{ blockBitmap, inodeBitmap, inodeTable int64 }

func (w *writer) write(ctx context.Context) error {
	if err := w.placeMetadata(); err != nil {
		return err
	}
	if err := w.makeJournal(); err != nil {
		return err
	}
	if err := w.makeResizeInode(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0) + 1) // readers wait for the disk now and then
	err := w.contents(ctx, group)
	if werr := group.Wait(); err == nil {
		err = werr
	}
	if err != nil {
		return err
	}
	if err := w.inodeTables(); err != nil {
		return err
	}
	return w.describe()
}

func (w *writer) writeBlock(b []byte, block int64) error { return w.writeAt(b, block*blockSize) }

func (w *writer) writeAt(b []byte, at int64) error {
	if _, err := w.out.WriteAt(b, w.base+at); err != nil {
		return fmt.Errorf("cannot write: %w", err)
	}
	return nil
}

// placeMetadata takes the blocks that every group needs: superblocks and
// descriptors have fixed places, the rest of sixteen groups lies together.
func (w *writer) placeMetadata() error {
	for g := range w.groups {
		w.alloc.take(g*blocksPerGroup, w.overhead(g))
	}
	w.groupTable = make([]groupDesc, w.groups)
	together := int64(1)
	if w.ext4() {
		together = flexGroups
	}
	for first := int64(0); first < w.groups; first += together {
		end := min(first+together, w.groups)
		from := first * blocksPerGroup
		for _, part := range []struct {
			count int64
			set   func(*groupDesc, int64)
		}{
			{1, func(d *groupDesc, b int64) { d.blockBitmap = b }},
			{1, func(d *groupDesc, b int64) { d.inodeBitmap = b }},
			{w.tableBlocks, func(d *groupDesc, b int64) { d.inodeTable = b }},
		} {
			for g := first; g < end; g++ {
				b, err := w.alloc.contiguous(from, part.count)
				if err != nil {
					return err
				}
				part.set(&w.groupTable[g], b)
			}
		}
	}
	return nil
}

// makeJournal makes an empty journal (fs/jbd2): one block says that there is
// nothing in it.
func (w *writer) makeJournal() error {
	blocks := w.journal
	if blocks < 0 {
		blocks = usualJournal(w.blocks)
	}
	if blocks == 0 {
		return nil
	}
	runs, err := w.alloc.alloc(blocks)
	if err != nil {
		return fmt.Errorf("the journal of %d MiB: %w", blocks*blockSize>>20, err)
	}
	n := &inode{number: journalInode, path: "the journal", links: 1, size: blocks * blockSize, Attributes: w.ownAttributes()}
	n.addRuns(0, runs)
	w.journalIno = n
	b := make([]byte, blockSize)
	be := binary.BigEndian
	be.PutUint32(b, 0xc03b3998)
	be.PutUint32(b[4:], 4) // superblock, version 2
	be.PutUint32(b[12:], blockSize)
	be.PutUint32(b[16:], uint32(blocks))
	be.PutUint32(b[20:], 1) // first block of the log
	be.PutUint32(b[24:], 1) // first transaction expected
	copy(b[48:], w.uuid[:])
	be.PutUint32(b[64:], 1) // filesystems that use it
	return w.writeBlock(b, runs[0].start)
}

func (w *writer) ownAttributes() Attributes {
	return Attributes{Mode: unix.S_IFREG | 0o600, Mtime: unix.Timespec{Sec: w.now}}
}

// makeResizeInode makes the file that owns the blocks kept for descriptors of
// further groups: each of the first copy is an indirect block that lists its
// copies in the groups that have superblocks.
func (w *writer) makeResizeInode() error {
	n := &inode{number: resizeInode, path: "the resize inode", links: 1, Attributes: w.ownAttributes()}
	n.size = (pointers*pointers + pointers + 12) * blockSize
	w.resizeIno = n
	if w.reservedGDT == 0 {
		n.size, n.links, n.Mode = 0, 0, 0
		return nil
	}
	runs, err := w.alloc.alloc(1)
	if err != nil {
		return err
	}
	n.addRuns(0, runs)
	double := make([]byte, blockSize)
	var copies []int64
	for g := int64(1); g < w.groups; g++ {
		if hasSuper(g) {
			copies = append(copies, g)
		}
	}
	for i := range w.reservedGDT {
		block := 1 + w.gdt + i
		binary.LittleEndian.PutUint32(double[(w.gdt+i)%pointers*4:], uint32(block))
		list := make([]byte, blockSize)
		for k, g := range copies {
			binary.LittleEndian.PutUint32(list[4*k:], uint32(block+g*blocksPerGroup))
		}
		if err := w.writeBlock(list, block); err != nil {
			return err
		}
		n.blocks += 1 + int64(len(copies))
	}
	return w.writeBlock(double, runs[0].start)
}

// contents gives every file its blocks, in the order of inode numbers, and has
// them copied.
func (w *writer) contents(ctx context.Context, group *errgroup.Group) error {
	for _, n := range append([]*inode{w.root}, w.inodes...) {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		switch n.kind() {
		case unix.S_IFDIR:
			err = w.directory(n)
		case unix.S_IFREG:
			err = w.file(ctx, group, n)
		case unix.S_IFLNK:
			err = w.symlink(n)
		}
		if err == nil {
			err = w.storeXattrs(n)
		}
		if err != nil {
			return fmt.Errorf("cannot store %s: %w", n.path, err)
		}
	}
	return nil
}

func (w *writer) directory(n *inode) error {
	blocks, err := w.directoryBlocks(n)
	if err != nil {
		return err
	}
	n.size = int64(len(blocks)) * blockSize
	runs, err := w.alloc.alloc(int64(len(blocks)))
	if err != nil {
		return err
	}
	n.addRuns(0, runs)
	for _, r := range runs {
		for i := range r.count {
			if err := w.writeBlock(blocks[i], r.start+i); err != nil {
				return err
			}
		}
		blocks = blocks[r.count:]
	}
	return nil
}

// fastSymlink is the longest target that is kept in the inode itself.
const fastSymlink = 59

func (w *writer) symlink(n *inode) error {
	if len(n.target) <= fastSymlink {
		return nil
	}
	runs, err := w.alloc.alloc(1)
	if err != nil {
		return err
	}
	n.addRuns(0, runs)
	return w.writeAt([]byte(n.target), runs[0].start*blockSize)
}

// file gives a file its blocks; holes get none. Copying happens aside.
func (w *writer) file(ctx context.Context, group *errgroup.Group, n *inode) error {
	if n.size == 0 {
		return nil
	}
	if n.size > 1<<32*blockSize-blockSize {
		return errors.New("it is larger than 16 TiB")
	}
	f, err := os.Open((&scanner{src: Source{Dir: w.dir}}).hostPath(n.path))
	if err != nil {
		return err
	}
	segments, err := dataSegments(f, n.size)
	if err == nil {
		for _, s := range segments {
			var runs []run
			if runs, err = w.alloc.alloc(s.count); err != nil {
				break
			}
			n.addRuns(s.start, runs)
		}
	}
	if err != nil {
		f.Close()
		return err
	}
	extents := n.extents
	group.Go(func() error {
		defer f.Close()
		if err := w.copyData(ctx, f, extents, n.size); err != nil {
			return fmt.Errorf("cannot store %s: %w", n.path, err)
		}
		return nil
	})
	return nil
}

// dataSegments lists the blocks of a file that are not holes.
func dataSegments(f *os.File, size int64) ([]run, error) {
	whole := []run{{0, ceil(size, blockSize)}}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Blocks*512 >= size {
		return whole, nil
	}
	var segments []run
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return whole, nil // a filesystem that does not know its holes
		}
		hole, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return whole, nil
		}
		start, end := data/blockSize, ceil(min(hole, size), blockSize)
		if k := len(segments) - 1; k >= 0 && segments[k].start+segments[k].count >= start {
			segments[k].count = end - segments[k].start
		} else if end > start {
			segments = append(segments, run{start, end - start})
		}
		at = hole
	}
	return segments, nil
}

const copyBuffer = 1 << 20

func (w *writer) copyData(ctx context.Context, f *os.File, extents []extent, size int64) error {
	buf := make([]byte, min(copyBuffer, ceil(size, blockSize)*blockSize))
	for _, e := range extents {
		at, end := e.logical*blockSize, min((e.logical+e.count)*blockSize, size)
		to := e.physical * blockSize
		for at < end {
			if err := ctx.Err(); err != nil {
				return err
			}
			part := buf[:min(int64(len(buf)), end-at)]
			if _, err := f.ReadAt(part, at); err != nil {
				if errors.Is(err, io.EOF) {
					return errors.New("it became shorter while it was copied")
				}
				return err
			}
			if err := w.writeAt(part, to); err != nil {
				return err
			}
			at, to = at+int64(len(part)), to+int64(len(part))
		}
	}
	return nil
}
