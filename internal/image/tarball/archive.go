// Package tarball writes a root filesystem as an archive: tar, tgz, tar.zst,
// aci and the archives that "docker load" reads.
//
// All hold every file with numeric owner, mode, time in whole seconds,
// extended attributes (and so capabilities), hard links and device nodes, in
// the order of the tree, and leave out ./proc and ./sys. The bytes depend on
// the tree alone.
package tarball

import (
	"context"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/tree"
)

// kernelDirs are left out of archives: what the kernel fills is no content.
var kernelDirs = []string{"proc", "sys"}

// archive writes members to w.
type archive struct {
	ctx  context.Context
	w    io.Writer
	pos  int64
	set  tree.Settings
	done int64 // bytes of content so far
	prog func(done int64)
	buf  []byte

	root   string // what members are called below: "." or "rootfs"
	inFull bool   // no sparse members
}

// layout says how members of an archive are named and stored.
type layout struct {
	root   string
	inFull bool
}

// writeTree writes a whole archive, without what ends it.
func writeTree(ctx context.Context, w io.Writer, t *tree.Tree, l layout, set tree.Settings, progress image.Progress) (*archive, error) {
	total := int64(0)
	for i := range t.Entries {
		if t.Entries[i].Type() == unix.S_IFREG {
			total += t.Entries[i].Size
		}
	}
	a := &archive{ctx: ctx, w: w, set: set, root: l.root, inFull: l.inFull, buf: make([]byte, 1<<20), prog: func(int64) {}}
	if progress != nil {
		a.prog = func(done int64) { progress(min(done, total), total) }
	}
	first := map[int]string{} // names of the first members of groups of hard links
	for i := range t.Entries {
		e := &t.Entries[i]
		if e.Below(kernelDirs[0]) || e.Below(kernelDirs[1]) {
			continue
		}
		if err := a.entry(e, first); err != nil {
			return nil, fmt.Errorf("cannot archive %q: %w", e.Path, err)
		}
	}
	a.prog(total)
	return a, nil
}

// end writes what ends an archive.
func (a *archive) end() error {
	to := (a.pos + 2*blockSize + recordSize - 1) / recordSize * recordSize
	return a.write(make([]byte, to-a.pos))
}

func (a *archive) write(p []byte) error {
	n, err := a.w.Write(p)
	a.pos += int64(n)
	return err
}

func (a *archive) name(path string) string {
	if path == "." {
		return a.root
	}
	return a.root + "/" + path
}

func (a *archive) entry(e *tree.Entry, first map[int]string) error {
	if err := a.ctx.Err(); err != nil {
		return err
	}
	h := header{name: a.name(e.Path), mode: e.Perm(), uid: e.UID, gid: e.GID, modTime: e.ModTime}
	if e.Group > 0 {
		if name, ok := first[e.Group]; ok {
			h.typ, h.link = typeLink, name
			return a.write(h.encode())
		}
		first[e.Group] = h.name
	}
	for _, x := range e.Xattrs {
		h.records = append(h.records, record{xattrKey(x.Name), string(x.Value)})
	}
	if flags := flagNames(e.Flags); flags != "" {
		h.records = append(h.records, record{"SCHILY.fflags", flags})
	}
	switch e.Type() {
	case unix.S_IFREG:
		h.typ, h.size = typeRegular, e.Size
		return a.regular(h, e)
	case unix.S_IFDIR:
		h.typ = typeDir
		h.name += "/"
	case unix.S_IFLNK:
		h.typ, h.link = typeSymlink, e.Target
	case unix.S_IFCHR:
		h.typ, h.major, h.minor = typeChar, e.Major, e.Minor
	case unix.S_IFBLK:
		h.typ, h.major, h.minor = typeBlock, e.Major, e.Minor
	case unix.S_IFIFO:
		h.typ = typeFifo
	default:
		a.set.Warning(fmt.Sprintf("socket %q is left out: archives cannot hold sockets", e.Path))
		delete(first, e.Group)
		return nil
	}
	return a.write(h.encode())
}

func (a *archive) regular(h header, e *tree.Entry) error {
	if e.Size == 0 {
		return a.write(h.encode())
	}
	f, err := e.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	parts := []image.Extent{{Len: e.Size}}
	var sparseMap []byte
	if !a.inFull {
		holes, err := segments(f, e.Size)
		if err != nil {
			return err
		}
		if holes != nil {
			parts, sparseMap = holes, h.sparse(holes, e.Size)
		}
	}
	if err := a.write(h.encode()); err != nil {
		return err
	}
	if err := a.write(sparseMap); err != nil {
		return err
	}
	start := a.done
	w := writerFunc(func(p []byte) (int, error) {
		if err := a.ctx.Err(); err != nil {
			return 0, err
		}
		err := a.write(p)
		a.done += int64(len(p))
		a.prog(a.done)
		return len(p), err
	})
	if err := copySegments(w, f, parts, a.buf); err != nil {
		return err
	}
	a.done = start + e.Size
	return a.write(make([]byte, padding(h.size)))
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// file adds a regular file that is not from the tree.
func (a *archive) file(name string, data []byte, modTime int64) error {
	h := header{name: name, typ: typeRegular, mode: 0o644, size: int64(len(data)), modTime: modTime}
	if err := a.write(h.encode()); err != nil {
		return err
	}
	if err := a.write(data); err != nil {
		return err
	}
	return a.write(make([]byte, padding(h.size)))
}

// flagNames are the words of chflags(1) for inode flags, which star and bsdtar
// restore.
func flagNames(flags uint32) string {
	var names []string
	if flags&tree.FlagAppend != 0 {
		names = append(names, "sappnd")
	}
	if flags&tree.FlagImmutable != 0 {
		names = append(names, "schg")
	}
	return strings.Join(names, ",")
}

// newest is the latest time of a file in the tree, for what has to have a time.
func newest(t *tree.Tree) int64 {
	latest := int64(0)
	for i := range t.Entries {
		latest = max(latest, t.Entries[i].ModTime)
	}
	return latest
}
