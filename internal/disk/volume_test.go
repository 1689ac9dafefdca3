package disk

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/disk/loop"
)

const volumesConfig = `
- local_loop: {name: image0}
- local_loop: {name: more, size: 64MiB}
- partitioning:
    base: image0
    label: gpt
    partitions:
      - {name: sys, type: 8E00, size: 40MiB}
      - {name: one, type: 8E00, size: 20MiB}
- lvm:
    name: lvm
    pvs: [{name: pv, base: sys}, {name: pv1, base: one}, {name: pv2, base: more}]
    vgs: [{name: vg-a, base: [pv]}, {name: data, base: [pv1, pv2], options: [-s, 1m]}]
    lvs:
      - {name: root, base: vg-a, size: 30MiB}
      - {name: rest, base: vg-a, extents: 100%FREE}
      - {name: striped, base: data, size: 20MiB, options: [-i, 2, -I, 8]}
      - {name: split, base: data, extents: 92%FREE}
- mkfs: {name: mkfs_root, base: root, mount: {mount_point: /}}
- mkfs: {name: striped_fs, type: ext4, base: striped, mount: {mount_point: /boot}}
- mkfs: {name: split_fs, type: ext4, base: split, opts: OPTS, mount: {mount_point: /etc}}
- mkfs: {name: swap, type: swap, base: rest, mount: {mount_point: none}}
`

