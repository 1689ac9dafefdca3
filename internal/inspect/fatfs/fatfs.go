// Package fatfs reads FAT filesystems: FAT12, FAT16 and FAT32, with long names.
package fatfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/dib-builder/dib/internal/inspect"
)

var le = binary.LittleEndian

// FS is an open filesystem.
type FS struct {
	r           io.ReaderAt
	clusterSize int64
	fatStart    int64 // in bytes, as all that follow
	fatSize     int64
	rootStart   int64 // of FAT12 and FAT16
	rootSize    int64
	dataStart   int64
	clusters    uint32 // how many there are; they count from 2
	bits        int    // of an entry in the FAT
	rootCluster uint32 // of FAT32
	label       string
	serial      uint32
}

// Is reports whether there is such a filesystem.
func Is(r io.ReaderAt) bool {
	_, err := Open(r)
	return err == nil
}

// Open reads the boot sector.
func Open(r io.ReaderAt) (*FS, error) {
	b := make([]byte, 512)
	if err := readFull(r, b, 0); err != nil {
		return nil, err
	}
	none := errors.New("not a FAT filesystem")
	if b[510] != 0x55 || b[511] != 0xaa || b[0] != 0xeb && b[0] != 0xe9 {
		return nil, none
	}
	sector, perCluster := int64(le.Uint16(b[11:])), int64(b[13])
	reserved, fats, rootEntries := int64(le.Uint16(b[14:])), int64(b[16]), int64(le.Uint16(b[17:]))
	total, fatSectors := int64(le.Uint16(b[19:])), int64(le.Uint16(b[22:]))
	if total == 0 {
		total = int64(le.Uint32(b[32:]))
	}
	label := b[43:54]
	f := &FS{r: r, serial: le.Uint32(b[39:])}
	if fatSectors == 0 {
		fatSectors, f.bits, f.rootCluster = int64(le.Uint32(b[36:])), 32, le.Uint32(b[44:])
		label, f.serial = b[71:82], le.Uint32(b[67:])
	}
	power := func(n int64) bool { return n > 0 && n&(n-1) == 0 }
	if !power(sector) || sector < 512 || sector > 4096 || !power(perCluster) || reserved == 0 || fats == 0 || fats > 4 || fatSectors == 0 {
		return nil, none
	}
	f.clusterSize, f.fatStart, f.fatSize = sector*perCluster, reserved*sector, fatSectors*sector
	f.rootStart, f.rootSize = (reserved+fats*fatSectors)*sector, rootEntries*32
	f.dataStart = f.rootStart + (f.rootSize+sector-1)/sector*sector
	clusters := (total*sector - f.dataStart) / f.clusterSize
	if clusters <= 0 || clusters > 0x0ffffff5 || f.bits != 32 && rootEntries == 0 {
		return nil, none
	}
	f.clusters = uint32(clusters)
	if f.bits == 0 {
		f.bits = 16
		if f.clusters < 4085 {
			f.bits = 12
		}
	}
	f.label = strings.TrimRight(string(label), " ")
	return f, nil
}

// Label is the name that was given to the filesystem.
func (f *FS) Label() string {
	if f.label == "NO NAME" {
		return ""
	}
	return f.label
}

// Serial is the number of the filesystem, which stands for a UUID.
func (f *FS) Serial() uint32 { return f.serial }

// maxCounted is the largest allocation table that Usage counts, in bytes.
const maxCounted = 32 << 20

