package extractimage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/inspect/partition"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/test/commandtest"
)

func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		cmd := exec.Command("/bin/sh", "-c", "command -v "+p)
		cmd.Env = []string{"PATH=/usr/sbin:/sbin:/usr/bin:/bin"}
		if cmd.Run() != nil {
			t.Skipf("%s is not installed; scripts/install-test-deps does that", p)
		}
	}
}

func execute(t *testing.T, stdin string, argv ...string) string {
	t.Helper()
	cmd := exec.Command("/usr/bin/env", argv...)
	cmd.Env = []string{"PATH=/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL=C.UTF-8", "MTOOLS_SKIP_CHECK=1"}
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

// system makes the root filesystem that images under test have.
func system(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	commandtest.Write(t, dir, map[string]string{
		"etc/os-release": "ID=test\n", "usr/bin/tool!": "x", "boot/hidden": "by the partition", "boot/efi/hidden-too": "x", "etc/hard": "linked",
	})
	err := errors.Join(os.Symlink("../etc/os-release", dir+"/usr/lib"), os.Link(dir+"/etc/hard", dir+"/etc/hard2"), os.Chmod(dir+"/usr/bin/tool", 0o755|fs.ModeSetuid))
	if os.Geteuid() == 0 {
		err = errors.Join(err, os.Lchown(dir+"/etc/os-release", 123, 456), unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
			unix.Setxattr(dir+"/usr/bin/tool", "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// filesystem makes one with the files of dir.
func filesystem(t *testing.T, kind, dir, label, size string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fs")
	execute(t, "", "truncate", "-s", size, file)
	switch kind {
	case "ext4", "ext2":
		execute(t, "", "mke2fs", "-q", "-F", "-t", kind, "-L", label, "-d", dir, file)
	case "vfat":
		execute(t, "", "mkfs.vfat", "-n", label, file)
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			execute(t, "", "mcopy", "-i", file, "-s", "-m", filepath.Join(dir, e.Name()), "::")
		}
	default:
		execute(t, "", "mkfs."+kind, "-q", "-L", label, file)
		mnt := t.TempDir()
		execute(t, "", "mount", "-o", "loop", file, mnt)
		defer execute(t, "", "umount", mnt)
		to := mnt
		if kind == "btrfs" {
			execute(t, "", "btrfs", "subvolume", "create", mnt+"/root")
			execute(t, "", "btrfs", "subvolume", "create", mnt+"/home")
			to = mnt + "/root"
		}
		execute(t, "", "cp", "-a", dir+"/.", to)
	}
	return file
}

// diskOf puts filesystems into partitions; table is a script of sfdisk, whose
// lines begin with the partition's start in MiB.
func diskOf(t *testing.T, label string, partitions ...[3]string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk.raw")
	execute(t, "", "truncate", "-s", "700M", file)
	script := "label: " + label + "\n"
	for _, p := range partitions {
		script += fmt.Sprintf("start=%sMiB, %s\n", p[0], p[1])
	}
	execute(t, script, "sfdisk", "-q", file)
	for _, p := range partitions {
		if p[2] != "" {
			execute(t, "", "dd", "if="+p[2], "of="+file, "bs=1M", "seek="+p[0], "conv=notrunc,sparse", "status=none")
		}
	}
	return file
}

// bench is a place to run the command.
type bench struct {
	t             *testing.T
	cache, target string
	env           map[string]string
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, cache: t.TempDir(), target: t.TempDir()}
	hooks := t.TempDir()
	commandtest.Write(t, hooks, map[string]string{"bin/cache-url!": "#!/bin/bash\necho \"$1\" >> " + hooks + "/asked\n[ -e \"$1\" ] || exit 44\ncmp -s \"$1\" \"$2\" || cp --sparse=always \"$1\" \"$2\"\n"})
	b.env = map[string]string{
		"TMP_HOOKS_PATH": hooks, "TARGET_ROOT": b.target, "DIB_IMAGE_CACHE": b.cache, "TMP_DIR": t.TempDir(), "PATH": "/usr/bin:/bin",
	}
	return b
}

func (b *bench) run(location string) (string, int) {
	b.t.Helper()
	out, errs, status := commandtest.Call(b.t, cmdline.Command("extract-image", Run), b.env, "image.qcow2", "image.tgz", location, b.cache+"/image.qcow2")
	if left, err := os.ReadDir(b.env["TMP_DIR"]); err != nil || len(left) != 0 {
		b.t.Errorf("left behind: %v, %v", left, err)
	}
	return out + errs, status
}

func (b *bench) mustRun(location string) string {
	b.t.Helper()
	out, status := b.run(location)
	if status != 0 {
		b.t.Fatalf("status %d\n%s", status, out)
	}
	return out
}

func (b *bench) mustFail(location, says string, status int) {
	b.t.Helper()
	if out, got := b.run(location); got != status || !strings.Contains(out, says) {
		b.t.Errorf("status %d, want %d and %q:\n%s", got, status, says, out)
	}
}

func (b *bench) newTarget() {
	b.target = b.t.TempDir()
	b.env["TARGET_ROOT"] = b.target
}

// check compares what was unpacked with the system.
func (b *bench) check(boot, efi string) {
	b.t.Helper()
	for name, want := range map[string]string{"etc/os-release": "ID=test\n", "usr/bin/tool": "x", "etc/hard2": "linked", "boot/hidden": "by the partition", "boot/efi/hidden-too": "x"} {
		if boot != "" && strings.HasPrefix(name, "boot/") || efi != "" && strings.HasPrefix(name, "boot/efi/") {
			if _, err := os.Lstat(b.target + "/" + name); err == nil {
				b.t.Errorf("%s is there", name)
			}
			continue
		}
		if got := commandtest.Read(b.t, b.target+"/"+name); got != want {
			b.t.Errorf("%s: %q", name, got)
		}
	}
	if boot != "" && commandtest.Read(b.t, b.target+"/boot/vmlinuz") != boot {
		b.t.Error("wrong kernel")
	}
	if efi != "" && commandtest.Read(b.t, b.target+"/boot/efi/EFI/boot.efi") != efi {
		b.t.Error("wrong loader")
	}
	if got, err := os.Readlink(b.target + "/usr/lib"); got != "../etc/os-release" {
		b.t.Errorf("link %q, %v", got, err)
	}
	var hard, hard2, release, null, tool unix.Stat_t
	err := errors.Join(unix.Lstat(b.target+"/etc/hard", &hard), unix.Lstat(b.target+"/etc/hard2", &hard2), unix.Lstat(b.target+"/etc/os-release", &release),
		unix.Lstat(b.target+"/usr/bin/tool", &tool))
	if err != nil || hard.Ino != hard2.Ino || tool.Mode != unix.S_IFREG|0o4755 {
		b.t.Errorf("%v; hard links %d, %d; tool %o", err, hard.Ino, hard2.Ino, tool.Mode)
	}
	if os.Geteuid() != 0 {
		return
	}
	attr := make([]byte, 100)
	n, errX := unix.Getxattr(b.target+"/usr/bin/tool", "security.capability", attr)
	if err := errors.Join(unix.Lstat(b.target+"/null", &null), errX); err != nil || null.Rdev != unix.Mkdev(1, 3) || release.Uid != 123 || release.Gid != 456 || n != 20 {
		b.t.Errorf("%v; device %x, owner %d:%d, capability of %d bytes", err, null.Rdev, release.Uid, release.Gid, n)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("owners take root; test/e2e has an ordinary user do this")
	}
}

func TestImages(t *testing.T) {
	needRoot(t)
	need(t, "mke2fs", "sfdisk", "qemu-img", "xz", "mkfs.vfat", "mcopy")
	sys := system(t)
	boot, efi := t.TempDir(), t.TempDir()
	commandtest.Write(t, boot, map[string]string{"vmlinuz": "kernel"})
	commandtest.Write(t, efi, map[string]string{"EFI/boot.efi": "loader"})
	root4, boot2, esp := filesystem(t, "ext4", sys, "root", "40M"), filesystem(t, "ext2", boot, "boot", "8M"), filesystem(t, "vfat", efi, "ESP", "40M")
	qcow2 := func(raw string) string {
		out := filepath.Join(t.TempDir(), "image.qcow2")
		execute(t, "", "qemu-img", "convert", "-c", "-O", "qcow2", raw, out)
		return out
	}
	whole := diskOf(t, "gpt", [3]string{"1", "size=40MiB", root4}, [3]string{"50", "size=8MiB", boot2}, [3]string{"60", "size=40MiB, type=U", esp}, [3]string{"110", "size=1MiB", ""})
	for _, c := range []struct {
		name, image string
		boot, efi   string
	}{
		{"no table", root4, "", ""},
		{"M67 one partition, qcow2", qcow2(diskOf(t, "dos", [3]string{"1", "size=40MiB, type=83", root4})), "", ""},
		{"M67 root, boot by label, and EFI", qcow2(whole), "kernel", "loader"},
		{"raw", whole, "kernel", "loader"},
		{"boot by type, before the root", diskOf(t, "gpt", [3]string{"1", "size=8MiB, type=BC13C2FF-59E6-4262-A352-B275FD6F7172", filesystem(t, "ext4", boot, "x", "8M")}, [3]string{"50", "size=40MiB", root4}), "kernel", ""},
		{"logical", qcow2(diskOf(t, "dos", [3]string{"1", "size=8MiB, type=83", boot2}, [3]string{"20", "type=5", ""}, [3]string{"50", "size=40MiB, type=83", root4})), "kernel", ""},
		{"the only one has the label boot", diskOf(t, "dos", [3]string{"1", "size=40MiB, type=83", filesystem(t, "ext4", sys, "boot", "40M")}), "", ""},
		{"nothing else than boot and swap", diskOf(t, "dos", [3]string{"1", "size=40MiB, type=83", filesystem(t, "ext4", sys, "boot", "40M")}, [3]string{"60", "size=4MiB, type=82", ""}), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.mustRun(c.image)
			b.check(c.boot, c.efi)
		})
	}
	t.Run("compressed", func(t *testing.T) {
		b := newBench(t)
		image := qcow2(whole)
		execute(t, "", "xz", "-0", image)
		b.mustRun(image + ".xz")
		b.check("kernel", "loader")
	})
	t.Run("M67 nothing of the image is run", func(t *testing.T) {
		// The system has no program that could be: its only one is no program.
		b := newBench(t)
		b.mustRun(root4)
		if list := execute(t, "", "tar", "--numeric-owner", "-tvzf", b.cache+"/image.tgz", "./etc/os-release"); !strings.Contains(list, "123/456") {
			t.Errorf("the archive has %s", list)
		}
	})
}

func TestKernelFilesystems(t *testing.T) {
	needRoot(t)
	need(t, "mke2fs", "sfdisk", "qemu-img", "mkfs.xfs", "mkfs.btrfs")
	sys, boot := system(t), t.TempDir()
	commandtest.Write(t, boot, map[string]string{"vmlinuz": "kernel"})
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			root := filesystem(t, kind, sys, "root", "320M")
			raw := diskOf(t, "gpt", [3]string{"1", "size=320MiB", root}, [3]string{"330", "size=8MiB", filesystem(t, "ext4", boot, "boot", "8M")})
			t.Run("M67 each is read with its own options", func(t *testing.T) {
				b := newBench(t)
				b.mustRun(raw)
				b.check("kernel", "")
			})
			b := newBench(t)
			image := filepath.Join(t.TempDir(), "image.qcow2")
			execute(t, "", "qemu-img", "convert", "-O", "qcow2", raw, image)
			b.mustRun(image)
			b.check("kernel", "")
			if loops := execute(t, "", "losetup", "-l", "-n", "-O", "BACK-FILE"); strings.Contains(loops, "extract-image") || strings.Contains(loops, raw) {
				t.Errorf("a loop device stayed: %s", loops)
			}
		})
	}
}

