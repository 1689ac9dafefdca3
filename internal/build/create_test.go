package build

import (
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/plan"
	"github.com/dib-builder/dib/internal/recipe"
)

func TestD33TmpfsSize(t *testing.T) {
	const gib = 1 << 20 // KiB
	cases := []struct {
		summary   string
		rec       recipe.Recipe
		available int64
		want      bool
	}{
		{"enough", recipe.Recipe{MinTmpfs: 2}, 4 * gib, true},
		{"one KiB short", recipe.Recipe{MinTmpfs: 2}, 4*gib - 1, false},
		{"switched off", recipe.Recipe{MinTmpfs: 2, NoTmpfs: true}, 64 * gib, false},
		{"asked for less", recipe.Recipe{MinTmpfs: 1}, 2 * gib, true},
		{"hardened Gentoo", recipe.Recipe{MinTmpfs: 2, Env: map[string]string{"GENTOO_PROFILE": "default/linux/amd64/hardened"}}, 64 * gib, false},
		{"unknown memory", recipe.Recipe{MinTmpfs: 2}, 0, false},
	}
	for _, c := range cases {
		got := tmpfsSize(c.rec, c.available)
		if (got > 0) != c.want {
			t.Errorf("%s: %d bytes, want tmpfs %v", c.summary, got, c.want)
		}
		if got > c.available*1024 {
			t.Errorf("%s: %d bytes are more than there are", c.summary, got)
		}
	}
}

func TestParseMemAvailable(t *testing.T) {
	got, err := parseMemAvailable("MemTotal:       24684084 kB\nMemFree: 1 kB\nMemAvailable:   23456789 kB\n")
	if err != nil || got != 23456789 {
		t.Errorf("got %d, %v", got, err)
	}
	for _, bad := range []string{"", "MemAvailable: lots kB\n"} {
		if _, err := parseMemAvailable(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestWorkParent(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{nil, "/tmp"},
		{map[string]string{"TMP_DIR": "/a"}, "/a"},
		{map[string]string{"TMP_DIR": "/a", "TMPDIR": "/b"}, "/b"},
		{map[string]string{"TMPDIR": ""}, "/tmp"},
	} {
		if got := workParent(c.env); got != c.want {
			t.Errorf("workParent(%v) = %q, want %q", c.env, got, c.want)
		}
	}
}

// A layout with logical volumes and a backend that would need the device-mapper
// for them do not go together.
func TestLoopLayout(t *testing.T) {
	const volumes = `
- local_loop: {name: image0}
- lvm: {name: l, pvs: [{name: pv, base: image0}], vgs: [{name: vg, base: pv}], lvs: [{name: lv, base: vg, extents: 100%VG}]}
- mkfs: {name: mkfs_root, base: lv, mount: {mount_point: /}}
`
	for _, test := range []struct {
		backend plan.Backend
		text    string
		want    string
	}{
		{plan.Offline, volumes, ""},
		{plan.Loop, blockdev.Fallback, ""},
		{plan.Loop, volumes, "cannot make the disk layout here.yaml on loop devices: its logical volumes would need the device-mapper"},
	} {
		p := &plan.Plan{Backend: test.backend, BlockDevice: plan.BlockDevice{Source: "here.yaml", Text: test.text}}
		err := loopLayout(p, recipe.Recipe{})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: got %v; want %q", test.backend, err, test.want)
		}
	}
}
