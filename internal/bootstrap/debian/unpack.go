package debian

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

	"github.com/dib-builder/dib/internal/deb"
)

// staged is a package whose files lie beside the tree, each under a number,
// ready to be renamed to their places. Decompression, which takes the time,
// thereby needs no knowledge of the tree and can run ahead of dpkg.
type staged struct {
	pkg       *candidate
	control   *deb.Control
	entries   []entry
	conffiles map[string]string // absolute path -> MD5 sum of the content
	md5sums   string            // content of the md5sums file when the package brings none
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

// stager unpacks packages. The archive compresses with xz, which takes longer
// to undo than everything else of a build; so the file system part of each
// package is kept, lightly compressed, for the builds to come.
type stager struct {
	cache string // directory of decompressed parts, by the sum of the .deb
}

// stage unpacks the .deb at file into dir, which it makes.
func (s *stager) stage(ctx context.Context, pkg *candidate, file, dir string) (*staged, error) {
	kept := filepath.Join(s.cache, pkg.SHA256[:2], pkg.SHA256+".tar.zst")
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
func stageFrom(ctx context.Context, pkg *candidate, file, dir, from, keep string) (st *staged, err error) {
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
	st = &staged{pkg: pkg, conffiles: map[string]string{}}
	control := func(c *deb.Control) error { st.control = c; return st.check() }
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
func (st *staged) stageData(ctx context.Context, name string, r io.Reader, dir, keep string) error {
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
func (st *staged) check() error {
	for _, f := range []struct{ name, want string }{
		{"Package", st.pkg.Name}, {"Version", st.pkg.Version}, {"Architecture", st.pkg.Arch},
	} {
		if got := st.control.Stanza.Get(f.name); got != f.want {
			return fmt.Errorf("its field %s is %q, the index says %q", f.name, got, f.want)
		}
	}
	for _, c := range st.control.Conffiles() {
		st.conffiles[c] = ""
	}
	return nil
}

// stageFiles unpacks a tar stream, reading it to its end: what follows the
// last member is covered by check sums too.
func (st *staged) stageFiles(ctx context.Context, r io.Reader, dir string) error {
	t := tar.NewReader(r)
	_, hasSums := st.control.Files["md5sums"]
	var sums strings.Builder
	for n := 0; ; n++ {
		h, err := t.Next()
		if err == io.EOF {
			st.md5sums = sums.String()
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
			_, isConf := st.conffiles[e.path]
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
				st.conffiles[e.path] = hex.EncodeToString(sum.Sum(nil))
			case !hasSums:
				fmt.Fprintf(&sums, "%x  %s\n", sum.Sum(nil), e.path[1:])
			}
		}
		st.entries = append(st.entries, e)
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
