package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/disk"
	"github.com/dib-builder/dib/internal/place"
)

// build is the life of one image, in the order of spec/01 section 3.1.
func (b *builder) build(ctx context.Context) error {
	if err := b.prepare(); err != nil {
		return err
	}
	if err := b.backend.check(); err != nil {
		return err
	}
	if err := b.makeTree(ctx); err != nil {
		return err
	}
	if err := b.freezeLayout(ctx); err != nil {
		return err
	}
	if err := b.finaliseTree(ctx); err != nil {
		return err
	}
	// No hook runs any more; what is made now belongs to the caller.
	unix.Umask(b.umask)
	// Archives come first: a disk that hooks had on a loop device takes the tree along.
	if err := b.writeTreeOutputs(ctx, &sources{}); err != nil {
		return err
	}
	if b.plan.NeedsDisk() {
		if err := b.step("writing the disk", func() error { return b.writeDisk(ctx) }); err != nil {
			return err
		}
		if err := b.writeDiskOutputs(ctx); err != nil {
			return err
		}
	}
	if err := b.publishFiles(ctx); err != nil {
		return err
	}
	return b.publishManifests()
}

// makeTree runs the phases that fill the root filesystem.
func (b *builder) makeTree(ctx context.Context) error {
	if err := b.hostPhase(ctx, "root", map[string]string{"TARGET_ROOT": place.TreeDir}); err != nil {
		return err
	}
	deployed, err := treeIsDeployed(place.TreeDir)
	if err != nil {
		return err
	}
	if !deployed {
		b.logf("Failed to deploy the root element.") // scripts look for DIB's words
		return errors.New("cannot deploy the root element: no root.d hook put anything into the image tree")
	}
	if err := b.takeSourceDate(); err != nil {
		return err
	}
	if err := b.withTree(func(r *os.Root) error { return borrowResolvConf(r, "/etc/resolv.conf") }); err != nil {
		return err
	}
	if err := mountKernelFilesystems(place.TreeDir); err != nil {
		return err
	}
	if err := b.writeInstallType(); err != nil {
		return err
	}
	if err := b.hostPhase(ctx, "extra-data", nil); err != nil {
		return err
	}
	for _, phase := range []string{"pre-install", "install"} {
		if err := b.targetPhase(ctx, phase); err != nil {
			return err
		}
	}
	if err := b.installPackages(ctx); err != nil {
		return err
	}
	if err := b.targetPhase(ctx, "post-install"); err != nil {
		return err
	}
	if err := b.hostPhase(ctx, "post-root", nil); err != nil {
		return err
	}
	if err := b.unmountImage(ctx, "EXTRA_DETACH", "EXTRA_UNMOUNT"); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(place.TreeDir, "lost+found")); err != nil {
		return fmt.Errorf("cannot clean the image: %w", err)
	}
	return os.Rename(place.TreeDir, place.BuiltDir)
}

