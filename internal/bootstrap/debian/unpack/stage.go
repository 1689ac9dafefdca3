// Package unpack brings the files of packages into a tree as dpkg --unpack does,
// in two steps: staging them beside it, then moving them to their places.
package unpack

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/bootstrap/debian/dpkg"
	"github.com/dib-builder/dib/internal/bootstrap/debian/resolve"
	"github.com/dib-builder/dib/internal/deb"
)

// Staged is a package whose files lie beside the tree, each under a number,
// ready to be renamed to their places. Decompression, which takes the time,
// thereby needs no knowledge of the tree and can run ahead of dpkg.
type Staged struct {
	dpkg.Unpacked

	candidate *resolve.Candidate
	entries   []entry
}

// entry is one member of a package's file system part.
type entry struct {
	path  string // absolute and clean
	kind  byte   // type flag of package archive/tar
	file  string // where a regular file is staged
	link  string // target of a symbolic link; absolute path of a hard link's file
	mode  uint32 // permission bits with setuid, setgid and sticky
	uid   int
	gid   int
	mtime time.Time
	dev   uint64 // of device nodes
	xattr map[string]string
}

// Stager unpacks packages. The archive compresses with xz, which takes longer
// to undo than everything else of a build; so the file system part of each
// package is kept, lightly compressed, for the builds to come.
type Stager struct {
	Cache string // directory of decompressed parts, by the sum of the .deb
}

// Stage unpacks the .deb at file into dir, which it makes. It is an error when
// the package is not the one that the index described.
func (s *Stager) Stage(ctx context.Context, pkg *resolve.Candidate, file, dir string) (*Staged, error) {
	kept := filepath.Join(s.Cache, pkg.SHA256[:2], pkg.SHA256+".tar.zst")
	if _, err := os.Stat(kept); err == nil {
		st, err := stageFrom(ctx, pkg, file, dir, kept, "")
		if err == nil || ctx.Err() != nil {
			return st, err
		}
		// Damaged, as its own check sum or its end tells: forget it.
		if err := errors.Join(os.RemoveAll(dir), os.Remove(kept)); err != nil {
			return nil, err
		}
	}
	return stageFrom(ctx, pkg, file, dir, "", kept)
}

// stageFrom unpacks a package: its file system part from the file from when
// that is given, otherwise from the .deb, keeping a copy at keep.
func stageFrom(ctx context.Context, pkg *resolve.Candidate, file, dir, from, keep string) (st *Staged, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot unpack %s (%s): %w", pkg.Name, file, err)
		}
	}()
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	st = &Staged{candidate: pkg, Unpacked: dpkg.Unpacked{Package: pkg.Package, Conffiles: map[string]string{}}}
	control := func(c *deb.Control) error { st.Control = c; return st.check() }
	if from != "" {
		if err := deb.ReadPackage(bufio.NewReaderSize(f, 1<<16), control, nil); err != nil {
			return nil, err
		}
		data, err := os.Open(from)
		if err != nil {
			return nil, err
		}
		defer data.Close()
		return st, st.stageData(ctx, from, data, dir, "")
	}
	return st, deb.ReadPackage(bufio.NewReaderSize(f, 1<<17), control, func(name string, r io.Reader) error {
		if filepath.Ext(name) != ".xz" {
			keep = "" // cheap to decompress again
		}
		return st.stageData(ctx, name, r, dir, keep)
	})
}

// stageData unpacks a compressed tar stream and keeps its content at keep, if
// that is not empty.
func (st *Staged) stageData(ctx context.Context, name string, r io.Reader, dir, keep string) error {
	plain, done, err := deb.Decompress(name, r)
	if err != nil {
		return err
	}
	defer done()
	if keep == "" {
		return st.stageFiles(ctx, plain, dir)
	}
	if err := os.MkdirAll(filepath.Dir(keep), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(keep), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails, as it should, after the renaming
	defer tmp.Close()
	z, err := zstd.NewWriter(tmp, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	if err := st.stageFiles(ctx, io.TeeReader(plain, z), dir); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("cannot keep %s: %w", keep, err)
	}
	if err := tmp.Chmod(0o444); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), keep)
}

