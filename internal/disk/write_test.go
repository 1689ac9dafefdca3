package disk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/event"
)

const epoch = "1600000000"

func testEnv() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "SOURCE_DATE_EPOCH=" + epoch}
}

// makeTree makes a small root filesystem.
func makeTree(t testing.TB) string {
	t.Helper()
	tree := filepath.Join(t.TempDir(), "tree")
	for _, d := range []string{"dev", "etc", "boot", `od"d name`} {
		if err := os.MkdirAll(filepath.Join(tree, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"etc/hostname": "image\n", "boot/vmlinuz": strings.Repeat("kernel", 1000), "dev/null": "", `od"d name/tty x`: "", "zero": "", "etc/fixed": "stays\n",
	} {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(tree, "etc/hostname"), filepath.Join(tree, "etc/hardlink")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("hostname", filepath.Join(tree, "etc/symlink")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(tree, 0o711); err != nil {
		t.Fatal(err)
	}
	return tree
}

func write(t *testing.T, l *blockdev.Layout, tree string, side []SideEntry) []byte {
	t.Helper()
	needTool(t, "mke2fs")
	images, err := Write(context.Background(), Options{
		Layout: l, Tree: tree, Side: side, Dir: t.TempDir(), Env: testEnv(),
		Log: func(line []byte) { t.Logf("tool: %s", line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return []byte(images[0].Path)
}

// debugfs runs one read-only command on a filesystem of an image.
func debugfs(t *testing.T, image string, fs *blockdev.Filesystem, command string) string {
	t.Helper()
	out, err := exec.Command(needTool(t, "debugfs"), "-R", command, at(image, *fs)).CombinedOutput()
	if err != nil {
		t.Fatalf("debugfs: %v\n%s", err, out)
	}
	return string(out)
}

// check has e2fsck judge a filesystem, which includes all its checksums.
func check(t *testing.T, image string, fs *blockdev.Filesystem) {
	t.Helper()
	out, err := exec.Command(needTool(t, "e2fsck"), "-fn", at(image, *fs)).CombinedOutput()
	if err != nil {
		t.Errorf("e2fsck of %s: %v\n%s", fs.Node, err, out)
	}
}

func ptr[T any](v T) *T { return &v }

// makers are options that have a filesystem made by our own writer, and by
// mke2fs because it alone knows one of them.
var makers = map[string][]string{"own": nil, "mke2fs": {"-T", "default"}}

func TestWrite(t *testing.T) {
	for name, opts := range makers {
		t.Run(name, func(t *testing.T) { testWrite(t, append(opts, "-i", "4096", "-J", "size=8", "-E", "resize=1000000")) })
	}
}

func testWrite(t *testing.T, opts []string) {
	l := layout(t, 128, "", "{name: root, flags: [boot, primary], size: 100%}")
	l.Filesystems[0].Opts = opts
	tree := makeTree(t)
	side := []SideEntry{
		{Path: "dev/null", Node: &Node{Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 3, UID: 0, GID: 70000}},
		{Path: `/od"d name/tty x`, Node: &Node{Mode: unix.S_IFBLK | 0o660, Major: 259, Minor: 1000}},
		{Path: "zero", Node: &Node{Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 5}}, // after some in directories
		{Path: "etc/fixed", Flags: ptr(uint32(0x10)), Xattrs: map[string][]byte{"security.selinux": []byte("a_t:\x00\"x\n")}},
	}
	image := string(write(t, l, tree, side))
	fs := &l.Filesystems[0]
	check(t, image, fs)
	for command, want := range map[string]string{
		"stat /etc/hardlink":                 "Links: 2",
		"stat /etc/symlink":                  `Fast link dest: "hostname"`,
		"stat /dev/null":                     "Type: character special    Mode:  0666",
		"stat \"/od\"\"d name/tty x\"":       "Type: block special    Mode:  0660",
		"stat /zero":                         "Type: character special    Mode:  0666",
		"stat /etc/fixed":                    "Flags: 0x80010",
		"cat /etc/fixed":                     "stays",
		"stat /":                             "Mode:  0711",
		"ea_get /etc/fixed security.selinux": "61 5f 74 3a 00 22 78 0a",
		"show_super_stats -h":                "Filesystem UUID:          " + fs.UUID,
	} {
		if out := debugfs(t, image, fs, command); !strings.Contains(out, want) {
			t.Errorf("%s: no %q in\n%s", command, want, out)
		}
	}
	if out := debugfs(t, image, fs, "stat /dev/null"); !strings.Contains(out, "Device major/minor number: 01:03") || !strings.Contains(out, "Group: 70000") {
		t.Errorf("wrong node:\n%s", out)
	}
	if out := debugfs(t, image, fs, "stat /etc/hostname"); strings.Count(out, "Sun Sep 13 12:26:40 2020") != 4 {
		t.Errorf("times are not those of the epoch:\n%s", out)
	}
	if out := debugfs(t, image, fs, "show_super_stats -h"); !strings.Contains(out, "Directory Hash Seed:      "+fs.HashSeed) || !strings.Contains(out, "Filesystem volume name:   cloudimg-rootfs") {
		t.Errorf("wrong superblock:\n%s", out)
	}
	var st unix.Stat_t
	if err := unix.Stat(image, &st); err != nil {
		t.Fatal(err)
	}
	if st.Size != 128<<20 || st.Blocks*512 > 4<<20 {
		t.Errorf("image has %d bytes, %d KiB on disk; want it sparse", st.Size, st.Blocks/2)
	}
}

func TestWriteIsReproducible(t *testing.T) {
	l := layout(t, 64, "", "{name: root, flags: [boot, primary], size: 100%}")
	side := []SideEntry{{Path: "dev/null", Node: &Node{Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 3}}, {Path: "etc/fixed", Flags: ptr(uint32(0x10))}}
	tree := makeTree(t)
	hash := func() string {
		b, err := os.ReadFile(string(write(t, l, tree, side)))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", sha256.Sum256(b))
	}
	a := hash()
	// New change and access times, which the image must not show.
	for _, name := range []string{"etc/hostname", "boot/vmlinuz", "etc"} {
		p := filepath.Join(tree, name)
		st, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, time.Unix(1, 0), st.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
	if b := hash(); a != b {
		t.Errorf("two images of one tree differ: %s, %s", a, b)
	}
}

func TestWriteNestedMounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("hiding nested mount points needs the right to mount")
	}
	l := layout(t, 128,
		"- mkfs: {base: b, type: ext2, mount: {mount_point: /boot, fstab: {}}}\n- mkfs: {base: c, type: ext4, mount: {mount_point: /srv/data, fstab: {}}}\n",
		"{name: b, flags: [boot, primary], size: 16MiB}", "{name: c, flags: [primary], size: 16MiB}", "{name: root, flags: [primary], size: 100%}")
	tree := makeTree(t)
	if err := os.Chmod(filepath.Join(tree, "boot"), 0o700); err != nil {
		t.Fatal(err)
	}
	before := listing(t, tree)
	side := []SideEntry{{Path: "boot/vmlinuz", Flags: ptr(uint32(0x10))}}
	image := string(write(t, l, tree, side))
	if diff := cmp.Diff(before, listing(t, tree)); diff != "" {
		t.Errorf("tree was changed (-before +after):\n%s", diff)
	}
	root, boot, data := l.Filesystem("mkfs_root"), l.Filesystem("mkfs_b"), l.Filesystem("mkfs_c")
	for _, fs := range []*blockdev.Filesystem{root, boot, data} {
		check(t, image, fs)
	}
	if out := debugfs(t, image, root, "ls -p /boot"); strings.Contains(out, "vmlinuz") {
		t.Errorf("the kernel is on the root filesystem:\n%s", out)
	}
	if out := debugfs(t, image, root, "stat /boot"); !strings.Contains(out, "Mode:  0700") {
		t.Errorf("mount point has the wrong mode:\n%s", out)
	}
	if out := debugfs(t, image, root, "stat /srv/data"); !strings.Contains(out, "Type: directory    Mode:  0755") {
		t.Errorf("missing mount point was not made:\n%s", out)
	}
	if out := debugfs(t, image, boot, "stat /vmlinuz"); !strings.Contains(out, "Size: 6000") || !strings.Contains(out, "Flags: 0x10") {
		t.Errorf("wrong kernel on the boot filesystem:\n%s", out)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(mounts, []byte(tree)) {
		t.Errorf("mounts are left below %s:\n%s", tree, mounts)
	}
}

// listing describes every file of a tree.
func listing(t *testing.T, tree string) string {
	t.Helper()
	out, err := exec.Command("find", tree, "-printf", `%P %y %m %U:%G %s %T@ %l\n`).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestWriteFallback(t *testing.T) {
	l := layoutOf(t, 32, blockdev.Fallback)
	image := string(write(t, l, makeTree(t), nil))
	check(t, image, &l.Filesystems[0])
}

func TestWriteErrors(t *testing.T) {
	needTool(t, "mke2fs")
	tree := makeTree(t)
	l := layout(t, 64, "", "{name: root, flags: [boot, primary], size: 100%}")
	full := layout(t, 64, "", "{name: root, flags: [boot, primary], size: 1MiB}")
	other := layout(t, 64, "", "{name: root, flags: [boot, primary], size: 100%}")
	other.Filesystems[0].Opts = makers["mke2fs"]
	if err := os.WriteFile(filepath.Join(tree, "big"), bytes.Repeat([]byte("x"), 2<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		o    Options
		want string
	}{
		{"tree too large", Options{Layout: full, Tree: tree}, "cannot make filesystem mkfs_root (ext4, 1 MiB)"},
		{"line break", Options{Layout: other, Tree: tree, Side: []SideEntry{{Path: "a\nb", Node: &Node{}}}}, "line breaks"},
		{"no such file", Options{Layout: l, Tree: tree, Side: []SideEntry{{Path: "none", Node: &Node{Mode: unix.S_IFCHR}}}}, "cannot record what /none should be"},
		{"no such file, mke2fs", Options{Layout: other, Tree: tree, Side: []SideEntry{{Path: "none", Node: &Node{Mode: unix.S_IFCHR}}}}, "cannot edit filesystem mkfs_root: debugfs: rm: File not found"},
		{"no flags of it, mke2fs", Options{Layout: other, Tree: tree, Side: []SideEntry{{Path: "none", Flags: ptr(uint32(0x10))}}}, "cannot edit filesystem mkfs_root"},
		{"bad epoch", Options{Layout: l, Tree: tree, Env: []string{"SOURCE_DATE_EPOCH=now"}}, "SOURCE_DATE_EPOCH"},
		{"no directory", Options{Layout: l, Tree: tree, Dir: "/does/not/exist"}, "cannot create disk image"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := test.o
			if o.Env == nil {
				o.Env = testEnv()
			}
			dir := t.TempDir()
			if o.Dir == "" {
				o.Dir = dir
			}
			_, err := Write(context.Background(), o)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v; want %q", err, test.want)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
				t.Errorf("files are left: %q", left)
			}
		})
	}
}

func TestWriteEvents(t *testing.T) {
	needTool(t, "mke2fs")
	var got []string
	_, err := Write(context.Background(), Options{
		Layout: layoutOf(t, 32, blockdev.Fallback), Tree: makeTree(t), Dir: t.TempDir(), Env: testEnv(),
		Events: event.SinkFunc(func(e event.Event) { got = append(got, string(e.Kind)+" "+e.Step) }),
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"step-start filesystem mkfs_root", "step-end filesystem mkfs_root"}, got); diff != "" {
		t.Errorf("events differ (-want +got):\n%s", diff)
	}
}

func TestD47D48Usage(t *testing.T) {
	tree := makeTree(t)
	out, err := exec.Command("du", "-s", "-x", "--block-size=1024", tree).Output()
	if err != nil {
		t.Fatal(err)
	}
	var want int64
	fmt.Sscan(string(out), &want)
	if got, err := UsedKiB(tree); err != nil || got != want {
		t.Errorf("used %d KiB, %v; du says %d", got, err, want)
	}
	short := UsageReport(tree, false)
	if len(short) != 2 || short[1] != "===== end image size report =====" {
		t.Errorf("short report is %q", short)
	}
	if full := UsageReport(tree, true); len(full) < 8 || !strings.HasSuffix(full[1], " .") {
		t.Errorf("full report is %q", full)
	}
	if broken := UsageReport("/does/not/exist", true); len(broken) != 3 {
		t.Errorf("report of nothing is %q", broken)
	}
	if _, err := UsedKiB("/does/not/exist"); err == nil {
		t.Error("nothing was measured")
	}
}

func TestIEC(t *testing.T) {
	for in, want := range map[int64]string{0: "0B", 1023: "1023B", 1024: "1.0KiB", 1025: "1.1KiB", 10 << 20: "10MiB", 10<<20 + 1: "11MiB", 3 << 30: "3.0GiB"} {
		if got := iec(in); got != want {
			t.Errorf("%d is %s; want %s", in, got, want)
		}
	}
}

func TestSplitExtended(t *testing.T) {
	rest, extended := splitExtended([]string{"-i", "4096", "-E", "a=1", "-Eb=2", "-m", "1"})
	if diff := cmp.Diff([]string{"-i", "4096", "-m", "1"}, rest); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a=1", "b=2"}, extended); diff != "" {
		t.Error(diff)
	}
}

// TestTreeTools runs the host's tools the way those of a tree are run: through
// a loader and libraries found below a directory.
func TestTreeTools(t *testing.T) {
	needTool(t, "mke2fs")
	own, err := treeTools("/", toolEnv(testEnv()))
	if err != nil {
		t.Skipf("no dynamic mke2fs: %v", err)
	}
	if !strings.Contains(own.mke2fs[0], "/ld") || own.mke2fs[1] != "--library-path" {
		t.Errorf("tools are started as %q", own.mke2fs)
	}
	if err := own.check(context.Background()); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "image")
	l := layoutOf(t, 32, blockdev.Fallback)
	if err := own.makeExt(context.Background(), image, l.Filesystems[0], makeTree(t), [2]int{}); err != nil {
		t.Fatal(err)
	}
	check(t, image, &l.Filesystems[0])
}

func TestNoTools(t *testing.T) {
	if _, err := treeTools(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "in the image") {
		t.Errorf("got %v", err)
	}
	none := tools{mke2fs: []string{"/does/not/exist"}}
	if err := none.check(context.Background()); err == nil {
		t.Error("a missing mke2fs passes")
	}
}
