package fat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

const (
	attrVolumeLabel = 0x08
	attrDirectory   = 0x10
	attrArchive     = 0x20
	attrLongName    = 0x0f
)

// maxFile is the size of the largest file (bytes).
const maxFile = 1<<32 - 1

// Write makes a filesystem at offset base of w, which must read as zeros there,
// and fills it with the tree, or leaves it empty for nil. Links and device
// nodes are errors of type *NameError; ErrNoSpace is wrapped where files do not
// fit.
func Write(ctx context.Context, w io.WriterAt, base int64, tree fs.FS, o Options) error {
	g, id, err := plan(o)
	if err != nil {
		return err
	}
	root := &node{dir: true}
	if tree != nil {
		if root, err = scan(tree); err != nil {
			return err
		}
	}
	wr := &writer{ctx: ctx, w: w, base: base, g: g, epoch: o.Epoch, tree: tree, next: 2}
	if wr.label, err = encodeLabel(o.Label); err != nil {
		return err
	}
	if err := wr.place(root); err != nil {
		return err
	}
	if err := wr.content(root, nil); err != nil {
		return err
	}
	if err := wr.tables(); err != nil {
		return err
	}
	return wr.boot(id, o)
}

// node is a file or a directory of the tree.
type node struct {
	name, path string
	dir        bool
	size       int64 // bytes; of a directory, of its entries
	mtime      time.Time
	children   []*node
	short      [11]byte
	long       []byte
	first      int64 // cluster; 0 for none
	clusters   int64
}

func scan(tree fs.FS) (*node, error) {
	st, err := fs.Stat(tree, ".")
	if err != nil {
		return nil, err
	}
	root := &node{path: ".", dir: true, mtime: st.ModTime()}
	return root, root.scan(tree)
}

func (n *node) scan(tree fs.FS) error {
	entries, err := fs.ReadDir(tree, n.path)
	if err != nil {
		return err
	}
	namer := shortNamer{taken: map[string]bool{}}
	seen := map[string]string{}
	for _, e := range entries { // in byte order
		child := &node{name: e.Name(), path: e.Name(), dir: e.IsDir()}
		if n.path != "." {
			child.path = n.path + "/" + e.Name()
		}
		if why := checkName(child.name); why != "" {
			return &NameError{child.path, why}
		}
		folded := strings.ToUpper(child.name)
		if other, twice := seen[folded]; twice {
			return &NameError{child.path, fmt.Sprintf("only its case differs from %q", other)}
		}
		seen[folded] = child.path
		if !e.IsDir() && !e.Type().IsRegular() {
			return &NameError{child.path, "it is a " + kindOf(e.Type()) + "; FAT holds files and directories only"}
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		child.mtime = info.ModTime()
		var whole bool
		if child.short, whole = namer.name(child.name); !whole {
			child.long = longEntries(child.name, child.short)
		}
		if child.dir {
			if err := child.scan(tree); err != nil {
				return err
			}
		} else if child.size = info.Size(); child.size > maxFile {
			return &NameError{child.path, "it is larger than 4 GiB"}
		}
		n.children = append(n.children, child)
	}
	return nil
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSymlink != 0:
		return "symbolic link"
	case mode&fs.ModeDevice != 0:
		return "device node"
	case mode&fs.ModeNamedPipe != 0:
		return "named pipe"
	}
	return "special file"
}

type writer struct {
	ctx    context.Context
	w      io.WriterAt
	base   int64
	g      geometry
	epoch  int64
	tree   fs.FS
	label  [11]byte
	next   int64    // first free cluster
	chains []extent // in order
}

// extent is a run of clusters that belong together.
type extent struct{ first, count int64 }

