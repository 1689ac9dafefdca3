package ext

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	mib      = 1 << 20
	testUUID = "0f1e2d3c-4b5a-5968-8778-695a4b3c2d1e"
	testSeed = "11223344-5566-5788-99aa-bbccddeeff00"
)

func tool(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if p, err := exec.LookPath(dir + name); err == nil {
			return p
		}
	}
	t.Skipf("%s is not installed; scripts/install-test-deps does that", name)
	return ""
}

func options(size int64, opts ...string) Options {
	return Options{Type: "ext4", Length: size, Label: "cloudimg-rootfs", UUID: testUUID, HashSeed: testSeed, MkfsOpts: opts, Epoch: 1700000000}
}

func typed(fsType string, o Options) Options {
	o.Type = fsType
	return o
}

// makeFS writes a filesystem in a file of its own.
func makeFS(t testing.TB, src Source, o Options, offset int64) (string, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ext4")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(offset + o.Length); err != nil {
		t.Fatal(err)
	}
	return name, Write(context.Background(), f, offset, src, o)
}

// judge has e2fsck look at everything, checksums included.
func judge(t testing.TB, image string) {
	t.Helper()
	out, err := exec.Command(tool(t, "e2fsck"), "-fn", image).CombinedOutput()
	if err != nil {
		if len(out) > 3000 {
			out = out[:3000]
		}
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
}

func debugfs(t *testing.T, image, command string) string {
	t.Helper()
	out, err := exec.Command(tool(t, "debugfs"), "-R", command, image).CombinedOutput()
	if err != nil {
		t.Fatalf("debugfs: %v\n%s", err, out)
	}
	return string(out)
}

func put(t testing.TB, tree, name string, data []byte) {
	t.Helper()
	p := filepath.Join(tree, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func random(r *rand.Rand, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// sample is a tree with something of everything.
func sample(t testing.TB) string {
	t.Helper()
	tree := t.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	put(t, tree, "etc/hostname", []byte("image\n"))
	put(t, tree, "empty", nil)
	put(t, tree, "block", random(r, blockSize))
	put(t, tree, "large", random(r, 9*mib+123))
	for i := range 700 {
		put(t, tree, fmt.Sprintf("many/a file with a rather long name, number %d", i), random(r, i))
	}
	put(t, tree, "odd \n\"name\" \xff", []byte("odd"))
	put(t, tree, strings.Repeat("n", 255), []byte("long"))
	for name, target := range map[string]string{"fast": "etc/hostname", "edge": strings.Repeat("e", 59), "slow": strings.Repeat("s", 60), "dangling": "/nowhere"} {
		if err := os.Symlink(target, filepath.Join(tree, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(tree, "etc/hostname"), filepath.Join(tree, "many/hard")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(tree, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(tree, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range int64(12) { // more pieces than an inode maps itself
		if _, err := f.WriteAt(random(r, 5000), i*3*mib); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(100 * mib); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(filepath.Join(tree, "etc"), 0o2750); err != nil {
		t.Fatal(err)
	}
	return tree
}

func rootOf() Attributes { return Attributes{Mode: 0o755, Mtime: unix.Timespec{Sec: 1600000000}} }

func TestWrite(t *testing.T) {
	tree := sample(t)
	src := Source{Dir: tree, Root: rootOf(), Mkdirs: []string{"/boot", "/boot/efi"}, Facts: map[string]Fact{
		"/empty":        {Node: &Node{Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 3, GID: 70000}},
		"/block":        {Flags: 0x10, Xattrs: map[string][]byte{"security.selinux": []byte("system_u:object_r:etc_t:s0\x00"), "user.x": nil}},
		"/large":        {Xattrs: map[string][]byte{"user.big": bytes.Repeat([]byte("v"), 300), "security.capability": {1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "trusted.a": []byte("abc")}},
		"/etc/hostname": {Xattrs: map[string][]byte{"system.posix_acl_access": []byte("\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff")}},
	}}
	for _, test := range []struct {
		name string
		o    Options
	}{
		{"usual", options(200*mib, "-i", "4096", "-J", "size=16")},
		{"no options", options(700 * mib)},
		{"without checksums", options(200*mib, "-O", "^metadata_csum")},
		{"several flex groups", options(5<<30, "-i", "4096", "-J", "size=64", "-E", "resize=100000000")},
		{"without journal", options(130*mib, "-O", "^has_journal", "-m", "0")},
		{"odd size", options(256*mib+3*blockSize+512, "-i", "16384")},
		{"ext3", typed("ext3", options(300*mib, "-J", "size=8"))},
		{"ext2", typed("ext2", options(300*mib))},
	} {
		t.Run(test.name, func(t *testing.T) {
			image, err := makeFS(t, src, test.o, 0)
			if err != nil {
				t.Fatal(err)
			}
			judge(t, image)
			flags := "Flags: 0x80010"
			if test.o.Type != "ext4" {
				flags = "Flags: 0x10"
			}
			for command, want := range map[string]string{
				"stat /empty":                          "Type: character special    Mode:  0666",
				"stat /etc/hostname":                   "Links: 2",
				"stat /etc":                            "Mode:  02750",
				"ea_list /block":                       `security.selinux (27) = "system_u:object_r:etc_t:s0\000"`,
				"ea_list /large":                       "user.big (300)",
				"ea_get -x /large security.capability": "01 00 00 02",
				"stat /block":                          flags,
				"stat /fifo":                           "Type: FIFO",
				"stat /boot/efi":                       "Type: directory    Mode:  0755",
				"show_super_stats -h":                  "Filesystem UUID:          " + testUUID,
				"stat /sparse":                         "Size: 104857600",
				"stat \"/a\"":                          "",
				"htree_dump /many":                     "Hash Version: 1",
			} {
				if out := debugfs(t, image, command); !strings.Contains(out, want) {
					t.Errorf("%s: no %q in\n%.2000s", command, want, out)
				}
			}
		})
	}
}

// TestKernel has the kernel read a filesystem and resize2fs grow it.
func TestKernel(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount")
	}
	for _, fsType := range []string{"ext2", "ext3", "ext4"} {
		t.Run(fsType, func(t *testing.T) { testKernel(t, typed(fsType, options(200*mib, "-i", "4096"))) })
	}
}

func testKernel(t *testing.T, o Options) {
	tree := sample(t)
	image, err := makeFS(t, Source{Dir: tree, Root: rootOf()}, o, 0)
	if err != nil {
		t.Fatal(err)
	}
	compare := func() {
		t.Helper()
		at := t.TempDir()
		if out, err := exec.Command("mount", "-o", "loop,ro", image, at).CombinedOutput(); err != nil {
			t.Fatalf("mount: %v\n%s", err, out)
		}
		defer func() {
			if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
				t.Fatalf("umount: %v\n%s", err, out)
			}
		}()
		if out, err := exec.Command("diff", "--recursive", "--no-dereference", "--exclude=lost+found", "--exclude=fifo", tree, at).CombinedOutput(); err != nil {
			t.Errorf("the trees differ: %v\n%.2000s", err, out)
		}
	}
	compare()
	if err := os.Truncate(image, 3<<30); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool(t, "resize2fs"), "-f", image).CombinedOutput(); err != nil {
		t.Fatalf("resize2fs: %v\n%s", err, out)
	}
	judge(t, image)
	compare()
}

// TestSameBytes writes twice, with contents copied in whatever order.
func TestSameBytes(t *testing.T) {
	tree := sample(t)
	var images [2][]byte
	for i, offset := range []int64{0, mib} {
		image, err := makeFS(t, Source{Dir: tree, Root: rootOf()}, options(64*mib, "-J", "size=4"), offset)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		images[i] = data[offset:]
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("two runs differ")
	}
}

func TestManyNames(t *testing.T) {
	count := 20000
	if testing.Short() {
		count = 5000
	}
	if v := os.Getenv("DIB_TEST_FULL"); v != "" && v != "0" {
		count = 200000
	}
	tree := t.TempDir()
	for i := range count {
		if err := os.WriteFile(filepath.Join(tree, fmt.Sprintf("%0200d", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	image, err := makeFS(t, Source{Dir: tree, Root: rootOf()}, options(1<<30, "-i", "4096"), 0)
	if err != nil {
		t.Fatal(err)
	}
	judge(t, image)
	for _, i := range []int{0, 1, count / 2, count - 1} {
		name := fmt.Sprintf("/%0200d", i)
		if out := debugfs(t, image, "stat "+name); !strings.Contains(out, "Type: regular") {
			t.Errorf("%s: %s", name, out)
		}
	}
}

func TestRefusals(t *testing.T) {
	tree := t.TempDir()
	put(t, tree, "file", bytes.Repeat([]byte("x"), 20*mib))
	src := Source{Dir: tree, Root: rootOf()}
	for _, test := range []struct {
		name string
		src  Source
		o    Options
		want string
	}{
		{"full", src, options(16*mib, "-O", "^has_journal"), "cannot store /file: the filesystem is too small for its files (16 MiB)"},
		{"inodes", src, options(100*mib, "-N", "5"), ""},
		{"tiny", src, options(100000), "100000 bytes are too few"},
		{"journal", src, options(16*mib, "-J", "size=64"), "the journal of 64 MiB: the filesystem is too small"},
		{"unknown option", src, options(64*mib, "-g", "8192"), "option -g of mke2fs is not known here"},
		{"unknown type", src, typed("ext5", options(64*mib)), "none of ext2, ext3 and ext4"},
		{"feature of ext4", src, typed("ext3", options(64*mib, "-O", "extents")), "option -O extents of mke2fs"},
		{"unknown feature", src, options(64*mib, "-O", "quota"), "option -O quota of mke2fs"},
		{"unknown extended option", src, options(64*mib, "-E", "stride=4"), "option -E stride=4 of mke2fs"},
		{"no argument", src, options(64*mib, "-i"), "wants an argument"},
		{"fact without a file", Source{Dir: tree, Root: rootOf(), Facts: map[string]Fact{"/nofile": {}}}, options(64 * mib), "cannot record what /nofile should be"},
		{"large attribute", Source{Dir: tree, Root: rootOf(), Facts: map[string]Fact{"/file": {Xattrs: map[string][]byte{"user.a": make([]byte, 5000)}}}}, options(64 * mib), "one block holds"},
		{"odd attribute", Source{Dir: tree, Root: rootOf(), Facts: map[string]Fact{"/file": {Xattrs: map[string][]byte{"os2.a": nil}}}}, options(64 * mib), "ext4 has no such kind"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := makeFS(t, test.src, test.o, 0)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v; want %q", err, test.want)
			}
		})
	}
	var unknown *UnknownOptionError
	if err := Check(options(mib, "-T", "news")); !errors.As(err, &unknown) {
		t.Errorf("got %v", err)
	}
}

func TestHash(t *testing.T) {
	image, err := makeFS(t, Source{Root: rootOf()}, options(64*mib), 0)
	if err != nil {
		t.Fatal(err)
	}
	judge(t, image)
	for _, name := range []string{"a", "abcd", "hello world", strings.Repeat("0123456789", 7)} {
		hash, minor := halfMD4(name, [4]uint32{})
		want := fmt.Sprintf("Hash of %s is 0x%08x (minor 0x%08x)", name, hash, minor)
		if out := debugfs(t, image, `dx_hash -h half_md4 "`+name+`"`); !strings.Contains(out, want) {
			t.Errorf("got %q; debugfs says %s", want, out)
		}
	}
}

// TestRandomTrees writes trees of random shape, content and attributes as
// filesystems of random type and size.
func TestRandomTrees(t *testing.T) {
	tool(t, "e2fsck")
	rounds := 8
	if v := os.Getenv("DIB_TEST_FULL"); v != "" && v != "0" {
		rounds = 300
	}
	for round := range rounds {
		r := rand.New(rand.NewPCG(uint64(round), 3))
		tree := t.TempDir()
		facts := map[string]Fact{}
		dirs := []string{""}
		for range r.IntN(600) {
			dir := dirs[r.IntN(len(dirs))]
			name := filepath.Join(dir, strings.Repeat(string(rune('a'+r.IntN(26))), 1+r.IntN(200))+fmt.Sprint(r.IntN(1000)))
			at := filepath.Join(tree, name)
			if _, err := os.Lstat(at); err == nil {
				continue
			}
			var err error
			switch kind := r.IntN(10); {
			case kind < 2 && len(name) < 2000:
				err = os.Mkdir(at, 0o755)
				dirs = append(dirs, name)
			case kind == 2:
				err = os.Symlink(strings.Repeat("t", 1+r.IntN(200)), at)
			case kind == 3:
				var f *os.File
				if f, err = os.Create(at); err == nil { // with holes
					for range r.IntN(20) {
						_, err = f.WriteAt(random(r, 1+r.IntN(9000)), int64(r.IntN(8*mib)))
					}
					f.Close()
				}
			default:
				err = os.WriteFile(at, random(r, r.IntN(30000)), 0o640)
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.IntN(4) == 0 {
				facts["/"+name] = Fact{Xattrs: map[string][]byte{
					"user.a": random(r, r.IntN(100)), "security.capability": random(r, 20), "trusted.long" + fmt.Sprint(round): random(r, r.IntN(2000)),
				}}
			}
		}
		o := typed([]string{"ext2", "ext3", "ext4", "ext4", "ext4"}[r.IntN(5)], options((20+int64(r.IntN(400)))*mib, "-i", fmt.Sprint(4096<<r.IntN(3))))
		image, err := makeFS(t, Source{Dir: tree, Root: rootOf(), Facts: facts}, o, 0)
		if errors.Is(err, ErrNoSpace) {
			continue
		}
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		judge(t, image)
		if round%10 == 9 {
			if err := os.Truncate(image, 1<<30); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(tool(t, "resize2fs"), "-f", image).CombinedOutput(); err != nil {
				t.Fatalf("round %d: resize2fs: %v\n%s", round, err, out)
			}
			judge(t, image)
		}
		if err := os.Remove(image); err != nil {
			t.Fatal(err)
		}
	}
}
