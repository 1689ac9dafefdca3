package extractimage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// kernelMount is a filesystem that only the kernel can read, mounted read-only.
type kernelMount struct {
	dir  string
	loop *os.File // detaches itself when nothing uses it any more
	file *os.File // a copy of the partition, or nil
}

// NeedsRootError is a filesystem that takes root to be read.
type NeedsRootError struct {
	Kind string // of the filesystem
	Err  error
}

func (e *NeedsRootError) Error() string {
	return fmt.Sprintf("a filesystem of type %s can be read by the kernel only, which takes root and a loop device: run the build as root, or use an image with ext4 (%v)", e.Kind, e.Err)
}

func (e *NeedsRootError) Unwrap() error { return e.Err }

// options are those of the mount, to be tried in turn.
var options = map[string][]string{
	"xfs":   {"nouuid", "nouuid,norecovery"},
	"btrfs": {"subvol=root", ""},
}

func mountPart(ctx context.Context, d *disk, p part, tmp string) (m *kernelMount, err error) {
	m = &kernelMount{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	backing, offset := d.raw, p.Offset
	if backing == nil {
		if m.file, err = nameless(tmp); err != nil {
			return m, err
		}
		if err := copySparse(ctx, m.file, io.NewSectionReader(d, p.Offset, p.Size)); err != nil {
			return m, err
		}
		backing, offset = m.file, 0
	}
	if m.loop, err = attach(backing, offset, p.Size); err != nil {
		return m, &NeedsRootError{p.kind, err}
	}
	dir, err := os.MkdirTemp(tmp, "extract-image-")
	if err != nil {
		return m, err
	}
	var errs []error
	for _, o := range options[p.kind] {
		err := unix.Mount(m.loop.Name(), dir, p.kind, unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, o)
		if err == nil {
			m.dir = dir
			return m, nil
		}
		errs = append(errs, fmt.Errorf("with options %q: %w", o, err))
	}
	_ = os.Remove(dir)
	err = errors.Join(errs...)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return m, &NeedsRootError{p.kind, err}
	}
	if errors.Is(err, unix.ENODEV) {
		return m, fmt.Errorf("the kernel of the build host does not know filesystems of type %s: %w", p.kind, err)
	}
	return m, fmt.Errorf("cannot mount: %w", err)
}

func (m *kernelMount) close() error {
	var errs []error
	if m.dir != "" {
		errs = append(errs, unix.Unmount(m.dir, unix.UMOUNT_NOFOLLOW), os.Remove(m.dir))
		m.dir = ""
	}
	if m.loop != nil {
		errs = append(errs, m.loop.Close())
		m.loop = nil
	}
	if m.file != nil {
		errs = append(errs, m.file.Close())
		m.file = nil
	}
	return errors.Join(errs...)
}

// attach makes a part of a file a read-only block device.
func attach(file *os.File, offset, size int64) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for range 50 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("cannot get a loop device: %w", err)
		}
		name := fmt.Sprintf("/dev/loop%d", n)
		loop, err := os.OpenFile(name, os.O_RDONLY, 0)
		if errors.Is(err, os.ErrNotExist) {
			// A new one, of which this /dev does not know yet.
			if err := unix.Mknod(name, unix.S_IFBLK|0o600, int(unix.Mkdev(7, uint32(n)))); err != nil && !errors.Is(err, unix.EEXIST) {
				return nil, fmt.Errorf("cannot make %s: %w", name, err)
			}
			loop, err = os.OpenFile(name, os.O_RDONLY, 0)
		}
		if err != nil {
			return nil, err
		}
		config := &unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{
			Offset: uint64(offset), Sizelimit: uint64(size), Flags: unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR,
		}}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), config)
		if err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) { // another build was quicker
			return nil, fmt.Errorf("cannot attach %s: %w", name, err)
		}
	}
	return nil, errors.New("all loop devices are taken")
}
