package blockdev

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/internal/finding"
)

// lvmConfig is a disk of 4 GiB with partitions root (2000MiB), data1 and data2
// and the lists of an lvm item; the first volume carries the root filesystem.
func lvmConfig(pvs, vgs, lvs string) string {
	return `
- local_loop: {name: image0, size: 4GiB}
- partitioning:
    base: image0
    label: gpt
    partitions:
      - {name: root, type: 8E00, size: 2800MiB}
      - {name: data1, type: 8E00, size: 600MiB}
      - {name: data2, type: 8E00, size: 600MiB}
- lvm:
    name: lvm
    pvs: [` + pvs + `]
    vgs: [` + vgs + `]
    lvs: [` + lvs + `]
- mkfs: {name: mkfs_root, base: lv_root, mount: {mount_point: /}}
`
}

const (
	onePV  = "{name: pv, base: root, options: ['--force']}"
	oneVG  = "{name: vg, base: [pv], options: ['--force']}"
	rootLV = "{name: lv_root, base: vg, size: 1800M}"
)

func lvmFaults(text string) string {
	_, err := Check("test.yaml", []byte(text), Params{})
	if err == nil {
		return ""
	}
	return err.Error()
}

// showGroups prints each volume as "device(size)=pv+start:count", stripes
// joined by a slash, counted in extents.
func showGroups(l *Layout) []string {
	var out []string
	for _, g := range l.VolumeGroups {
		for _, v := range g.LVs {
			s := fmt.Sprintf("%s(%d)=", v.Device, v.extents()*g.ExtentSize)
			for i, seg := range v.Segments {
				if i > 0 {
					s += ","
				}
				for k, p := range seg.Stripes {
					if k > 0 {
						s += "/"
					}
					s += fmt.Sprintf("%s+%d", g.PVs[p.PV].Node, p.Start)
				}
				s += fmt.Sprintf(":%d", seg.Count)
			}
			out = append(out, s)
		}
	}
	return out
}

