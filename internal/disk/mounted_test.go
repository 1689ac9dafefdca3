package disk

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/disk/loop"
	"github.com/dib-builder/dib/internal/treecopy"
	"github.com/dib-builder/dib/test/imagetree"
)

// needLoop skips where loop devices cannot be had; the end-to-end tests, which
// always run as root, do not.
func needLoop(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if err := loop.Available(); err != nil {
		t.Skip(err)
	}
}

// ownMounts gives the test's thread mounts of its own: a namespace that somebody
// else makes meanwhile would keep a copy of what is mounted in that of the host,
// and the device with it. The thread ends with the test.
func ownMounts(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
}

// TestMountedIsLikeWritten makes the same disks in both ways: partition table,
// labels, UUIDs and trees must not differ (D37 and D50 among them).
func TestMountedIsLikeWritten(t *testing.T) {
	needLoop(t)
	needTool(t, "mke2fs")
	for _, c := range []struct{ name, config string }{
		{"plain", blockdev.Fallback},
		{"partitions", nestedConfig},
		{"EFI", efiConfig},
	} {
		t.Run(c.name, func(t *testing.T) {
			ownMounts(t)
			tree := makeTree(t)
			special(t, tree)
			l := testLayout(t, c.config)
			o := Options{Layout: l, Tree: tree, Dir: t.TempDir(), Env: testEnv(), Log: func(line []byte) { t.Logf("tool: %s", line) }}
			flags := uint32(0x10)
			o.Side = []SideEntry{{Path: "etc/fixed", Flags: &flags}}
			written, err := Write(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			at := filepath.Join(t.TempDir(), "mnt")
			if err := os.Mkdir(at, 0o755); err != nil {
				t.Fatal(err)
			}
			o.Side, o.Dir = nil, t.TempDir()
			fixed := filepath.Join(tree, "etc/fixed")
			if chattr(fixed, true) {
				defer chattr(fixed, false)
			}
			m, err := Mount(context.Background(), o, at)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(m.Layout.Disks[0].Device, "/dev/loop") || strings.HasPrefix(l.Disks[0].Device, "/dev/loop") {
				t.Errorf("devices %q and %q", m.Layout.Disks[0].Device, l.Disks[0].Device)
			}
			images, err := m.Finish(context.Background(), func(path string) error { return unix.Unmount(path, 0) })
			if err != nil {
				t.Fatal(err)
			}
			compareImages(t, l, written[0].Path, images[0].Path)
			if left, err := filepath.Glob("/dev/mapper/loop*"); err != nil || len(left) > 0 {
				t.Errorf("left in /dev/mapper: %v, %v", left, err)
			}
		})
	}
}

const nestedConfig = `
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: mbr
    partitions:
      - {name: root, flags: [boot, primary], size: 50%}
      - {name: var, size: 30%}
      - {name: srv, size: 100%}
- {mkfs: {base: root, name: mkfs_root, type: ext4, mount: {mount_point: /, fstab: {options: defaults, fsck-passno: 1}}}}
- {mkfs: {base: var, name: mkfs_var, type: ext4, label: var, mount: {mount_point: /var, fstab: {options: noatime}}}}
- {mkfs: {base: srv, name: mkfs_srv, type: ext3, label: srv, mount: {mount_point: /var/srv/data, fstab: {options: defaults}}}}
`

const efiConfig = `
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: gpt
    partitions:
      - {name: ESP, type: EF00, size: 40MiB, mkfs: {type: vfat, mount: {mount_point: /boot/efi, fstab: {options: defaults}}}}
      - {name: sw, type: 8200, size: 8MiB, mkfs: {type: swap, mount: {mount_point: none, fstab: {}}}}
      - {name: root, size: 100%}
- {mkfs: {base: root, name: mkfs_root, type: ext4, mount: {mount_point: /, fstab: {options: defaults, fsck-passno: 1}}}}
`

// special puts everything into a tree that is easily lost on the way.
func special(t *testing.T, tree string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p := func(name string) string { return filepath.Join(tree, name) }
	must(os.MkdirAll(p("boot/efi/EFI/BOOT"), 0o755))
	must(os.WriteFile(p("boot/efi/EFI/BOOT/BOOTX64.EFI"), []byte("loader"), 0o644))
	must(os.MkdirAll(p("var/lib/x"), 0o700))
	must(os.WriteFile(p(".autorelabel"), []byte("D50\n"), 0o600))
	must(os.WriteFile(p("var/lib/x/suid"), []byte("x"), 0o755))
	must(os.Lchown(p("var/lib/x/suid"), 7, 8))
	must(os.Chmod(p("var/lib/x/suid"), 0o755|os.ModeSetuid))
	must(os.Link(p("etc/hostname"), p("var/lib/other-filesystem")))
	must(unix.Mknod(p("dev/pipe"), unix.S_IFIFO|0o640, 0))
	must(unix.Mknod(p("dev/ttyX"), unix.S_IFCHR|0o620, int(unix.Mkdev(4, 64))))
	must(unix.Lsetxattr(p("etc/hostname"), "trusted.x", []byte("y\x00z"), 0))
	must(os.Lchown(p("etc/symlink"), 9, 9))
	f, err := os.Create(p("var/sparse"))
	must(err)
	_, err = f.WriteAt([]byte("end"), 3<<20)
	must(err)
	must(f.Close())
	old := time.Unix(1400000000, 5)
	must(os.Chtimes(p("var/lib/x"), old, old))
	must(os.Chtimes(p("var"), old, old))
	must(os.Chmod(p("var"), 0o751))
	must(os.Chmod(tree, 0o711))
	must(os.Lchown(tree, 3, 4))
}

// chattr sets or clears the immutable flag; false where the filesystem has none.
func chattr(path string, on bool) bool {
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return false
	}
	if flags &^= 0x10; on {
		flags |= 0x10
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags)) == nil
}

