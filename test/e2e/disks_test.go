package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// twoDisks has the data disk first and the root filesystem on a disk whose name
// is not the customary one.
const twoDisks = `
- local_loop: {name: data, size: 64MiB, mkfs: {type: ext4, label: data, mount: {mount_point: /own, fstab: {options: defaults}}}}
- local_loop: {name: sys, mkfs: {name: mkfs_root, mount: {mount_point: /, fstab: {fsck-passno: 1}}}}
`

// TestBD23FurtherDisks builds an image of two disks, and leaves both.
func TestBD23FurtherDisks(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		graph := filepath.Join(b.out, "graph.dot")
		b.mustBuild(build{args: []string{"-n", "-t", "raw", "-o", "two", "fake-os"}, env: map[string]string{
			"DIB_BLOCK_DEVICE_CONFIG": twoDisks, "DUMP_CONFIG_GRAPH": graph,
		}})
		if st, err := os.Stat(filepath.Join(b.out, "two-data.raw")); err != nil || st.Size() != 64<<20 {
			t.Errorf("the data disk is %v, %v", st, err)
		}
		root, err := os.ReadFile(filepath.Join(b.out, "two.raw"))
		if err != nil || !strings.Contains(string(root), "LABEL=data /own ext4 defaults 0 2") {
			t.Errorf("the root disk has no fstab with the data disk: %v", err)
		}
		if dot, err := os.ReadFile(graph); err != nil || !strings.Contains(string(dot), `"data" -> "mkfs_data";`) {
			t.Errorf("graph: %v\n%s", err, dot)
		}
	})
}

// TestLayoutTellsTheIDs holds that "dib layout" shows the UUIDs that a build of
// the same arguments writes, and that they do not depend on a secret.
func TestLayoutTellsTheIDs(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		var shown []string
		for _, secret := range []string{"one", "two"} {
			env := map[string]string{"DIB_SECRET_TOKEN": secret + "-is-long-enough"}
			args := []string{"-n", "-t", "raw", "-o", "ids", "fake-os"}
			o := b.dib(env, append([]string{"layout", "--format", "json"}, args...)...)
			var l struct{ Filesystems []struct{ UUID string } }
			if err := json.Unmarshal([]byte(o.Stdout), &l); err != nil || len(l.Filesystems) != 1 {
				t.Fatalf("layout: %v\n%s%s", err, o.Stdout, o.Stderr)
			}
			b.mustBuild(build{args: args, env: env})
			out, err := exec.Command("blkid", "-p", "-s", "UUID", "-o", "value", filepath.Join(b.out, "ids.raw")).Output()
			if got := strings.TrimSpace(string(out)); err != nil || got != l.Filesystems[0].UUID {
				t.Errorf("the build writes UUID %q (%v), and the layout says %q", got, err, l.Filesystems[0].UUID)
			}
			shown = append(shown, l.Filesystems[0].UUID)
		}
		if shown[0] != shown[1] {
			t.Errorf("a secret changes the UUID from %s to %s", shown[0], shown[1])
		}
	})
}

// TestLayoutIsRefusedFirst has every fault of a layout reported, with the
// line it is in, before any hook runs.
func TestLayoutIsRefusedFirst(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		o := b.run(build{args: []string{"-n", "-t", "raw", "-o", "no", "--image-size", "1", "fake-os"}, env: map[string]string{
			"DIB_BLOCK_DEVICE_CONFIG": strings.Replace(nestedLayout, "size: 60%", "size: 2GiB", 1),
		}})
		if o.Exit != 1 || strings.Contains(o.Stdout, "Running ") || len(b.outputs()) > 0 {
			t.Errorf("status %d, outputs %v:\n%s", o.Exit, b.outputs(), o.Stdout)
		}
		for _, want := range []string{
			`DIB_BLOCK_DEVICE_CONFIG:7:9: partition "root" does not fit on the disk: it needs 2147483648 bytes`,
			"- {name: root, flags: [boot, primary], siz...\n            ^",
		} {
			if !strings.Contains(o.Stdout+o.Stderr, want) {
				t.Errorf("no %q in\n%s%s", want, o.Stdout, o.Stderr)
			}
		}
	})
}
