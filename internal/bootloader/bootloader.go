// Package bootloader installs GRUB into an image from within its chroot,
// where no block device exists: what GRUB's tools want to know about devices
// is answered from the layout, and boot code is left in files for the writer
// of the disk to embed.
package bootloader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/run"
)

const (
	defaultsFile = "/etc/default/grub"
	entriesDir   = "/boot/loader/entries"
	// installedMark is left by a distribution that installed GRUB by itself.
	installedMark = "/tmp/grub/install"
	fipsSetup     = "/bin/fips-mode-setup"
	// osProber keeps mkconfig from looking for systems on the build host.
	osProber = "GRUB_DISABLE_OS_PROBER"
)

// Main is the command behind the hook finalise.d/50-bootloader. It reads the
// element's variables (DIB_BLOCK_DEVICE, DIB_ROOT_LABEL, DIB_BOOTLOADER_*,
// DIB_GRUB_*, ARCH, ...) and the layout at place.InTarget.
func Main(ctx context.Context, io command.IO, args []string) int {
	if len(args) > 0 {
		fmt.Fprintf(io.Err, "bootloader: takes no arguments, got %q\n", args)
		return 2
	}
	b := &builder{io: io, env: io.Environ()}
	if err := b.build(ctx); err != nil {
		fmt.Fprintf(io.Err, "bootloader: %v\n", err)
		return 1
	}
	return 0
}

type builder struct {
	io       command.IO
	env      []string
	settings settings
	layout   *blockdev.Layout

	bootDir  string // /boot/grub or /boot/grub2
	mkconfig []string
}

func (b *builder) say(format string, args ...any) {
	fmt.Fprintf(b.io.Err, "bootloader: "+format+"\n", args...)
}

func (b *builder) log(line []byte) { fmt.Fprintf(b.io.Out, "%s\n", line) }

// look finds the first of some programs on PATH.
func (b *builder) look(names ...string) string {
	for _, n := range names {
		if p := look(b.io.Getenv("PATH"), n); p != "" {
			return p
		}
	}
	return ""
}

func (b *builder) build(ctx context.Context) (err error) {
	if b.settings, err = readSettings(b.io.Getenv, b.env); err != nil {
		return err
	}
	if st, err := os.Lstat(installedMark); err == nil && st.Mode().IsRegular() {
		b.say("%s exists: the distribution has installed GRUB itself", installedMark)
		return nil
	}
	if b.layout, err = readLayout(layoutPath); err != nil {
		return err
	}
	if b.settings.RootLabel == "" {
		if root, _ := b.layout.Holding("/"); root != nil {
			b.settings.RootLabel = root.Label
		}
	}
	if !b.settings.SkipPackages {
		argv := append([]string{"install-packages", "-m", "bootloader"}, b.settings.packages()...)
		if err := b.run(ctx, argv...); err != nil {
			return fmt.Errorf("cannot install the packages of the boot loader: %w", err)
		}
	}
	if err := b.findTools(ctx); err != nil {
		return err
	}
	if err := b.configure(ctx); err != nil {
		return err
	}
	if b.settings.BlockDevice == "" {
		b.say("warning: DIB_BLOCK_DEVICE is empty: GRUB is configured, but no boot loader is installed")
		return nil
	}
	return b.install(ctx)
}

// install installs what the machines that the image is for start from. An EFI
// layout with a BIOS boot partition serves both kinds.
func (b *builder) install(ctx context.Context) error {
	disk := b.layout.RootDisk()
	gpt := disk != nil && disk.Table != nil && disk.Table.Label == "gpt"
	bios := b.settings.x86() && (!gpt || disk.BIOSBootPartition() != nil && disk.SectorSize == 512)
	if b.settings.BlockDevice != "efi" {
		if !bios {
			return errors.New("cannot install GRUB for BIOS: that needs a GUID partition table with a BIOS boot partition (type EF02, 1MiB or more) and sectors of 512 bytes")
		}
		return b.installBIOS(ctx)
	}
	if bios && gpt { // BD-74: without such a partition the image is for EFI alone
		if err := b.installBIOS(ctx); err != nil {
			return err
		}
	}
	return b.installEFI(ctx)
}

