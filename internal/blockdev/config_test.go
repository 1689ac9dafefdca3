package blockdev

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/internal/finding"
)

const treeExample = `
- local_loop:
    name: image0
    partitioning:
      label: gpt
      partitions:
        - name: esp
          type: EF00
          size: 200MiB
          mkfs:
            type: vfat
            mount:
              mount_point: /boot/efi
              fstab: {fsck-passno: 2}
        - name: sys
          size: 100%
          mkfs:
            name: mkfs_root
            mount:
              mount_point: /
              fstab: {fsck-passno: 1}
`

const mixedExample = `
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: mbr
    partitions:
      - {name: kernel, flags: [boot, primary], size: 300MiB,
         mkfs: {type: ext2, mount: {mount_point: /boot, fstab: {}}}}
      - {name: data, size: 100%}
- lvm:
    name: store
    pvs: [{name: pvA, base: data}]
    vgs: [{name: vgA, base: [pvA]}]
    lvs:
      - {name: lvSwap, base: vgA, size: 512MiB}
      - {name: lvRoot, base: vgA, extents: 100%FREE}
- mkfs:
    base: lvRoot
    name: mkfs_root
    mount: {mount_point: /, fstab: {fsck-passno: 1}}
- mkfs:
    base: lvSwap
    type: swap
    mount: {mount_point: none, fstab: {}}
`

// mustMerge parses and merges with the defaults of a build.
func mustMerge(t *testing.T, text string, p Params) *Config {
	t.Helper()
	c, err := Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	c, err = c.Merge(p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNormaliseTree(t *testing.T) {
	c, err := Parse("test.yaml", []byte(treeExample))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		`[{"fstab":{"base":"mount_mkfs_esp","name":"fstab_mount_mkfs_esp","fsck-passno":2}}`,
		`{"mount":{"base":"mkfs_esp","name":"mount_mkfs_esp","mount_point":"/boot/efi"}}`,
		`{"mkfs":{"base":"esp","name":"mkfs_esp","type":"vfat"}}`,
		`{"fstab":{"base":"mount_mkfs_root","name":"fstab_mount_mkfs_root","fsck-passno":1}}`,
		`{"mount":{"base":"mkfs_root","name":"mount_mkfs_root","mount_point":"/"}}`,
		`{"mkfs":{"base":"sys","name":"mkfs_root"}}`,
		`{"partitioning":{"base":"image0","name":"partitioning_image0","label":"gpt","partitions":[` +
			`{"name":"esp","type":"EF00","size":"200MiB","base":"image0"},{"name":"sys","size":"100%","base":"image0"}]}}`,
		`{"local_loop":{"name":"image0"}}]`,
	}, ",")
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("config.json differs (-want +got):\n%s", diff)
	}
}

func TestOrder(t *testing.T) {
	for _, test := range []struct{ name, text, want, points, boot string }{
		{
			"tree", treeExample,
			"image0 esp mkfs_esp sys mkfs_root mount_mkfs_root mount_mkfs_esp fstab_mount_mkfs_root fstab_mount_mkfs_esp",
			"/boot/efi|/", "",
		}, {
			"mixed", mixedExample,
			"image0 kernel mkfs_kernel data store pvA vgA lvSwap lvRoot mkfs_lvSwap mkfs_root mount_mkfs_root mount_mkfs_kernel " +
				"fstab_mount_mkfs_root fstab_mount_mkfs_kernel mount_mkfs_lvSwap fstab_mount_mkfs_lvSwap",
			"/boot|/|none", "mkfs_kernel",
		}, {
			"fallback", Fallback, "image0 mkfs_root mount_mkfs_root fstab_mount_mkfs_root", "/", "",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := mustMerge(t, test.text, Params{})
			if diff := cmp.Diff(strings.Fields(test.want), c.Graph().Order); diff != "" {
				t.Errorf("order differs (-want +got):\n%s", diff)
			}
			for symbol, want := range map[string]string{
				"mount-points": test.points, "boot-label": test.boot,
				"root-label": "cloudimg-rootfs", "root-fstype": "ext4",
			} {
				if got, err := c.Value(symbol); err != nil || got != want {
					t.Errorf("value %s is %q, %v; want %q", symbol, got, err, want)
				}
			}
		})
	}
}

