package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/plan"
	"github.com/dib-builder/dib/internal/recipe"
)

func TestParseLayout(t *testing.T) {
	for _, c := range []struct {
		line string
		want layoutRequest
		err  string
	}{
		{"--config f", layoutRequest{config: "f", format: "text"}, ""},
		{"--config=f --size 1.5 --format=svg", layoutRequest{config: "f", size: "1.5", format: "svg"}, ""},
		{"--format json vm debian --size 3", layoutRequest{format: "json", args: []string{"vm", "debian", "--size", "3"}}, ""},
		{"disk-image-create -o x vm", layoutRequest{format: "text", args: []string{"-o", "x", "vm"}}, ""},
		{"-h", layoutRequest{}, "help requested"},
		{"", layoutRequest{}, "wrong usage: give --config FILE, or the arguments of a build"},
		{"--config", layoutRequest{}, "wrong usage: --config needs a value"},
		{"--config f vm", layoutRequest{}, `wrong usage: with --config there are no further arguments, but there is "vm"`},
		{"--format sgv vm", layoutRequest{}, `wrong usage: unknown format "sgv" (did you mean "svg"?): want text, json or svg`},
		{"--size 4GiB vm", layoutRequest{}, `wrong usage: --size "4GiB": want a number of GiB above 0 without its unit, such as 4 or 2.5`},
	} {
		got, err := parseLayout(strings.Fields(c.line))
		if (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%q: error is %v, want %q", c.line, err, c.err)
			continue
		}
		if err == nil && (got.config != c.want.config || got.size != c.want.size || got.format != c.want.format || !slices.Equal(got.args, c.want.args)) {
			t.Errorf("%q: got %+v, want %+v", c.line, got, c.want)
		}
	}
}

func TestLayoutCommand(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const byUUID = "- local_loop: {name: d, mkfs: {name: mkfs_root, mount: {mount_point: /, fstab: {by: uuid}}}}\n"
	good, bad := file("good.yaml", byUUID), file("bad.yaml", "- local_loop: {name: d, size: 1 gib}\n- what: {}\n")
	large := file("large.yaml", "- local_loop: {name: d, partitioning: {label: mbr, partitions: [{name: r, size: 40GiB, mkfs: {type: ext4, mount: {mount_point: /}}}]}}")
	sized := ""
	p := Program{
		Create: func(context.Context, command.IO, recipe.Recipe) int { return 9 },
		MakePlan: func(rec recipe.Recipe) (*plan.Plan, error) {
			sized = rec.ImageSizeGiB
			return &plan.Plan{Recipe: rec, Env: plan.Env{}, BlockDevice: plan.BlockDevice{Source: "element", Text: byUUID}}, nil
		},
	}
	for _, c := range []struct {
		args           []string
		status         int
		stdout, stderr string // parts
	}{
		{[]string{"--config", good}, 0, "Disk d: 10 GiB", "no size is given: shown for an image of 10 GiB"},
		{[]string{"--config", good, "--size", "3"}, 0, "UUID=... / ext4", ""},
		{[]string{"--config", good, "--size", "3", "--format", "svg"}, 0, "<svg xmlns", ""},
		{[]string{"--config", bad}, 1, "", "bad.yaml:1:25: local_loop: size: invalid size"},
		{[]string{"--config", bad}, 1, "", "bad.yaml:2:3: Config entry is not a plugin value: what"},
		{[]string{"--config", large}, 1, "", "\n    ..."},
		{[]string{"--config", large, "--size", "50"}, 0, "40 GiB", ""},
		{[]string{"--config", filepath.Join(dir, "none")}, 1, "", "cannot read the disk layout: open"},
		{[]string{"--size", "7", "vm"}, 0, "Disk d: 7 GiB", ""},
		{[]string{"--help"}, 0, "Usage: dib layout", ""},
		{nil, 2, "", "wrong usage"},
	} {
		var out, errs strings.Builder
		status := p.Main(context.Background(), testIO(&out, &errs), append([]string{"dib", "layout"}, c.args...))
		if status != c.status || !strings.Contains(out.String(), c.stdout) || !strings.Contains(errs.String(), c.stderr) {
			t.Errorf("%q: status %d, stdout %q, stderr %q", c.args, status, out.String(), errs.String())
		}
	}
	if sized != "7" {
		t.Errorf("the build is planned for a size of %q", sized)
	}
	var out, errs strings.Builder
	if status := p.Main(context.Background(), testIO(&out, &errs), []string{"dib", "layout", "--format", "json", "--size", "2", "vm"}); status != 0 {
		t.Fatal(errs.String())
	}
	var l blockdev.Layout
	if err := json.Unmarshal([]byte(out.String()), &l); err != nil || l.Disks[0].Size != 2<<30 || !strings.Contains(l.FSTab, "UUID="+l.Filesystems[0].UUID+" ") {
		t.Errorf("JSON: %v, %s", err, out.String())
	}
}
