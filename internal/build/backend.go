package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/disk"
	"github.com/dib-builder/dib/internal/disk/loop"
	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/plan"
	"github.com/dib-builder/dib/internal/treecopy"
)

// backend puts the finished tree on disks, in two steps around the last hooks.
type backend interface {
	// check fails early when the machine does not allow what settle will do.
	check() error
	// settle moves the tree from place.BuiltDir to place.TreeDir, where the last
	// hooks find it. It returns the layout as those hooks should see it.
	settle(ctx context.Context, o disk.Options) (*blockdev.Layout, error)
	// keep lists mount points below place.TreeDir that belong to the disks.
	keep() []string
	// finish leaves the raw images. Nothing but keep is mounted in the tree.
	finish(ctx context.Context, o disk.Options) ([]disk.Image, error)
}

func (b *builder) newBackend() backend {
	if b.plan.Backend == plan.Loop {
		return &loopBackend{}
	}
	return offlineBackend{}
}

// offlineBackend makes the disks of the tree after the last hook.
type offlineBackend struct{}

func (offlineBackend) check() error { return nil }

func (offlineBackend) settle(_ context.Context, o disk.Options) (*blockdev.Layout, error) {
	return o.Layout, os.Rename(place.BuiltDir, place.TreeDir)
}

func (offlineBackend) keep() []string { return nil }

func (offlineBackend) finish(ctx context.Context, o disk.Options) ([]disk.Image, error) {
	return disk.Write(ctx, o)
}

// loopBackend gives the last hooks the disks themselves, on loop devices. When
// the build ends early, the mount namespace goes and takes them along.
type loopBackend struct{ disks *disk.Mounted }

func (l *loopBackend) check() error {
	if err := loop.Probe(place.ImageDir); err != nil {
		return fmt.Errorf("cannot make disks on loop devices: %w; set %s=offline if no hook needs them", err, plan.BackendVariable)
	}
	return nil
}

func (l *loopBackend) settle(ctx context.Context, o disk.Options) (*blockdev.Layout, error) {
	if len(o.Side) > 0 {
		return nil, fmt.Errorf("cannot copy the files to the disk: %s is not in the tree; this takes root of the machine", o.Side[0].Path)
	}
	if err := os.Mkdir(place.TreeDir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the image's mount point: %w", err)
	}
	o.Tree = place.BuiltDir
	var err error
	if l.disks, err = disk.Mount(ctx, o, place.TreeDir); err != nil {
		return nil, err
	}
	return l.disks.Layout, treecopy.Remove(place.BuiltDir)
}

func (l *loopBackend) keep() []string {
	if l.disks == nil {
		return nil // not settled yet
	}
	return l.disks.Points()
}

func (l *loopBackend) finish(ctx context.Context, _ disk.Options) ([]disk.Image, error) {
	return l.disks.Finish(ctx, unmountRetrying)
}

// exportDevices tells the last hooks the names of block devices (spec/01
// section 2.2): elements expand the second variable into an array.
func (b *builder) exportDevices() error {
	if b.plan.Backend != plan.Loop {
		return nil
	}
	root := b.layout.RootDisk()
	if root == nil {
		return errors.New("cannot name the block device of the image: nothing is mounted at /")
	}
	b.env["IMAGE_BLOCK_DEVICE"] = root.Device
	var list strings.Builder
	for _, d := range b.layout.Disks {
		list.WriteString(blockdev.ArrayEntry(d.Name, d.Device))
		if d.Table != nil {
			for _, p := range d.Table.Partitions {
				list.WriteString(blockdev.ArrayEntry(p.Name, p.Device))
			}
		}
	}
	b.env["IMAGE_BLOCK_DEVICES"] = list.String()
	b.logf("The image is on %s, its devices are%s", root.Device, strings.TrimRight(list.String(), " "))
	return nil
}

// isKept tells whether a mount point belongs to the disks. The paths are
// compared whole (D37).
func isKept(point string, keep []string) bool {
	for _, k := range keep {
		if path.Clean(point) == path.Clean(k) {
			return true
		}
	}
	return false
}
