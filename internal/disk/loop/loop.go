// Package loop attaches disk images to loop devices and makes nodes for them
// and for their partitions. It needs root of the machine.
//
// Partitions are announced one by one (BLKPG) instead of being searched for by
// the kernel, which need not know the kind of table. The kernel frees a device
// when its last user is gone, so that a killed build leaves none behind.
package loop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// control hands out numbers of loop devices.
const control = "/dev/loop-control"

// sysBlock is where the kernel describes block devices.
const sysBlock = "/sys/class/block"

// Partition is a partition to be announced. Start and Length are bytes.
type Partition struct {
	Number        int
	Start, Length int64
}

// Device is an image that is attached to a loop device.
type Device struct {
	Path       string         // /dev/loopN
	Partitions map[int]string // paths by number
	image      string
	file       *os.File // of the loop device: the last to be closed frees it
	links      []string // made by Attach in /dev/mapper
}

// Available tells why the caller cannot have loop devices here, nil if he can.
func Available() error {
	if os.Geteuid() != 0 {
		return errors.New("only root can have loop devices")
	}
	// Only the initial user namespace maps all ids to themselves.
	ids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil || strings.Join(strings.Fields(string(ids)), " ") != "0 0 4294967295" {
		return errors.New("only root of the machine can have loop devices, and this is root of a user namespace")
	}
	f, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("this machine gives no loop devices: %w", err)
	}
	return f.Close()
}

// Probe attaches and detaches a small image in dir: a container may show the
// control device and still forbid the others.
func Probe(dir string) (err error) {
	const size, sector = 1 << 20, 512
	f, err := os.CreateTemp(dir, "loop-probe-")
	if err != nil {
		return fmt.Errorf("cannot try a loop device: %w", err)
	}
	defer os.Remove(f.Name())
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return fmt.Errorf("cannot try a loop device: %w", err)
	}
	d, err := Attach(f.Name(), sector, []Partition{{Number: 1, Start: size / 2, Length: size / 4}})
	if err != nil {
		return err
	}
	return d.Detach()
}

// attempts bounds how often another process may be quicker to take a device.
const attempts = 64

// Attach attaches an image with sectors of the given size (bytes).
func Attach(image string, sectorSize int, partitions []Partition) (*Device, error) {
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot attach disk image: %w", err)
	}
	defer f.Close()
	d, err := attach(f, image, sectorSize)
	if err != nil {
		return nil, fmt.Errorf("cannot attach %s to a loop device: %w", image, err)
	}
	for _, p := range partitions {
		if err := d.add(p); err != nil {
			return nil, errors.Join(fmt.Errorf("cannot announce partition %d of %s on %s: %w", p.Number, image, d.Path, err), d.Detach())
		}
	}
	return d, nil
}

func attach(image *os.File, name string, sectorSize int) (*Device, error) {
	ctl, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer ctl.Close()
	config := unix.LoopConfig{Fd: uint32(image.Fd()), Size: uint32(sectorSize)}
	// With PARTSCAN the kernel also forgets the partitions when it frees the device.
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_PARTSCAN
	copy(config.Info.File_name[:len(config.Info.File_name)-1], name)
	for range attempts {
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("no free loop device: %w", err)
		}
		base := "loop" + strconv.Itoa(n)
		path, err := makeNode(base)
		if err != nil {
			return nil, err
		}
		dev, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &config)
		if err == nil {
			return &Device{Path: path, Partitions: map[int]string{}, image: name, file: dev}, nil
		}
		dev.Close()
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) {
			return nil, fmt.Errorf("LOOP_CONFIGURE with sectors of %d bytes: %w (it takes Linux 5.8 or later)", sectorSize, err)
		}
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("LOOP_CONFIGURE: %w", err)
		}
	}
	return nil, fmt.Errorf("others were quicker %d times", attempts)
}

// blkpgPartition is struct blkpg_partition of linux/blkpg.h.
type blkpgPartition struct {
	start, length  int64
	number         int32
	device, volume [64]uint8
	_              [4]byte
}

