package bootloader

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/command"
)

const bootConfig = `
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: mbr
    partitions:
      - {name: boot, flags: [boot, primary], size: 100MiB, mkfs: {type: ext2, label: bootfs, mount: {mount_point: /boot}}}
      - {name: spare, flags: [primary], size: 10MiB, type: 82}
      - {name: root, size: 100%, mkfs: {name: mkfs_root, mount: {mount_point: /}}}
`

// layoutFile writes a layout where commands can read it.
func layoutFile(t *testing.T, l *blockdev.Layout) string {
	t.Helper()
	text, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "layout.json")
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// call runs a command and gives what it printed.
func call(f func(string, command.IO, []string) int, layout, args string) (out, errs string, status int) {
	var o, e bytes.Buffer
	status = f(layout, command.IO{Out: &o, Err: &e}, strings.Fields(args))
	return o.String(), e.String(), status
}

func TestProbe(t *testing.T) {
	l := layout(t, bootConfig, 1024)
	file := layoutFile(t, l)
	root, boot := l.Filesystem("mkfs_root"), l.Filesystem("mkfs_boot")
	for _, test := range []struct{ args, want string }{
		{"--target=device /", "/dev/dib/root\n"},
		{"--target=device /boot", "/dev/dib/boot\n"},
		{"-t device /boot/grub /", "/dev/dib/boot\n/dev/dib/root\n"},
		{"--target=disk /", "/dev/dib/image0\n"},
		{"/", "ext2\n"},
		{"--device /dev/dib/root --target=fs_uuid", root.UUID + "\n"},
		{"--device LABEL=bootfs --target=fs_uuid", boot.UUID + "\n"},
		{"-d -t fs_label UUID=" + boot.UUID, "bootfs\n"},
		{"--device /dev/disk/by-label/bootfs --target=fs", "ext2\n"},
		{"--device /dev/dib/root --target=partuuid", l.Disks[0].Partition("root").PartUUID + "\n"},
		{"--device PARTUUID=" + l.Disks[0].Partition("root").PartUUID + " --target=fs_label", "cloudimg-rootfs\n"},
		{"--target=partmap /boot", "msdos\n"},
		{"--target=partmap -d /dev/dib/image0", "\n"},
		{"--target=abstraction /", "\n"},
		{"--target=drive /", "(hostdisk//dev/dib/image0,msdos5)\n"},
		{"--target=hints_string /boot", "--hint-bios=hd0,msdos1 --hint-efi=hd0,msdos1 --hint-baremetal=ahci0,msdos1\n"},
		{"--target=compatibility_hint /", "hd0,msdos5\n"},
		{"--target=bios_hints -0 /", "hd0,msdos5\x00"},
		{"--target=msdos_parttype -d /dev/dib/spare", "82\n"},
		{"--target=cryptodisk_uuid /", "\n"},
		{"--version", "grub-probe (GRUB) 2.06\n"},
	} {
		if out, errs, status := call(probe, file, test.args); out != test.want || status != 0 {
			t.Errorf("grub-probe %s: %q, %q, status %d; want %q", test.args, out, errs, status, test.want)
		}
	}
	for _, test := range []struct {
		args   string
		status int
	}{
		{"-t fs -d /dev/sda1", 1}, {"-t fs -d /dev/dib/spare", 1}, {"-t nonsense /", 2}, {"--bogus /", 2}, {"-t", 2}, {"", 2},
	} {
		if out, errs, status := call(probe, file, test.args); out != "" || errs == "" || status != test.status {
			t.Errorf("grub-probe %s: %q, %q, status %d; want status %d", test.args, out, errs, status, test.status)
		}
	}
	if _, errs, status := call(probe, "/does/not/exist", "/"); status != 1 || !strings.Contains(errs, "cannot read the disk layout") {
		t.Errorf("without a layout: %q, status %d", errs, status)
	}
}

func TestProbeFallback(t *testing.T) {
	l := layout(t, blockdev.Fallback, 64)
	file := layoutFile(t, l)
	for args, want := range map[string]string{
		"-t device /": "/dev/dib/image0\n", "-t partmap /": "\n", "-t fs_uuid /": l.Filesystems[0].UUID + "\n", "-t hints_string /": "--hint-bios=hd0 --hint-efi=hd0 --hint-baremetal=ahci0\n",
		"-t partuuid /": "\n", "-t msdos_parttype /": "\n",
	} {
		if out, errs, status := call(probe, file, args); out != want || status != 0 {
			t.Errorf("grub-probe %s: %q, %q, status %d; want %q", args, out, errs, status, want)
		}
	}
}

func TestRelative(t *testing.T) {
	l := layout(t, bootConfig, 1024)
	for in, want := range map[string]string{"/": "/", "/usr/share": "/usr/share", "/boot": "", "/boot/grub": "/grub", "/boot/": "", "/bootx": "/bootx"} {
		if got := relative(l, in); got != want {
			t.Errorf("%s is %q on its filesystem; want %q", in, got, want)
		}
	}
}

func TestMkrelpath(t *testing.T) {
	file := layoutFile(t, layout(t, bootConfig, 1024))
	if out, _, status := call(mkrelpath, file, "-r /"); out != "/\n" || status != 0 {
		t.Errorf("got %q, status %d", out, status)
	}
	for args, want := range map[string]int{"": 2, "/ /": 2, "--bogus /": 2, "/does/not/exist": 1} {
		if out, errs, status := call(mkrelpath, file, args); status != want || out != "" || errs == "" {
			t.Errorf("grub-mkrelpath %s: %q, %q, status %d; want status %d", args, out, errs, status, want)
		}
	}
}