// check compares what the package says of itself with what the index said.
func (st *Staged) check() error {
	for _, f := range []struct{ name, want string }{
		{"Package", st.Name}, {"Version", st.Version}, {"Architecture", st.Arch},
	} {
		if got := st.Control.Stanza.Get(f.name); got != f.want {
			return fmt.Errorf("its field %s is %q, the index says %q", f.name, got, f.want)
		}
	}
	for _, c := range st.Control.Conffiles() {
		st.Conffiles[c] = ""
	}
	return nil
}

// stageFiles unpacks a tar stream, reading it to its end: what follows the
// last member is covered by check sums too.
func (st *Staged) stageFiles(ctx context.Context, r io.Reader, dir string) error {
	t := tar.NewReader(r)
	_, hasSums := st.Control.Files["md5sums"]
	var sums strings.Builder
	for n := 0; ; n++ {
		h, err := t.Next()
		if err == io.EOF {
			st.MD5Sums = sums.String()
			_, err := io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := newEntry(h)
		if err != nil {
			return err
		}
		if e.kind == tar.TypeReg {
			_, isConf := st.Conffiles[e.path]
			var sum hash.Hash
			if isConf || !hasSums {
				sum = md5.New() // dpkg's sum for conffiles and for dpkg --verify
			}
			e.file = filepath.Join(dir, strconv.Itoa(n))
			if err := e.write(t, sum); err != nil {
				return err
			}
			switch {
			case isConf:
				st.Conffiles[e.path] = hex.EncodeToString(sum.Sum(nil))
			case !hasSums:
				fmt.Fprintf(&sums, "%x  %s\n", sum.Sum(nil), e.path[1:])
			}
		}
		st.entries, st.Files = append(st.entries, e), append(st.Files, e.path)
	}
}

// newEntry reads a tar header. Names are made absolute and cannot climb out.
func newEntry(h *tar.Header) (entry, error) {
	e := entry{
		path: path.Clean("/" + h.Name), kind: h.Typeflag, link: h.Linkname,
		mode: uint32(h.Mode) & 0o7777, uid: h.Uid, gid: h.Gid, mtime: h.ModTime,
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeFifo:
	case tar.TypeLink:
		e.link = path.Clean("/" + h.Linkname)
	case tar.TypeChar, tar.TypeBlock:
		e.dev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	default:
		return e, fmt.Errorf("%s: archive member of unknown type %q", e.path, h.Typeflag)
	}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			if e.xattr == nil {
				e.xattr = map[string]string{}
			}
			e.xattr[name] = v
		}
	}
	return e, nil
}

// write stages the content of a regular file with its owner, mode and time.
func (e *entry) write(r io.Reader, sum hash.Hash) error {
	f, err := os.OpenFile(e.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	var w io.Writer = f
	if sum != nil {
		w = io.MultiWriter(f, sum)
	}
	_, err = io.Copy(w, r)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return e.setAttributes(e.file)
}

// setAttributes gives the file at name the entry's owner, mode, extended
// attributes and time. The owner comes first: changing it clears setuid and capabilities.
func (e *entry) setAttributes(name string) error {
	if err := os.Lchown(name, e.uid, e.gid); err != nil {
		return err
	}
	if e.kind != tar.TypeSymlink {
		if err := unix.Chmod(name, e.mode); err != nil {
			return &os.PathError{Op: "chmod", Path: name, Err: err}
		}
	}
	for k, v := range e.xattr {
		if err := unix.Lsetxattr(name, k, []byte(v), 0); err != nil {
			return &os.PathError{Op: "setxattr " + k, Path: name, Err: err}
		}
	}
	ts := unix.NsecToTimespec(e.mtime.UnixNano())
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimes", Path: name, Err: err}
	}
	return nil
}