func TestLVMLayout(t *testing.T) {
	small := "{name: lv_tmp, base: %s, size: 100M}, {name: lv_var, base: %[2]s, size: 500M}, {name: lv_log, base: %[2]s, size: 100M}, {name: lv_audit, base: %[2]s, size: 100M}, {name: lv_home, base: %[2]s, size: 200M}"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"two PVs, one VG",
			lvmConfig(onePV+", {name: pv1, base: data1, options: ['--force']}", "{name: vg, base: [pv, pv1], options: ['--force']}", rootLV+", "+fmt.Sprintf(small, "vg", "vg")),
			[]string{
				"/dev/mapper/vg-lv_root(1799356416)=pv+0:429", "/dev/mapper/vg-lv_tmp(96468992)=pv+429:23", "/dev/mapper/vg-lv_var(499122176)=pv+452:119",
				"/dev/mapper/vg-lv_log(96468992)=pv+571:23", "/dev/mapper/vg-lv_audit(96468992)=pv+594:23", "/dev/mapper/vg-lv_home(197132288)=pv+617:47",
			}},
		{"two PVs, two VGs",
			lvmConfig(onePV+", {name: pv1, base: data1}", "{name: vg1, base: pv}, {name: vg2, base: [pv1]}", "{name: lv_root, base: vg1, size: 1800M}, {name: lv_tmp, base: vg1, size: 100M}, {name: lv_log, base: vg2, size: 100M}, {name: lv_home, base: vg2, size: 200M}"),
			[]string{"/dev/mapper/vg1-lv_root(1799356416)=pv+0:429", "/dev/mapper/vg1-lv_tmp(96468992)=pv+429:23", "/dev/mapper/vg2-lv_log(96468992)=pv1+0:23", "/dev/mapper/vg2-lv_home(197132288)=pv1+23:47"}},
		{"spanned VG",
			lvmConfig("{name: a, base: data1}, {name: b, base: data2}", "{name: vg_data, base: [a, b]}", "{name: lv_root, base: vg_data, size: 1G}"),
			[]string{"/dev/mapper/vg_data-lv_root(998244352)=a+0:149,b+0:89"}},
		{"several partitions, percentages of the group",
			lvmConfig(onePV, oneVG, "{name: lv_root, base: vg, extents: 28%VG}, {name: b, base: vg, extents: 4%VG}, {name: c, base: vg, extents: 40%PVS}, {name: d, base: vg, extents: 50%FREE}, {name: e, base: vg, extents: 3}, {name: f, base: vg, extents: 100%FREE}"),
			[]string{
				"/dev/mapper/vg-lv_root(817889280)=pv+0:195", "/dev/mapper/vg-b(113246208)=pv+195:27", "/dev/mapper/vg-c(1170210816)=pv+222:279",
				"/dev/mapper/vg-d(415236096)=pv+501:99", "/dev/mapper/vg-e(12582912)=pv+600:3", "/dev/mapper/vg-f(402653184)=pv+603:96",
			}},
		{"BD-24 hyphens are doubled",
			lvmConfig(onePV, "{name: my-vg, base: [pv]}", "{name: lv_root, base: my-vg, size: 8MiB}, {name: a-b, base: my-vg, extents: 1}"),
			[]string{"/dev/mapper/my--vg-lv_root(8388608)=pv+0:2", "/dev/mapper/my--vg-a--b(4194304)=pv+2:1"}},
		{"BD-25 a text is a list of one, and a list of one a text",
			lvmConfig("{name: pv, base: [root]}", "{name: vg, base: pv}", "{name: lv_root, base: [vg], extents: 7}"),
			[]string{"/dev/mapper/vg-lv_root(29360128)=pv+0:7"}},
		{"BD-28 extents of the size that vgcreate is told",
			lvmConfig(onePV, "{name: vg, base: pv, options: [-s, 16M]}", "{name: lv_root, base: vg, size: 100M}"),
			[]string{"/dev/mapper/vg-lv_root(83886080)=pv+0:5"}},
		{"BD-28 in its long form",
			lvmConfig(onePV, "{name: vg, base: pv, options: '--physicalextentsize=128k --force'}", "{name: lv_root, base: vg, size: 1MiB}"),
			[]string{"/dev/mapper/vg-lv_root(1048576)=pv+0:8"}},
		{"stripes",
			lvmConfig("{name: a, base: data1}, {name: b, base: data2}", "{name: vg, base: [a, b]}", "{name: lv_root, base: vg, extents: 5, options: [-i, 2, -I, 8k, --yes, -Wy, -Z, y]}, {name: l, base: vg, extents: 25%FREE, options: ['-i2']}"),
			[]string{"/dev/mapper/vg-lv_root(25165824)=a+0/b+0:6", "/dev/mapper/vg-l(301989888)=a+3/b+3:72"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := mustMerge(t, test.text, Params{}).Layout(LayoutInput{Seed: []byte("seed")})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, showGroups(l)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			text, err := json.Marshal(l)
			if err != nil {
				t.Fatal(err)
			}
			var back Layout
			if err := json.Unmarshal(text, &back); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(l, &back); diff != "" {
				t.Errorf("does not survive JSON:\n%s", diff)
			}
		})
	}
}

