package blockdev

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// gptLayout lays out a GPT on one disk; root is the root filesystem.
func gptLayout(size, blockSize string, parts ...string) (*Layout, error) {
	text := strings.Replace(disk(parts...), "{name: image0}", "{name: image0, size: "+size+"}", 1)
	text = strings.Replace(text, "label: mbr", "label: gpt", 1)
	text += "- mkfs: {name: mkfs_root, base: root, mount: {mount_point: /, fstab: {fsck-passno: 1}}}\n"
	c, err := Parse("test.yaml", []byte(text))
	if err != nil {
		return nil, err
	}
	if c, err = c.Merge(Params{}); err != nil {
		return nil, err
	}
	return c.Layout(LayoutInput{Seed: []byte("seed"), BlockSize: blockSize})
}

func TestGPTArithmetic(t *testing.T) {
	for _, test := range []struct {
		name, size, blockSize string
		parts                 []string
		want                  string
	}{
		{"three", "1GiB", "", []string{"{name: ESP, type: EF00, size: 8MiB}", "{name: BSP, type: 'EF02', size: 8MiB}", "{name: root, size: 100%}"},
			"34-2097118 1:(2048,16384,c12a7328) 2:(18432,16384,21686148) 3:(34816,2060288,0fc63daf)"},
		{"shipped EFI layout", "10GiB", "", []string{"{name: ESP, type: '0xef00', size: 550MiB}", "{name: BSP, type: EF02, size: 8MiB}", "{name: root, flags: [boot], type: 8300, size: 100%}"},
			"34-20971486 1:(2048,1126400,c12a7328) 2:(1128448,16384,21686148) 3:(1144832,19824640,0fc63daf)"},
		{"4096-byte sectors", "1GiB", "4096", []string{"{name: b, size: 8MiB, type: C12A7328-F81F-11D2-BA4B-00A0C93EC93B}", "{name: root, size: 100%}"},
			"6-262138 1:(256,2048,c12a7328) 2:(2304,259584,0fc63daf)"},
		{"shares are of what is left, unrounded", "1GiB", "", []string{"{name: a, size: 33%}", "{name: root, size: 50%}", "{name: c, size: 100%}"},
			"34-2097118 1:(2048,690176,0fc63daf) 2:(692224,700416,0fc63daf) 3:(1392640,700416,0fc63daf)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := gptLayout(test.size, test.blockSize, test.parts...)
			if err != nil {
				t.Fatal(err)
			}
			table := l.Disks[0].Table
			got := fmt.Sprintf("%d-%d", table.FirstUsable, table.LastUsable)
			for _, p := range table.Partitions {
				got += fmt.Sprintf(" %d:(%d,%d,%.8s)", p.Number, p.Start, p.Length, p.TypeGUID)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestGPTRefusals(t *testing.T) {
	long := strings.Repeat("n", 37)
	var many []string
	for i := range 129 {
		many = append(many, fmt.Sprintf("{name: p%d, size: 1MiB}", i))
	}
	for _, test := range []struct {
		name  string
		parts []string
		want  string
	}{
		{"BD-17 less than a MiB", []string{"{name: root, size: 100KiB}"}, `partition "root": 102400 bytes are less than one MiB`},
		{"BD-18 does not fit", []string{"{name: a, size: 900MiB}", "{name: root, size: 200MiB}"}, `partition "root" does not fit on the disk: it needs 209715200 bytes, but only 127926272 of 1073741824 are left`},
		{"BD-20 name", []string{"{name: " + long + ", size: 1MiB}", "{name: root, size: 100%}"}, "its name has 37 UTF-16 units, and a GPT holds 36"},
		{"BD-21 unknown code", []string{"{name: root, size: 100%, type: 83FF}"}, `type "83FF" is no partition type known here: give its GUID`},
		{"BD-21 no code", []string{"{name: root, size: 100%, type: linux}"}, `type "linux" is not a partition type`},
		{"too many", append(many, "{name: root, size: 1MiB}"), "a GPT holds 128 partitions"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := gptLayout("1GiB", "", test.parts...); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v; want %q", err, test.want)
			}
		})
	}
}

func TestFATAndSwap(t *testing.T) {
	l, err := gptLayout("1GiB", "",
		"{name: esp, type: EF00, size: 100MiB, mkfs: {type: fat, label: efi, uuid: 8d6c1a2b-0000-4000-8000-000000000000, mount: {mount_point: /boot/efi, fstab: {}}}}",
		"{name: sw, type: 8200, size: 100MiB, mkfs: {type: swap, mount: {mount_point: anything, fstab: {options: ignored}}}}",
		"{name: root, size: 100%}")
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Filesystem("mkfs_esp"); got.UUID != "8D6C-1A2B" || got.Label != "EFI" {
		t.Errorf("FAT has volume id %s and label %s", got.UUID, got.Label)
	}
	// BD-35: the kernel calls every FAT vfat.
	want := "LABEL=cloudimg-rootfs / ext4 defaults 0 1\nLABEL=EFI /boot/efi vfat defaults 0 2\nLABEL=mkfs_sw none swap sw 0 0\n"
	if diff := cmp.Diff(want, l.FSTab); diff != "" {
		t.Error(diff)
	}
	if len(l.Mounts) != 2 {
		t.Errorf("swap is mounted: %v", l.Mounts)
	}
}
