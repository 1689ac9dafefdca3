package blockdev

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/internal/finding"
)

// explain gives everything that is wrong with a configuration as a user sees it.
func explain(err error) string {
	var list finding.List
	if errors.As(err, &list) {
		return list.Explain()
	}
	return fmt.Sprint(err)
}

// TestRefusals holds what is found before any hook runs, with sizes known or
// not. The names carry the numbers of specification 03, section 9.
func TestRefusals(t *testing.T) {
	root := "- mkfs: {name: mkfs_root, base: root, mount: {mount_point: /}}\n"
	gpt := func(parts ...string) string { return strings.Replace(disk(parts...), "label: mbr", "label: gpt", 1) }
	sized := func(text, size string) string {
		return strings.Replace(text, "{name: image0}", "{name: image0, size: "+size+"}", 1)
	}
	for _, test := range []struct {
		name, text string
		in         LayoutInput
		want       []string
	}{
		{"BD-07 every fault at once", disk("{name: a, size: 1gib}", "{name: root, size: 100%, mkfs: {type: vfat, opts: -v, mount: {mount_point: /}}}") + "- mkfs: {base: nowhere, type: ext4}\n", LayoutInput{}, []string{
			"test.yaml:6:17: partition \"a\": invalid size \"1gib\": unknown unit",
			"\n        - {name: a, size: 1gib}\n                    ^\n",
			"option -v of mkfs.vfat is not known here", "Edge not defined: nowhere->mkfs_nowhere",
		}},
		{"BD-12 type", disk("{name: root, size: 100%, type: 256}") + root, LayoutInput{}, []string{`type "256" is not a partition type: want 0x01 to 0xff`}},
		{"BD-12 size known", disk("{name: root, size: 10GiB}") + root, LayoutInput{SizeKiB: 1 << 20}, []string{
			"test.yaml:6:7: partition \"root\" does not fit on the disk", "\n        - {name: root, size: 10GiB}\n          ^",
		}},
		{"BD-12 disk of its own size", sized(disk("{name: root, size: 10GiB}"), "1GiB") + root, LayoutInput{}, []string{"partition \"root\" does not fit"}},
		{"BD-17 before the size is known", gpt("{name: bsp, type: EF02, size: 1000KiB}", "{name: root, size: 100%}") + root, LayoutInput{}, []string{"partition \"bsp\": 1024000 bytes are less than one MiB"}},
		{"a GPT without room", "- local_loop: {name: x, size: 4KiB, partitioning: {label: gpt, partitions: []}}\n" + disk("{name: root, size: 100%}") + root, LayoutInput{}, []string{`disk "x" has 4096 bytes, too few for a GPT`}},
		{"BD-15 blocks smaller than sectors", disk("{name: root, size: 100%}") + strings.Replace(root, "base: root", "base: root, opts: -b1024", 1), LayoutInput{BlockSize: "4096"}, []string{"blocks of 1024 bytes are smaller than the sectors of the disk, 4096 bytes"}},
		{"FAT of impossible size", disk("{name: e, size: 1MiB, mkfs: {type: vfat, opts: -F 32}}", "{name: root, size: 100%}") + root, LayoutInput{}, []string{"no FAT32 filesystem of 1048576 bytes is possible"}},
		{"BD-33 FAT label", disk("{name: e, size: 1MiB, mkfs: {type: vfat, label: 'a*b'}}", "{name: root, size: 100%}") + root, LayoutInput{}, []string{`has the character '*', which FAT labels cannot have`}},
		{"BD-33 label of fat", disk("{name: e, size: 1MiB, mkfs: {type: fat, label: twelve_bytes}}", "{name: root, size: 100%}") + root, LayoutInput{}, []string{"Label [TWELVE_BYTES] too long for filesystem [fat]: 12 > 11"}},
		{"BD-34 volume id", disk("{name: e, size: 1MiB, mkfs: {type: vfat, uuid: xyz}}", "{name: root, size: 100%}") + root, LayoutInput{}, []string{`"xyz" is not a volume id`}},
		{"small swap", disk("{name: s, size: 8KiB, mkfs: {type: swap}}", "{name: root, size: 100%}") + root, LayoutInput{}, []string{"8192 bytes are too small for a swap area"}},
		{"BD-31 part of the word swap", disk("{name: s, size: 1MiB, mkfs: {type: wa}}", "{name: root, size: 100%}") + root, LayoutInput{}, []string{`filesystem type "wa" is not supported`}},
		{"BD-44 nothing at /", disk("{name: a, size: 1MiB}"), LayoutInput{}, []string{"nothing is mounted at /"}},
		{"BD-44 / on a partition", disk("{name: a, size: 100%, mount: {mount_point: /}}"), LayoutInput{}, []string{`base "a" is a partition; want a mkfs`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Check("test.yaml", []byte(test.text), Params{})
			if err == nil {
				err = c.Rehearse(test.in)
			}
			for _, want := range test.want {
				if got := explain(err); err == nil || !strings.Contains(got, want) {
					t.Errorf("got\n%s\nwithout %q", got, want)
				}
			}
		})
	}
}