func TestPrefix(t *testing.T) {
	for _, test := range []struct{ config, bootDir, want string }{
		{mbrConfig, "/boot/grub", "(,msdos1)/boot/grub"},
		{bootConfig, "/boot/grub2", "(,msdos1)/grub2"},
	} {
		b := builder{layout: layout(t, test.config, 1024), bootDir: test.bootDir}
		if got, _, err := b.prefix(); err != nil || got != test.want {
			t.Errorf("prefix is %q, %v; want %q", got, err, test.want)
		}
	}
	b := builder{layout: layout(t, blockdev.Fallback, 64), bootDir: "/boot/grub"}
	if got, _, err := b.prefix(); err == nil || !strings.Contains(err.Error(), "not on a partition") {
		t.Errorf("prefix is %q, %v; want an error", got, err)
	}
}

func TestCreateEnv(t *testing.T) {
	name := filepath.Join(t.TempDir(), "grubenv")
	for range 2 {
		if err := createEnv(name); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(name)
	if err != nil || len(text) != 1024 || !bytes.HasPrefix(text, []byte("# GRUB Environment Block\n#")) {
		t.Errorf("block has %d bytes, %v", len(text), err)
	}
}

const efiConfig = `
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: gpt
    partitions:
      - {name: ESP, type: EF00, size: 40MiB, mkfs: {type: vfat, mount: {mount_point: /boot/efi}}}
      - {name: root, size: 100%, mkfs: {name: mkfs_root, mount: {mount_point: /}}}
`

func TestProbeGPT(t *testing.T) {
	l := layout(t, efiConfig, 512)
	file := layoutFile(t, l)
	for _, test := range []struct{ args, want string }{
		{"--target=partmap /", "gpt\n"},
		{"--target=gpt_parttype /boot/efi", blockdev.TypeESP + "\n"},
		{"--target=msdos_parttype /", "\n"},
		{"--target=fs /boot/efi/EFI", "fat\n"},
		{"--target=fs_uuid /boot/efi", l.Filesystem("mkfs_ESP").UUID + "\n"},
		{"--target=efi_hints /", "hd0,gpt2\n"},
		{"--target=partuuid /", l.Disks[0].Table.Partitions[1].PartUUID + "\n"},
	} {
		if out, errs, status := call(probe, file, test.args); out != test.want || status != 0 {
			t.Errorf("%s: %q (%d, %s); want %q", test.args, out, status, errs, test.want)
		}
	}
}

func TestEFIStub(t *testing.T) {
	l := layout(t, efiConfig, 512)
	got := efiStub(l.Filesystem("mkfs_root"), "/boot/grub")
	want := "search --no-floppy --fs-uuid --set=root " + l.Filesystem("mkfs_root").UUID + "\nset prefix=($root)/boot/grub\nexport prefix\nconfigfile $prefix/grub.cfg\n"
	if got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}

const volumeConfig = `
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: gpt
    partitions:
      - {name: BSP, type: EF02, size: 8MiB}
      - {name: sys, type: 8E00, size: 100%}
- lvm:
    name: lvm
    pvs: [{name: pv, base: sys}]
    vgs: [{name: my-vg, base: [pv]}]
    lvs: [{name: root, base: my-vg, size: 600MiB}, {name: spare, base: my-vg, extents: 1}]
- mkfs: {name: mkfs_root, base: root, mount: {mount_point: /}}
`

// TestBD84Volume answers about logical volumes from the layout, whatever devices
// the host has.
func TestBD84Volume(t *testing.T) {
	l := layout(t, volumeConfig, 1024)
	file := layoutFile(t, l)
	vg := l.VolumeGroups[0]
	id := "lvmid/" + vg.UUID + "/" + vg.LVs[0].UUID
	for _, test := range []struct{ args, want string }{
		{"-t device /", "/dev/mapper/my--vg-root"},
		{"-t disk /boot", "/dev/mapper/my--vg-root"},
		{"-t abstraction /", "lvm"},
		{"-t drive /", "(lvm/my--vg-root)"},
		{"-t partmap /", "gpt"},
		{"-t fs -d /dev/mapper/my--vg-root", "ext2"},
		{"-t fs_uuid -d /dev/my-vg/root", l.Filesystems[0].UUID},
		{"-t hints_string -d LABEL=cloudimg-rootfs", "--hint='" + id + "'"},
		{"-t compatibility_hint /", id},
		{"-t bios_hints /", ""},
		{"-t partuuid /", ""},
		{"-t gpt_parttype /", ""},
		{"-t abstraction -d /dev/mapper/my--vg-spare", "lvm"},
	} {
		if out, errs, status := call(probe, file, test.args); out != test.want+"\n" || status != 0 {
			t.Errorf("grub-probe %s: %q, %q, status %d; want %q", test.args, out, errs, status, test.want)
		}
	}
	if _, errs, status := call(probe, file, "-t fs -d /dev/mapper/my--vg-spare"); status != 1 || !strings.Contains(errs, "unknown filesystem") {
		t.Errorf("a volume without a filesystem: %q, status %d", errs, status)
	}
	b := &builder{layout: l, bootDir: "/boot/grub"}
	if prefix, fs, err := b.prefix(); prefix != "("+id+")/boot/grub" || err != nil || fs.Node != "mkfs_root" {
		t.Errorf("prefix %q, %v", prefix, err)
	}
	s := settings{RootLabel: "x", RootDevice: rootDevice(l)}
	if text := EditDefaults("GRUB_DEVICE=LABEL=old\n", s.defaults(false)); !strings.HasPrefix(text, "GRUB_DEVICE=/dev/mapper/my--vg-root\n") || strings.Contains(text, "LABEL=") {
		t.Errorf("defaults:\n%s", text)
	}
	if got := rootDevice(layout(t, bootConfig, 1024)); got != "" {
		t.Errorf("root device of a partition: %q", got)
	}
}
