package disk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/disk/loop"
	"github.com/dib-builder/dib/internal/treecopy"
	"github.com/dib-builder/dib/internal/treepath"
)

// Mounted is what Write writes, made the classical way: the same partition
// tables and filesystems at the same places, but on loop devices and mounted, so
// that hooks can work on them before they are finished.
type Mounted struct {
	// Layout is that of the options, with the names of real devices.
	Layout *blockdev.Layout

	w       *writer
	at      string
	images  []Image
	devices []*loop.Device // one a disk, in the order of the layout
	mounts  []string       // mount points below at, in the order of mounting
	// later are filesystems that this kernel cannot mount: until the end their
	// files lie in the directory of the mount point.
	later []blockdev.Mount
}

// Mount makes the disks of the layout and mounts their filesystems below the
// directory at, which must exist. Then it copies the tree there. It needs root
// of the machine. After an error nothing is left of it.
func Mount(ctx context.Context, o Options, at string) (m *Mounted, err error) {
	if len(o.Layout.VolumeGroups) > 0 {
		return nil, errors.New("internal error: logical volumes cannot be mounted without the device-mapper")
	}
	w, err := newWriter(ctx, o)
	if err != nil {
		return nil, err
	}
	layout, err := cloneLayout(o.Layout)
	if err != nil {
		return nil, err
	}
	m = &Mounted{Layout: layout, w: w, at: at}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.abort())
			m = nil
		}
	}()
	for i := range layout.Disks {
		if err := m.makeDisk(ctx, &o.Layout.Disks[i], &layout.Disks[i]); err != nil {
			return m, err
		}
	}
	if err := m.mountAll(); err != nil {
		return m, err
	}
	err = w.step("copying the files to the disk", func() error { return treecopy.Copy(w.Tree, at) })
	if err != nil {
		err = fmt.Errorf("cannot copy the files to the disk: %w", err)
	}
	return m, err
}

func cloneLayout(l *blockdev.Layout) (*blockdev.Layout, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	out := new(blockdev.Layout)
	return out, json.Unmarshal(text, out)
}

// makeDisk makes the image of a disk with empty filesystems, attaches it and
// enters its devices in the layout.
func (m *Mounted) makeDisk(ctx context.Context, from, d *blockdev.Disk) error {
	f, img, err := m.w.create(from)
	if img.Path != "" {
		m.images = append(m.images, img)
	}
	if err != nil {
		return err
	}
	for _, fs := range m.Layout.Filesystems {
		if fs.Disk == d.Name && err == nil {
			err = m.w.step("filesystem "+fs.Node, func() error {
				return m.w.fill(ctx, volumes{d.Name: f}, img.Path, editPlan{fs: fs}, "", rootAttrs{mode: 0o755, mtime: m.w.epoch})
			})
		}
	}
	if cerr := f.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("cannot write disk image %s: %w", img.Path, cerr)
	}
	if err != nil {
		return err
	}
	var parts []loop.Partition
	if d.Table != nil {
		for _, p := range d.Table.Partitions {
			sector := int64(d.SectorSize)
			parts = append(parts, loop.Partition{Number: p.Number, Start: p.Start * sector, Length: p.Length * sector})
		}
	}
	dev, err := loop.Attach(img.Path, d.SectorSize, parts)
	if err != nil {
		return err
	}
	m.devices = append(m.devices, dev)
	m.name(d, dev)
	return nil
}

// name enters the names of real devices in the layout.
func (m *Mounted) name(d *blockdev.Disk, dev *loop.Device) {
	d.Device = dev.Path
	if d.Table != nil {
		for i := range d.Table.Partitions {
			p := &d.Table.Partitions[i]
			p.Device = dev.Partitions[p.Number]
		}
	}
	for i := range m.Layout.Filesystems {
		fs := &m.Layout.Filesystems[i]
		if fs.Disk != d.Name {
			continue
		}
		fs.Device = d.Device
		if p := d.Partition(fs.Partition); p != nil {
			fs.Device = p.Device
		}
	}
}

func (m *Mounted) mountAll() error {
	for _, mnt := range m.Layout.Mounts {
		fs := m.Layout.Filesystem(mnt.Filesystem)
		if fs == nil {
			return fmt.Errorf("internal error: mount point %s has no filesystem", mnt.Point)
		}
		target := filepath.Join(m.at, mnt.Point)
		if err := m.mountPoint(mnt.Point, target); err != nil {
			return fmt.Errorf("cannot make mount point %s: %w", mnt.Point, err)
		}
		if isFAT(fs.Type) && !kernelKnows("vfat") {
			m.later = append(m.later, mnt)
			continue
		}
		kind := fs.Type
		if isFAT(kind) {
			kind = "vfat"
		}
		// Inode tables are known to be zero, nobody need write them.
		data := ""
		if fs.Type == "ext4" {
			data = "noinit_itable"
		}
		if err := unix.Mount(fs.Device, target, kind, 0, data); err != nil {
			return fmt.Errorf("cannot mount filesystem %s (%s) from %s: %w; does this kernel know the type?", fs.Node, fs.Type, fs.Device, err)
		}
		m.mounts = append(m.mounts, target)
	}
	return nil
}

// mountPoint makes the directory that a filesystem will cover as the tree has it.
func (m *Mounted) mountPoint(point, target string) error {
	if point == "/" {
		return nil
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	dir, err := treepath.Resolve(m.w.Tree, point)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case dir != filepath.Join(m.w.Tree, point):
		return fmt.Errorf("in the tree it leads through a symbolic link to %s", dir)
	}
	return treecopy.Attributes(dir, target)
}