func TestLVMFaults(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"no lists", strings.Replace(lvmConfig("", "", ""), "    pvs: []\n    vgs: []\n    lvs: []\n", "", 1),
			[]string{`test.yaml:10:3: lvm "lvm": Lvm config requires a 'pvs'`, "Lvm config needs 'vgs'", "Lvm config needs 'lvs'"}},
		{"empty lists", lvmConfig("", "", ""), []string{"Lvm config requires a 'pvs': pvs must be a list", "Lvm config needs 'lvs'"}},
		{"no names and bases", lvmConfig("{base: root}, {name: pv}", "{base: [pv]}, {name: vg}", "{base: vg, extents: 1}, {name: lv_root, extents: 1}"),
			[]string{"Missing 'name' in pvs config", "Missing 'base' in pvs_config", "Missing 'name' in vgs config", "Missing 'base' in vgs config", "Missing 'name' in lvs config", "Missing 'base' in lvs config"}},
		{"pv on nothing", lvmConfig("{name: pv, base: nowhere}", oneVG, rootLV), []string{"Edge not defined: nowhere->lvm"}},
		{"vg on no pv", lvmConfig(onePV, "{name: vg, base: [invalid_pv]}", rootLV), []string{"test.yaml:13:22: base:invalid_pv in vgs does not match a valid pvs"}},
		{"BD-25 vg on no pv, given as a text", lvmConfig(onePV, "{name: vg, base: pvx}", rootLV), []string{"base:pvx in vgs does not match a valid pvs"}},
		{"lv on no vg", lvmConfig(onePV, oneVG, "{name: lv_root, base: [invalid_vg], size: 1G}"), []string{"base:['invalid_vg'] in lvs does not match a valid vg"}},
		{"lv without size", lvmConfig(onePV, oneVG, "{name: lv_root, base: vg}"), []string{"Missing 'size' or 'extents' in lvs config"}},
		{"bad type", lvmConfig(onePV, oneVG, "{name: lv_root, base: vg, size: 1G, type: thin-pol}"), []string{"Unsupported type:thin-pol, supported types: thin, thin-pool"}},
		{"BD-26 thin without a pool", lvmConfig(onePV, oneVG, "{name: lv_root, base: vg, size: 1G, type: thin}"), []string{"type thin needs a thin-pool"}},
		{"BD-26 thin with extents", lvmConfig(onePV, oneVG, "{name: p, base: vg, size: 1G, type: thin-pool}, {name: lv_root, base: vg, extents: 5, type: thin, thin-pool: p}"), []string{"type thin needs a size"}},
		{"BD-26 unknown pool", lvmConfig(onePV, oneVG, "{name: lv_root, base: vg, size: 1G, type: thin, thin-pool: p}"), []string{`thin-pool "p": no volume of type thin-pool`}},
		{"BD-26 pool after its volume", lvmConfig(onePV, oneVG, "{name: lv_root, base: vg, size: 1G, type: thin, thin-pool: p}, {name: p, base: vg, size: 1G, type: thin-pool}"), []string{`thin-pool "p": no volume of type thin-pool`}},
		{"pool of an ordinary volume", lvmConfig(onePV, oneVG, "{name: lv_root, base: vg, size: 1G, thin-pool: p}"), []string{"only volumes of type thin are in a pool"}},
		{"thin volumes", lvmConfig(onePV, oneVG, "{name: p, base: vg, size: 1G, type: thin-pool}, {name: lv_root, base: vg, size: 1G, type: thin, thin-pool: p}"),
			[]string{`lv "lv_root": type thin: thin pools and thin volumes are not supported`, `lv "p": type thin-pool`}},
		{"options", lvmConfig("{name: pv, base: root, options: ['--zero', 'y']}", "{name: vg, base: pv, options: [--clustered]}", "{name: lv_root, base: vg, size: 1G, options: ['--type', 'raid1']}"),
			[]string{`pv "pv": option "--zero" of pvcreate is not supported; supported are --force, --yes, -f, -ff, -y`, `vg "vg": option "--clustered" of vgcreate`, `lv "lv_root": option "--type" of lvcreate`}},
		{"values of options", lvmConfig(onePV, "{name: vg, base: pv, options: [-s, 3k]}", "{name: lv_root, base: vg, size: 1G, options: [-i, 0, -I, 3k, -Z, maybe, -W]}"),
			[]string{"extents of 3072 bytes", `"0" stripes`, "stripes of 3072 bytes", `want y or n, not "maybe"`, "option -W of lvcreate wants a value"}},
		{"extents", lvmConfig(onePV, oneVG, "{name: lv_root, base: vg, extents: 101%VG}, {name: b, base: vg, extents: 0}, {name: c, base: vg, extents: 5%ORIGIN}"),
			[]string{`"101%VG": want at most 100%`, `"0": want a number between 1`, `extents "5%ORIGIN"`}},
		{"names", lvmConfig(onePV, "{name: v g, base: pv}", "{name: lv_root, base: v g, extents: 1}, {name: a_tdata, base: v g, extents: 1}, {name: snapshot1, base: v g, extents: 1}, {name: "+strings.Repeat("a-", 50)+", base: v g, extents: 1}"),
			[]string{`names that begin with "snapshot"`, "would have a name of 154 characters", `"v g" is not a name that LVM takes`, `LVM keeps names with "_tdata" for itself`}},
		{"a pv in two groups", lvmConfig(onePV, oneVG+", {name: vg2, base: pv}", rootLV), []string{`vg "vg2": base "pv" is already used by vg "vg"`}},
		{"a partition with two uses", lvmConfig(onePV+", {name: pv1, base: root}", oneVG, rootLV), []string{`pv "pv1": base "root" is already used by pv "pv"`}},
		{"a pv on a volume", lvmConfig(onePV+", {name: pv1, base: lv_root}", oneVG, rootLV), []string{`base "lv_root" is a lv`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := lvmFaults(test.text)
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("got %s\nwant %q", got, want)
				}
			}
		})
	}
}

