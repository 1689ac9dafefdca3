// Package disk writes a Layout and a tree into raw disk images: partition
// table, filesystems and boot code, straight into a sparse file, without loop
// devices or mounted filesystems.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/treepath"
)

// Options say what to write.
type Options struct {
	Layout *blockdev.Layout
	Tree   string      // directory that holds the root filesystem; read only
	Side   []SideEntry // what the tree could not hold
	Dir    string      // images go to Dir/NAME.raw unless their disk names a directory

	// Env is where PATH, MKE2FS_CONFIG and SOURCE_DATE_EPOCH are taken from;
	// the last limits the times in filesystems and makes them reproducible.
	Env    []string
	Log    func(line []byte)
	Events event.Sink       // nil for none
	Now    func() time.Time // for durations in events; nil for none
}

// Image is a finished raw file.
type Image struct {
	Disk string // name of its node
	Path string
	Root bool // it holds the root filesystem
}

// Write writes all disks of the layout. After an error no file is left. A
// layout with nested mount points needs the right to mount: while a filesystem
// is made, an empty one hides what belongs to the filesystems below it.
func Write(ctx context.Context, o Options) (images []Image, err error) {
	w, err := newWriter(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			removeImages(images)
			images = nil
		}
	}()
	// All files are there before the first filesystem: a logical volume may lie
	// on several disks.
	disks := volumes{}
	defer func() {
		for _, f := range disks {
			f.Close() // errors count below
		}
	}()
	for i := range o.Layout.Disks {
		d := &o.Layout.Disks[i]
		f, img, err := w.create(d)
		if img.Path != "" {
			images = append(images, img)
		}
		if err != nil {
			return images, err
		}
		disks[d.Name] = f
	}
	for i := range o.Layout.Disks {
		if err := w.disk(ctx, disks, images[i], &o.Layout.Disks[i]); err != nil {
			return images, err
		}
	}
	for i := range o.Layout.Disks {
		if err := disks[o.Layout.Disks[i].Name].Close(); err != nil {
			return images, fmt.Errorf("cannot write disk image %s: %w", images[i].Path, err)
		}
	}
	return images, nil
}

func removeImages(images []Image) {
	for _, img := range images {
		os.Remove(img.Path)
	}
}

func newWriter(ctx context.Context, o Options) (*writer, error) {
	if o.Events == nil {
		o.Events = event.Discard
	}
	w := &writer{Options: o}
	var err error
	if v := lookup(o.Env, "SOURCE_DATE_EPOCH"); v != "" {
		if w.epoch, err = strconv.ParseInt(v, 10, 64); err != nil || w.epoch < 0 {
			return nil, fmt.Errorf("cannot write disks: SOURCE_DATE_EPOCH %q is not a number of seconds", v)
		}
	}
	if w.Tree, err = filepath.Abs(o.Tree); err != nil {
		return nil, fmt.Errorf("cannot write disks: %w", err)
	}
	if needsMke2fs(o.Layout) {
		if w.tools, err = findTools(ctx, w.Tree, o.Env, o.Log); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// needsMke2fs says whether a filesystem of the layout is beyond our own writer.
func needsMke2fs(l *blockdev.Layout) bool {
	return slices.ContainsFunc(l.Filesystems, func(fs blockdev.Filesystem) bool { return strings.HasPrefix(fs.Type, "ext") && !ownExt(fs) })
}

func lookup(env []string, name string) string {
	val := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			val = v
		}
	}
	return val
}

type writer struct {
	Options
	tools *tools
	epoch int64 // seconds; 0 for no limit
}

func (w *writer) step(name string, do func() error) error {
	var start time.Time
	if w.Now != nil {
		start = w.Now()
	}
	w.Events.Emit(event.Event{Kind: event.StepStart, Step: name})
	err := do()
	end := event.Event{Kind: event.StepEnd, Step: name}
	if w.Now != nil {
		end.Seconds = w.Now().Sub(start).Seconds()
	}
	if err != nil {
		end.Exit = 1
	}
	w.Events.Emit(end)
	return err
}