func TestCache(t *testing.T) {
	needRoot(t)
	need(t, "mke2fs")
	sys := system(t)
	image := filesystem(t, "ext4", sys, "root", "40M")
	b := newBench(t)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(image, old, old); err != nil {
		t.Fatal(err)
	}
	reads := func(location string) bool {
		t.Helper()
		b.newTarget()
		out := b.mustRun(location)
		b.check("", "")
		return strings.Contains(out, "reading ")
	}
	if !reads(image) || reads(image) {
		t.Error("the archive is not made once")
	}
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(b.cache+"/image.qcow2", later, later); err != nil {
		t.Fatal(err)
	}
	if !reads(image) {
		t.Error("a newer image was not read")
	}
	if err := os.Chtimes(b.cache+"/image.qcow2", old, old); err != nil {
		t.Fatal(err)
	}
	if !reads(image) || reads(image) {
		t.Error("another image of the same name was not read")
	}
	// An archive of DIB's has no note; and offline it is what there is.
	notes, err := filepath.Glob(b.cache + "/.image.tgz.*")
	if err != nil || len(notes) != 1 {
		t.Fatalf("%v, %v", notes, err)
	}
	if err := os.Remove(notes[0]); err != nil {
		t.Fatal(err)
	}
	if reads(image) {
		t.Error("an archive without a note was made again")
	}
	b.env["DIB_OFFLINE"] = "1"
	if err := os.Remove(b.cache + "/image.qcow2"); err != nil {
		t.Fatal(err)
	}
	if reads("/no/such/image") {
		t.Error("offline, something was read")
	}
	if err := os.Remove(b.cache + "/image.tgz"); err != nil {
		t.Fatal(err)
	}
	b.mustFail("/no/such/image", "cannot download the image", 44)
	if asked := commandtest.Read(t, b.env["TMP_HOOKS_PATH"]+"/asked"); strings.Count(asked, "/no/such/image\n") != 2 {
		t.Errorf("asked for %s", asked)
	}
	b.env["DIB_LOCAL_IMAGE"] = image
	b.newTarget()
	out, errs, status := commandtest.Call(t, cmdline.Command("extract-image", Run), b.env, "fs", "fs.tgz", "unused", image)
	if status != 0 {
		t.Fatalf("%s%s", out, errs)
	}
	b.check("", "")
}