// Usage is how many bytes there are for files, and how many of them are used.
// Without ok the table is too large to be counted.
func (f *FS) Usage() (size, used int64, ok bool, err error) {
	size = int64(f.clusters) * f.clusterSize
	bytes := ((int64(f.clusters)+2)*int64(f.bits) + 7) / 8
	if bytes > maxCounted {
		return size, 0, false, nil
	}
	if bytes > f.fatSize {
		return size, 0, false, errors.New("the allocation table is too small")
	}
	table := make([]byte, bytes+3) // entries are read as four bytes
	if err := readFull(f.r, table[:bytes], f.fatStart); err != nil {
		return size, 0, false, err
	}
	for n := int64(2); n < int64(f.clusters)+2; n++ {
		v := le.Uint32(table[n*int64(f.bits)/8:])
		switch f.bits {
		case 12:
			v = v >> (4 * (n & 1)) & 0xfff
		case 16:
			v &= 0xffff
		default:
			v &= 0x0fffffff
		}
		if v != 0 {
			used += f.clusterSize
		}
	}
	return size, used, true, nil
}

func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("cannot read %d bytes at %d: %w", len(p), off, err)
}

// next is the cluster that follows another; false at the end of a chain.
func (f *FS) next(cluster uint32) (uint32, bool, error) {
	at := int64(cluster) * int64(f.bits) / 8
	if at+int64(f.bits+7)/8 > f.fatSize {
		return 0, false, fmt.Errorf("cluster %d is not in the allocation table", cluster)
	}
	b := make([]byte, 4)
	if err := readFull(f.r, b[:(f.bits+7)/8], f.fatStart+at); err != nil {
		return 0, false, err
	}
	v := le.Uint32(b)
	end := uint32(0x0ffffff8)
	switch f.bits {
	case 12:
		v = v >> (4 * (cluster & 1)) & 0xfff
		end = 0xff8
	case 16:
		end = 0xfff8
	default:
		v &= 0x0fffffff
	}
	return v, v < end, nil
}

// chain is the content that begins with a cluster.
type chain struct {
	fs      *FS
	cluster uint32
	pos     int64 // in the cluster
	read    uint32
	ended   bool
}

func (c *chain) Read(p []byte) (int, error) {
	if c.pos == c.fs.clusterSize && !c.ended {
		next, more, err := c.fs.next(c.cluster)
		if err != nil {
			return 0, err
		}
		c.cluster, c.pos, c.ended = next, 0, !more
		if c.read++; c.read > c.fs.clusters {
			return 0, errors.New("a chain of clusters does not end")
		}
	}
	if c.ended {
		return 0, io.EOF
	}
	if c.cluster < 2 || c.cluster >= c.fs.clusters+2 {
		return 0, fmt.Errorf("there is no cluster %d", c.cluster)
	}
	p = p[:min(int64(len(p)), c.fs.clusterSize-c.pos)]
	err := readFull(c.fs.r, p, c.fs.dataStart+int64(c.cluster-2)*c.fs.clusterSize+c.pos)
	if err != nil {
		return 0, err
	}
	c.pos += int64(len(p))
	return len(p), nil
}

// Walk implements inspect.Walker. Owners and permissions, of which FAT has
// none, are those of a mount without options.
func (f *FS) Walk(visit func(inspect.Entry) error) error {
	w := &walk{FS: f, visit: visit, seen: map[uint32]bool{}}
	root := inspect.Entry{Path: ".", Mode: inspect.Dir | 0o755, ModTime: time.Unix(0, 0).UTC(), Links: 1}
	if err := visit(root); err != nil {
		return inspect.Skipped(root, err)
	}
	if f.bits == 32 {
		return w.directory(".", &chain{fs: f, cluster: f.rootCluster})
	}
	return w.directory(".", io.NewSectionReader(f.r, f.rootStart, f.rootSize))
}

type walk struct {
	*FS
	visit func(inspect.Entry) error
	seen  map[uint32]bool
	id    uint64
}

// maxDirectory is the most that the format allows, in bytes.
const maxDirectory = 65536 * 32

type file struct {
	name    string
	dir     bool
	cluster uint32
	size    int64
	time    time.Time
}

