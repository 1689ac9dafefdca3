package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/test/imagetree"
	"github.com/dib-builder/dib/test/lab"
)

// nestedLayout has a logical partition and a mount point inside another.
const nestedLayout = `
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: mbr
    partitions:
      - {name: root, flags: [boot, primary], size: 60%}
      - {name: var, size: 50%}
      - {name: cache, size: 100%}
- {mkfs: {base: root, name: mkfs_root, type: ext4, mount: {mount_point: /, fstab: {options: defaults, fsck-passno: 1}}}}
- {mkfs: {base: var, name: mkfs_var, type: ext4, label: var, mount: {mount_point: /var, fstab: {options: noatime}}}}
- {mkfs: {base: cache, name: mkfs_cache, type: ext4, label: cache, mount: {mount_point: /var/cache, fstab: {options: defaults}}}}
`

// records of the element device-user, by phase.
func devices(log string) map[string]string {
	found := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^DEVICE phase=(\S+) (.*)$`).FindAllStringSubmatch(log, -1) {
		found[m[1]] = m[2]
	}
	return found
}

// TestDeviceHooks builds with hooks that use the image as a block device.
func TestDeviceHooks(t *testing.T) {
	l := openLab(t)
	args := []string{"-n", "-t", "raw", "-o", "dev", "fake-os", "device-user"}
	t.Run("root", func(t *testing.T) {
		for _, medium := range [][]string{nil, {"--no-tmpfs"}} {
			b := newWorkbench(t, l, lab.Root())
			o := b.mustBuild(build{args: append(slices.Clone(medium), args...), env: map[string]string{"DIB_BLOCK_DEVICE_CONFIG": nestedLayout}})
			want := "kind=block same=yes names=cache,image0,root,var, mounted=yes mapper=yes signature=UA fstab=3"
			for _, phase := range []string{"pre-finalise", "finalise", "cleanup"} {
				if got := devices(o.Stdout)[phase]; got != want {
					t.Errorf("%s: %s, want %s", phase, got, want)
				}
			}
			image := filepath.Join(b.out, "dev.raw")
			disk, err := os.ReadFile(image)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(disk[3*512 : 3*512+6]); got != "LOADER" {
				t.Errorf("what a hook wrote to the device is %q in the image", got)
			}
			// The partition of /var/cache is the last.
			cache := filesystemAt(t, image, 2)
			if _, ok := cache["own/finalised"]; !ok {
				t.Error("what a hook wrote below a mount point is not on that filesystem")
			}
			if _, ok := filesystemAt(t, image, 1)["cache/own"]; ok {
				t.Error("it is below the mount point")
			}
			partitionsAreGone(t)
		}
	})
	refused := func(b *workbench, env map[string]string, cause string) {
		t.Helper()
		o := b.run(build{args: args, env: env})
		if o.Exit != 1 || strings.Contains(o.Stdout, "Running ") || len(b.outputs()) > 0 {
			t.Errorf("status %d, outputs %v:\n%s", o.Exit, b.outputs(), o.Stdout)
		}
		mustContain(t, "the log", o.Stdout+o.Stderr, cause)
	}
	t.Run("user", func(t *testing.T) {
		b := newWorkbench(t, l, ordinary(t))
		refused(b, nil, `cannot run hook finalise\.d/60-device of element "device-user": it uses IMAGE_BLOCK_DEVICE, and only root can have loop devices: build as root`)
		refused(b, map[string]string{"DIB_BLOCK_DEVICE_BACKEND": "loop"}, `cannot use DIB_BLOCK_DEVICE_BACKEND=loop: only root`)
	})
	t.Run("offline", func(t *testing.T) {
		b := newWorkbench(t, l, lab.Root())
		refused(b, map[string]string{"DIB_BLOCK_DEVICE_BACKEND": "offline"}, `DIB_BLOCK_DEVICE_BACKEND=offline gives it none`)
	})
}

// partitionsAreGone waits until no loop device has partitions: tests of other
// packages may be using some for a moment.
func partitionsAreGone(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		left, err := filepath.Glob("/sys/class/block/loop*p*")
		if err == nil && len(left) == 0 {
			return
		}
		if err != nil || time.Now().After(end) {
			t.Errorf("partitions are left: %v, %v", left, err)
			return
		}
	}
}

// TestBackendsAgree builds the same image in both ways and compares everything
// that is on it: partition table, filesystem identities, fstab and files (D37, D50).
func TestBackendsAgree(t *testing.T) {
	b := newWorkbench(t, openLab(t), lab.Root())
	for _, c := range []struct {
		name, config string
		filesystems  int
	}{{"partitions", nestedLayout, 3}, {"plain", "", 1}} {
		t.Run(c.name, func(t *testing.T) {
			var images, archives []string
			for _, backend := range []string{"offline", "loop"} {
				name := c.name + "-" + backend
				env := map[string]string{"DIB_BLOCK_DEVICE_BACKEND": backend, "SOURCE_DATE_EPOCH": "1700000000"}
				if c.config != "" {
					env["DIB_BLOCK_DEVICE_CONFIG"] = c.config
				}
				b.mustBuild(build{args: []string{"-n", "-t", "raw,tar", "-o", name, "fake-os", "dot-files", "kernel-favours"}, env: env})
				images = append(images, filepath.Join(b.out, name+".raw"))
				archives = append(archives, listArchive(t, filepath.Join(b.out, name+".tar")))
			}
			if archives[0] != archives[1] || !strings.Contains(archives[0], "./.autorelabel\n") {
				t.Errorf("archives differ: %s", cmp.Diff(archives[0], archives[1]))
			}
			if c.config != "" {
				tables := []string{sfdiskDump(t, images[0]), sfdiskDump(t, images[1])}
				if tables[0] != tables[1] {
					t.Errorf("partition tables differ:\n%s\n%s", tables[0], tables[1])
				}
			}
			for n := range c.filesystems {
				trees := []imagetree.Tree{filesystemAt(t, images[0], n), filesystemAt(t, images[1], n)}
				for _, d := range imagetree.Compare(trees[0], trees[1]) {
					t.Errorf("filesystem %d: %s", n, d)
				}
				if n == 0 {
					for _, want := range []string{".autorelabel", "etc/fstab"} {
						if _, ok := trees[1][want]; !ok {
							t.Errorf("D50: %s is not on the disk", want)
						}
					}
				}
				ids := []string{identity(t, images[0], n), identity(t, images[1], n)}
				if ids[0] != ids[1] || !strings.Contains(ids[0], "UUID") {
					t.Errorf("filesystem %d:\n%s\n%s", n, ids[0], ids[1])
				}
			}
		})
	}
}

// listArchive lists a tar archive with owners and times; every filesystem has its
// own lost+found while it is mounted.
func listArchive(t *testing.T, path string) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(output(t, "tar", "--numeric-owner", "--full-time", "-tvf", path)) {
		if !strings.Contains(line, "lost+found") {
			out.WriteString(line)
		}
	}
	return out.String()
}

func sfdiskDump(t *testing.T, image string) string {
	t.Helper()
	return strings.ReplaceAll(output(t, "sfdisk", "--dump", image), image, "IMAGE")
}

var partitionLine = regexp.MustCompile(`(?m)start=\s*(\d+), size=\s*(\d+), type=83`)

// extentOf asks sfdisk where the n-th filesystem of an image lies, in bytes: the
// Linux partitions in order, or the whole disk if it has no table.
func extentOf(t *testing.T, image string, n int) (offset, length int64) {
	t.Helper()
	if offset, length, err := imagetree.RootPartition(image); err == nil && n == 0 && offset == 0 {
		return 0, length
	}
	parts := partitionLine.FindAllStringSubmatch(sfdiskDump(t, image), -1)
	if n >= len(parts) {
		t.Fatalf("%s has no filesystem %d, only %d partitions", image, n, len(parts))
	}
	for i, v := range []*int64{&offset, &length} {
		sectors, err := strconv.ParseInt(parts[n][i+1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		*v = sectors * 512
	}
	return offset, length
}

func filesystemAt(t *testing.T, image string, n int) imagetree.Tree {
	t.Helper()
	dir := t.TempDir()
	offset, length := extentOf(t, image, n)
	output(t, "mount", "-t", "ext4", "-o", fmt.Sprintf("ro,loop,offset=%d,sizelimit=%d", offset, length), image, dir)
	defer output(t, "umount", dir)
	tree, err := imagetree.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// identity is what names a filesystem and shapes it.
func identity(t *testing.T, image string, n int) string {
	t.Helper()
	var out strings.Builder
	offset, _ := extentOf(t, image, n)
	text := output(t, "dumpe2fs", "-h", fmt.Sprintf("%s?offset=%d", image, offset))
	for line := range strings.Lines(text) {
		for _, word := range []string{"volume name", "UUID", "Filesystem features", "Inode count", "Block count", "Inode size", "Block size", "Hash Seed", "Journal size"} {
			if strings.Contains(line, word) {
				out.WriteString(line)
				break
			}
		}
	}
	return out.String()
}

// TestLoopBackendBoots boots an image of the embedded library that was made on a
// loop device: the boot loader is embedded after the filesystems are unmounted.
func TestLoopBackendBoots(t *testing.T) {
	if !full() {
		t.Skip("takes minutes; DIB_TEST_FULL=1 runs it, and TestForeignTreeAsRoot boots from a loop device too")
	}
	b, bd := debianWorkbench(t, lab.Root(), nil)
	bd.args = []string{"-t", "raw", "-o", "debian", "vm", "debian-minimal"}
	bd.env = map[string]string{"DIB_BLOCK_DEVICE_BACKEND": "loop"}
	start(t, b.debian(bd).path(".raw"))
}