func testLayout(t *testing.T, config string) *blockdev.Layout {
	t.Helper()
	c, err := blockdev.Check("test", []byte(config), blockdev.Params{RootFSType: "ext4"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.Layout(blockdev.LayoutInput{SizeKiB: 96 * 1024, Seed: []byte("seed")})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// compareImages lets the kernel read the filesystems of two images.
func compareImages(t *testing.T, l *blockdev.Layout, a, b string) {
	t.Helper()
	var tables [2][recordSize]byte
	for i, image := range []string{a, b} {
		f, err := os.Open(image)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(tables[i][:], 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if tables[0] != tables[1] {
		t.Error("the partition tables differ")
	}
	for _, fs := range l.Filesystems {
		if !strings.HasPrefix(fs.Type, "ext") {
			if !bytes.Equal(region(t, a, fs), region(t, b, fs)) {
				t.Errorf("filesystem %s differs", fs.Node)
			}
			continue
		}
		check(t, a, &fs)
		check(t, b, &fs)
		var trees [2]imagetree.Tree
		var supers [2]string
		for i, image := range []string{a, b} {
			trees[i] = readFilesystem(t, image, fs)
			supers[i] = superFacts(debugfs(t, image, &fs, "stats -h"))
		}
		if diff := cmp.Diff(supers[0], supers[1]); diff != "" {
			t.Errorf("superblocks of %s: %s", fs.Node, diff)
		}
		for _, d := range imagetree.Compare(trees[0], trees[1]) {
			t.Errorf("filesystem %s: %s", fs.Node, d)
		}
	}
}

// region reads what lies at the place of a filesystem.
func region(t *testing.T, image string, fs blockdev.Filesystem) []byte {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, fs.Length)
	if _, err := f.ReadAt(b, fs.Offset); err != nil {
		t.Fatal(err)
	}
	return b
}

func readFilesystem(t *testing.T, image string, fs blockdev.Filesystem) imagetree.Tree {
	t.Helper()
	dev, err := loop.Attach(image, recordSize, []loop.Partition{{Number: 1, Start: fs.Offset, Length: fs.Length}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := dev.Detach(); err != nil {
			t.Error(err)
		}
	}()
	dir := t.TempDir()
	if err := unix.Mount(dev.Partitions[1], dir, fs.Type, unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	tree, err := imagetree.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// superFacts are the lines of a superblock that do not tell of its history.
func superFacts(stats string) string {
	var out strings.Builder
	for line := range strings.Lines(stats) {
		for _, word := range []string{"volume name", "UUID", "features", "Inode count", "Block count", "Inode size", "Block size", "Hash", "Journal size", "Reserved", "blocks per group", "Inodes per group"} {
			if strings.Contains(line, word) {
				out.WriteString(line)
				break
			}
		}
	}
	return out.String()
}

// TestMountFails leaves nothing behind: no mount, no device, no file.
func TestMountFails(t *testing.T) {
	needLoop(t)
	needTool(t, "mke2fs")
	ownMounts(t)
	tree := makeTree(t)
	if err := os.Symlink("etc", filepath.Join(tree, "var")); err != nil {
		t.Fatal(err)
	}
	at, dir := t.TempDir(), t.TempDir()
	m, err := Mount(context.Background(), Options{Layout: testLayout(t, nestedConfig), Tree: tree, Dir: dir, Env: testEnv()}, at)
	if m != nil || err == nil || !strings.Contains(err.Error(), "mount point /var: in the tree it leads through a symbolic link") {
		t.Errorf("%v, %v", m, err)
	}
	if entries, _ := os.ReadDir(at); len(entries) > 0 {
		t.Errorf("still mounted: %v", entries)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
}

// TestRemoveProtected removes what a flag protects, but no other filesystem.
func TestRemoveProtected(t *testing.T) {
	needLoop(t)
	ownMounts(t)
	dir := filepath.Join(t.TempDir(), "d")
	file := filepath.Join(dir, "sub/file")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	chattr(file, true)
	if err := unix.Mount("tmpfs", filepath.Dir(file), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := treecopy.Remove(dir); err == nil || !strings.Contains(err.Error(), "another filesystem is mounted") {
		t.Error(err)
	}
	if err := unix.Unmount(filepath.Dir(file), 0); err != nil {
		t.Fatal(err)
	}
	if err := treecopy.Remove(dir); err != nil {
		t.Error(err)
	}
}