func TestMerge(t *testing.T) {
	for _, test := range []struct {
		name, mkfs string
		p          Params
		fstype     string
		label      string
		opts       []string
	}{
		{"defaults", "{}", Params{}, "ext4", "cloudimg-rootfs", nil},
		{"xfs label", "{}", Params{RootFSType: "xfs"}, "xfs", "img-rootfs", nil},
		{"options", "{}", Params{RootFSType: "ext3", RootLabel: "123", RootFSOpts: "-i 4096 -O 'a b'"}, "ext3", "123", []string{"-i", "4096", "-O", "a b"}},
		{"own values stay", "{type: ext2, label: 7, opts: [-m, 1]}", Params{RootFSType: "xfs", RootLabel: "l", RootFSOpts: "-q"}, "ext2", "7", []string{"-m", "1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			body := strings.TrimSuffix(test.mkfs, "}")
			if body != "{" {
				body += ", "
			}
			text := "- local_loop: {name: d}\n- mkfs: " + body + "name: mkfs_root, base: d, mount: {mount_point: /}}\n"
			c := mustMerge(t, text, test.p)
			fs := c.nodes.filesystem("mkfs_root")
			if fs.fstype != test.fstype || fs.label != test.label {
				t.Errorf("type %q, label %q; want %q, %q", fs.fstype, fs.label, test.fstype, test.label)
			}
			if diff := cmp.Diff(test.opts, fs.opts); diff != "" {
				t.Errorf("opts differ (-want +got):\n%s", diff)
			}
		})
	}
}

// disk wraps partition entries in an MBR disk.
func disk(parts ...string) string {
	return "- local_loop: {name: image0}\n- partitioning:\n    base: image0\n    label: mbr\n    partitions:\n    - " +
		strings.Join(parts, "\n    - ") + "\n"
}