// freezeLayout measures the tree, fixes the size of everything on the disk and
// tells the hooks about it.
func (b *builder) freezeLayout(ctx context.Context) error {
	if err := b.breakPoint(ctx, "before-block-device-size", place.BuiltDir, "", b.hostEnv(nil)); err != nil {
		return err
	}
	used, err := disk.UsedKiB(place.BuiltDir)
	if err != nil {
		return err
	}
	if on(b.env["DIB_SHOW_IMAGE_USAGE"]) {
		for _, line := range disk.UsageReport(place.BuiltDir, on(b.env["DIB_SHOW_IMAGE_USAGE_FULL"])) {
			b.logf("%s", line)
		}
	}
	in := blockdev.SizeInput{
		UsedKiB: used, ImageSizeGiB: b.plan.Recipe.ImageSizeGiB, ExtraMiB: b.plan.Recipe.ExtraSizeMiB,
		JournalMiB: b.plan.Recipe.JournalSizeMiB, RootFSType: b.env["DIB_ROOT_FSTYPE"],
		Elements: b.elementNames(),
	}
	size, err := blockdev.ImageSize(in)
	if err != nil {
		return err
	}
	opts, err := b.mkfsOptions(size)
	if err != nil {
		return err
	}
	if b.config, err = b.config.Merge(b.mergeParams(opts)); err != nil {
		return err
	}
	b.env["DIB_IMAGE_SIZE"] = strconv.FormatInt(size, 10)
	if err := b.hostPhase(ctx, "block-device", map[string]string{"TARGET_ROOT": place.BuiltDir}); err != nil {
		return err
	}
	layout, err := b.config.Layout(blockdev.LayoutInput{SizeKiB: size, Seed: b.plan.Seed(), BlockSize: b.env["DIB_BLOCK_SIZE"]})
	if err != nil {
		return err
	}
	b.logf("Disk of %d KiB for %d KiB of files", size, used)
	if b.layout, err = b.settleTree(ctx, layout); err != nil {
		return err
	}
	if err := b.exportDevices(); err != nil {
		return err
	}
	if err := b.writeState(size, opts); err != nil {
		return err
	}
	return b.withTree(func(r *os.Root) error {
		if err := r.MkdirAll("etc", 0o755); err != nil {
			return err
		}
		return r.WriteFile("etc/fstab", []byte(layout.FSTab), 0o644)
	})
}

// finaliseTree runs the last phases and leaves the tree as it goes to disk.
func (b *builder) finaliseTree(ctx context.Context) error {
	if err := mountKernelFilesystems(place.TreeDir); err != nil {
		return err
	}
	if err := b.hostPhase(ctx, "pre-finalise", nil); err != nil {
		return err
	}
	if err := b.targetPhase(ctx, "finalise"); err != nil {
		return err
	}
	if err := b.hostPhase(ctx, "cleanup", map[string]string{"TARGET_ROOT": place.TreeDir}); err != nil {
		return err
	}
	// DIB forgets EXTRA_UNMOUNT before the last time.
	if err := b.unmountImage(ctx, "EXTRA_DETACH"); err != nil {
		return err
	}
	immutable, err := b.immutable("etc/resolv.conf")
	if err != nil {
		return err
	}
	if err := b.withTree(func(r *os.Root) error { return returnResolvConf(r, immutable) }); err != nil {
		return err
	}
	return cleanTree(place.TreeDir)
}

// withTree runs f with the image tree as a root that no symlink in it can leave.
func (b *builder) withTree(f func(*os.Root) error) error {
	r, err := os.OpenRoot(place.TreeDir)
	if err != nil {
		return fmt.Errorf("cannot open the image tree: %w", err)
	}
	defer r.Close()
	return f(r)
}

// takeSourceDate exports the date that the bootstrap derived from its inputs,
// unless the caller gave one.
func (b *builder) takeSourceDate() error {
	if b.env["SOURCE_DATE_EPOCH"] != "" {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(place.BuildDir, "source-date-epoch"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the source date: %w", err)
	}
	b.env["SOURCE_DATE_EPOCH"] = strings.TrimSpace(string(text))
	return nil
}

// writeInstallType leaves the fragment that DIB generates after root.d.
func (b *builder) writeInstallType() error {
	dir := filepath.Join(place.HooksDir, "environment.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot write the install type: %w", err)
	}
	text := fmt.Sprintf("export DIB_DEFAULT_INSTALLTYPE=${DIB_DEFAULT_INSTALLTYPE:-%s}\n", shellDefault(b.plan.Recipe.InstallType))
	return os.WriteFile(filepath.Join(dir, "11-dib-install-type.bash"), []byte(text), 0o644)
}

// shellDefault makes a word safe inside ${VAR:-word}.
func shellDefault(word string) string {
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// on reads DIB's switches: unset and 0 are off, everything else is on.
func on(value string) bool { return value != "" && value != "0" }
