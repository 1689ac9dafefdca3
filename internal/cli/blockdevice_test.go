package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/blockdev"
)

const blockDeviceLayout = `
- local_loop: {name: image0}
- partitioning: {base: image0, label: mbr, partitions: [{name: root, flags: [primary], size: 60%}, {name: boot, flags: [primary], size: 100%}]}
- {mkfs: {base: root, name: mkfs_root, mount: {mount_point: /, fstab: {options: defaults}}}}
- {mkfs: {base: boot, name: mkfs_boot, type: ext4, label: bootfs, mount: {mount_point: /boot}}}
`

// TestBlockDevice asks as hooks of different phases do.
func TestBlockDevice(t *testing.T) {
	build := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(build, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := write("block-device/config.yaml", blockDeviceLayout)
	params := write("block-device/params.yaml", "config: "+config+"\nroot-fs-type: ext4\nroot-label: null\nmount-base: "+build+"/mnt\nbuild-dir: "+build+"\n")
	broken := write("broken.yaml", "config: [\n")
	check := func(t *testing.T, args string, status int, out, stderr string) {
		t.Helper()
		env := map[string]string{"DIB_BLOCK_DEVICE_PARAMS_YAML": params}
		got, stdout, errout := call(t, program(), env, append([]string{"dib-block-device"}, strings.Fields(args)...)...)
		if got != status || stdout != out || !strings.Contains(errout, stderr) || (stderr == "") != (errout == "") {
			t.Errorf("%s: status %d, %q, %q; want %d, %q, %q", args, got, stdout, errout, status, out, stderr)
		}
	}
	t.Run("before the disks are made", func(t *testing.T) {
		check(t, "init", 0, "", "")
		if _, err := os.Stat(filepath.Join(build, "states/block-device/config.json")); err != nil {
			t.Error(err)
		}
		check(t, "getval root-label", 0, "cloudimg-rootfs\n", "")
		check(t, "getval root-fstype", 0, "ext4\n", "")
		check(t, "getval boot-label", 0, "bootfs\n", "")
		check(t, "getval mount-points", 0, "/|/boot\n", "")
		check(t, "getval image-path", 1, "", "not made before pre-finalise.d")
		check(t, "getval image-nothing", 1, "", "not made before")
		check(t, "getval nothing", 1, "", "unknown symbol")
		check(t, "writefstab", 1, "", "before the disks are made")
		check(t, "umount", 0, "", "")
		for _, command := range []string{"create", "cleanup", "delete"} {
			check(t, command, 1, "", "cannot "+command+": a build makes and removes its disks itself")
		}
	})
	t.Run("wrong usage", func(t *testing.T) {
		check(t, "", 2, "", "no command given")
		check(t, "nonsense", 2, "", `unknown command "nonsense"`)
		check(t, "getval", 2, "", "getval takes 1 arguments, not 0")
		check(t, "init twice", 2, "", "init takes 0 arguments")
		check(t, "--lost", 2, "", "unrecognized option")
		check(t, "--params "+broken+" init", 1, "", "cannot read the parameters")
		check(t, "--params /nowhere getval root-label", 1, "", "cannot read the parameters")
		check(t, "--help", 0, blockDeviceUsage, "")
	})
	c, err := blockdev.Check("test", []byte(blockDeviceLayout), blockdev.Params{RootFSType: "ext4"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.Layout(blockdev.LayoutInput{SizeKiB: 64 * 1024, Seed: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	state := func() {
		t.Helper()
		text, err := json.Marshal(c.State(l, "/images", build+"/mnt"))
		if err != nil {
			t.Fatal(err)
		}
		write("states/block-device/state.json", string(text))
	}
	t.Run("offline", func(t *testing.T) {
		state()
		check(t, "getval image-path", 0, "/images/image0.raw\n", "")
		check(t, "getval image-block-device", 1, "", "this build has no block device")
		check(t, "getval image-other", 1, "", "unknown symbol")
	})
	t.Run("on loop devices", func(t *testing.T) {
		l.Disks[0].Device = "/dev/loop7"
		for i, name := range []string{"/dev/loop7p1", "/dev/loop7p2"} {
			l.Disks[0].Table.Partitions[i].Device = name
		}
		state()
		check(t, "getval image-block-device", 0, "/dev/loop7\n", "")
		check(t, "getval image-block-devices", 0, " [boot]=/dev/loop7p2  [image0]=/dev/loop7  [root]=/dev/loop7p1 \n", "")
		write("states/block-device/fstab", l.FSTab)
		write("mnt/etc/fstab", "old\n")
		check(t, "writefstab", 0, "", "")
		if text, err := os.ReadFile(filepath.Join(build, "mnt/etc/fstab")); err != nil || string(text) != l.FSTab {
			t.Errorf("%q, %v", text, err)
		}
	})
}
