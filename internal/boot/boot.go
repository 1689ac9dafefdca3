// Package boot starts a disk image in QEMU and decides whether it came up.
//
// It is the only such harness, for tests and users alike. The image is never
// changed: the guest writes to an overlay without a name. The machine is a
// child that the kernel kills with its parent, so nothing is left behind.
package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/image/qcow2"
	"github.com/dib-builder/dib/internal/run"
)

// Options describes a machine. Only Image is needed.
type Options struct {
	Image  string // the disk to boot from; empty for none
	Format string // of Image, "raw" or "qcow2"; empty to look at the file
	// Resize is the size of the guest's disk in bytes; 0 keeps the image's. It
	// cannot be smaller than the image.
	Resize int64
	// Bus attaches the disks: "virtio" (the default), "scsi" (virtio-scsi),
	// "ide" or "sata".
	Bus    string
	Drives []Drive // more disks

	Emulator string // default qemu-system-x86_64
	Machine  string // QEMU's machine type; empty for its default
	Accel    string // default tcg, which works everywhere
	CPU      string // default max
	CPUs     int    // default 1
	Memory   int    // MiB, default 1024
	Firmware string // firmware image such as OVMF.fd, for UEFI; empty for QEMU's default

	Kernel, Initrd, Append string // boot a kernel directly

	// Network gives the guest QEMU's user network, through which it reaches
	// what this machine reaches. Off by default.
	Network bool
	Args    []string // further arguments for QEMU

	Env        []string       // of QEMU; nil for this process's
	Transcript io.Writer      // gets everything the console shows, as it is
	TempDir    string         // where the guest's writes go; default os.TempDir()
	Log        func(l []byte) // gets QEMU's own messages
}

// Drive is a further disk. The guest's writes to it are dropped unless Writable.
type Drive struct {
	Path     string
	Format   string // default raw
	Writable bool
}

// greetingTime is how long QEMU may take to set its machine up.
const greetingTime = 2 * time.Minute

// Machine is a running QEMU.
type Machine struct {
	*Console
	qmp    *qmp
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of QEMU, set before done is closed
	close  func()
}

// File descriptors QEMU inherits, from 3 on in this order.
const (
	fdSerial = 3 + iota
	fdQMP
	fdDisk
)

// Start starts the machine. It runs until Close, Shutdown, the end of ctx or
// the guest itself ends it; a guest that reboots ends it too.
func Start(ctx context.Context, o Options) (*Machine, error) {
	m, err := start(ctx, o.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("cannot start a virtual machine: %w", err)
	}
	return m, nil
}

func (o Options) withDefaults() Options {
	def := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	def(&o.Bus, "virtio")
	def(&o.Emulator, "qemu-system-x86_64")
	def(&o.Accel, "tcg")
	def(&o.CPU, "max")
	def(&o.TempDir, os.TempDir())
	if o.CPUs == 0 {
		o.CPUs = 1
	}
	if o.Memory == 0 {
		o.Memory = 1024
	}
	if o.Env == nil {
		o.Env = os.Environ()
	}
	return o
}

func start(ctx context.Context, o Options) (_ *Machine, err error) {
	argv, err := arguments(o)
	if err != nil {
		return nil, err
	}
	var ours, theirs files
	running := false // theirs belong to the goroutine that runs QEMU
	defer func() {
		if !running {
			theirs.close()
		}
		if err != nil {
			ours.close()
		}
	}()
	for range 2 { // serial, QMP
		if err := socketPair(&ours, &theirs); err != nil {
			return nil, err
		}
	}
	if o.Image != "" {
		overlay, err := createOverlay(o)
		if err != nil {
			return nil, err
		}
		theirs = append(theirs, overlay)
	}

	ctx, cancel := context.WithCancel(ctx)
	m := &Machine{cancel: cancel, done: make(chan struct{}), close: ours.close}
	running = true
	go func() {
		defer close(m.done)
		m.err = run.Cmd{
			Argv: argv, Env: o.Env, ExtraFiles: theirs, DieWithParent: true, Log: o.Log,
		}.Run(ctx)
		theirs.close() // console and monitor end
	}()
	m.Console = NewConsole(ours[0], o.Transcript)
	greeting, cancelGreeting := context.WithTimeout(ctx, greetingTime)
	defer cancelGreeting()
	if m.qmp, err = openQMP(greeting, ours[1]); err != nil {
		m.Close()
		if m.err != nil && !errors.Is(m.err, context.Canceled) {
			err = m.err // why it ended says more than that it ended
		}
		return nil, err
	}
	return m, nil
}

// Done is closed when QEMU has ended.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Close ends the machine at once and waits until nothing of it is left. It may
// be called again.
func (m *Machine) Close() {
	m.cancel()
	<-m.done
	m.close()
}

// Quit asks QEMU to end without telling the guest, and closes the machine.
func (m *Machine) Quit(ctx context.Context) error {
	defer m.Close()
	if err := m.qmp.execute(ctx, "quit"); err != nil {
		return fmt.Errorf("cannot quit the virtual machine: %w", err)
	}
	return m.ended(ctx, "quit the virtual machine", 10*time.Second)
}

// Shutdown presses the power button, waits until the guest has shut down and
// closes the machine. The error is an *Error when the guest does not.
func (m *Machine) Shutdown(ctx context.Context, timeout time.Duration) error {
	defer m.Close()
	if err := m.qmp.execute(ctx, "system_powerdown"); err != nil {
		return fmt.Errorf("cannot shut the guest down: %w", err)
	}
	return m.ended(ctx, "shut the guest down", timeout)
}

// WaitExit waits until the guest has switched itself off or rebooted.
func (m *Machine) WaitExit(ctx context.Context, timeout time.Duration) error {
	return m.ended(ctx, "wait for the guest to switch off", timeout)
}

