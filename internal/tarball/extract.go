package tarball

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Options say how much of an archive's attributes is kept.
type Options struct {
	// System keeps what makes an operating system: numeric owners, all
	// permission bits, device nodes and extended attributes but the labels of
	// SELinux, which belong to the system that made the archive. Otherwise
	// everything belongs to the caller, permissions are those of rwxrwxrwx that
	// the umask of 022 leaves, and device nodes are an error.
	System bool
}

const xattrPrefix = "SCHILY.xattr."

// Extract unpacks a tar archive, decompressed already, into dir, which exists.
// Members replace what is there; names stay below dir, and no link leads the
// way out of it.
func Extract(ctx context.Context, r io.Reader, dir string, opt Options) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	x := &extraction{Options: opt, dir: dir, root: root}
	defer x.leave()
	archive := tar.NewReader(r)
	for members := 0; ; members++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return x.finish()
		}
		if err != nil && members == 0 {
			return fmt.Errorf("not a tar archive: %w", err)
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := x.member(h, archive); err != nil {
			return fmt.Errorf("cannot unpack %q: %w", h.Name, err)
		}
	}
}

// extraction is one call of Extract.
type extraction struct {
	Options
	dir  string
	root *os.Root

	parent     *os.File // the directory of the latest member, open
	parentName string
	dirs       []directory // whose attributes are set at the end
}

type directory struct {
	name string
	h    *tar.Header
}

func (x *extraction) leave() {
	if x.parent != nil {
		x.parent.Close()
		x.parent = nil
	}
}

// enter opens the directory of a member, making it where the archive does not
// list it.
func (x *extraction) enter(name string) (int, error) {
	if x.parent != nil && x.parentName == name {
		return int(x.parent.Fd()), nil
	}
	x.leave()
	if err := x.root.MkdirAll(name, 0o755); err != nil {
		return -1, err
	}
	f, err := x.root.Open(name)
	if err != nil {
		return -1, err
	}
	x.parent, x.parentName = f, name
	return int(f.Fd()), nil
}

// local makes a member's name relative; it cannot climb.
func local(name string) string {
	if name = path.Clean("/" + name)[1:]; name == "" {
		return "."
	}
	return name
}