func (w *walk) directory(path string, r io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(r, maxDirectory))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	files, err := files(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, entry := range files {
		at := entry.name
		if path != "." {
			at = path + "/" + at
		}
		w.id++
		e := inspect.Entry{Path: at, Mode: inspect.Regular | 0o755, ModTime: entry.time, ID: w.id, Links: 1}
		content := &chain{fs: w.FS, cluster: entry.cluster}
		if entry.dir {
			e.Mode = inspect.Dir | 0o755
			if w.seen[entry.cluster] {
				return fmt.Errorf("%s: the directory contains itself", at)
			}
			w.seen[entry.cluster] = true
		} else {
			e.Size = entry.size
			content.ended = entry.size == 0
			e.Content = io.LimitReader(content, entry.size)
		}
		if err := w.visit(e); err != nil {
			if err := inspect.Skipped(e, err); err != nil {
				return err
			}
			continue
		}
		if entry.dir {
			if err := w.directory(at, content); err != nil {
				return err
			}
		}
	}
	return nil
}

// files reads the entries of a directory, sorted by name.
func files(data []byte) ([]file, error) {
	var list []file
	var long longName
	for ; len(data) >= 32 && data[0] != 0; data = data[32:] {
		e := data[:32]
		const volume, directory, longEntry = 0x08, 0x10, 0x0f
		switch attr := e[11]; {
		case e[0] == 0xe5: // deleted
			long = longName{}
			continue
		case attr&0x3f == longEntry:
			long.add(e)
			continue
		case attr&volume != 0:
			long = longName{}
			continue
		}
		f := file{
			name: long.of(e), dir: e[11]&directory != 0, cluster: uint32(le.Uint16(e[20:]))<<16 | uint32(le.Uint16(e[26:])),
			size: int64(le.Uint32(e[28:])), time: modTime(le.Uint16(e[24:]), le.Uint16(e[22:])),
		}
		long = longName{}
		if f.name == "." || f.name == ".." {
			continue
		}
		if f.name == "" || strings.ContainsAny(f.name, "/\x00") {
			return nil, fmt.Errorf("the directory has the name %q", f.name)
		}
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b file) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(list); i++ {
		if list[i].name == list[i-1].name {
			return nil, fmt.Errorf("the directory has %q twice", list[i].name)
		}
	}
	return list, nil
}

// longName collects the parts of a long name, which come last part first.
type longName struct {
	units []uint16
	sum   byte
	next  byte // number of the part that has to follow
}

func (l *longName) add(e []byte) {
	number := e[0] & 0x1f
	if e[0]&0x40 != 0 {
		*l = longName{sum: e[13], next: number}
	}
	if number == 0 || number != l.next || e[13] != l.sum {
		*l = longName{}
		return
	}
	l.next--
	var part []uint16
	for _, at := range []int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
		part = append(part, le.Uint16(e[at:]))
	}
	l.units = append(part, l.units...)
}

// of is the name of the file that an entry is for.
func (l *longName) of(e []byte) string {
	var sum byte
	for _, c := range e[:11] {
		sum = sum<<7 | sum>>1
		sum += c
	}
	if l.units != nil && l.next == 0 && l.sum == sum {
		units := l.units
		if end := slices.Index(units, 0); end >= 0 {
			units = units[:end]
		}
		return string(utf16.Decode(units))
	}
	base, extension := strings.TrimRight(string(e[:8]), " "), strings.TrimRight(string(e[8:11]), " ")
	if e[0] == 0x05 {
		base = "\xe5" + base[1:]
	}
	// Windows notes which part of a short name is in lower case.
	const lowerBase, lowerExtension = 0x08, 0x10
	if e[12]&lowerBase != 0 {
		base = strings.ToLower(base)
	}
	if e[12]&lowerExtension != 0 {
		extension = strings.ToLower(extension)
	}
	if extension != "" {
		return base + "." + extension
	}
	return base
}

// modTime is a time of FAT, of which the zone is not known.
func modTime(date, clock uint16) time.Time {
	return time.Date(1980+int(date>>9), time.Month(date>>5&15), int(date&31), int(clock>>11), int(clock>>5&63), int(clock&31)*2, 0, time.UTC)
}
