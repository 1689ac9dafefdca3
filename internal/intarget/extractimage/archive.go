package extractimage

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/dib-builder/dib/internal/inspect"
	"github.com/dib-builder/dib/internal/inspect/extfs"
	"github.com/dib-builder/dib/internal/inspect/fatfs"
)

// convert writes the files of the image as a compressed tar archive.
func (x *extraction) convert(ctx context.Context, out io.Writer) error {
	d, err := openDisk(ctx, x.image, x.tmp)
	if err != nil {
		return err
	}
	defer d.Close()
	list, err := parts(d)
	if err != nil {
		return err
	}
	mounts, err := choose(list)
	if err != nil {
		return err
	}
	compressed, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return err
	}
	archive := &archiver{tar.NewWriter(compressed)}
	for i, m := range mounts {
		var hidden []string
		for _, later := range mounts[i+1:] {
			hidden = append(hidden, later.point)
		}
		x.say("partition %d: %s for /%s", m.Number, m.kind, m.point)
		if err := x.add(ctx, archive, d, m, hidden); err != nil {
			return fmt.Errorf("partition %d (%s): %w", m.Number, m.kind, err)
		}
	}
	return errors.Join(archive.tar.Close(), compressed.Close())
}

// add archives one filesystem.
func (x *extraction) add(ctx context.Context, archive *archiver, d *disk, m mount, hidden []string) (err error) {
	section := io.NewSectionReader(d, m.Offset, m.Size)
	var tree inspect.Walker
	switch m.kind {
	case "ext4":
		tree, err = extfs.Open(section)
	case "vfat":
		tree, err = fatfs.Open(section)
	default:
		var mounted *kernelMount
		mounted, err = mountPart(ctx, d, m.part, x.tmp)
		if err == nil {
			defer func() { err = errors.Join(err, mounted.close()) }()
			tree = &inspect.HostTree{Dir: mounted.dir}
		}
	}
	if err != nil {
		return err
	}
	links := map[uint64]string{}
	return tree.Walk(func(e inspect.Entry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := path.Join(m.point, e.Path)
		for _, h := range hidden {
			if name == h || strings.HasPrefix(name, h+"/") {
				return nil
			}
		}
		return archive.add(name, e, links)
	})
}

// archiver writes entries of filesystems.
type archiver struct{ tar *tar.Writer }

// types are those of tar, by that of stat.
var types = map[uint32]byte{
	inspect.Fifo: tar.TypeFifo, inspect.Char: tar.TypeChar, inspect.Dir: tar.TypeDir, inspect.Block: tar.TypeBlock,
	inspect.Regular: tar.TypeReg, inspect.Symlink: tar.TypeSymlink,
}

// add writes one entry; links has the names of files that have several.
func (a *archiver) add(name string, e inspect.Entry, links map[uint64]string) error {
	kind, ok := types[e.Mode&inspect.TypeMask]
	if !ok {
		return nil // a socket: whoever needs it makes it
	}
	h := &tar.Header{
		Name: "./" + name, Typeflag: kind, Mode: int64(e.Mode & 0o7777), Uid: int(e.UID), Gid: int(e.GID), ModTime: e.ModTime,
		Devmajor: int64(e.Major), Devminor: int64(e.Minor), Linkname: e.Target, Format: tar.FormatPAX, PAXRecords: map[string]string{},
	}
	if name == "." {
		h.Name = "./"
	} else if kind == tar.TypeDir {
		h.Name += "/"
	}
	for attr, value := range e.Xattrs {
		if attr != "security.selinux" {
			h.PAXRecords["SCHILY.xattr."+attr] = value
		}
	}
	if kind == tar.TypeReg {
		h.Size = e.Size
		if first, seen := links[e.ID]; seen && e.Links > 1 {
			h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, first, 0, nil
		} else if e.Links > 1 {
			links[e.ID] = h.Name
		}
	}
	if err := a.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	if _, err := io.Copy(a.tar, e.Content); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