// TestAccepted holds what DIB gets wrong and this program takes.
func TestAccepted(t *testing.T) {
	gpt := func(parts ...string) string { return strings.Replace(disk(parts...), "label: mbr", "label: gpt", 1) }
	for _, test := range []struct {
		name, text string
		in         LayoutInput
		warnings   []string
		see        func(*Layout) string
		want       string
	}{
		{"BD-01 null body", "- local_loop: {name: d, mkfs: {name: mkfs_root, mount: {mount_point: /, fstab: }}}", LayoutInput{}, nil,
			func(l *Layout) string { return l.FSTab }, "LABEL=cloudimg-rootfs / ext4 defaults 0 2\n"},
		{"BD-03 unknown key", "- local_loop: {name: d, sise: 1GiB, mkfs: {name: mkfs_root, mount: {mount_point: /}}}", LayoutInput{}, []string{`test.yaml:1:25: local_loop: unknown option "sise" is ignored`},
			func(l *Layout) string { return fmt.Sprint(l.Disks[0].Size) }, fmt.Sprint(int64(rehearsalKiB) << 10)},
		{"BD-04 numbers and lists", "- local_loop: {name: d, size: 67108864, block_size: '512', mkfs: {name: mkfs_root, label: 123, opts: [-m, 1], mount: {mount_point: /, fstab: {options: ro, dump-freq: '1'}}}}", LayoutInput{}, nil,
			func(l *Layout) string {
				return fmt.Sprint(l.Disks[0].Size, l.Filesystems[0].Label, l.Filesystems[0].Opts, l.FSTab)
			}, "67108864123[-m 1]LABEL=123 / ext4 ro 1 2\n"},
		{"BD-04 MBR types as integers", disk("{name: a, size: 1MiB, type: 82}", "{name: b, size: 1MiB, type: 0x83}", "{name: c, size: 1MiB, type: 0C}", "{name: root, size: 100%, type: 07, mkfs: {name: mkfs_root, mount: {mount_point: /}}}"), LayoutInput{}, nil,
			show, "ext1:(2048,4294961152) 5:(4096,2048,82) 6:(8192,2048,83) 7:(12288,2048,c) 8:(16384,4294946816,7)"},
		{"1.5 GiB", disk("{name: root, flags: [primary], size: 1.5 GiB, mkfs: {name: mkfs_root, mount: {mount_point: /}}}"), LayoutInput{}, nil,
			show, "1:(2048,3145728,83)"},
		{"BD-19 boot on a GPT", gpt("{name: root, flags: [boot], size: 100%, mkfs: {name: mkfs_root, mount: {mount_point: /}}}"), LayoutInput{}, nil,
			func(l *Layout) string { return fmt.Sprint(l.Disks[0].Table.Partitions[0].Boot) }, "false"},
		{"BD-20 name of 36 characters", gpt("{name: n23456789012345678901234567890123456, size: 1MiB}", "{name: root, size: 100%, mkfs: {name: mkfs_root, mount: {mount_point: /}}}"), LayoutInput{}, nil,
			func(l *Layout) string { return l.Disks[0].Table.Partitions[0].Name }, "n23456789012345678901234567890123456"},
		{"BD-21 types as integers", gpt("{name: a, size: 1MiB, type: 0700}", "{name: b, size: 1MiB, type: 0x4100}", "{name: root, size: 100%, type: 8300, mkfs: {name: mkfs_root, mount: {mount_point: /}}}"), LayoutInput{}, nil,
			func(l *Layout) string {
				p := l.Disks[0].Table.Partitions
				return fmt.Sprintf("%.8s %.8s %.8s", p[0].TypeGUID, p[1].TypeGUID, p[2].TypeGUID)
			}, "ebd0a0a2 9e1a2d38 0fc63daf"},
		{"BD-23 disks of any name", "- local_loop: {name: data, size: 1GiB, mkfs: {type: ext4, mount: {mount_point: /srv}}}\n- local_loop: {name: system, partitioning: {label: gpt, partitions: [{name: root, size: 100%, mkfs: {type: ext4, mount: {mount_point: /}}}]}}", LayoutInput{}, nil,
			func(l *Layout) string { return l.RootDisk().Name }, "system"},
		{"BD-32 words of opts", "- local_loop: {name: d, mkfs: {name: mkfs_root, opts: \"-m  1 -O 'a b'\", mount: {mount_point: /}}}", LayoutInput{}, nil,
			func(l *Layout) string { return fmt.Sprintf("%q", l.Filesystems[0].Opts) }, `["-m" "1" "-O" "a b"]`},
		{"BD-32 opts of swap", disk("{name: s, size: 1MiB, mkfs: {type: swap, opts: -f}}", "{name: root, size: 100%, mkfs: {name: mkfs_root, mount: {mount_point: /}}}"), LayoutInput{}, []string{"opts of a swap area are ignored"},
			func(l *Layout) string { return fmt.Sprint(len(l.Filesystems[0].Opts)) }, "0"},
		{"BD-33 blanks in fstab", "- local_loop: {name: d, mkfs: {name: mkfs_root, label: a b, mount: {mount_point: /, fstab: {}}}}", LayoutInput{}, nil,
			func(l *Layout) string { return l.FSTab }, "LABEL=a\\040b / ext4 defaults 0 2\n"},
		{"BD-34b no label", "- local_loop: {name: d, mkfs: {name: mkfs_root, label: '', uuid: 8d6c1a2b-0000-4000-8000-000000000000, mount: {mount_point: /, fstab: {}}}}", LayoutInput{}, nil,
			func(l *Layout) string { return l.FSTab }, "UUID=8d6c1a2b-0000-4000-8000-000000000000 / ext4 defaults 0 2\n"},
		{"BD-34b by UUID, of FAT", disk("{name: e, size: 1MiB, mkfs: {type: vfat, uuid: 1a2b3c4d, mount: {mount_point: /e, fstab: {by: uuid}}}}", "{name: root, size: 100%, mkfs: {name: mkfs_root, mount: {mount_point: /}}}"), LayoutInput{}, nil,
			func(l *Layout) string { return l.FSTab }, "UUID=1A2B-3C4D /e vfat defaults 0 2\n"},
		{"BD-37 two swap areas", disk("{name: s, size: 1MiB, mkfs: {type: swap, mount: {mount_point: none, fstab: {}}}}", "{name: t, size: 1MiB, mkfs: {type: swap, mount: {mount_point: other, fstab: {}}}}", "{name: root, size: 100%, mkfs: {name: mkfs_root, mount: {mount_point: /}}}"), LayoutInput{}, nil,
			func(l *Layout) string { return fmt.Sprint(len(l.Mounts), l.FSTab) }, "1LABEL=mkfs_s none swap sw 0 0\nLABEL=mkfs_t none swap sw 0 0\n"},
		{"BD-38 not normalised", "- local_loop: {name: d, mkfs: {name: mkfs_root, mount: {mount_point: //, fstab: {}}}}", LayoutInput{}, nil,
			func(l *Layout) string { return l.Mounts[0].Point }, "/"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Check("test.yaml", []byte(test.text), Params{})
			if err != nil {
				t.Fatal(explain(err))
			}
			in := test.in
			if in.SizeKiB == 0 {
				in.SizeKiB = rehearsalKiB
			}
			l, err := c.Layout(in)
			if err != nil {
				t.Fatal(explain(err))
			}
			if got := test.see(l); got != test.want {
				t.Errorf("got %q; want %q", got, test.want)
			}
			if len(c.Warnings) != len(test.warnings) {
				t.Fatalf("warnings %v; want %q", c.Warnings, test.warnings)
			}
			for i, want := range test.warnings {
				if !strings.Contains(c.Warnings[i].String(), want) {
					t.Errorf("warning %q; want %q", c.Warnings[i], want)
				}
			}
		})
	}
}

