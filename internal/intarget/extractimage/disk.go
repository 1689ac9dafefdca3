package extractimage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dib-builder/dib/internal/image/qcow2"
	"github.com/dib-builder/dib/internal/inspect/extfs"
	"github.com/dib-builder/dib/internal/inspect/fatfs"
	"github.com/dib-builder/dib/internal/inspect/partition"
	"github.com/dib-builder/dib/internal/tarball"
)

// disk is the content of an image file.
type disk struct {
	io.ReaderAt
	size int64
	raw  *os.File // the file, if it has nothing but the disk
	file *os.File
}

func (d *disk) Close() error { return d.file.Close() }

// openDisk opens a qcow2 or raw image, compressed or not. What has to be
// decompressed first goes to a nameless file in tmp.
func openDisk(ctx context.Context, path, tmp string) (*disk, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	start := make([]byte, 6)
	if n, err := f.ReadAt(start, 0); n < len(start) {
		f.Close()
		return nil, fmt.Errorf("it has %d bytes only: %w", n, err)
	}
	if tarball.IsCompressed(start) {
		whole, err := decompress(ctx, f, tmp)
		f.Close()
		if err != nil {
			return nil, err
		}
		f = whole
		if _, err := f.ReadAt(start, 0); err != nil {
			f.Close()
			return nil, err
		}
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	d := &disk{ReaderAt: f, size: st.Size(), raw: f, file: f}
	if string(start[:4]) != "QFI\xfb" {
		return d, nil
	}
	q, err := qcow2.Open(f, st.Size())
	if err != nil {
		f.Close()
		return nil, err
	}
	if name, _ := q.BackingFile(); name != "" {
		f.Close()
		return nil, fmt.Errorf("it is an overlay of another image (%s); merge them first, as with qemu-img convert", name)
	}
	return &disk{ReaderAt: q, size: q.Size(), file: f}, nil
}

func decompress(ctx context.Context, f *os.File, tmp string) (*os.File, error) {
	r, err := tarball.Decompress(f)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	out, err := nameless(tmp)
	if err != nil {
		return nil, err
	}
	if err := copySparse(ctx, out, r); err != nil {
		out.Close()
		return nil, fmt.Errorf("cannot decompress: %w", err)
	}
	return out, nil
}

// nameless makes a file that is gone when it is closed.
func nameless(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "extract-image-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// copySparse copies to the end, leaving out blocks of zeros.
func copySparse(ctx context.Context, out *os.File, r io.Reader) error {
	buf := make([]byte, 64<<10)
	zero := make([]byte, len(buf))
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, buf)
		if n > 0 && string(buf[:n]) != string(zero[:n]) {
			if _, err := out.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return out.Truncate(at)
		}
		if err != nil {
			return err
		}
	}
}

// part is a partition with what is in it.
type part struct {
	partition.Partition
	kind  string // of the filesystem, as mount(8) names it; or what else is there; empty when unknown
	label string // of the filesystem
}

// parts lists the partitions of a disk. A disk without a table is one.
func parts(d *disk) ([]part, error) {
	table, err := partition.Read(d, d.size)
	if errors.Is(err, partition.ErrNoTable) {
		table = []partition.Partition{{Number: 1, Size: d.size}}
	} else if err != nil {
		return nil, err
	}
	var list []part
	for _, p := range table {
		kind, label := identify(io.NewSectionReader(d, p.Offset, p.Size))
		list = append(list, part{p, kind, label})
	}
	return list, nil
}

// signatures are those of what identify does not read itself.
var signatures = []struct {
	kind, magic string
	at          int64
}{
	{"xfs", "XFSB", 0}, {"btrfs", "_BHRfS_M", 0x10040}, {"swap", "SWAPSPACE2", 4086}, {"LVM", "LABELONE", 512}, {"LUKS", "LUKS\xba\xbe", 0},
	{"squashfs", "hsqs", 0}, {"iso9660", "CD001", 0x8001},
}

// identify says what is in a partition, and how it is called.
func identify(r io.ReaderAt) (kind, label string) {
	if extfs.Is(r) {
		if fs, err := extfs.Open(r); err == nil {
			label = fs.Label()
		}
		return "ext4", label
	}
	for _, s := range signatures {
		b := make([]byte, len(s.magic))
		if n, _ := r.ReadAt(b, s.at); n == len(b) && string(b) == s.magic {
			switch s.kind {
			case "xfs":
				label = text(r, 108, 12)
			case "btrfs":
				label = text(r, 0x1012b, 256)
			}
			return s.kind, label
		}
	}
	if fs, err := fatfs.Open(r); err == nil {
		return "vfat", fs.Label()
	}
	return "", ""
}

// text reads a name that zeros end.
func text(r io.ReaderAt, at int64, size int) string {
	b := make([]byte, size)
	if n, _ := r.ReadAt(b, at); n < size {
		return ""
	}
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
