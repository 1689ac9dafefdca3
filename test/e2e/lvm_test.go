package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/boot"
	"github.com/dib-builder/dib/test/lab"
)

// lvmLayout has the root filesystem on a linear volume, another one in two
// pieces and a striped one, in groups with and without a hyphen in their names.
const lvmLayout = `
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: gpt
    partitions:
      - {name: ESP, type: EF00, size: 100MiB, mkfs: {type: vfat, mount: {mount_point: /boot/efi, fstab: {options: defaults}}}}
      - {name: BSP, type: EF02, size: 8MiB}
      - {name: system, type: 8E00, size: 3GiB}
      - {name: one, type: 8E00, size: 101MiB}
      - {name: two, type: 8E00, size: 101MiB}
- lvm:
    name: lvm
    pvs: [{name: pv, base: system}, {name: pv1, base: one}, {name: pv2, base: two}]
    vgs: [{name: vg-sys, base: [pv]}, {name: data, base: [pv1, pv2]}]
    lvs:
      - {name: lv-root, base: vg-sys, extents: 100%FREE}
      - {name: striped, base: data, size: 40MiB, options: [-i, 2]}
      - {name: split, base: data, size: 120MiB}
- mkfs: {name: mkfs_root, base: lv-root, mount: {mount_point: /, fstab: {options: defaults, fsck-passno: 1}}}
- mkfs: {name: striped_fs, type: ext4, base: striped, mount: {mount_point: /srv, fstab: {options: defaults}}}
- mkfs: {name: split_fs, type: ext4, base: split, mount: {mount_point: /opt, fstab: {options: defaults}}}
`

// TestBootLVM boots an image with its filesystems on logical volumes, which an
// ordinary user built on a host without LVM, through a BIOS and on an EFI
// machine.
func TestBootLVM(t *testing.T) {
	if !full() {
		t.Skip("takes long: DIB_TEST_FULL=1")
	}
	b, bd := debianWorkbench(t, ordinary(t), append(slices.Clone(lab.Mke2fs), "lvm", "pvs", "vgs", "lvs", "pvcreate", "vgcreate", "lvcreate", "vgchange", "lvchange"))
	b.env["DIB_BLOCK_DEVICE_CONFIG"] = lvmLayout
	bd.args = []string{"-t", "raw", "-o", "debian", "--image-size", "4", "vm", "block-device-efi", "lvm", "debian-minimal", "devuser"}
	image := b.debian(bd).path(".raw")
	for name, o := range map[string]boot.Options{"BIOS": {}, "EFI": {Firmware: ovmf}} {
		t.Run(name, func(t *testing.T) {
			o.Image, o.Memory = image, 1024
			judgeVolumes(t, bootDisk(t, o))
		})
	}
}

func judgeVolumes(t *testing.T, g *guest) {
	t.Helper()
	g.login()
	for point, device := range map[string]string{"/": "/dev/mapper/vg--sys-lv--root", "/srv": "/dev/mapper/data-striped", "/opt": "/dev/mapper/data-split"} {
		if got := g.run("findmnt --noheadings --output SOURCE " + point); got != device {
			t.Errorf("%s is mounted from %q, want %s", point, got, device)
		}
	}
	if got := g.run("cat /proc/cmdline"); !strings.Contains(got, "root=/dev/mapper/vg--sys-lv--root ") {
		t.Errorf("kernel command line: %s", got)
	}
	// LVM can change what it did not write, and the volumes are sound.
	g.run("sudo vgck vg-sys && sudo vgck data")
	g.run("sudo lvcreate --yes --name new --extents 1 data")
	g.run("sudo vgck data && sudo touch /srv/new /opt/new")
}
