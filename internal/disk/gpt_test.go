package disk

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/blockdev"
)

// gptLayout lays out a GUID table on one disk, of which one partition is root.
func gptLayout(t testing.TB, sizeMiB int64, blockSize int, parts ...string) *blockdev.Layout {
	t.Helper()
	text := fmt.Sprintf("- local_loop: {name: image0, block_size: %d}\n", blockSize) + "- partitioning:\n    base: image0\n    label: gpt\n    partitions:\n    - " +
		strings.Join(parts, "\n    - ") + "\n- mkfs: {name: mkfs_root, base: root, mount: {mount_point: /, fstab: {fsck-passno: 1}}}\n"
	return layoutOf(t, sizeMiB, text)
}

var efiParts = []string{"{name: ESP, type: EF00, size: 40MiB}", "{name: BSP, type: EF02, size: 8MiB}", "{name: Root Part, type: 8300, size: 10MiB}", "{name: root, size: 100%}"}

// TestGPT has sgdisk and sfdisk read what was written.
func TestGPT(t *testing.T) {
	sgdisk, sfdisk := needTool(t, "sgdisk"), needTool(t, "sfdisk")
	l := gptLayout(t, 128, 512, efiParts...)
	d := &l.Disks[0]
	image := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(d.Size); err != nil {
		t.Fatal(err)
	}
	if err := writeTable(f, d); err != nil {
		t.Fatal(err)
	}
	for _, judge := range []struct {
		argv []string
		want []string
	}{
		{[]string{sgdisk, "-v", image}, []string{"No problems found"}},
		{[]string{sgdisk, "-p", image}, []string{"(?i)Disk identifier \\(GUID\\): " + d.Table.DiskGUID,
			"First usable sector is 34, last usable sector is 262110",
			`1 +2048 +83967 +40.0 MiB +EF00 +ESP`, `2 +83968 +100351 +8.0 MiB +EF02 +BSP`,
			`3 +100352 +120831 +10.0 MiB +8300 +Root Part`, `4 +120832 +260095 +68.0 MiB +8300 +root`}},
		{[]string{sfdisk, "--verify", image}, []string{"No errors detected"}},
		{[]string{sfdisk, "--dump", image}, []string{"label: gpt", "(?i)uuid=" + d.Table.Partitions[3].PartUUID}},
	} {
		out, err := exec.Command(judge.argv[0], judge.argv[1:]...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v\n%s", judge.argv[:2], err, out)
		}
		for _, want := range judge.want {
			if !regexp.MustCompile(want).Match(out) {
				t.Errorf("%v: no %q in\n%s", judge.argv[:2], want, out)
			}
		}
	}
}

// TestGPTSectors4096 checks the places that depend on the sector size; no tool
// can be told the sector size of a file.
func TestGPTSectors4096(t *testing.T) {
	l := gptLayout(t, 64, 4096, "{name: root, size: 100%}")
	pieces, err := encodeGPT(&l.Disks[0])
	if err != nil {
		t.Fatal(err)
	}
	var at []int64
	for _, p := range pieces {
		at = append(at, p.offset)
	}
	const total = 64 << 20
	if want := []int64{0, 4096, 8192, total - 5*4096, total - 4096}; fmt.Sprint(at) != fmt.Sprint(want) {
		t.Errorf("pieces lie at %v; want %v", at, want)
	}
}

func TestGrubRoomOfGPT(t *testing.T) {
	with := gptLayout(t, 128, 512, efiParts...).Disks[0]
	if at, err := grubRoom(&with); err != nil || at.start != 83968 || at.sectors != 16384 {
		t.Errorf("got %+v, %v", at, err)
	}
	without := gptLayout(t, 128, 512, "{name: root, size: 100%}").Disks[0]
	if _, err := grubRoom(&without); err == nil || !strings.Contains(err.Error(), "no BIOS boot partition") {
		t.Errorf("got %v", err)
	}
}

// TestWriteEFI writes what an EFI machine boots from: a GUID table, a FAT
// filesystem below the root filesystem, and swap.
func TestWriteEFI(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: a mount hides /boot/efi while the root filesystem is made")
	}
	l := gptLayout(t, 160, 512,
		"{name: ESP, type: EF00, size: 40MiB, mkfs: {type: vfat, opts: '-F 32', mount: {mount_point: /boot/efi, fstab: {}}}}",
		"{name: sw, type: 8200, size: 8MiB, mkfs: {type: swap, label: swappy, mount: {mount_point: none, fstab: {}}}}",
		"{name: root, size: 100%}")
	tree := makeTree(t)
	if err := os.MkdirAll(filepath.Join(tree, "boot/efi/EFI/BOOT"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "boot/efi/EFI/BOOT/BOOTX64.EFI"), []byte("loader"), 0o644); err != nil {
		t.Fatal(err)
	}
	image := string(write(t, l, tree, nil))
	check(t, image, l.Filesystem("mkfs_root"))
	if out := debugfs(t, image, l.Filesystem("mkfs_root"), "ls /boot/efi"); strings.Contains(out, "EFI") {
		t.Errorf("the root filesystem holds what belongs to the ESP:\n%s", out)
	}
	esp := l.Filesystem("mkfs_ESP")
	out, err := exec.Command(needTool(t, "mtype"), "-i", fmt.Sprintf("%s@@%d", image, esp.Offset), "::EFI/BOOT/BOOTX64.EFI").CombinedOutput()
	if err != nil || string(out) != "loader" {
		t.Errorf("mtype: %v: %q", err, out)
	}
	swap := l.Filesystem("mkfs_sw")
	out, err = exec.Command(needTool(t, "blkid"), "-p", "-O", fmt.Sprint(swap.Offset), "-S", fmt.Sprint(swap.Length), image).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `LABEL="swappy" UUID="`+swap.UUID+`"`) || !strings.Contains(string(out), `TYPE="swap"`) {
		t.Errorf("blkid: %v: %s", err, out)
	}
}
