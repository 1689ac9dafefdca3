package disk

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/disk/fat"
)

// writeFAT makes a FAT filesystem with the directory dir in it; an empty dir
// leaves it empty. Owners, modes and extended attributes have no place there.
func (w *writer) writeFAT(ctx context.Context, f io.WriterAt, plan editPlan, dir string) error {
	for _, e := range plan.entries {
		if e.Node != nil {
			return fmt.Errorf("cannot fill filesystem %s: device node %s: FAT holds files and directories only", plan.fs.Node, e.Path)
		}
	}
	if len(plan.mkdirs) > 0 {
		return fmt.Errorf("cannot fill filesystem %s: the tree has no directory %s, on which another filesystem is mounted: let a hook create it", plan.fs.Node, plan.mkdirs[0])
	}
	disk := w.Layout.Disk(plan.fs.Disk)
	var tree fs.FS
	if dir != "" {
		tree = os.DirFS(dir)
	}
	if err := fat.Write(ctx, f, plan.fs.Offset, tree, w.fatOptions(disk, plan.fs)); err != nil {
		return fmt.Errorf("cannot make filesystem %s (%s, %d MiB): %w", plan.fs.Node, plan.fs.Type, plan.fs.Length>>20, err)
	}
	return nil
}

func (w *writer) fatOptions(d *blockdev.Disk, fs blockdev.Filesystem) fat.Options {
	hidden := fs.Offset / int64(d.SectorSize)
	if fs.Volume != "" {
		hidden = 0 // a volume is a device of its own
	}
	return fat.Options{
		Length: fs.Length / int64(d.SectorSize) * int64(d.SectorSize), SectorSize: d.SectorSize, Hidden: hidden,
		Label: fs.Label, VolumeID: fs.UUID, MkfsOpts: fs.Opts, Epoch: w.epoch,
	}
}