// create makes the file of a disk, with its partition table. The path of the
// image is set as soon as there is a file.
func (w *writer) create(d *blockdev.Disk) (*os.File, Image, error) {
	img := Image{Disk: d.Name, Path: d.ImagePath(w.Dir), Root: d == w.Layout.RootDisk()}
	f, err := os.OpenFile(img.Path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return nil, Image{}, fmt.Errorf("cannot create disk image: %w", err)
	}
	if err := w.start(f, img, d); err != nil {
		f.Close()
		return nil, img, err
	}
	return f, img, nil
}

func (w *writer) start(f *os.File, img Image, d *blockdev.Disk) error {
	if err := f.Truncate(d.Size); err != nil {
		return fmt.Errorf("cannot size disk image %s to %d bytes: %w", img.Path, d.Size, err)
	}
	if err := writeTable(f, d); err != nil {
		return err
	}
	return w.writePhysical(f, d.Name)
}

func (w *writer) disk(ctx context.Context, disks volumes, img Image, d *blockdev.Disk) error {
	for _, fs := range w.Layout.Filesystems {
		if fs.Disk != d.Name {
			continue
		}
		err := w.step("filesystem "+fs.Node, func() error { return w.filesystem(ctx, disks, img.Path, fs) })
		if err != nil {
			return err
		}
	}
	if !img.Root || d.Table == nil || d.Table.Label == "gpt" && d.BIOSBootPartition() == nil {
		return nil
	}
	boot, core, ok, err := grubImages(w.Tree)
	if err != nil || !ok {
		return err
	}
	return w.step("boot loader", func() error { return embedGRUB(disks[d.Name], d, boot, core) })
}

// writeTable writes the partition table of a disk, if it has one.
func writeTable(f io.WriterAt, d *blockdev.Disk) error {
	var pieces []piece
	switch {
	case d.Table == nil:
		return nil
	case d.Table.Label == "gpt":
		var err error
		if pieces, err = encodeGPT(d); err != nil {
			return err
		}
	default:
		for _, s := range EncodeMBR(d.Table) {
			pieces = append(pieces, piece{s.LBA * int64(d.SectorSize), s.Data[:]})
		}
	}
	for _, p := range pieces {
		if _, err := f.WriteAt(p.data, p.offset); err != nil {
			return fmt.Errorf("cannot write the partition table of disk %q: %w", d.Name, err)
		}
	}
	return nil
}