func TestLVMDoesNotFit(t *testing.T) {
	for text, want := range map[string]string{
		lvmConfig(onePV, oneVG, "{name: lv_root, base: vg, size: 3GiB}"):                                                                                                                                                       `lv "lv_root" does not fit in group "vg": 3GiB are 768 extents of 4194304 bytes, but only 699 of 699 are left`,
		lvmConfig(onePV, oneVG, "{name: lv_root, base: vg, size: 1MiB}"):                                                                                                                                                       "1MiB is less than one extent",
		lvmConfig(onePV, oneVG, "{name: lv_root, base: vg, extents: 100%VG}, {name: b, base: vg, extents: 100%FREE}"):                                                                                                          "100%FREE is less than one extent",
		lvmConfig(onePV, oneVG, "{name: lv_root, base: vg, extents: 10, options: [-i, 2]}"):                                                                                                                                    `2 stripes need as many physical volumes`,
		lvmConfig(onePV, "{name: vg, base: pv, options: [-s, 4g]}", "{name: lv_root, base: vg, extents: 1}"):                                                                                                                   "too small for a physical volume",
		lvmConfig(onePV, "{name: vg, base: pv, options: [-s, 4k]}", "{name: lv_root, base: vg, extents: 8, options: [-i1,-I8k]}"):                                                                                              "",
		strings.Replace(lvmConfig("{name: a, base: root}, {name: b, base: big}", "{name: vg, base: [a, b]}", "{name: lv_root, base: vg, extents: 1}"), "\n", "\n- local_loop: {name: big, size: 1GiB, block_size: 4096}\n", 1): `pv "b": disk "big" has sectors of 4096 bytes`,
	} {
		c := mustMerge(t, text, Params{})
		_, err := c.Layout(LayoutInput{})
		if want == "" && err == nil {
			continue
		}
		var list finding.List
		if list, _ = err.(finding.List); len(list) == 0 || list[0].Pos == (finding.Pos{}) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want a finding with a position and %q", err, want)
		}
	}
}