func (m *Machine) ended(ctx context.Context, doing string, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-m.done:
		return m.err
	case <-timer.C:
		return m.failed(doing, fmt.Errorf("%w after %s", ErrTimeout, timeout))
	case <-ctx.Done():
		return m.failed(doing, ctx.Err())
	}
}

// WaitLogin waits until the guest of m asks for a login name: the image boots.
func WaitLogin(ctx context.Context, m *Machine, timeout time.Duration) error {
	return m.WaitLogin(ctx, timeout)
}

// arguments is QEMU's command line.
func arguments(o Options) ([]string, error) {
	argv := []string{o.Emulator, "-nodefaults", "-no-user-config", "-nographic", "-no-reboot"}
	if o.Machine != "" {
		argv = append(argv, "-machine", o.Machine)
	}
	argv = append(argv,
		"-accel", o.Accel, "-cpu", o.CPU, "-smp", strconv.Itoa(o.CPUs), "-m", strconv.Itoa(o.Memory),
		"-chardev", fmt.Sprintf("socket,id=serial0,fd=%d", fdSerial), "-serial", "chardev:serial0",
		"-chardev", fmt.Sprintf("socket,id=qmp0,fd=%d", fdQMP), "-mon", "chardev=qmp0,mode=control",
		// Guests wait for entropy while they boot.
		"-device", "virtio-rng-pci")
	switch o.Bus {
	case "scsi":
		argv = append(argv, "-device", "virtio-scsi-pci,id=scsi0")
	case "sata":
		argv = append(argv, "-device", "ich9-ahci,id=ahci0")
	case "virtio", "ide":
	default:
		return nil, fmt.Errorf("unknown disk bus %q; want virtio, scsi, ide or sata", o.Bus)
	}
	disk := 0
	add := func(drive string) {
		id := fmt.Sprintf("disk%d", disk)
		argv = append(argv, "-drive", "if=none,id="+id+","+drive, "-device", device(o, id, disk))
		disk++
	}
	if o.Image != "" {
		add(fmt.Sprintf("format=qcow2,cache=unsafe,discard=unmap,file=/proc/self/fd/%d", fdDisk))
	}
	for _, d := range o.Drives {
		format := d.Format
		if format == "" {
			format = "raw"
		}
		spec := "format=" + format + ",snapshot=on"
		if d.Writable {
			spec = "format=" + format
		}
		add(spec + ",file=" + strings.ReplaceAll(d.Path, ",", ",,"))
	}
	if o.Firmware != "" {
		argv = append(argv, "-bios", o.Firmware)
	}
	for _, kv := range [][2]string{{"-kernel", o.Kernel}, {"-initrd", o.Initrd}, {"-append", o.Append}} {
		if kv[1] != "" {
			argv = append(argv, kv[0], kv[1])
		}
	}
	if o.Network {
		argv = append(argv, "-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile=")
	}
	return append(argv, o.Args...), nil
}

// device is the guest's side of disk number n. A kernel that is booted directly
// comes before all disks.
func device(o Options, id string, n int) string {
	models := map[string]string{"virtio": "virtio-blk-pci", "scsi": "scsi-hd,bus=scsi0.0", "ide": "ide-hd", "sata": fmt.Sprintf("ide-hd,bus=ahci0.%d", n)}
	index := n
	if o.Kernel != "" {
		index++
	}
	return fmt.Sprintf("%s,drive=%s,bootindex=%d", models[o.Bus], id, index)
}

// createOverlay makes the disk the guest writes to: a file without a name that
// shows the image.
func createOverlay(o Options) (*os.File, error) {
	path, err := filepath.Abs(o.Image)
	if err != nil {
		return nil, err
	}
	format, size, err := inspect(path, o.Format)
	if err != nil {
		return nil, fmt.Errorf("cannot read image %q: %w", o.Image, err)
	}
	if o.Resize != 0 && o.Resize < size {
		return nil, fmt.Errorf("cannot give the guest a disk of %d bytes: image %q has %d", o.Resize, o.Image, size)
	}
	f, err := unnamedFile(o.TempDir)
	if err != nil {
		return nil, fmt.Errorf("cannot create the guest's disk: %w", err)
	}
	if err := qcow2.CreateOverlay(f, path, format, max(size, o.Resize)); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// inspect finds the format of an image, unless given, and its virtual size.
func inspect(path, format string) (string, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd) // works for block devices too
	if err != nil {
		return "", 0, err
	}
	if format == "raw" {
		return format, size, nil
	}
	m, err := qcow2.Open(f, size)
	switch {
	case err == nil && (format == "" || format == "qcow2"):
		return "qcow2", m.Size(), nil
	case format == "" && errors.Is(err, qcow2.ErrNotQcow2):
		return "raw", size, nil
	case err != nil:
		return "", 0, err
	}
	return "", 0, fmt.Errorf("unknown format %q; want raw or qcow2", format)
}

func unnamedFile(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), filepath.Join(dir, "(unnamed)")), nil
	}
	f, err := os.CreateTemp(dir, "dib-boot-*")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// files are open files that belong together.
type files []*os.File

func (f files) close() {
	for _, x := range f {
		_ = x.Close()
	}
}

// socketPair makes two connected sockets, one for us and one for QEMU. No name
// in the file system means no length limit and nothing to clean up.
func socketPair(ours, theirs *files) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot create a socket pair: %w", err)
	}
	// Non-blocking, so that Close wakes a Read.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return err
	}
	*ours = append(*ours, os.NewFile(uintptr(fds[0]), "socket"))
	*theirs = append(*theirs, os.NewFile(uintptr(fds[1]), "socket"))
	return nil
}