func TestErrors(t *testing.T) {
	need(t, "sfdisk", "mke2fs")
	b := newBench(t)
	empty := diskOf(t, "gpt", [3]string{"1", "size=40MiB", ""})
	b.mustFail(empty, "no partition with a root filesystem that can be read (ext2, ext3, ext4, xfs or btrfs): partition 1: nothing known", 1)
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.mustFail(short, "it has 1 bytes only", 1)
	if entries, err := filepath.Glob(b.cache + "/*.tgz*"); err != nil || len(entries) != 1 { // the lock
		t.Errorf("in the cache: %v, %v", entries, err)
	}
	for _, args := range [][]string{nil, {"a", "b", "c"}, {"a", "b", "c", "d", "e"}} {
		if _, errs, status := commandtest.Call(t, cmdline.Command("extract-image", Run), b.env, args...); status != 1 || !strings.Contains(errs, "usage:") {
			t.Errorf("%q: status %d, %s", args, status, errs)
		}
	}
	f, err := os.OpenFile(b.cache+"/x.lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	x := &extraction{tar: b.cache + "/x", timeout: 50 * time.Millisecond}
	if _, err := x.lock(t.Context()); err == nil || !strings.Contains(err.Error(), "another build is at work") {
		t.Errorf("%v", err)
	}
	var needs *NeedsRootError
	if err := error(fmt.Errorf("x: %w", &NeedsRootError{"xfs", fs.ErrPermission})); !errors.As(err, &needs) || !strings.Contains(err.Error(), "run the build as root, or use an image with ext4") {
		t.Errorf("%v", err)
	}
}

func TestChoose(t *testing.T) {
	p := func(number int, typ, kind, label string) part {
		return part{partition.Partition{Number: number, Type: typ}, kind, label}
	}
	const linux = "0fc63daf-8483-4772-8e79-3d69d8477de4"
	for _, c := range []struct {
		name string
		list []part
		want string // numbers of root, boot, efi
	}{
		{"Ubuntu", []part{p(1, linux, "ext4", "cloudimg-rootfs"), p(14, "x", "", ""), p(15, typeESP, "vfat", "UEFI"), p(16, typeBoot, "ext4", "BOOT")}, "1 16:boot 15:boot/efi"},
		{"Debian", []part{p(1, linux, "ext4", ""), p(14, "x", "", ""), p(15, typeESP, "vfat", "")}, "1 15:boot/efi"},
		{"CentOS Stream", []part{p(1, "x", "", ""), p(2, typeESP, "vfat", ""), p(3, typeBoot, "xfs", "boot"), p(4, linux, "xfs", "root")}, "4 3:boot 2:boot/efi"},
		{"boot and no root", []part{p(1, "x", "", ""), p(2, typeESP, "vfat", ""), p(3, typeBoot, "xfs", "boot")}, "3 2:boot/efi"},
		{"one", []part{p(1, "83", "xfs", "boot")}, "1"},
		{"the last in the order of names", []part{p(1, "83", "ext4", ""), p(2, "83", "ext4", ""), p(10, "83", "ext4", "")}, "2"},
		{"swap behind the root", []part{p(1, "83", "ext4", ""), p(2, "82", "swap", "")}, "1"},
		{"a FAT of no kind", []part{p(1, "0c", "vfat", ""), p(2, "83", "ext4", "")}, "2"},
		{"EFI of MS-DOS tables", []part{p(1, "83", "ext4", ""), p(2, "ef", "vfat", "")}, "1 2:boot/efi"},
	} {
		mounts, err := choose(c.list)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var b bytes.Buffer
		for _, m := range mounts {
			if m.point == "" {
				fmt.Fprintf(&b, "%d", m.Number)
			} else {
				fmt.Fprintf(&b, " %d:%s", m.Number, m.point)
			}
		}
		if b.String() != c.want {
			t.Errorf("%s: %s, want %s", c.name, b.String(), c.want)
		}
	}
	for _, c := range []struct {
		list []part
		says string
	}{
		{nil, "no partition with a root"}, {[]part{p(1, "8e", "LVM", ""), p(2, "82", "swap", "")}, "partition 1: LVM, partition 2: swap"},
	} {
		if _, err := choose(c.list); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v, want %s", err, c.says)
		}
	}
}
