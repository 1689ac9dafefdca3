package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/disk"
	"github.com/dib-builder/dib/internal/image/output"
	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/sidetable"
)

// settleTree puts the tree where the last hooks work on it.
func (b *builder) settleTree(ctx context.Context, layout *blockdev.Layout) (*blockdev.Layout, error) {
	o, err := b.diskOptions(layout, place.BuiltDir)
	if err != nil {
		return nil, err
	}
	return b.backend.settle(ctx, o)
}

// writeDisk turns tree and layout into sparse raw images, and remembers them:
// they become the artifacts.
func (b *builder) writeDisk(ctx context.Context) error {
	o, err := b.diskOptions(b.layout, place.TreeDir)
	if err != nil {
		return err
	}
	flagged, err := flaggedFiles(place.TreeDir)
	if err != nil {
		return err
	}
	o.Side = append(o.Side, flagged...)
	images, err := b.backend.finish(ctx, o)
	if err != nil {
		return err
	}
	b.images = map[string]string{}
	for _, i := range images {
		b.images[i.Disk] = i.Path
		if i.Root {
			b.images[""] = i.Path
		}
	}
	return nil
}

func (b *builder) diskOptions(layout *blockdev.Layout, tree string) (disk.Options, error) {
	entries, err := b.sideEntries(tree)
	if err != nil {
		return disk.Options{}, err
	}
	return disk.Options{
		Layout: layout, Tree: tree, Side: sideForDisk(entries), Dir: place.ImageDir,
		Env: b.hostEnv(nil), Log: b.log, Events: b.sink, Now: b.now,
	}, nil
}

func sideForDisk(entries []sidetable.Entry) []disk.SideEntry {
	side := make([]disk.SideEntry, len(entries))
	for i, e := range entries {
		side[i] = disk.SideEntry{Path: e.Path, Xattrs: e.Xattrs}
		if e.Flags != 0 {
			side[i].Flags = &entries[i].Flags
		}
		if n := e.Node; n != nil {
			side[i].Node = &disk.Node{Mode: n.Mode, Major: n.Major, Minor: n.Minor, UID: e.UID, GID: e.GID}
		}
	}
	return side
}

// flaggedFiles lists what the tree really holds with the immutable or the
// append-only flag, which a build as root can set: filesystems are made from
// the tree without regard to inode flags.
func flaggedFiles(tree string) ([]disk.SideEntry, error) {
	const appendOnlyFlag = 0x20 // FS_APPEND_FL
	var found []disk.SideEntry
	err := filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &st); err != nil {
			return fmt.Errorf("cannot read the inode flags of %s: %w", path, err)
		}
		var flags uint32
		if st.Attributes&unix.STATX_ATTR_IMMUTABLE != 0 {
			flags |= immutableFlag
		}
		if st.Attributes&unix.STATX_ATTR_APPEND != 0 {
			flags |= appendOnlyFlag
		}
		if flags == 0 {
			return nil
		}
		rel, err := filepath.Rel(tree, path)
		found = append(found, disk.SideEntry{Path: rel, Flags: &flags})
		return err
	})
	return found, err
}

// publishManifests moves what the manifests element staged to its place.
func (b *builder) publishManifests() error {
	staged := b.hostOnly["DIB_STAGED_OUTPUTS"]
	dest, err := os.ReadFile(filepath.Join(staged, "manifests.dest"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot publish the manifests: %w", err)
	}
	return output.PublishDir(filepath.Join(staged, "manifests"), b.abs(strings.TrimSuffix(string(dest), "\n")))
}

func (b *builder) abs(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(b.cwd, path)
}

// immutableFlag is FS_IMMUTABLE_FL of linux/fs.h.
const immutableFlag = 0x10

func hasImmutableFlag(path string) (bool, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, nil // missing or a symlink: neither can be immutable
	}
	defer unix.Close(fd)
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return false, nil // the filesystem has no such flags
	}
	return flags&immutableFlag != 0, nil
}
