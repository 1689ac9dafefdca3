package tarball

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/tree"
)

// cpio is an archive in the format newc, which the kernel unpacks as its
// initramfs. Being a root filesystem, it has proc and sys, as empty directories.
//
// Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
type cpio struct {
	name     string
	compress compressor
}

func (c cpio) Name() string      { return c.name }
func (c cpio) Extension() string { return c.name }

func (c cpio) Write(ctx context.Context, t *tree.Tree, out tree.Output, set tree.Settings, progress image.Progress) error {
	set.Gzip = nil // that is for tgz
	err := compressed(ctx, out, set, c.compress, func(ctx context.Context, w io.Writer) error {
		return writeCpio(ctx, t, w, set, progress)
	})
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", c.name, err)
	}
	return nil
}

// cpioWriter writes members to w.
type cpioWriter struct {
	archive
	left map[int]int    // names of each group of hard links that are still to come
	ino  map[int]uint32 // of each group
	next uint32         // inode number
	lost lost
}

// lost counts what the format cannot hold.
type lost struct{ xattrs, flags int }

func writeCpio(ctx context.Context, t *tree.Tree, out io.Writer, set tree.Settings, progress image.Progress) error {
	b := bufio.NewWriterSize(out, 1<<20)
	c := cpioWriter{archive: archive{ctx: ctx, w: b, set: set, buf: make([]byte, 1<<20), prog: func(int64) {}}, left: map[int]int{}, ino: map[int]uint32{}}
	total := int64(0)
	var entries []*tree.Entry
	for i := range t.Entries {
		e := &t.Entries[i]
		if (e.Below(kernelDirs[0]) || e.Below(kernelDirs[1])) && e.Path != kernelDirs[0] && e.Path != kernelDirs[1] {
			continue
		}
		entries = append(entries, e)
		c.left[e.Group]++
		if e.Type() == unix.S_IFREG {
			total += e.Size
		}
	}
	if progress != nil {
		c.prog = func(done int64) { progress(min(done, total), total) }
	}
	names := map[int]int{} // of each group
	for group, n := range c.left {
		names[group] = n
	}
	for _, e := range entries {
		if err := c.entry(e, names[e.Group]); err != nil {
			return fmt.Errorf("cannot archive %q: %w", e.Path, err)
		}
	}
	if err := c.member("TRAILER!!!", cpioHeader{links: 1}); err != nil {
		return err
	}
	if err := c.write(make([]byte, padding(c.pos))); err != nil {
		return err
	}
	if c.lost.xattrs > 0 {
		set.Warning(fmt.Sprintf("cpio archives cannot hold extended attributes: those of %d files are left out, file capabilities too", c.lost.xattrs))
	}
	if c.lost.flags > 0 {
		set.Warning(fmt.Sprintf("cpio archives cannot hold inode flags: those of %d files are left out", c.lost.flags))
	}
	c.prog(total)
	return b.Flush()
}

// cpioHeader has the fields of a member that are not computed from its name.
type cpioHeader struct {
	ino, mode, uid, gid, links, time, size, major, minor uint32
}

func (c *cpioWriter) entry(e *tree.Entry, names int) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if e.Size > math.MaxUint32 {
		return fmt.Errorf("it has %d bytes, and cpio archives end at 4 GiB for a file; choose tar", e.Size)
	}
	h := cpioHeader{mode: e.Mode, uid: e.UID, gid: e.GID, links: 1, time: uint32(min(max(e.ModTime, 0), math.MaxUint32))}
	c.next++
	h.ino = c.next
	hasContent := true
	if e.Group > 0 {
		if _, ok := c.ino[e.Group]; !ok {
			c.ino[e.Group] = c.next
		}
		h.ino, h.links = c.ino[e.Group], uint32(names)
		c.left[e.Group]--
		hasContent = c.left[e.Group] == 0 // the content is with the last name
	}
	if len(e.Xattrs) > 0 {
		c.lost.xattrs++
	}
	if e.Flags != 0 {
		c.lost.flags++
	}
	switch e.Type() {
	case unix.S_IFDIR:
		h.links = 2
	case unix.S_IFLNK:
		h.size = uint32(len(e.Target))
		if err := c.member(e.Path, h); err != nil {
			return err
		}
		return c.content([]byte(e.Target))
	case unix.S_IFCHR, unix.S_IFBLK:
		h.major, h.minor = e.Major, e.Minor
	case unix.S_IFREG:
		if hasContent && e.Size > 0 {
			return c.file(e, h)
		}
	}
	return c.member(e.Path, h)
}

// member writes a header.
func (c *cpioWriter) member(name string, h cpioHeader) error {
	head := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		h.ino, h.mode, h.uid, h.gid, h.links, h.time, h.size, 0, 0, h.major, h.minor, len(name)+1, 0)
	return c.content([]byte(head + name + "\x00"))
}

// content writes what is filled up to whole words.
func (c *cpioWriter) content(p []byte) error {
	if err := c.write(p); err != nil {
		return err
	}
	return c.write(make([]byte, -c.pos&3))
}

func (c *cpioWriter) file(e *tree.Entry, h cpioHeader) error {
	f, err := e.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	h.size = uint32(e.Size)
	if err := c.member(e.Path, h); err != nil {
		return err
	}
	w := writerFunc(func(p []byte) (int, error) {
		if err := c.ctx.Err(); err != nil {
			return 0, err
		}
		err := c.write(p)
		c.done += int64(len(p))
		c.prog(c.done)
		return len(p), err
	})
	if err := copySegments(w, f, []image.Extent{{Len: e.Size}}, c.buf); err != nil {
		return err
	}
	return c.content(nil)
}