// fourPartitions is the configuration of upstream's tests (specification 03, 7.1
// and 7.5), with a flag for a table that holds it.
const fourPartitions = `
- local_loop: {name: image0}
- partitioning:
    base: image0
    name: mbr
    label: mbr
    partitions:
    - name: root
      flags: [boot, primary]
      size: 54%
      mkfs: {type: xfs, uuid: 00000000-0000-4000-8000-000000000001, mount: {mount_point: /, fstab: {options: defaults, fsck-passno: 1}}}
    - name: var
      size: 40%
      mkfs: {type: xfs, mount: {mount_point: /var, fstab: {options: defaults}}}
    - name: var_log
      size: 5%
      mkfs: {type: vfat, label: varlog, mount: {mount_point: /var/log, fstab: {options: defaults}}}
    - name: swap
      size: 1%
      mkfs: {type: swap, mount: {mount_point: swap, fstab: {options: defaults}}}
`

// TestUpstreamCases holds the unit cases of specification 03, 7.1 and 7.5 that
// no other test here has.
func TestUpstreamCases(t *testing.T) {
	t.Run("graph unchanged", func(t *testing.T) {
		c, err := Parse("t", []byte("- mkfs: {name: root_fs, base: root_part, type: xfs}\n- mount: {name: mount_root_fs, base: root_fs, mount_point: /}\n- local_loop: {name: root_part}"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		want := `[{"mkfs":{"base":"root_part","name":"root_fs","type":"xfs"}},{"mount":{"base":"root_fs","name":"mount_root_fs","mount_point":"/"}},{"local_loop":{"name":"root_part"}}]`
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("simple tree", func(t *testing.T) {
		c, err := Parse("t", []byte("- local_loop: {name: root_part}\n- mkfs: {name: root_fs, base: root_part, type: xfs, mount: {mount_point: /}}"))
		if err != nil {
			t.Fatal(err)
		}
		if it := c.Items[1]; it.Kind != "mount" || it.Name != "mount_root_fs" || it.Base != "root_fs" {
			t.Errorf("mount is %+v", it)
		}
	})
	t.Run("lvm tree", func(t *testing.T) {
		c, _ := Parse("t", []byte("- lvm: {base: mbr}")) // without volumes it is refused
		if len(c.Items) != 1 || c.Items[0].Name != "lvm_mbr" {
			t.Errorf("items are %+v", c.Items)
		}
	})
	t.Run("deep order", func(t *testing.T) {
		c := mustMerge(t, disk("{name: root, flags: [boot, primary], size: 100%, mkfs: {type: ext4, mount: {mount_point: /, fstab: {}}}}"), Params{})
		if got, want := strings.Join(c.Graph().Order, " "), "image0 root mkfs_root mount_mkfs_root fstab_mount_mkfs_root"; got != want {
			t.Errorf("order is %s; want %s", got, want)
		}
	})
	t.Run("BD-09 four partitions", func(t *testing.T) {
		c := mustMerge(t, fourPartitions, Params{})
		at := map[string]int{}
		for i, n := range c.Graph().Order {
			at[n] = i
		}
		for _, pair := range [][2]string{
			{"root", "var"}, {"var", "var_log"}, {"var_log", "swap"}, {"root", "mkfs_root"}, {"var", "mkfs_var"},
			{"var_log", "mkfs_var_log"}, {"swap", "mkfs_swap"}, {"mount_mkfs_root", "mount_mkfs_var"}, {"mount_mkfs_var", "mount_mkfs_var_log"},
			{"mount_mkfs_var_log", "mount_mkfs_swap"},
		} {
			if at[pair[0]] >= at[pair[1]] {
				t.Errorf("%s does not come before %s", pair[0], pair[1])
			}
		}
		if fs := c.nodes.filesystem("mkfs_var_log"); fs.label != "VARLOG" {
			t.Errorf("label is %s", fs.label)
		}
		if fs := c.nodes.filesystem("mkfs_root"); fs.uuid != "00000000-0000-4000-8000-000000000001" || fs.label != "img-rootfs" {
			t.Errorf("root filesystem is %+v", fs)
		}
	})
	t.Run("mount order", func(t *testing.T) {
		text := disk(
			"{name: a, size: 1MiB, mkfs: {type: vfat, mount: {mount_point: /boot}}}", "{name: b, size: 1MiB, mkfs: {type: ext4, mount: {mount_point: /}}}",
			"{name: c, size: 1MiB, mkfs: {type: ext4, mount: {mount_point: /var}}}", "{name: d, size: 1MiB, mkfs: {type: swap, mount: {mount_point: none}}}")
		c := mustMerge(t, text, Params{})
		l, err := c.Layout(LayoutInput{SizeKiB: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		var points []string
		for _, m := range l.Mounts {
			points = append(points, m.Point)
		}
		if diff := cmp.Diff([]string{"/", "/boot", "/var"}, points); diff != "" {
			t.Error(diff)
		}
		if got := strings.Join(c.MountPoints(), "|"); got != "/boot|/|/var" {
			t.Errorf("mount points are %s", got)
		}
	})
}

func TestBD02OwnBaseOfPartition(t *testing.T) {
	c, err := Parse("t", []byte(disk("{name: a, base: other, size: 1MiB}")))
	if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].Message, `base "other" is ignored`) {
		t.Errorf("got %v, warnings %v", err, c.Warnings)
	}
}

func TestBD23RootDisk(t *testing.T) {
	two := "- local_loop: {name: spare, size: 1GiB}\n- local_loop: {name: sys}\n- local_loop: {name: data, size: 1GiB, mkfs: {type: ext4, mount: {mount_point: /srv}}}\n"
	for text, want := range map[string]string{
		Fallback:     "image0 []",
		mixedExample: "image0 []", // through volumes
		two + "- mkfs: {base: sys, type: ext4, mount: {mount_point: /}}\n": "sys [spare data]",
		"- local_loop: {name: a}\n":                                        " []",
		strings.Replace(mixedExample, "base: data}", "base: [data]}", 1):   "image0 []",
	} {
		c, err := Parse("t", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(c.RootDisk(), " ", c.FurtherDisks()); got != want {
			t.Errorf("disks of\n%s\nare %q; want %q", text, got, want)
		}
	}
}

func TestBD27NameOfLVM(t *testing.T) {
	c, _ := Parse("t", []byte("- lvm: {base: [root, data]}"))
	if got := c.Items[0].Name; got != "lvm_root_data" {
		t.Errorf("name is %q", got)
	}
}

func TestBD45ArrayEntry(t *testing.T) {
	for name, want := range map[string]string{"root": " [root]=/dev/x ", "Root Part": ` ["Root Part"]=/dev/x `} {
		if got := ArrayEntry(name, "/dev/x"); got != want {
			t.Errorf("%s is %q; want %q", name, got, want)
		}
	}
}

func TestBD52FSTypeIgnored(t *testing.T) {
	text := "- local_loop: {name: d, mkfs: {name: mkfs_root, type: ext3, mount: {mount_point: /}}}"
	for fstype, warns := range map[string]bool{"": false, "ext3": false, "ext4": false, "ext2": true} {
		c, err := Check("test.yaml", []byte(text), Params{RootFSType: fstype})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(c.Warnings) == 1 && strings.Contains(c.Warnings[0].String(), "FS_TYPE=ext2 is ignored: the layout says type ext3"); got != warns {
			t.Errorf("FS_TYPE=%s: warnings %v", fstype, c.Warnings)
		}
	}
}

func TestBD59Graph(t *testing.T) {
	c := mustMerge(t, Fallback, Params{})
	g := c.Graph()
	got := g.DOT()
	for _, want := range []string{"digraph", `"image0" -> "mkfs_root";`, `"mkfs_root" -> "mount_mkfs_root";`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestForget leaves no identity that derives from the seed.
func TestForget(t *testing.T) {
	c := mustMerge(t, strings.Replace(mixedExample, "name: mkfs_root\n", "name: mkfs_root\n    uuid: 8d6c1a2b-0000-4000-8000-000000000000\n", 1), Params{})
	layout := func(seed string) *Layout {
		l, err := c.Layout(LayoutInput{SizeKiB: 4 << 20, Seed: []byte(seed)})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	a, b := layout("a"), layout("b")
	a.Forget(layout("c"))
	b.Forget(layout("c"))
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("what is left depends on the seed:\n%s", diff)
	}
	if got := a.Filesystem("mkfs_root").UUID; got != "8d6c1a2b-0000-4000-8000-000000000000" {
		t.Errorf("the UUID that is given became %q", got)
	}
}