func (x *extraction) member(h *tar.Header, content io.Reader) error {
	name := local(h.Name)
	if name == "." {
		if h.Typeflag == tar.TypeDir {
			x.dirs = append(x.dirs, directory{name, h})
		}
		return nil
	}
	at, err := x.enter(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if err := x.makeRoom(at, base, name, h.Typeflag == tar.TypeDir); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := unix.Mkdirat(at, base, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		x.dirs = append(x.dirs, directory{name, h})
		return nil
	case tar.TypeReg, tar.TypeGNUSparse:
		return x.file(at, base, h, content)
	case tar.TypeLink:
		return x.root.Link(local(h.Linkname), name)
	case tar.TypeSymlink:
		err = unix.Symlinkat(h.Linkname, at, base)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		err = x.node(at, base, h)
	default:
		return fmt.Errorf("member of unknown type %q", h.Typeflag)
	}
	if err != nil {
		return err
	}
	return x.attributes(at, base, name, h)
}

// makeRoom removes what a member replaces. A directory stays for a directory,
// and so does a link to one: it leads to where the files belong.
func (x *extraction) makeRoom(at int, base, name string, isDir bool) error {
	var st unix.Stat_t
	err := unix.Fstatat(at, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if isDir {
			return nil
		}
		return errors.New("a directory is in its place")
	}
	if isDir {
		if st, err := x.root.Stat(name); err == nil && st.IsDir() {
			return nil
		}
	}
	return unix.Unlinkat(at, base, 0)
}

func (x *extraction) node(at int, base string, h *tar.Header) error {
	kind := uint32(unix.S_IFIFO)
	switch h.Typeflag {
	case tar.TypeChar:
		kind = unix.S_IFCHR
	case tar.TypeBlock:
		kind = unix.S_IFBLK
	}
	if !x.System && kind != unix.S_IFIFO {
		return errors.New("a device node has no place among sources")
	}
	return unix.Mknodat(at, base, kind|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
}

func (x *extraction) mode(h *tar.Header) uint32 {
	if x.System {
		return uint32(h.Mode) & 0o7777
	}
	return uint32(h.Mode) & 0o755
}

// file writes a regular file; runs of zeros become holes.
func (x *extraction) file(at int, base string, h *tar.Header, content io.Reader) error {
	fd, err := unix.Openat(at, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if err := copySparse(f, content, h.Size); err != nil {
		return err
	}
	if x.System {
		if err := chown(func() error { return unix.Fchown(fd, h.Uid, h.Gid) }, h); err != nil {
			return err
		}
		for _, attr := range x.xattrs(h) {
			if err := unix.Fsetxattr(fd, attr, []byte(h.PAXRecords[xattrPrefix+attr]), 0); err != nil {
				return fmt.Errorf("extended attribute %s: %w", attr, err)
			}
		}
	}
	// After the owner, a change of which clears setuid.
	if err := unix.Fchmod(fd, x.mode(h)); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return setTime(at, base, h)
}

// copySparse copies size bytes, leaving out blocks of zeros.
func copySparse(f *os.File, r io.Reader, size int64) error {
	const block = 64 << 10
	buf := make([]byte, block)
	hole := false
	for done := int64(0); done < size; {
		part := buf[:min(block, size-done)]
		if _, err := io.ReadFull(r, part); err != nil {
			return err
		}
		done += int64(len(part))
		if hole = len(part) == block && allZero(part); hole {
			if _, err := f.Seek(block, io.SeekCurrent); err != nil {
				return err
			}
			continue
		}
		if _, err := f.Write(part); err != nil {
			return err
		}
	}
	if hole {
		return f.Truncate(size)
	}
	return nil
}

func allZero(p []byte) bool { return p[0] == 0 && bytes.Equal(p[:len(p)-1], p[1:]) }

// attributes sets those of a member that is neither file nor directory.
func (x *extraction) attributes(at int, base, name string, h *tar.Header) error {
	if x.System {
		if err := chown(func() error { return unix.Fchownat(at, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW) }, h); err != nil {
			return err
		}
		for _, attr := range x.xattrs(h) {
			if err := unix.Lsetxattr(filepath.Join(x.dir, name), attr, []byte(h.PAXRecords[xattrPrefix+attr]), 0); err != nil {
				return fmt.Errorf("extended attribute %s: %w", attr, err)
			}
		}
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(at, base, x.mode(h), 0); err != nil {
			return err
		}
	}
	return setTime(at, base, h)
}

// finish sets the attributes of directories, those inside others first.
func (x *extraction) finish() error {
	x.leave()
	for _, d := range slices.Backward(x.dirs) {
		if err := x.directory(d); err != nil {
			return fmt.Errorf("cannot unpack %q: %w", d.h.Name, err)
		}
	}
	return nil
}

func (x *extraction) directory(d directory) error {
	f, err := x.root.Open(d.name)
	if err != nil {
		return err
	}
	defer f.Close()
	fd := int(f.Fd())
	if x.System {
		if err := chown(func() error { return unix.Fchown(fd, d.h.Uid, d.h.Gid) }, d.h); err != nil {
			return err
		}
		for _, attr := range x.xattrs(d.h) {
			if err := unix.Fsetxattr(fd, attr, []byte(d.h.PAXRecords[xattrPrefix+attr]), 0); err != nil {
				return fmt.Errorf("extended attribute %s: %w", attr, err)
			}
		}
	}
	if err := unix.Fchmod(fd, x.mode(d.h)); err != nil {
		return err
	}
	return x.root.Chtimes(d.name, d.h.ModTime, d.h.ModTime)
}

// xattrs lists, in order, the extended attributes to be set.
func (x *extraction) xattrs(h *tar.Header) []string {
	var names []string
	for key := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, xattrPrefix); ok && name != "security.selinux" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// chown explains the failure that ids outside the user namespace give.
func chown(do func() error, h *tar.Header) error {
	err := do()
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("its owner %d:%d does not exist here: the caller has not that many subordinate ids (see /etc/subuid and /etc/subgid), and root has: %w", h.Uid, h.Gid, err)
	}
	return err
}

func setTime(at int, base string, h *tar.Header) error {
	ts := unix.NsecToTimespec(h.ModTime.UnixNano())
	return unix.UtimesNanoAt(at, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}