// filesystem makes one filesystem with the part of the tree that belongs to it.
func (w *writer) filesystem(ctx context.Context, disks volumes, image string, fs blockdev.Filesystem) error {
	point := ""
	for _, m := range w.Layout.Mounts {
		if m.Filesystem == fs.Node {
			point = m.Point
		}
	}
	attrs := rootAttrs{mode: 0o755, mtime: w.epoch}
	if point == "" {
		return w.fill(ctx, disks, image, editPlan{fs: fs}, "", attrs)
	}
	plan := editPlan{fs: fs, point: point, entries: sideEntries(w.Layout, fs.Node, w.Side)}
	below, missing, err := w.nested(fs.Node, point)
	if err != nil {
		return err
	}
	plan.mkdirs = missing
	dir, err := treepath.Resolve(w.Tree, point)
	if errors.Is(err, os.ErrNotExist) {
		return w.fill(ctx, disks, image, plan, "", attrs)
	}
	if err != nil {
		return fmt.Errorf("cannot find mount point %s in the tree: %w", point, err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return fmt.Errorf("cannot read mount point %s of the tree: %w", point, err)
	}
	attrs = rootAttrs{mode: st.Mode, uid: st.Uid, gid: st.Gid, mtime: st.Mtim.Sec}
	return masked(below, func() error { return w.fill(ctx, disks, image, plan, dir, attrs) })
}

func (w *writer) fill(ctx context.Context, disks volumes, image string, plan editPlan, dir string, attrs rootAttrs) error {
	f := disks[plan.fs.Disk]
	switch {
	case plan.fs.Split:
		return w.fillSplit(ctx, disks, plan, dir, attrs)
	case ownWriter(plan.fs):
		return w.fillOwn(ctx, f, plan, dir, attrs)
	}
	return w.fillForeign(ctx, f, image, plan, dir, attrs)
}

// ownWriter says whether our own code makes a filesystem.
func ownWriter(fs blockdev.Filesystem) bool {
	return isFAT(fs.Type) || fs.Type == "swap" || ownExt(fs)
}

func (w *writer) fillOwn(ctx context.Context, f io.WriterAt, plan editPlan, dir string, attrs rootAttrs) error {
	switch {
	case isFAT(plan.fs.Type):
		return w.writeFAT(ctx, f, plan, dir)
	case plan.fs.Type == "swap":
		return writeSwap(f, plan.fs)
	}
	return w.writeExt(ctx, f, plan, dir, attrs)
}

// fillForeign has mke2fs make a filesystem inside the file image.
func (w *writer) fillForeign(ctx context.Context, f *os.File, image string, plan editPlan, dir string, attrs rootAttrs) error {
	if err := w.tools.makeExt(ctx, image, plan.fs, dir, [2]int{int(attrs.uid), int(attrs.gid)}); err != nil {
		return err
	}
	if err := w.tools.edit(ctx, image, plan); err != nil {
		return err
	}
	if err := stamp(f, plan.fs.Offset, w.epoch, attrs); err != nil {
		return fmt.Errorf("cannot finish filesystem %s: %w", plan.fs.Node, err)
	}
	return nil
}

// nested lists what must be hidden while the filesystem at point is made: the
// directories of the tree that belong to filesystems mounted directly on it.
// missing are those the tree does not have, relative to the filesystem, each
// after its parents.
func (w *writer) nested(node, point string) (dirs, missing []string, err error) {
	for _, m := range w.Layout.Mounts {
		if m.Point == "/" || m.Filesystem == node {
			continue
		}
		if parent, _ := w.Layout.Holding(path.Dir(m.Point)); parent == nil || parent.Node != node {
			continue
		}
		dir, err := treepath.Resolve(w.Tree, m.Point)
		switch {
		case err == nil && dir != filepath.Join(w.Tree, m.Point):
			return nil, nil, fmt.Errorf("cannot separate mount point %s from the tree: it leads through a symbolic link to %s", m.Point, dir)
		case err == nil:
			dirs = append(dirs, dir)
		case errors.Is(err, os.ErrNotExist):
			missing = append(missing, w.missingDirs(point, m.Point, missing)...)
		default:
			return nil, nil, fmt.Errorf("cannot find mount point %s in the tree: %w", m.Point, err)
		}
	}
	return dirs, missing, nil
}

// missingDirs lists the directories between base and point that neither the
// tree nor the list has, relative to base.
func (w *writer) missingDirs(base, point string, have []string) []string {
	var out []string
	for p := point; p != base && p != "/"; p = path.Dir(p) {
		if _, err := os.Lstat(filepath.Join(w.Tree, p)); err == nil {
			break
		}
		rel := path.Clean("/" + strings.TrimPrefix(p, strings.TrimSuffix(base, "/")))
		listed := false
		for _, h := range have {
			listed = listed || h == rel
		}
		if !listed {
			out = append([]string{rel}, out...)
		}
	}
	return out
}

// masked runs do while each of dirs is hidden by an empty directory with the
// same owner, mode and time. Mounts do it without touching the tree, and go
// away with the mount namespace if this process is killed.
func masked(dirs []string, do func() error) (err error) {
	for _, dir := range dirs {
		unmount, err := mask(dir)
		if err != nil {
			return err
		}
		defer func() {
			if uerr := unmount(); uerr != nil && err == nil {
				err = uerr
			}
		}()
	}
	return do()
}

func mask(dir string) (unmount func() error, err error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, fmt.Errorf("cannot read mount point %s: %w", dir, err)
	}
	data := fmt.Sprintf("mode=%o,uid=%d,gid=%d,size=64k", st.Mode&0o7777, st.Uid, st.Gid)
	if err := unix.Mount("dib-mask", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
		return nil, fmt.Errorf("cannot hide %s, which belongs to another filesystem of the image: mount: %w", dir, err)
	}
	unmount = func() error {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("cannot uncover %s: unmount: %w", dir, err)
		}
		return nil
	}
	times := []unix.Timespec{st.Mtim, st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, dir, times, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot set the time of %s: %w", dir, err), unmount())
	}
	return unmount, nil
}
