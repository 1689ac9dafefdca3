package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/disk"
)

// compareDisks compares making a disk from a finished tree with mke2fs -d, and
// with the classical way: a loop device, mkfs, mount, cp.
func (b *bench) compareDisks(ref *reference) error {
	tree, release, err := b.memoryTree(ref)
	if err != nil {
		return err
	}
	defer release()
	size, err := treeSize(tree)
	if err != nil {
		return err
	}
	sizeKiB := size/1024*10/6 + 64<<10
	others := []struct {
		name string
		run  func(tree, image string, sizeKiB int64) (result, error)
	}{{"mke2fs -d", b.mke2fs}, {"loop device, mkfs, mount, cp", b.loop}}
	image := filepath.Join(filepath.Dir(tree), "disk.raw")
	for _, other := range others {
		var ratios, ours, theirs []float64
		for range b.pairs {
			r, err := b.ownDisk(tree, sizeKiB)
			if err != nil {
				return err
			}
			o, err := other.run(tree, image, sizeKiB)
			if err != nil {
				return err
			}
			if err := os.Remove(image); err != nil {
				return err
			}
			ours, theirs = append(ours, r.seconds), append(theirs, o.seconds)
			ratios = append(ratios, r.seconds/o.seconds)
		}
		fmt.Printf("disk of a tree of %d MiB, in memory, against %s, median of %d pairs: dib %.2f s, other %.2f s, time ratio %.2f\n",
			size>>20, other.name, b.pairs, median(ours), median(theirs), median(ratios))
	}
	return nil
}

// memoryTree copies the tree of the reference image into memory, so that both
// sides are measured and not the disk below them.
func (b *bench) memoryTree(ref *reference) (tree string, release func(), err error) {
	dir := filepath.Join(b.dir, "memory")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", nil, err
	}
	if err := unix.Mount("dib-bench", dir, "tmpfs", 0, "size=12g"); err != nil {
		return "", nil, fmt.Errorf("cannot make a place in memory: %w", err)
	}
	release = func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		_ = os.Remove(dir)
	}
	tree = filepath.Join(dir, "tree")
	script := `set -eu; mkdir "$2" "$2.mnt"; trap 'umount "$2.mnt"; rmdir "$2.mnt"' EXIT; mount -o loop,ro,offset=1048576 "$1" "$2.mnt"; cp -a "$2.mnt/." "$2/"; rmdir "$2/lost+found"`
	if out, err := exec.CommandContext(b.ctx, "bash", "-c", script, "bash", ref.raw, tree).CombinedOutput(); err != nil {
		release()
		return "", nil, fmt.Errorf("cannot copy the tree: %w\n%s", err, out)
	}
	return tree, release, nil
}

func treeSize(tree string) (int64, error) {
	var size int64
	err := filepath.WalkDir(tree, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

func (b *bench) ownDisk(tree string, sizeKiB int64) (result, error) {
	const config = "- local_loop: {name: image0}\n" +
		"- partitioning: {base: image0, label: mbr, partitions: [{name: root, flags: [boot, primary], size: 100%}]}\n" +
		"- mkfs: {name: mkfs_root, base: root, type: ext4, opts: '-i 4096 -J size=64', mount: {mount_point: /}}\n"
	c, err := blockdev.Check("benchmark", []byte(config), blockdev.Params{})
	if err != nil {
		return result{}, err
	}
	layout, err := c.Layout(blockdev.LayoutInput{SizeKiB: sizeKiB, Seed: []byte("benchmark")})
	if err != nil {
		return result{}, err
	}
	start := time.Now()
	images, err := disk.Write(b.ctx, disk.Options{Layout: layout, Tree: tree, Dir: filepath.Dir(tree), Env: os.Environ(), Log: func([]byte) {}})
	if err != nil {
		return result{}, err
	}
	r := result{seconds: time.Since(start).Seconds()}
	return r, os.Remove(images[0].Path)
}

func (b *bench) mke2fs(tree, image string, sizeKiB int64) (result, error) {
	return b.timed("mke2fs", "-q", "-F", "-t", "ext4", "-i", "4096", "-J", "size=64", "-d", tree, image, fmt.Sprintf("%dk", sizeKiB))
}

func (b *bench) loop(tree, image string, sizeKiB int64) (result, error) {
	const script = `set -eu; truncate -s "$3"K "$2"; mkfs.ext4 -q -F -i 4096 -J size=64 "$2"; mkdir -p "$1.mnt"; mount -o loop "$2" "$1.mnt"; cp -a "$1/." "$1.mnt/"; sync -f "$1.mnt"; fstrim "$1.mnt"; umount "$1.mnt"`
	return b.timed("bash", "-c", script, "bash", tree, image, fmt.Sprint(sizeKiB))
}
