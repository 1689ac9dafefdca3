package blockdev

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const mib = 1 << 20

// mustLayout lays out a table on one disk of its own size; a first partition
// named root is mounted, because every image needs a root filesystem.
func mustLayout(t *testing.T, size string, align string, in LayoutInput, parts ...string) *Layout {
	t.Helper()
	text := strings.Replace(disk(parts...), "{name: image0}", "{name: image0, size: "+size+"}", 1)
	if align != "" {
		text = strings.Replace(text, "label: mbr\n", "label: mbr\n    align: "+align+"\n", 1)
	}
	text += "- mkfs: {name: mkfs_root, base: root, mount: {mount_point: /, fstab: {fsck-passno: 1}}}\n"
	l, err := mustMerge(t, text, Params{}).Layout(in)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// show prints a table as "number:(start,length,type)" with ext for the
// extended partition.
func show(l *Layout) string {
	var out []string
	table := l.Disks[0].Table
	for i, e := range table.Records[0].Entries {
		if e.Type == typeExtendedLBA {
			out = append(out, fmt.Sprintf("ext%d:(%d,%d)", i+1, e.Start, e.Length))
		}
	}
	for _, p := range table.Partitions {
		boot := ""
		if p.Boot {
			boot = "*"
		}
		out = append(out, fmt.Sprintf("%d:(%d,%d,%x%s)", p.Number, p.Start, p.Length, p.Type, boot))
	}
	return strings.Join(out, " ")
}

func TestMBRArithmetic(t *testing.T) {
	logicals := func(n int) (parts []string, want string) {
		want = "ext1:(2048,2095104)"
		for i := range n {
			name := "root"
			if i > 0 {
				name = fmt.Sprint("p", i)
			}
			parts = append(parts, "{name: "+name+", size: 10MiB}")
			want += fmt.Sprintf(" %d:(%d,20480,83)", 5+i, 4096+i*22528)
		}
		return parts, want
	}
	many, manyWant := logicals(64)
	for _, test := range []struct {
		name, size, align string
		parts             []string
		want              string
	}{
		{"whole disk", "64MiB", "", []string{"{name: root, flags: [boot, primary], size: 100%, type: 0x83}"}, "1:(2048,126976,83*)"},
		{"prep", "10GiB", "", []string{"{name: b, flags: [boot, primary], size: 8MiB, type: '0x41'}", "{name: root, flags: [primary], size: 100%}"}, "1:(2048,16384,41*) 2:(18432,20951040,83)"},
		{"logical", "1GiB", "", []string{"{name: b, flags: [boot, primary], size: 256MiB}", "{name: s, size: 100MiB, type: 82}", "{name: root, size: 100%}"}, "ext2:(526336,1570816) 1:(2048,524288,83*) 5:(528384,204800,82) 6:(735232,1361920,83)"},
		{"thirds", "1GiB", "", []string{"{name: root, size: 33%}", "{name: b, size: 50%}", "{name: c, size: 100%}"}, "ext1:(2048,2095104) 5:(4096,690708,83) 6:(698368,699392,83) 7:(1400832,696320,83)"},
		{"align", "1GiB", "4MiB", []string{"{name: root, flags: [primary], size: 10MB}", "{name: b, flags: [primary], size: 100%}"}, "1:(8192,19531,83) 2:(32768,2056192,83)"},
		{"many logical", "1GiB", "", many, manyWant},
		{"mixed", "1GiB", "", []string{"{name: root, flags: [primary], size: 10MiB, type: 0x0c}", "{name: b, flags: [primary], size: 10MiB}", "{name: c, flags: [primary], size: 10MiB}", "{name: d, size: 10MiB}", "{name: e, size: 10MiB}"},
			"ext4:(63488,2033664) 1:(2048,20480,c) 2:(22528,20480,83) 3:(43008,20480,83) 5:(65536,20480,83) 6:(88064,20480,83)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := mustLayout(t, test.size, test.align, LayoutInput{}, test.parts...)
			if diff := cmp.Diff(test.want, show(l)); diff != "" {
				t.Errorf("table differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExtendedRecords(t *testing.T) {
	l := mustLayout(t, "1GiB", "", LayoutInput{}, "{name: b, flags: [boot, primary], size: 256MiB}", "{name: s, size: 100MiB, type: 82}", "{name: root, size: 100%}")
	want := []BootRecord{
		{LBA: 0, Entries: [4]Entry{
			{Boot: true, Type: 0x83, Start: 2048, Length: 524288, LBA: 2048},
			{Type: 0x0f, Start: 526336, Length: 1570816, LBA: 526336},
		}},
		{LBA: 526336, Entries: [4]Entry{
			{Type: 0x82, Start: 2048, Length: 204800, LBA: 528384},
			{Type: 0x05, Start: 206848, Length: 1363968, LBA: 733184},
		}},
		{LBA: 733184, Entries: [4]Entry{{Type: 0x83, Start: 2048, Length: 1361920, LBA: 735232}}},
	}
	if diff := cmp.Diff(want, l.Disks[0].Table.Records); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
}

func TestBD14LastLinkStaysOnDisk(t *testing.T) {
	// 64 MiB and 64 KiB: the end of the disk is not aligned.
	l := mustLayout(t, "67174400", "", LayoutInput{}, "{name: root, size: 10MiB}", "{name: b, size: 100%}")
	records := l.Disks[0].Table.Records
	link := records[1].Entries[1]
	if end, total := link.LBA+link.Length, l.Disks[0].Size/512; end > total {
		t.Errorf("link ends at %d of %d sectors", end, total)
	}
}

func TestBD15LayoutOf4KSectors(t *testing.T) {
	l := mustLayout(t, "64MiB", "", LayoutInput{BlockSize: "4096"}, "{name: root, flags: [primary], size: 100%}")
	if got, want := show(l), "1:(256,15872,83)"; got != want {
		t.Errorf("table is %s; want %s", got, want)
	}
	fs := l.Filesystem("mkfs_root")
	if fs.Offset != mib || fs.Length != 62*mib {
		t.Errorf("filesystem at %d+%d", fs.Offset, fs.Length)
	}
	if diff := cmp.Diff([]string{"-b", "4096"}, fs.Opts); diff != "" {
		t.Errorf("opts differ (-want +got):\n%s", diff)
	}
}

func TestLayoutErrors(t *testing.T) {
	root := "- mkfs: {name: mkfs_root, base: root, mount: {mount_point: /}}\n"
	for _, test := range []struct {
		name, text string
		in         LayoutInput
		want       string
	}{
		{"BD-12 too large", disk("{name: root, flags: [primary], size: 100MiB}") + root, LayoutInput{SizeKiB: 64 * 1024}, `partition "root" does not fit on the disk: it needs 104857600 bytes, but only 66060288 of 67108864 are left`},
		{"BD-12 nothing left", disk("{name: a, flags: [primary], size: 100%}", "{name: root, flags: [primary], size: 100%}") + root, LayoutInput{SizeKiB: 64 * 1024}, `partition "root": 0 bytes are less than one sector`},
		{"BD-12 2 TiB", disk("{name: root, flags: [primary], size: 100%}") + root, LayoutInput{SizeKiB: 3 << 30}, "below 2^32 sectors"},
		{"BD-12 extended beyond 2 TiB", disk("{name: root, size: 1GiB}") + root, LayoutInput{SizeKiB: 3 << 30}, "extended partition reaches"},
		{"odd size", strings.Replace(disk("{name: root, flags: [primary], size: 1MiB}"), "image0}", "image0, size: 5000001}", 1) + root, LayoutInput{}, "not a multiple of the sector size 512"},
		{"align and sectors", strings.Replace(disk("{name: root, flags: [primary], size: 1MiB}"), "label: mbr", "label: mbr\n    align: 512", 1) + root, LayoutInput{SizeKiB: 1 << 20, BlockSize: "4096"}, "align 512 is not a multiple of the sector size 4096"},
		{"no size", Fallback, LayoutInput{}, "no size"},
		{"block size", Fallback, LayoutInput{SizeKiB: 64, BlockSize: "1k"}, `DIB_BLOCK_SIZE "1k" is not supported`},
		{"no disk", "[]", LayoutInput{SizeKiB: 64}, "there is no disk to write"},
		{"no root", disk("{name: a, size: 1MiB}"), LayoutInput{SizeKiB: 64}, "nothing is mounted at /"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := mustMerge(t, test.text, Params{}).Layout(test.in)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v; want %q", err, test.want)
			}
		})
	}
}

const twoFilesystems = `
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: mbr
    partitions:
      - {name: boot, flags: [boot, primary], size: 300MiB,
         mkfs: {type: ext2, label: my boot, opts: "-m 1", mount: {mount_point: /boot/, fstab: {options: "ro,x=a b", by: uuid}}}}
      - {name: root, flags: [primary], size: 100%,
         mkfs: {name: mkfs_root, mount: {mount_point: /, fstab: {fsck-passno: 1}}}}
`

func TestLayoutGolden(t *testing.T) {
	c := mustMerge(t, twoFilesystems, Params{RootFSOpts: "-i 4096 -J size=64"})
	l, err := c.Layout(LayoutInput{SizeKiB: 1 << 20, Seed: []byte("seed")})
	if err != nil {
		t.Fatal(err)
	}
	root, boot := l.Filesystem("mkfs_root"), l.Filesystem("mkfs_boot")
	wantTab := "LABEL=cloudimg-rootfs / ext4 defaults 0 1\nUUID=" + boot.UUID + ` /boot ext2 ro,x=a\040b 0 2` + "\n"
	if diff := cmp.Diff(wantTab, l.FSTab); diff != "" {
		t.Errorf("fstab differs (-want +got):\n%s", diff)
	}
	wantMounts := []Mount{{"mount_mkfs_root", "/", "mkfs_root"}, {"mount_mkfs_boot", "/boot", "mkfs_boot"}}
	if diff := cmp.Diff(wantMounts, l.Mounts); diff != "" {
		t.Errorf("mounts differ (-want +got):\n%s", diff)
	}
	if root.Offset != 302*mib-mib || root.Length != l.Disks[0].Size-302*mib || root.Device != "/dev/dib/root" {
		t.Errorf("root filesystem is %+v", root)
	}
	for p, want := range map[string]string{"/": "mkfs_root", "/boot": "mkfs_boot", "boot/grub": "mkfs_boot", "/boots": "mkfs_root"} {
		if fs, _ := l.Holding(p); fs.Node != want {
			t.Errorf("%s lies on %s; want %s", p, fs.Node, want)
		}
	}
	text, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	var back Layout
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*l, back); diff != "" {
		t.Errorf("layout does not survive JSON (-before +after):\n%s", diff)
	}
	s := c.State(l, "/images", "/mnt")
	if got := s.Mount["/"].Path; got != "/mnt/" {
		t.Errorf("state has path %q for /", got)
	}
	if diff := cmp.Diff(StateDevice{Device: "/dev/dib/image0", Image: "/images/image0.raw"}, s.BlockDev["image0"]); diff != "" {
		t.Errorf("state of the disk differs (-want +got):\n%s", diff)
	}
}

func TestBD16Identities(t *testing.T) {
	c := mustMerge(t, twoFilesystems, Params{})
	layout := func(seed string) *Layout {
		l, err := c.Layout(LayoutInput{SizeKiB: 1 << 20, Seed: []byte(seed)})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	a, again, b := layout("a"), layout("a"), layout("b")
	if diff := cmp.Diff(a, again); diff != "" {
		t.Errorf("two layouts of one seed differ:\n%s", diff)
	}
	seen := map[string]bool{}
	for _, l := range []*Layout{a, b} {
		for _, id := range []string{
			fmt.Sprint(l.Disks[0].Table.DiskID), l.Filesystems[0].UUID, l.Filesystems[1].UUID, l.Filesystems[0].HashSeed, l.Filesystems[1].HashSeed,
		} {
			if seen[id] {
				t.Errorf("%s is used twice", id)
			}
			seen[id] = true
		}
	}
	if got, want := a.Disks[0].Table.Partitions[1].PartUUID, fmt.Sprintf("%08x-02", a.Disks[0].Table.DiskID); got != want {
		t.Errorf("PARTUUID is %s; want %s", got, want)
	}
}

func TestFallbackLayout(t *testing.T) {
	l, err := mustMerge(t, Fallback, Params{}).Layout(LayoutInput{SizeKiB: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	fs := l.Filesystem("mkfs_root")
	if l.Disks[0].Table != nil || fs.Offset != 0 || fs.Length != 1<<30 || fs.Device != "/dev/dib/image0" || l.RootDisk().Name != "image0" {
		t.Errorf("layout is %+v", l)
	}
}
