package bootloader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dib-builder/dib/internal/blockdev"
)

// espDir is where the EFI system partition is mounted.
const espDir = "/boot/efi"

// efiPlatform is GRUB for EFI machines of one architecture.
type efiPlatform struct {
	target string // GRUB's name
	suffix string // of the programs' names: shimx64.efi
}

// removable is the program that firmware starts from a disk it has no boot
// entry for (UEFI specification, section 3.5.1.1).
func (p efiPlatform) removable() string { return "BOOT" + strings.ToUpper(p.suffix) + ".EFI" }

var efiPlatforms = map[string]efiPlatform{
	"amd64": {"x86_64-efi", "x64"},
	"arm64": {"arm64-efi", "aa64"},
	"i386":  {"i386-efi", "ia32"},
}

// efiModules are in an own EFI program besides the filesystem driver.
var efiModules = []string{"part_gpt", "part_msdos", "lvm", "fat", "normal", "configfile", "search", "search_fs_uuid"}

// installEFI puts a loader on the EFI system partition where every firmware
// finds it: the distribution's signed programs if the image has them, else one
// that GRUB's tools make.
func (b *builder) installEFI(ctx context.Context) error {
	p := efiPlatforms[b.settings.Arch]
	esp, point := b.layout.Holding(espDir)
	if esp == nil || point != espDir {
		return fmt.Errorf("cannot install GRUB for EFI: the layout mounts nothing at %s; use an EFI layout such as block-device-efi", espDir)
	}
	root, _ := b.layout.Holding(b.bootDir)
	if root == nil {
		return fmt.Errorf("cannot install GRUB for EFI: the layout has no filesystem for %s", b.bootDir)
	}
	stub := efiStub(root, relative(b.layout, b.bootDir))
	if b.vendorDir() != "" && hasLoader(b.vendorDir()) {
		// The distribution's packages hold signed programs; they only have to be
		// told where the configuration is.
		return writeStub(b.vendorDir(), stub)
	}
	if err := createEnv(filepath.Join(b.bootDir, "grubenv")); err != nil {
		return fmt.Errorf("cannot create GRUB's environment block: %w", err)
	}
	source, err := firstDir("/usr/lib/grub/"+p.target, "/usr/share/grub2/"+p.target, "/usr/share/grub/"+p.target)
	if err == nil {
		err = copyMatches(source, filepath.Join(b.bootDir, p.target), platformFiles)
	}
	if err != nil {
		return fmt.Errorf("cannot install GRUB's modules for %s: %w; install the package that has them (grub-efi-%s-bin, grub2-efi-%s-modules)", p.target, err, b.settings.Arch, p.suffix)
	}
	b.installFont()
	if err := b.installLocales(); err != nil {
		return fmt.Errorf("cannot install GRUB's translations: %w", err)
	}
	dir := filepath.Join(espDir, "EFI", "BOOT")
	signed, err := b.installSigned(p, dir)
	if err != nil {
		return fmt.Errorf("cannot install the signed boot loader: %w", err)
	}
	if !signed {
		b.say("warning: the image has no signed boot loader (packages shim-signed and grub-efi-%s-signed): it will not start under Secure Boot", b.settings.Arch)
		return b.makeEFI(ctx, p, source, filepath.Join(dir, p.removable()), root, stub)
	}
	// A signed program looks for its configuration in its vendor's directory,
	// whichever directory it was started from.
	for _, d := range []string{dir, b.vendorDir()} {
		if d == "" {
			continue
		}
		if err := writeStub(d, stub); err != nil {
			return err
		}
	}
	return nil
}

// vendorDir is the distribution's directory on the EFI system partition, or
// nothing when it has none (BD-63: set but empty is the same as unset).
func (b *builder) vendorDir() string {
	if b.settings.EFIDir == "" {
		return ""
	}
	return filepath.Join(espDir, b.settings.EFIDir)
}

// hasLoader says whether packages have put EFI programs into a directory.
func hasLoader(dir string) bool {
	for _, pattern := range []string{"grub*.efi", "shim*.efi"} {
		if found, err := filepath.Glob(filepath.Join(dir, pattern)); err == nil && len(found) > 0 {
			return true
		}
	}
	return false
}

// efiStub finds the filesystem that /boot/grub is on by its UUID and goes on
// with the configuration there, so that nothing on the EFI system partition
// grows stale when a later hook makes a new one (BD-69).
func efiStub(root *blockdev.Filesystem, bootDir string) string {
	return fmt.Sprintf("search --no-floppy --fs-uuid --set=root %s\nset prefix=($root)%s\nexport prefix\nconfigfile $prefix/grub.cfg\n", root.UUID, bootDir)
}

func writeStub(dir, text string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot write the configuration of the EFI boot loader: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "grub.cfg"), []byte(text), 0o644); err != nil {
		return fmt.Errorf("cannot write the configuration of the EFI boot loader: %w", err)
	}
	return nil
}

// installSigned copies shim, GRUB and the key manager as Debian and Ubuntu ship
// them; it reports whether there are both shim and GRUB.
func (b *builder) installSigned(p efiPlatform, dir string) (bool, error) {
	shim := "/usr/lib/shim/shim" + p.suffix + ".efi.signed"
	grub := "/usr/lib/grub/" + p.target + "-signed/grub" + p.suffix + ".efi.signed"
	for _, name := range []string{shim, grub} {
		if _, err := os.Stat(name); errors.Is(err, os.ErrNotExist) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	copies := []struct {
		from, to string
		optional bool
	}{
		{shim, p.removable(), false},
		{grub, "grub" + p.suffix + ".efi", false},
		{"/usr/lib/shim/mm" + p.suffix + ".efi.signed", "mm" + p.suffix + ".efi", true},
		{"/usr/lib/shim/mm" + p.suffix + ".efi", "mm" + p.suffix + ".efi", true},
	}
	for _, c := range copies {
		err := copyFile(c.from, filepath.Join(dir, c.to))
		if err != nil && !(c.optional && errors.Is(err, os.ErrNotExist)) {
			return false, err
		}
	}
	return true, nil
}

// makeEFI makes an unsigned program with the stub built in.
func (b *builder) makeEFI(ctx context.Context, p efiPlatform, source, target string, root *blockdev.Filesystem, stub string) (err error) {
	mkimage := b.look("grub-mkimage", "grub2-mkimage")
	if mkimage == "" {
		return errors.New("cannot make GRUB's EFI program: neither grub-mkimage nor grub2-mkimage is in the image")
	}
	config, err := os.CreateTemp("", "grub-early-*.cfg")
	if err != nil {
		return fmt.Errorf("cannot make GRUB's EFI program: %w", err)
	}
	defer os.Remove(config.Name())
	_, err = config.WriteString(stub)
	if err := errors.Join(err, config.Close(), os.MkdirAll(filepath.Dir(target), 0o755)); err != nil {
		return fmt.Errorf("cannot make GRUB's EFI program: %w", err)
	}
	argv := []string{mkimage, "-d", source, "-O", p.target, "-p", "/EFI/BOOT", "-c", config.Name(), "-o", target, grubModule(root.Type)}
	if err := b.run(ctx, append(argv, efiModules...)...); err != nil {
		return fmt.Errorf("cannot make GRUB's EFI program: %w", err)
	}
	return nil
}