// writeVolumes writes the disks of volumesConfig. The makers of nested mount
// points need root or a namespace; so does nothing else.
func writeVolumes(t *testing.T, opts string) (*blockdev.Layout, []Image) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to hide nested mount points")
	}
	ownMounts(t)
	l := testLayout(t, strings.Replace(volumesConfig, "OPTS", opts, 1))
	images, err := Write(context.Background(), Options{Layout: l, Tree: makeTree(t), Dir: t.TempDir(), Env: testEnv(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return l, images
}

// gather copies a volume out of the images.
func gather(t *testing.T, l *blockdev.Layout, images []Image, node string) string {
	t.Helper()
	files := map[string]*os.File{}
	for _, img := range images {
		f, err := os.Open(img.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[img.Disk] = f
	}
	fs := l.Filesystem(node)
	vg, lv := l.VolumeOf(fs)
	out, err := os.Create(filepath.Join(t.TempDir(), node))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for off := int64(0); off < fs.Length; {
		disk, at, run := vg.Place(lv, off)
		if _, err := io.Copy(out, io.NewSectionReader(files[disk], at, run)); err != nil {
			t.Fatal(err)
		}
		off += run
	}
	return out.Name()
}

// TestWriteVolumes has filesystems written into volumes of every kind: in one
// piece, in several on two disks, and striped.
func TestWriteVolumes(t *testing.T) {
	for name, opts := range map[string]string{"own": "[]", "mke2fs": "[-T, default]"} {
		t.Run(name, func(t *testing.T) {
			needTool(t, "mke2fs")
			l, images := writeVolumes(t, opts)
			if l.Filesystem("mkfs_root").Split || !l.Filesystem("striped_fs").Split || !l.Filesystem("split_fs").Split {
				t.Fatal("the layout does not have what is to be tested")
			}
			check(t, images[0].Path, l.Filesystem("mkfs_root"))
			for node, file := range map[string]string{"mkfs_root": "/dev/null", "striped_fs": "/vmlinuz", "split_fs": "/hostname"} {
				image := gather(t, l, images, node)
				fs := *l.Filesystem(node)
				fs.Offset = 0
				check(t, image, &fs)
				if out := debugfs(t, image, &fs, "stat "+file); !strings.Contains(out, "Type: regular") {
					t.Errorf("%s has no %s:\n%s", node, file, out)
				}
			}
			if b, err := os.ReadFile(gather(t, l, images, "swap")); err != nil || string(b[4086:4096]) != "SWAPSPACE2" {
				t.Errorf("no swap area: %v", err)
			}
			left, err := filepath.Glob(filepath.Join(filepath.Dir(images[0].Path), ".*"))
			if err != nil || len(left) > 0 {
				t.Errorf("files left beside the images: %v, %v", left, err)
			}
		})
	}
}

// lvmTool runs a program of LVM on some devices only, without anything of the
// host's LVM: its configuration, its locks, its list of devices.
func lvmTool(t *testing.T, devices []string, argv ...string) string {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf("global { locking_dir=%q event_activation=0 use_lvmlockd=0 } devices { use_devicesfile=0 scan_lvs=0 } activation { udev_sync=0 udev_rules=0 } log { prefix=\"\" }", dir)
	argv = append(argv, "--config", config)
	for _, d := range devices {
		argv = append(argv, "--devices", d)
	}
	cmd := exec.Command(needTool(t, argv[0]), argv[1:]...)
	cmd.Env = append(os.Environ(), "LVM_SYSTEM_DIR="+dir, "LVM_SUPPRESS_FD_WARNINGS=1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s%s", argv, err, out.String(), errs.String())
	}
	return out.String()
}

// TestVolumesAsLVMSeesThem has LVM's own programs judge the metadata.
func TestVolumesAsLVMSeesThem(t *testing.T) {
	needLoop(t)
	needTool(t, "pvck")
	l, images := writeVolumes(t, "[]")
	var devices []string
	for i, img := range images {
		d := &l.Disks[i]
		var parts []loop.Partition
		if d.Table != nil {
			for _, p := range d.Table.Partitions {
				parts = append(parts, loop.Partition{Number: p.Number, Start: p.Start * 512, Length: p.Length * 512})
			}
		}
		dev, err := loop.Attach(img.Path, d.SectorSize, parts)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := dev.Detach(); err != nil {
				t.Error(err)
			}
		}()
		if d.Table == nil {
			devices = append(devices, dev.Path)
		}
		for _, p := range parts {
			devices = append(devices, dev.Partitions[p.Number])
		}
	}
	for _, d := range devices {
		lvmTool(t, devices, "pvck", d)
		for _, what := range []string{"headers", "metadata"} {
			out := lvmTool(t, nil, "pvck", "--dump", what, d) // it opens nothing else
			if strings.Contains(out, "invalid") || strings.Contains(out, "CHECK") || !strings.Contains(out, "metadata text at") {
				t.Errorf("pvck --dump %s:\n%s", what, out)
			}
		}
	}
	for _, vg := range l.VolumeGroups {
		lvmTool(t, devices, "vgck", vg.Name)
	}
	var got []string
	text := lvmTool(t, devices, "lvs", "--noheadings", "--units", "b", "--nosuffix", "--separator", " ", "--options", "vg_name,lv_name,vg_uuid,lv_uuid,segtype,seg_size,stripes,stripesize,seg_start_pe")
	for line := range strings.Lines(text) {
		got = append(got, strings.TrimSpace(line))
	}
	var want []string
	for _, vg := range l.VolumeGroups {
		for _, lv := range vg.LVs {
			for _, s := range lv.Segments {
				kind := "linear"
				if len(s.Stripes) > 1 {
					kind = "striped"
				}
				want = append(want, fmt.Sprintf("%s %s %s %s %s %d %d %d %d", vg.Name, lv.Name, vg.UUID, lv.UUID, kind, s.Count*vg.ExtentSize, len(s.Stripes), s.StripeSize, s.Start))
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lvs differs (-layout +lvm):\n%s", diff)
	}
	pvs := lvmTool(t, devices, "pvs", "--noheadings", "--units", "b", "--nosuffix", "--options", "pv_uuid,pe_start,pv_pe_count,dev_size")
	for _, vg := range l.VolumeGroups {
		for _, p := range vg.PVs {
			line := fmt.Sprintf("%s %d %d %d", p.UUID, p.PEStart, p.PECount, p.Length)
			if !strings.Contains(strings.Join(strings.Fields(pvs), " "), line) {
				t.Errorf("pvs has no %q:\n%s", line, pvs)
			}
		}
	}
}

// TestVolumesReproducible: two writes with a time given are the same to the
// byte, and (BD-29) neither asks any program of a host's LVM.
func TestVolumesReproducible(t *testing.T) {
	text := `
- local_loop: {name: image0, lvm: {name: l, pvs: [{name: pv, base: image0}], vgs: [{name: vg, base: pv}], lvs: [{name: lv, base: vg, extents: 100%VG}]}}
- mkfs: {name: mkfs_root, base: lv, mount: {mount_point: /}}
`
	l := testLayout(t, text)
	tree := makeTree(t)
	var sums [2][]byte
	for i := range sums {
		images, err := Write(context.Background(), Options{Layout: l, Tree: tree, Dir: t.TempDir(), Env: []string{"PATH=", "SOURCE_DATE_EPOCH=" + epoch}, Now: time.Now})
		if err != nil {
			t.Fatalf("BD-29: without any program: %v", err)
		}
		if sums[i], err = os.ReadFile(images[0].Path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(sums[0], sums[1]) {
		t.Error("two images of one layout differ")
	}
	if !bytes.Contains(sums[0], []byte("creation_time = "+epoch)) {
		t.Error("the group's creation time is not SOURCE_DATE_EPOCH")
	}
}