// Splitting, mapping: each byte of a volume has one place, and no two share one.
func TestPlace(t *testing.T) {
	text := lvmConfig("{name: a, base: data1}, {name: b, base: data2}", "{name: vg, base: [a, b], options: [-s, 128k]}",
		"{name: lv_root, base: vg, extents: 6, options: [-i, 2, -I, 4k]}, {name: big, base: vg, extents: 99%FREE}")
	l, err := mustMerge(t, text, Params{}).Layout(LayoutInput{})
	if err != nil {
		t.Fatal(err)
	}
	vg := &l.VolumeGroups[0]
	fs := l.Filesystem("mkfs_root")
	group, lv := l.VolumeOf(fs)
	if group != vg || lv != &vg.LVs[0] || !fs.Split || fs.Length != 6*128<<10 || fs.Device != "/dev/mapper/vg-lv_root" || fs.Disk != "image0" || fs.Partition != "" {
		t.Errorf("filesystem: %+v", fs)
	}
	first, second := vg.PVs[0].Offset+vg.PVs[0].PEStart, vg.PVs[1].Offset+vg.PVs[1].PEStart
	for _, test := range []struct{ offset, at, run int64 }{
		{0, first, 4096}, {100, first + 100, 3996}, {4096, second, 4096}, {8192, first + 4096, 4096}, {12288 + 1, second + 4096 + 1, 4095}, {6*128<<10 - 1, second + 3*128<<10 - 1, 1}, {6 * 128 << 10, 0, 0},
	} {
		if _, at, run := vg.Place(lv, test.offset); at != test.at || run != test.run {
			t.Errorf("byte %d is at %d with %d; want %d, %d", test.offset, at, run, test.at, test.run)
		}
	}
	type span struct{ from, to int64 }
	var used []span
	for i := range vg.LVs {
		v := &vg.LVs[i]
		for off := int64(0); off < v.extents()*vg.ExtentSize; {
			_, at, run := vg.Place(v, off)
			for _, u := range used {
				if at < u.to && u.from < at+run {
					t.Fatalf("%s at %d overlaps", v.Name, off)
				}
			}
			used = append(used, span{at, at + run})
			off += run
		}
	}
}

func TestLVMState(t *testing.T) {
	c := mustMerge(t, lvmConfig(onePV, oneVG, "{name: lv_root, base: vg, size: 1800M}, {name: b, base: vg, extents: 1%VG, options: [--yes]}"), Params{})
	l, err := c.Layout(LayoutInput{})
	if err != nil {
		t.Fatal(err)
	}
	s := c.State(l, "/images", "/mnt")
	text, err := json.Marshal(map[string]any{"pvs": s.PVs, "vgs": s.VGs, "lv_root": s.BlockDev["lv_root"], "b": s.BlockDev["b"], "root": s.BlockDev["root"]})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"b":{"device":"/dev/mapper/vg-b","vgs":"vg","size":null,"extents":"1%VG","opts":["--yes"]},` +
		`"lv_root":{"device":"/dev/mapper/vg-lv_root","vgs":"vg","size":"1800M","extents":null,"opts":null},` +
		`"pvs":{"pv":{"opts":["--force"],"device":"/dev/dib/root"}},"root":{"device":"/dev/dib/root"},"vgs":{"vg":{"opts":["--force"],"devices":["pv"]}}}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The ids follow from the seed, and every object has its own.
func TestLVMIdentities(t *testing.T) {
	c := mustMerge(t, lvmConfig(onePV, oneVG, rootLV), Params{})
	ids := func(seed string) []string {
		l, err := c.Layout(LayoutInput{Seed: []byte(seed)})
		if err != nil {
			t.Fatal(err)
		}
		g := l.VolumeGroups[0]
		return []string{g.UUID, g.PVs[0].UUID, g.LVs[0].UUID}
	}
	a, again, b := ids("a"), ids("a"), ids("b")
	if diff := cmp.Diff(a, again); diff != "" {
		t.Error(diff)
	}
	seen := map[string]bool{}
	for _, id := range append(a, b...) {
		if len(id) != 38 || seen[id] {
			t.Errorf("id %q", id)
		}
		for _, i := range []int{6, 11, 16, 21, 26, 31} {
			if id[i] != '-' {
				t.Errorf("id %q has no hyphen at %d", id, i)
			}
		}
		seen[id] = true
	}
}

func TestLVMNames(t *testing.T) {
	c, err := Parse("test.yaml", []byte(strings.Replace(lvmConfig(onePV, oneVG, rootLV), "    name: lvm\n", "    base: [root]\n", 1)))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("BD-27 a driver without a name is called after its base", func(t *testing.T) {
		if g := c.Graph(); g.kind("lvm_root") != "lvm" {
			t.Errorf("nodes: %v", g.Order)
		}
	})
}