// Points are the mount points of the filesystems, for those who unmount
// everything else below the tree.
func (m *Mounted) Points() []string { return slices.Clone(m.mounts) }

// Finish writes everything to the images and gives the devices back. unmount
// unmounts one mount point, with all the patience it takes.
func (m *Mounted) Finish(ctx context.Context, unmount func(path string) error) (images []Image, err error) {
	defer func() {
		if err != nil {
			images, err = nil, errors.Join(err, m.abort())
		}
	}()
	boot, core, grub, err := grubImages(m.at)
	if err != nil {
		return nil, err
	}
	for _, mnt := range slices.Backward(m.later) {
		if err := m.fillLater(ctx, mnt); err != nil {
			return nil, err
		}
	}
	attrs := map[string]rootAttrs{}
	for _, mnt := range m.Layout.Mounts {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(m.at, mnt.Point), &st); err != nil {
			return nil, fmt.Errorf("cannot read mount point %s: %w", mnt.Point, err)
		}
		attrs[mnt.Filesystem] = rootAttrs{mode: st.Mode, uid: st.Uid, gid: st.Gid, mtime: st.Mtim.Sec}
	}
	for len(m.mounts) > 0 {
		last := m.mounts[len(m.mounts)-1]
		m.trim(last)
		if err := unmount(last); err != nil {
			return nil, err
		}
		m.mounts = m.mounts[:len(m.mounts)-1]
	}
	if err := m.detach(); err != nil {
		return nil, err
	}
	for i, img := range m.images {
		if err := m.finishImage(img, &m.Layout.Disks[i], attrs, boot, core, grub); err != nil {
			return nil, err
		}
	}
	return m.images, nil
}

// fillLater moves what lies at a mount point into the filesystem that belongs
// there. The loop device reads and writes the same pages of the image, and
// nothing has its partition open.
func (m *Mounted) fillLater(ctx context.Context, mnt blockdev.Mount) (err error) {
	fs := *m.Layout.Filesystem(mnt.Filesystem)
	img := m.images[slices.IndexFunc(m.images, func(i Image) bool { return i.Disk == fs.Disk })]
	f, err := os.OpenFile(img.Path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cannot fill filesystem %s: %w", fs.Node, err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("cannot fill filesystem %s: %w", fs.Node, cerr)
		}
	}()
	dir := filepath.Join(m.at, mnt.Point)
	if err := m.w.writeFAT(ctx, f, editPlan{fs: fs, point: mnt.Point}, dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	if err != nil {
		return fmt.Errorf("cannot empty mount point %s: %w", mnt.Point, err)
	}
	return nil
}

func isFAT(fstype string) bool { return fstype == "vfat" || fstype == "fat" }

// kernelKnows says whether the running kernel can mount a type of filesystem,
// now or after loading a module.
func kernelKnows(fstype string) bool {
	fd, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return !errors.Is(err, unix.ENODEV)
	}
	unix.Close(fd)
	return true
}

// finishImage does to an image what Write does after filling it.
func (m *Mounted) finishImage(img Image, d *blockdev.Disk, attrs map[string]rootAttrs, boot, core []byte, grub bool) (err error) {
	f, err := os.OpenFile(img.Path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cannot finish disk image: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("cannot finish disk image: %w", cerr)
		}
	}()
	for _, fs := range m.Layout.Filesystems {
		if fs.Disk != d.Name || !strings.HasPrefix(fs.Type, "ext") {
			continue
		}
		root, ok := attrs[fs.Node]
		if !ok {
			root = rootAttrs{mode: 0o755, mtime: m.w.epoch}
		}
		if err := stamp(f, fs.Offset, m.w.epoch, root); err != nil {
			return fmt.Errorf("cannot finish filesystem %s: %w", fs.Node, err)
		}
	}
	if !grub || !img.Root || d.Table == nil || d.Table.Label == "gpt" && d.BIOSBootPartition() == nil {
		return nil
	}
	// A hook may have installed a boot loader on the device.
	var code [mbrDiskID]byte
	if _, err := f.ReadAt(code[:], 0); err != nil {
		return fmt.Errorf("cannot read the boot sector: %w", err)
	}
	if code != [mbrDiskID]byte{} {
		return nil
	}
	return m.w.step("boot loader", func() error { return embedGRUB(f, d, boot, core) })
}

// fitrim is FITRIM of linux/fs.h: _IOWR('X', 121, struct fstrim_range).
const fitrim = 0xc0185879

// trim tells the loop device what the filesystem does not use, which makes
// holes in the image. It is a courtesy: not every kernel and filesystem can.
func (m *Mounted) trim(point string) {
	fd, err := unix.Open(point, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_ = unix.Syncfs(fd)
	everything := struct{ start, length, minimum uint64 }{length: 1<<64 - 1}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fitrim, uintptr(unsafe.Pointer(&everything)))
	if errno != 0 && m.w.Log != nil {
		m.w.Log(fmt.Appendf(nil, "cannot trim %s: %v", point, errno))
	}
}

func (m *Mounted) detach() error {
	var errs []error
	for _, dev := range m.devices {
		errs = append(errs, dev.Detach())
	}
	m.devices = nil
	return errors.Join(errs...)
}

// abort undoes everything.
func (m *Mounted) abort() error {
	var errs []error
	for _, point := range slices.Backward(m.mounts) {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("cannot unmount %s: %w", point, err))
		}
	}
	m.mounts = nil
	errs = append(errs, m.detach())
	removeImages(m.images)
	m.images = nil
	return errors.Join(errs...)
}