// place gives every file and directory its clusters, one after the other, a
// directory before what is in it.
func (w *writer) place(n *node) error {
	if n.dir {
		n.size = w.directorySize(n)
	}
	isRoot := n.path == "." || n.path == ""
	if isRoot && w.g.kind != 32 {
		if n.size > rootEntries*entrySize {
			return fmt.Errorf("%w: its root directory holds %d entries, names longer than 8.3 need several", ErrNoSpace, rootEntries)
		}
	} else if err := w.allocate(n, isRoot); err != nil {
		return err
	}
	for _, c := range n.children {
		if err := w.place(c); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) allocate(n *node, isRoot bool) error {
	unit := w.g.clusterBytes()
	count := (n.size + unit - 1) / unit
	if n.dir || isRoot {
		count = max(count, 1)
	}
	if count == 0 {
		return nil
	}
	if w.next+count > w.g.clusters+2 {
		return fmt.Errorf("%w: %d bytes are too few for %q and what comes before it", ErrNoSpace, w.g.total*w.g.sectorSize, n.path)
	}
	n.first, n.clusters = w.next, count
	w.next += count
	w.chains = append(w.chains, extent{n.first, count})
	return nil
}

func (w *writer) directorySize(n *node) int64 {
	entries := 2 // . and ..
	if n.path == "." || n.path == "" {
		entries = 0
		if w.hasLabel() {
			entries = 1
		}
	}
	size := int64(entries * entrySize)
	for _, c := range n.children {
		size += int64(len(c.long)) + entrySize
	}
	return size
}

func (w *writer) hasLabel() bool { return string(w.label[:]) != "           " }

func (w *writer) content(n, parent *node) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if !n.dir {
		return w.file(n)
	}
	var b []byte
	switch {
	case parent != nil:
		self, up := pad(".", ""), pad("..", "")
		b = append(b, w.entry(self, attrDirectory, n.mtime, n.first, 0)...)
		above := parent.first
		if parent.path == "." {
			above = 0 // that is how the root is named, whatever its cluster
		}
		b = append(b, w.entry(up, attrDirectory, n.mtime, above, 0)...)
	case w.hasLabel():
		b = append(b, w.entry(w.label, attrVolumeLabel, n.mtime, 0, 0)...)
	}
	for _, c := range n.children {
		b = append(b, c.long...)
		if c.dir {
			b = append(b, w.entry(c.short, attrDirectory, c.mtime, c.first, 0)...)
		} else {
			b = append(b, w.entry(c.short, attrArchive, c.mtime, c.first, c.size)...)
		}
	}
	at := w.g.cluster(n.first)
	if n.first == 0 {
		at = (w.g.reserved + fats*w.g.fatSectors) * w.g.sectorSize
	}
	if err := w.write(b, at); err != nil {
		return err
	}
	for _, c := range n.children {
		if err := w.content(c, n); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) file(n *node) error {
	if n.clusters == 0 {
		return nil
	}
	f, err := w.tree.Open(n.path)
	if err != nil {
		return err
	}
	defer f.Close()
	out := io.NewOffsetWriter(w.w, w.base+w.g.cluster(n.first))
	got, err := io.Copy(out, io.LimitReader(f, n.size))
	if err != nil {
		return fmt.Errorf("cannot copy %q: %w", n.path, err)
	}
	if got != n.size {
		return fmt.Errorf("cannot copy %q: it has shrunk from %d to %d bytes", n.path, n.size, got)
	}
	return nil
}

func (w *writer) write(b []byte, at int64) error {
	if _, err := w.w.WriteAt(b, w.base+at); err != nil {
		return fmt.Errorf("cannot write: %w", err)
	}
	return nil
}

// entry is a directory entry with a short name.
func (w *writer) entry(name [11]byte, attr byte, mtime time.Time, first, size int64) []byte {
	e := make([]byte, entrySize)
	copy(e, name[:])
	e[11] = attr
	date, clock := dosTime(mtime, w.epoch)
	le := binary.LittleEndian
	if attr != attrVolumeLabel {
		le.PutUint16(e[14:], clock) // creation
		le.PutUint16(e[16:], date)
		le.PutUint16(e[18:], date) // last access
	}
	le.PutUint16(e[20:], uint16(first>>16))
	le.PutUint16(e[22:], clock)
	le.PutUint16(e[24:], date)
	le.PutUint16(e[26:], uint16(first))
	le.PutUint32(e[28:], uint32(size))
	return e
}

// dosTime writes a time in the format of DOS, whose years are 1980 to 2107 and
// whose zone is taken to be UTC.
func dosTime(t time.Time, epoch int64) (date, clock uint16) {
	if epoch > 0 && t.Unix() > epoch {
		t = time.Unix(epoch, 0)
	}
	t = t.UTC()
	if t.Year() < 1980 {
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if t.Year() > 2107 {
		t = time.Date(2107, 12, 31, 23, 59, 58, 0, time.UTC)
	}
	date = uint16(t.Year()-1980)<<9 | uint16(t.Month())<<5 | uint16(t.Day())
	clock = uint16(t.Hour())<<11 | uint16(t.Minute())<<5 | uint16(t.Second()/2)
	return date, clock
}

// tables writes both copies of the FAT.
func (w *writer) tables() error {
	used := w.next // entries of the table that say something
	table := make([]byte, (used*int64(w.g.kind)+7)/8+1)
	end := int64(1)<<w.g.kind - 1
	if w.g.kind == 32 {
		end = 0x0fffffff
	}
	set := func(n, value int64) {
		switch w.g.kind {
		case 12:
			at := n * 3 / 2
			if n%2 == 0 {
				table[at] = byte(value)
				table[at+1] = table[at+1]&0xf0 | byte(value>>8)
			} else {
				table[at] = table[at]&0x0f | byte(value<<4)
				table[at+1] = byte(value >> 4)
			}
		case 16:
			binary.LittleEndian.PutUint16(table[2*n:], uint16(value))
		default:
			binary.LittleEndian.PutUint32(table[4*n:], uint32(value))
		}
	}
	set(0, end&^0xff|media)
	set(1, end)
	for _, c := range w.chains {
		for n := c.first; n < c.first+c.count-1; n++ {
			set(n, n+1)
		}
		set(c.first+c.count-1, end)
	}
	table = table[:(used*int64(w.g.kind)+7)/8]
	for i := range int64(fats) {
		if err := w.write(table, (w.g.reserved+i*w.g.fatSectors)*w.g.sectorSize); err != nil {
			return err
		}
	}
	return nil
}

// boot writes the boot sector and, for FAT32, its copy and the sector that
// counts free clusters.
func (w *writer) boot(id uint32, o Options) error {
	g := w.g
	b := make([]byte, g.sectorSize)
	le := binary.LittleEndian
	copy(b[3:], "mkfs.fat") // the name that some firmware wants to see
	le.PutUint16(b[11:], uint16(g.sectorSize))
	b[13] = byte(g.perCluster)
	le.PutUint16(b[14:], uint16(g.reserved))
	b[16] = fats
	if g.kind != 32 {
		le.PutUint16(b[17:], rootEntries)
	}
	if g.total < 1<<16 && g.kind != 32 {
		le.PutUint16(b[19:], uint16(g.total))
	} else {
		le.PutUint32(b[32:], uint32(g.total))
	}
	b[21] = media
	le.PutUint16(b[24:], 63)  // sectors of a track
	le.PutUint16(b[26:], 255) // heads
	le.PutUint32(b[28:], uint32(o.Hidden))
	tail := 36
	if g.kind == 32 {
		tail = 64
		le.PutUint32(b[36:], uint32(g.fatSectors))
		le.PutUint32(b[44:], 2) // the root's cluster: it is placed first
		le.PutUint16(b[48:], infoSector)
		le.PutUint16(b[50:], backupSector)
	} else {
		le.PutUint16(b[22:], uint16(g.fatSectors))
	}
	b[tail] = 0x80 // the first hard disk
	b[tail+2] = 0x29
	le.PutUint32(b[tail+3:], id)
	copy(b[tail+7:], "NO NAME    ")
	if w.hasLabel() {
		copy(b[tail+7:], w.label[:])
	}
	copy(b[tail+18:], fmt.Sprintf("FAT%-5d", g.kind))
	// Nothing boots from here: hand over to the firmware's next choice.
	code := tail + 26
	b[0], b[1], b[2] = 0xeb, byte(code-2), 0x90
	copy(b[code:], []byte{0xcd, 0x18, 0xeb, 0xfe})
	b[510], b[511] = 0x55, 0xaa
	if err := w.write(b, 0); err != nil || g.kind != 32 {
		return err
	}
	info := make([]byte, g.sectorSize)
	le.PutUint32(info[0:], 0x41615252)
	le.PutUint32(info[484:], 0x61417272)
	le.PutUint32(info[488:], uint32(g.clusters+2-w.next))
	le.PutUint32(info[492:], uint32(w.next-1)) // the last one given away
	info[510], info[511] = 0x55, 0xaa
	return errors.Join(
		w.write(info, infoSector*g.sectorSize),
		w.write(b, backupSector*g.sectorSize),
		w.write(info, (backupSector+infoSector)*g.sectorSize))
}

// Sectors of FAT32 that are reserved for a purpose.
const (
	infoSector   = 1
	backupSector = 6
)