func TestFindings(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string // one substring of each finding, in order
	}{
		{"BD-01 empty", "", []string{"configuration is empty"}},
		{"mapping", "mkfs: {}", []string{"test.yaml:1:1: Config entry not a dict: mkfs"}},
		{"entry is a list", "- [partitioning, {}]", []string{"Config entry not a dict"}},
		{"two keys", "- {mkfs: {}, mount: {}}", []string{"Config entry top-level should be a single dict: "}},
		{"no plugin", "- what: {}", []string{"Config entry is not a plugin value: what"}},
		{"syntax", "- a: [", []string{"cannot parse YAML"}},
		{"two documents", "- local_loop: {name: a}\n---\n- local_loop: {name: b}", []string{"more than one YAML document"}},
		{"BD-01 null body", "- fstab:", []string{"fstab: no 'name', and no 'base'", "fstab config needs [base]"}},
		{"duplicate name", "- local_loop: {name: a}\n- local_loop: {name: a}", []string{"test.yaml:2:3: Duplicate node name: a"}},
		{"undefined edge", "- local_loop: {name: a}\n- mkfs: {base: nowhere, name: m, type: ext4}", []string{"Edge not defined: nowhere->m"}},
		{"BD-08 cycle", "- local_loop: {name: d}\n- mkfs: {base: m2, name: m1, type: ext4}\n- mkfs: {base: m1, name: m2, type: ext4}", []string{"Graph contains a cycle: m1 -> m2 -> m1", "is a mkfs", "is a mkfs"}},
		{"self", "- mkfs: {base: m1, name: m1, type: ext4}", []string{"Graph contains a cycle: m1 -> m1", "is a mkfs"}},
		{"same label", disk("{name: a, size: 1MiB, mkfs: {type: ext4, label: x}}", "{name: b, size: 1MiB, mkfs: {type: ext4, label: x}}"), []string{"File system label [x] used more than once"}},
		{"case differs", disk("{name: a, size: 1MiB, mkfs: {type: ext4, label: foo}}", "{name: b, size: 1MiB, mkfs: {type: ext4, label: FOO}}"), nil},
		{"long label", disk("{name: a, size: 1MiB, mkfs: {type: xfs, label: 123456789012345}}"), []string{"Label [123456789012345] too long for filesystem [xfs]: 15 > 12"}},
		{"BD-33 bytes of label", disk("{name: a, size: 1MiB, mkfs: {type: ext4, label: äöüäöüäöü}}"), []string{"18 > 16"}},
		{"BD-38 same mount point", disk("{name: a, size: 1MiB, mkfs: {type: ext4, mount: {mount_point: /var}}}", "{name: b, size: 1MiB, mkfs: {type: ext4, mount: {mount_point: /var/}}}"), []string{"Mount point [/var] specified more than once"}},
		{"BD-38 relative mount point", disk("{name: a, size: 1MiB, mkfs: {type: ext4, mount: {mount_point: var}}}"), []string{`"var" is not an absolute path`}},
		{"BD-05 BD-06 several at once", disk("{name: a, size: 1gib}", "{name: b}", "{name: c, size: 1MiB, flags: [bogus]}", "{name: d, size: 0%, type: 0x100}"), []string{"unknown unit \"gib\"", "partition \"b\": no size given", "Unknown flag: bogus", "invalid percentage", "not a partition type"}},
		{"BD-04 flag as text", disk("{name: a, size: 1MiB, flags: boot}"), nil},
		{"BD-02 no partition name", disk("{size: 1MiB}"), []string{"partition: no 'name'"}},
		{"BD-13 primary after logical", disk("{name: a, size: 1MiB}", "{name: b, size: 1MiB, flags: [primary]}"), []string{"All primary partitions must be given first"}},
		{"BD-12 five primaries", disk("{name: a, size: 1MiB, flags: [primary]}", "{name: b, size: 1MiB, flags: [primary]}", "{name: c, size: 1MiB, flags: [primary]}", "{name: d, size: 1MiB, flags: [primary]}", "{name: e, size: 1MiB, flags: [primary]}"), []string{"4 slots"}},
		{"BD-12 no room for extended", disk("{name: a, size: 1MiB, flags: [primary]}", "{name: b, size: 1MiB, flags: [primary]}", "{name: c, size: 1MiB, flags: [primary]}", "{name: d, size: 1MiB, flags: [primary]}", "{name: e, size: 1MiB}"), []string{"4 slots"}},
		{"BD-02 table without anything", "- partitioning: {name: p}", []string{"needs 'base'", "needs 'partitions'", "needs 'label'"}},
		{"unknown label", "- local_loop: {name: d, partitioning: {label: bsd, partitions: []}}", []string{"Label must be 'mbr' or 'gpt'"}},
		{"primary on gpt", "- local_loop: {name: d, partitioning: {label: gpt, partitions: [{name: a, size: 1MiB, flags: [primary]}]}}", []string{"Primary flag not supported for GPT partitions"}},
		{"align", "- local_loop: {name: d, partitioning: {label: mbr, align: 1000, partitions: []}}", []string{"align 1000 is not a multiple of 512"}},
		{"BD-22 partition of a partition", disk("{name: a, size: 1MiB, partitioning: {label: mbr, partitions: []}}"), []string{`base "a" is a partition; want a local_loop`}},
		{"base twice", disk("{name: a, size: 1MiB, mkfs: {name: x, type: ext4}}") + "- mkfs: {base: a, type: ext4}\n", []string{`already used by mkfs "x"`}},
		{"BD-34 uuid", disk("{name: a, size: 1MiB, mkfs: {type: ext4, uuid: nope}}"), []string{`"nope" is not a UUID`}},
		{"BD-45 shell in name", "- local_loop: {name: 'a;reboot'}", []string{"only letters"}},
		{"mkfs needs type", disk("{name: a, size: 1MiB, mkfs: {}}"), []string{"Mkfs config needs [type]"}},
		{"BD-04 mapping as option", disk("{name: a, size: {b: c}}"), []string{"size must be a text or a number"}},
		{"block size", "- local_loop: {name: d, block_size: 1024}", []string{"block_size 1024 is not supported"}},
		{"BD-32 quotes in opts", disk("{name: a, size: 1MiB, mkfs: {type: ext4, opts: \"-O 'a\"}}"), []string{"quote is not closed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse("test.yaml", []byte(test.text))
			var got finding.List
			if err != nil {
				got = err.(finding.List)
			}
			if len(got) != len(test.want) {
				t.Fatalf("got findings\n%v\nwant %q", err, test.want)
			}
			for i, want := range test.want {
				if !strings.Contains(got[i].String(), want) {
					t.Errorf("finding %d is %q; want it to hold %q", i, got[i], want)
				}
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	c, err := Parse("test.yaml", []byte(disk("{name: a, base: other, size: 1MiB, mkfs: {type: ext4, mount: {mount_point: /, fstab: {fck-passno: 1}}}}", "{name: b, size: 1MiB, size: 2MiB}")))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`key "size" is given twice`, `base "other" is ignored`, `unknown option "fck-passno" is ignored`}
	if len(c.Warnings) != len(want) {
		t.Fatalf("got warnings %v; want %q", c.Warnings, want)
	}
	for i := range want {
		if !strings.Contains(c.Warnings[i].Message, want[i]) {
			t.Errorf("warning %d is %q; want it to hold %q", i, c.Warnings[i], want[i])
		}
	}
}

func TestCheckRefusesEarly(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string
	}{
		{strings.Replace(treeExample, "type: vfat", "type: f2fs", 1), []string{`mkfs "mkfs_esp": filesystem type "f2fs" is not supported; supported are ext2, ext3, ext4, vfat and swap`}},
		{mixedExample, nil},
		{disk("{name: a, size: 1MiB}"), []string{`nothing is mounted at /: give one mkfs item "mount: {mount_point: /}"`}},
		{Fallback, nil},
	} {
		_, err := Check("test.yaml", []byte(test.text), Params{})
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v; want %q", err, want)
			}
		}
		if test.want == nil && err != nil {
			t.Error(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{treeExample, mixedExample, Fallback, "", "- {}", "&a [*a]", "- &a {mkfs: *a}", "- local_loop: {name: d, size: 10%}", "- lvm: {base: [root]}",
		lvmConfig(onePV, "{name: vg, base: pv, options: [-s, 16M]}", "{name: lv_root, base: vg, extents: 28%VG, options: '-i 1 -I8k'}"),
		lvmConfig("{name: a, base: data1}, {name: b, base: data2}", "{name: vg, base: [a, b]}", "{name: lv_root, base: vg, size: 700MiB}, {name: l, base: vg, extents: 25%FREE, options: ['-i2']}"),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("fuzz", text)
		if err != nil {
			return
		}
		if _, err := json.Marshal(c); err != nil {
			t.Errorf("cannot print: %v", err)
		}
		if c, err = c.Merge(Params{}); err != nil {
			return
		}
		if l, err := c.Layout(LayoutInput{SizeKiB: 1 << 20}); err == nil {
			for _, fs := range l.Filesystems {
				if vg, lv := l.VolumeOf(&fs); lv != nil {
					for off, at, run, disk := int64(0), int64(0), int64(0), ""; off < fs.Length && off < 1<<20; off += run {
						if disk, at, run = vg.Place(lv, off); run < 1 || at < 0 || at+run > l.Disk(disk).Size {
							t.Fatalf("filesystem %s: byte %d is at %d+%d, which is not on disk %s", fs.Node, off, at, run, disk)
						}
					}
					if _, _, run := vg.Place(lv, fs.Length-1); run != 1 {
						t.Errorf("filesystem %s does not end with its volume", fs.Node)
					}
				}
				if d := l.Disk(fs.Disk); !fs.Split && (fs.Offset < 0 || fs.Length < 1 || fs.Offset+fs.Length > d.Size) {
					t.Errorf("filesystem %s at %d+%d is not on its disk of %d bytes", fs.Node, fs.Offset, fs.Length, d.Size)
				}
			}
		}
	})
}