// add announces a partition and makes its node, under the name that the kernel
// uses and the one that DIB's device-mapper entries would have.
func (d *Device) add(p Partition) error {
	part := blkpgPartition{start: p.Start, length: p.Length, number: int32(p.Number)}
	arg := unix.BlkpgIoctlArg{Op: unix.BLKPG_ADD_PARTITION, Datalen: int32(unsafe.Sizeof(part)), Data: (*byte)(unsafe.Pointer(&part))}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.file.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg)))
	base := filepath.Base(d.Path) + "p" + strconv.Itoa(p.Number)
	if errno == unix.EBUSY {
		// The kernel knows this kind of table and found it by itself.
		errno = sameExtent(base, p)
	}
	if errno != 0 {
		return errno
	}
	path, err := makeNode(base)
	if err != nil {
		return err
	}
	d.Partitions[p.Number] = path
	link := filepath.Join("/dev/mapper", base)
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	_ = os.Remove(link)
	if err := os.Symlink("../"+base, link); err != nil {
		return err
	}
	d.links = append(d.links, link)
	return nil
}

// sameExtent says whether a partition that is there already is the wanted one;
// EBUSY if not.
func sameExtent(base string, p Partition) unix.Errno {
	const sector = 512 // the unit of these files, whatever the device's own is
	for name, want := range map[string]int64{"start": p.Start, "size": p.Length} {
		got, err := readNumber(filepath.Join(sysBlock, base, name))
		if err != nil || got*sector != want {
			return unix.EBUSY
		}
	}
	return 0
}

func readNumber(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// makeNode makes /dev/NAME for a block device that the kernel knows, and
// returns its path. A node of that name may be left of an earlier use.
func makeNode(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(sysBlock, name, "dev"))
	if err != nil {
		return "", fmt.Errorf("cannot find the numbers of block device %s: %w", name, err)
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(text), "%d:%d", &major, &minor); err != nil {
		return "", fmt.Errorf("cannot understand the numbers of block device %s (%q): %w", name, text, err)
	}
	dev := unix.Mkdev(major, minor)
	path := filepath.Join("/dev", name)
	var st unix.Stat_t
	switch err := unix.Lstat(path, &st); {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == dev:
		return path, nil
	case err == nil:
		if err := os.Remove(path); err != nil {
			return "", fmt.Errorf("cannot replace %s: %w", path, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("cannot look at %s: %w", path, err)
	}
	if err := unix.Mknod(path, unix.S_IFBLK|0o660, int(dev)); err != nil {
		return "", fmt.Errorf("cannot make the node %s: %w", path, err)
	}
	return path, nil
}

// detachWait bounds how long others may keep a device that is to be freed.
const detachWait = 10 * time.Second

// Detach writes everything to the image and frees the device. Its partitions
// must not be mounted any more.
func (d *Device) Detach() error {
	var errs []error
	for _, path := range d.Partitions {
		errs = append(errs, syncDevice(path))
	}
	if err := d.file.Sync(); err != nil {
		errs = append(errs, fmt.Errorf("cannot write out %s: %w", d.Path, err))
	}
	for _, link := range d.links {
		errs = append(errs, os.Remove(link))
	}
	if err := d.file.Close(); err != nil {
		errs = append(errs, fmt.Errorf("cannot close %s: %w", d.Path, err))
	}
	for _, path := range d.Partitions {
		// Where /dev is the kernel's own, it has removed them.
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, d.waitFree())...)
}

func syncDevice(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("cannot write out %s: %w", path, err)
	}
	return nil
}

// waitFree waits until the kernel has let go of the image.
func (d *Device) waitFree() error {
	backing := filepath.Join("/sys/block", filepath.Base(d.Path), "loop/backing_file")
	for end := time.Now().Add(detachWait); ; time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(backing)
		if err != nil || strings.TrimSuffix(strings.TrimSpace(string(text)), " (deleted)") != d.image {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("cannot free %s: something still uses it after %v; end what has it open or mounted", d.Path, detachWait)
		}
	}
}