// findTools finds GRUB's programs, which some distributions call grub2-*.
func (b *builder) findTools(ctx context.Context) error {
	install := b.look("grub-install", "grub2-install")
	if install == "" {
		return errors.New("cannot find GRUB: neither grub-install nor grub2-install is in the image; install its package, or unset DIB_SKIP_GRUB_PACKAGE_INSTALL")
	}
	text, err := run.Cmd{Argv: []string{install, "--version"}, Env: b.env}.Output(ctx)
	if err != nil {
		return fmt.Errorf("cannot ask GRUB for its version: %w", err)
	}
	if !strings.Contains(string(text), " 2.") {
		return fmt.Errorf("cannot use %s: GRUB 2 is needed, and this is %q", install, strings.TrimSpace(string(text)))
	}
	mkconfig := b.look("grub2-mkconfig", "grub-mkconfig")
	if mkconfig == "" {
		return errors.New("cannot find GRUB: neither grub2-mkconfig nor grub-mkconfig is in the image")
	}
	b.mkconfig = []string{mkconfig}
	help, err := run.Cmd{Argv: []string{mkconfig, "--help"}, Env: b.env}.Output(ctx)
	if err == nil && strings.Contains(string(help), "--update-bls-cmdline") {
		b.mkconfig = append(b.mkconfig, "--update-bls-cmdline")
	}
	b.bootDir = "/boot/grub"
	if st, err := os.Stat("/boot/grub2"); err == nil && st.IsDir() {
		b.bootDir = "/boot/grub2"
	}
	if err := os.MkdirAll(b.bootDir, 0o755); err != nil {
		return fmt.Errorf("cannot make GRUB's directory: %w", err)
	}
	return nil
}

// configure writes /etc/default/grub and everything that follows from it.
func (b *builder) configure(ctx context.Context) error {
	// A link into an EFI system partition that does not exist would make GRUB
	// fail to replace it.
	grubenv := filepath.Join(b.bootDir, "grubenv")
	if st, err := os.Lstat(grubenv); err == nil && st.Mode()&os.ModeSymlink != 0 {
		if err := os.Remove(grubenv); err != nil {
			return fmt.Errorf("cannot remove the link %s: %w", grubenv, err)
		}
	}
	old, err := os.ReadFile(defaultsFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot read GRUB's settings: %w", err)
	}
	b.settings.RootDevice = rootDevice(b.layout)
	text := EditDefaults(string(old), b.settings.defaults(b.fips(ctx)))
	// Other systems are looked for on the disks of the machine, and those are
	// the build host's: switched off while mkconfig runs, whatever the image
	// itself wants.
	if err := writeDefaults(setVariables(text, []assignment{{osProber, "true"}})); err != nil {
		return err
	}
	cfg := filepath.Join(b.bootDir, "grub.cfg")
	err = b.withAnswers(func() error {
		return b.run(ctx, append(b.mkconfig[:len(b.mkconfig):len(b.mkconfig)], "-o", cfg)...)
	})
	if rerr := writeDefaults(text); err == nil {
		err = rerr
	}
	if err != nil {
		return fmt.Errorf("cannot make GRUB's configuration: %w", err)
	}
	if err := b.bootEntries(ctx); err != nil {
		return err
	}
	return b.finishConfig(cfg)
}

// rootDevice is what the kernel is to find the root filesystem by, where that
// is not its label: an initramfs activates the one logical volume that its name
// tells it, and cannot know which one has a label (BD-84).
func rootDevice(l *blockdev.Layout) string {
	if root, _ := l.Holding("/"); root != nil && root.Volume != "" {
		return root.Device
	}
	return ""
}

