package bootloader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/run"
)

// platform is GRUB's name for PCs that boot through a BIOS.
const platform = "i386-pc"

// coreModules are in the core image besides the filesystem driver: what is
// needed to read /boot/grub, and what DIB preloads so that a disk may be
// moved to GPT or LVM later.
var coreModules = []string{"biosdisk", "part_msdos", "part_gpt", "lvm", "search_fs_uuid"}

// platformFiles are the files of a platform directory that GRUB loads when it
// runs.
var platformFiles = []string{"*.mod", "*.lst", "efiemu*.o", "modinfo.sh"}

// installBIOS makes the boot directory complete and writes boot.img and
// core.img there. Whoever writes the disk embeds them.
func (b *builder) installBIOS(ctx context.Context) error {
	source, err := firstDir("/usr/lib/grub/"+platform, "/usr/share/grub2/"+platform, "/usr/share/grub/"+platform)
	if err != nil {
		return fmt.Errorf("cannot install GRUB: no modules for %s: %w; install the package that has them (grub-pc-bin, grub2-pc-modules)", platform, err)
	}
	prefix, fs, err := b.prefix()
	if err != nil {
		return err
	}
	target := filepath.Join(b.bootDir, platform)
	if err := copyMatches(source, target, platformFiles); err != nil {
		return fmt.Errorf("cannot install GRUB's modules: %w", err)
	}
	if err := copyFile(filepath.Join(source, "boot.img"), filepath.Join(target, "boot.img")); err != nil {
		return fmt.Errorf("cannot install GRUB's boot sector: %w", err)
	}
	b.installFont()
	if err := b.installLocales(); err != nil {
		return fmt.Errorf("cannot install GRUB's translations: %w", err)
	}
	if err := createEnv(filepath.Join(b.bootDir, "grubenv")); err != nil {
		return fmt.Errorf("cannot create GRUB's environment block: %w", err)
	}
	mkimage := b.look("grub-mkimage", "grub2-mkimage")
	if mkimage == "" {
		return errors.New("cannot make GRUB's core image: neither grub-mkimage nor grub2-mkimage is in the image")
	}
	argv := []string{mkimage, "-d", source, "-O", platform, "-p", prefix, "-o", filepath.Join(target, "core.img"), grubModule(fs.Type)}
	if err := b.run(ctx, append(argv, coreModules...)...); err != nil {
		return fmt.Errorf("cannot make GRUB's core image: %w", err)
	}
	return nil
}

// prefix is where the core image finds its modules: no drive, which means the
// one the firmware booted, then partition and path; or a logical volume, which
// is found wherever it is.
func (b *builder) prefix() (string, *blockdev.Filesystem, error) {
	fs, _ := b.layout.Holding(b.bootDir)
	if fs == nil {
		return "", nil, fmt.Errorf("cannot install GRUB: the layout has no filesystem for %s", b.bootDir)
	}
	s := subjectOf(b.layout, fs)
	if s.volume != nil {
		return "(" + s.volumeID() + ")" + relative(b.layout, b.bootDir), fs, nil
	}
	if s.partition == nil {
		return "", nil, fmt.Errorf("cannot install GRUB: %s is on filesystem %s, which is not on a partition; use a layout with a partition table, such as block-device-mbr", b.bootDir, fs.Node)
	}
	return "(" + s.grubPartition() + ")" + relative(b.layout, b.bootDir), fs, nil
}

func firstDir(names ...string) (string, error) {
	for _, n := range names {
		if st, err := os.Stat(n); err == nil && st.IsDir() {
			return n, nil
		}
	}
	return "", fmt.Errorf("none of %s exists", strings.Join(names, ", "))
}

// installFont copies the font of the graphical menu; without it GRUB uses text.
func (b *builder) installFont() {
	for _, dir := range []string{"/usr/share/grub", "/usr/share/grub2"} {
		if copyFile(filepath.Join(dir, "unicode.pf2"), filepath.Join(b.bootDir, "fonts", "unicode.pf2")) == nil {
			return
		}
	}
	b.say("no font unicode.pf2 in the image: the menu stays in text mode")
}

func (b *builder) installLocales() error {
	for _, pattern := range []string{"/usr/share/locale/*/LC_MESSAGES/grub.mo", "/usr/share/locale-langpack/*/LC_MESSAGES/grub.mo"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, mo := range found {
			lang := filepath.Base(filepath.Dir(filepath.Dir(mo)))
			if err := copyFile(mo, filepath.Join(b.bootDir, "locale", lang+".mo")); err != nil {
				return err
			}
		}
	}
	return nil
}

// envSize is the size of GRUB's environment block, which GRUB itself only
// overwrites in place.
const envSize = 1024

func createEnv(name string) error {
	if _, err := os.Lstat(name); err == nil {
		return nil
	}
	block := "# GRUB Environment Block\n"
	return os.WriteFile(name, []byte(block+strings.Repeat("#", envSize-len(block))), 0o644)
}

func copyMatches(from, to string, patterns []string) error {
	for _, p := range patterns {
		found, err := filepath.Glob(filepath.Join(from, p))
		if err != nil {
			return err
		}
		for _, f := range found {
			if err := copyFile(f, filepath.Join(to, filepath.Base(f))); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyFile copies content and modification time.
func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Chtimes(to, time.Time{}, st.ModTime())
}

func (b *builder) run(ctx context.Context, argv ...string) error {
	return run.Cmd{Argv: argv, Env: b.env, Log: b.log}.Run(ctx)
}
