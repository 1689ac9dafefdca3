package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/disk/lvm"
)

// volumes are the files of all disks, by name: a logical volume may lie on
// several of them.
type volumes map[string]*os.File

// writePhysical writes the physical volumes that are on a disk.
func (w *writer) writePhysical(f io.WriterAt, disk string) error {
	created := time.Unix(w.epoch, 0)
	if w.epoch == 0 && w.Now != nil {
		created = w.Now()
	}
	for i := range w.Layout.VolumeGroups {
		vg := &w.Layout.VolumeGroups[i]
		for k, p := range vg.PVs {
			if p.Disk != disk {
				continue
			}
			if err := lvm.Write(f, vg, k, created); err != nil {
				return err
			}
		}
	}
	return nil
}

// splitVolume is a logical volume in pieces, as one run of bytes.
type splitVolume struct {
	vg    *blockdev.VolumeGroup
	lv    *blockdev.LogicalVolume
	disks volumes
}

// WriteAt writes each piece where it belongs. Calls for different ranges may
// run at the same time.
func (v splitVolume) WriteAt(b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) {
		disk, at, run := v.vg.Place(v.lv, off+int64(done))
		if run == 0 {
			return done, fmt.Errorf("volume %s/%s ends before byte %d: %w", v.vg.Name, v.lv.Name, off+int64(len(b)), io.ErrShortWrite)
		}
		f, ok := v.disks[disk]
		if !ok {
			return done, fmt.Errorf("internal error: volume %s/%s lies on disk %q, which is not open", v.vg.Name, v.lv.Name, disk)
		}
		part := b[done:min(int64(len(b)), int64(done)+run)]
		n, err := f.WriteAt(part, at)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// fillSplit makes a filesystem on a logical volume in pieces.
func (w *writer) fillSplit(ctx context.Context, disks volumes, plan editPlan, dir string, attrs rootAttrs) error {
	vg, lv := w.Layout.VolumeOf(&plan.fs)
	if lv == nil {
		return fmt.Errorf("internal error: the layout has no volume %s/%s", plan.fs.VolumeGroup, plan.fs.Volume)
	}
	v := splitVolume{vg, lv, disks}
	plan.fs.Offset = 0
	if ownWriter(plan.fs) {
		return w.fillOwn(ctx, v, plan, dir, attrs)
	}
	// Foreign programs write one piece only: into a file, which is then dealt
	// out.
	tmp, err := os.CreateTemp(w.Dir, "."+filepath.Base(plan.fs.Volume)+"-*.part")
	if err != nil {
		return fmt.Errorf("cannot make filesystem %s: %w", plan.fs.Node, err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	if err := tmp.Truncate(plan.fs.Length); err != nil {
		return fmt.Errorf("cannot make filesystem %s: %w", plan.fs.Node, err)
	}
	if err := w.fillForeign(ctx, tmp, tmp.Name(), plan, dir, attrs); err != nil {
		return err
	}
	if err := copyData(ctx, v, tmp, plan.fs.Length); err != nil {
		return fmt.Errorf("cannot write filesystem %s to volume %s/%s: %w", plan.fs.Node, vg.Name, lv.Name, err)
	}
	return nil
}

// copyData copies what is not a hole.
func copyData(ctx context.Context, to io.WriterAt, f *os.File, size int64) error {
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		if at, err = unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE); err != nil {
			return err
		}
		for data < at {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := io.Copy(io.NewOffsetWriter(to, data), io.NewSectionReader(f, data, min(at-data, 1<<20)))
			if err != nil {
				return err
			}
			data += n
		}
	}
	return nil
}
