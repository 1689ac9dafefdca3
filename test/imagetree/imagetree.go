// Package imagetree reads the root filesystem of a disk image as the kernel
// sees it, and compares two of them. It shares no code with dib, so that it
// can be dib's judge: the partition is found by hand, the rest is a loop mount.
package imagetree

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// linuxPartition is the type byte of a partition with a Linux filesystem.
const linuxPartition = 0x83

// RootPartition finds where in a raw image the root filesystem lies: the first
// Linux entry of the MS-DOS partition table, or the whole image when there is
// no table. Offset and length are bytes.
func RootPartition(image string) (offset, length int64, err error) {
	f, err := os.Open(image)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	sector := make([]byte, 512)
	if _, err := io.ReadFull(f, sector); err != nil {
		return 0, 0, fmt.Errorf("cannot read the first sector of %s: %w", image, err)
	}
	if sector[510] != 0x55 || sector[511] != 0xaa {
		return 0, info.Size(), nil
	}
	for slot := range 4 {
		entry := sector[446+16*slot:][:16]
		if entry[4] == linuxPartition {
			start := int64(binary.LittleEndian.Uint32(entry[8:]))
			count := int64(binary.LittleEndian.Uint32(entry[12:]))
			return start * 512, count * 512, nil
		}
	}
	return 0, 0, fmt.Errorf("%s has a partition table without a Linux partition", image)
}

// Mount mounts the root filesystem of a raw image read-only on dir and returns
// what undoes it. It needs root and a loop device.
func Mount(image, dir string) (unmount func() error, err error) {
	offset, length, err := RootPartition(image)
	if err != nil {
		return nil, err
	}
	options := fmt.Sprintf("ro,loop,offset=%d,sizelimit=%d", offset, length)
	if out, err := exec.Command("mount", "-t", "ext4", "-o", options, image, dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot mount %s: %w: %s", image, err, out)
	}
	return func() error {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			return fmt.Errorf("cannot unmount %s: %w: %s", dir, err, out)
		}
		return nil
	}, nil
}

// Entry is everything that a file tells of itself and that two builds of one
// recipe must agree on. Times are left out: they are the subject of
// reproducibility, not of equivalence.
type Entry struct {
	Mode     uint32 // type, permission and set-id bits, as stat(2) has them
	UID, GID uint32
	Size     int64  // regular files and symlinks
	Device   uint64 // device nodes
	Target   string // symlinks
	SHA256   string // content of regular files
	Links    string // the first path of the group of hard links, "" for a lone file
	Xattrs   map[string]string
}

// Tree is a directory by path; "." is its top.
type Tree map[string]Entry

// Read walks dir without leaving its filesystem.
func Read(dir string) (Tree, error) {
	t := Tree{}
	type inode struct{ dev, ino uint64 }
	groups := map[inode][]string{}
	var device uint64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return fmt.Errorf("cannot look at %s: %w", path, err)
		}
		if rel == "." {
			device = st.Dev
		} else if st.Dev != device {
			return fs.SkipDir
		}
		e, err := readEntry(path, &st)
		if err != nil {
			return err
		}
		t[rel] = e
		if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink > 1 {
			key := inode{st.Dev, st.Ino}
			groups[key] = append(groups[key], rel)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, paths := range groups {
		first := slices.Min(paths)
		for _, p := range paths {
			e := t[p]
			e.Links = first
			t[p] = e
		}
	}
	return t, nil
}

func readEntry(path string, st *unix.Stat_t) (Entry, error) {
	e := Entry{Mode: st.Mode, UID: st.Uid, GID: st.Gid}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Size = st.Size
		if e.SHA256, err = hash(path); err != nil {
			return e, err
		}
	case unix.S_IFLNK:
		e.Size = st.Size
		if e.Target, err = os.Readlink(path); err != nil {
			return e, err
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Device = st.Rdev
	}
	e.Xattrs, err = xattrs(path)
	return e, err
}

func hash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("cannot read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func xattrs(path string) (map[string]string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, syscall.ENOTSUP) || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the extended attributes of %s: %w", path, err)
	}
	found := map[string]string{}
	for _, name := range strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s of %s: %w", name, path, err)
		}
		found[name] = hex.EncodeToString(value[:n])
	}
	return found, nil
}

// Difference is one path on which two trees disagree.
type Difference struct {
	Path string
	What string // what differs, for people
}

func (d Difference) String() string { return d.Path + ": " + d.What }

// Compare lists all differences in path order.
func Compare(a, b Tree) []Difference {
	paths := map[string]bool{}
	for p := range a {
		paths[p] = true
	}
	for p := range b {
		paths[p] = true
	}
	var list []Difference
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		ea, inA := a[p]
		eb, inB := b[p]
		switch {
		case !inA:
			list = append(list, Difference{p, "only in the second"})
		case !inB:
			list = append(list, Difference{p, "only in the first"})
		default:
			if what := ea.differs(eb); what != "" {
				list = append(list, Difference{p, what})
			}
		}
	}
	return list
}

func (e Entry) differs(o Entry) string {
	var what []string
	note := func(name string, a, b any) {
		if a != b {
			what = append(what, fmt.Sprintf("%s %v against %v", name, a, b))
		}
	}
	note("mode", fmt.Sprintf("%o", e.Mode), fmt.Sprintf("%o", o.Mode))
	note("owner", e.UID, o.UID)
	note("group", e.GID, o.GID)
	note("size", e.Size, o.Size)
	note("device", e.Device, o.Device)
	note("target", e.Target, o.Target)
	note("content", e.SHA256, o.SHA256)
	note("link group", e.Links, o.Links)
	if !maps.Equal(e.Xattrs, o.Xattrs) {
		what = append(what, fmt.Sprintf("attributes %v against %v", e.Xattrs, o.Xattrs))
	}
	return strings.Join(what, ", ")
}