func writeDefaults(text string) error {
	if err := os.MkdirAll(filepath.Dir(defaultsFile), 0o755); err != nil {
		return fmt.Errorf("cannot write GRUB's settings: %w", err)
	}
	if err := os.WriteFile(defaultsFile, []byte(text), 0o644); err != nil {
		return fmt.Errorf("cannot write GRUB's settings: %w", err)
	}
	return nil
}

// fips says whether the image is set up for FIPS 140 only halfway, which the
// kernel argument completes: the tool then exits with status 1.
func (b *builder) fips(ctx context.Context) bool {
	if st, err := os.Stat(fipsSetup); err != nil || st.Mode()&0o111 == 0 {
		return false
	}
	var failed *run.Error
	return errors.As(b.run(ctx, fipsSetup, "--is-enabled"), &failed) && failed.Exit == 1
}

// finishConfig makes the configuration fit every firmware.
func (b *builder) finishConfig(cfg string) error {
	text, err := os.ReadFile(cfg)
	if err != nil {
		return fmt.Errorf("cannot read GRUB's configuration: %w", err)
	}
	if fixed := plainConfig(string(text)); fixed != string(text) {
		if err := os.WriteFile(cfg, []byte(fixed), 0o644); err != nil {
			return fmt.Errorf("cannot write GRUB's configuration: %w", err)
		}
	}
	return nil
}

// bootEntries puts right the entries of the boot loader specification, which
// some distributions use instead of menu entries in grub.cfg.
func (b *builder) bootEntries(ctx context.Context) error {
	entries, err := os.ReadDir(entriesDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read boot entries: %w", err)
	}
	_, point := b.layout.Holding("/boot")
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		name := filepath.Join(entriesDir, e.Name())
		text, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("cannot read boot entry: %w", err)
		}
		if fixed := bootEntry(string(text), point == "/boot"); fixed != string(text) {
			if err := os.WriteFile(name, []byte(fixed), 0o644); err != nil {
				return fmt.Errorf("cannot write boot entry: %w", err)
			}
		}
	}
	grubby := b.look("grubby")
	if grubby == "" {
		return nil
	}
	if b.settings.Serial == "" && b.settings.VirtualTerminal == "" {
		if err := b.run(ctx, grubby, "--update-kernel", "ALL", "--remove-args=console"); err != nil {
			return fmt.Errorf("cannot remove consoles from boot entries: %w", err)
		}
	}
	if err := b.run(ctx, grubby, "--info=ALL"); err != nil {
		b.say("cannot list boot entries: %v", err)
	}
	return nil
}

// withAnswers runs do while this program stands in for the tools of GRUB that
// would ask the kernel about devices. GRUB's scripts call them by absolute
// path, so they are covered by bind mounts; the mounts live in the build's own
// mount namespace and end with it.
func (b *builder) withAnswers(do func() error) (err error) {
	// The link in /proc may lead into another mount namespace, from which
	// nothing can be bound; the path of the build cannot.
	self := place.InTarget + "/" + place.Binary
	if _, err := os.Stat(self); err != nil {
		self = "/proc/self/exe"
	}
	for _, name := range []string{"grub-probe", "grub2-probe", "grub-mkrelpath", "grub2-mkrelpath"} {
		at := b.look(name)
		if at == "" {
			continue
		}
		if at, err = filepath.EvalSymlinks(at); err != nil {
			return fmt.Errorf("cannot stand in for %s: %w", name, err)
		}
		if err := unix.Mount(self, at, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cannot stand in for %s: bind mount of %s: %w", at, self, err)
		}
		defer func() {
			if uerr := unix.Unmount(at, unix.MNT_DETACH); uerr != nil && err == nil {
				err = fmt.Errorf("cannot uncover %s: unmount: %w", at, uerr)
			}
		}()
	}
	return do()
}
