package squashfs

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/image/tree"
	"github.com/dib-builder/dib/internal/sidetable"
)

const epoch = 1_700_000_000

type buffer struct{ data []byte }

func (b *buffer) Write(p []byte) (int, error) { b.data = append(b.data, p...); return len(p), nil }

func (b *buffer) WriteAt(p []byte, off int64) (int, error) { return copy(b.data[off:], p), nil }

// sample makes a tree with what is hard: many names in one directory, files
// around the size of a block, holes, long names, links, attributes.
func sample(t testing.TB) (string, *tree.Tree) {
	t.Helper()
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(1, 2))
	put := func(name string, data []byte) {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	noise := func(n int) []byte {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		return p
	}
	for i := range 1200 {
		put(fmt.Sprintf("many/name-%04d-%s", i, strings.Repeat("x", i%200)), noise(i%50))
	}
	for i := range 150 {
		put(fmt.Sprintf("deep/%d/%d/%d", i%3, i%7, i), []byte(strings.Repeat("text ", i*10)))
	}
	for _, n := range []int{1, blockSize - 1, blockSize, blockSize + 1, 3*blockSize + 5} {
		put(fmt.Sprintf("sizes/noise-%d", n), noise(n))
		put(fmt.Sprintf("sizes/zeros-%d", n), make([]byte, n))
	}
	holes := make([]byte, 10*blockSize+77)
	copy(holes[5*blockSize:], noise(1000))
	put("holes", holes)
	put("proc/1/cmdline", []byte("of the host"))
	put("sys/x", []byte("of the host"))
	put("dev/null", nil)
	put(strings.Repeat("n", 255), nil)
	put("\xff\xfe", []byte("not utf-8"))
	put("attr", []byte("a"))
	put("attr2", []byte("a"))
	for _, err := range []error{
		os.Symlink(strings.Repeat("t", 300), filepath.Join(dir, "link")),
		os.Link(filepath.Join(dir, "holes"), filepath.Join(dir, "many", "hard")),
		os.Mkdir(filepath.Join(dir, "empty"), 0o1777|os.ModeSticky),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	tr, err := tree.Read(context.Background(), dir, tree.Options{Epoch: epoch, Side: []sidetable.Entry{
		{Path: "dev/null", Node: &sidetable.Node{Mode: unix.S_IFCHR | 0o666, Major: 259, Minor: 5}},
		{Path: "attr", Xattrs: map[string][]byte{"user.one": []byte("1\x00"), "security.capability": bytes.Repeat([]byte{7}, 20), "system.posix_acl_access": []byte("no")}},
		{Path: "attr2", Xattrs: map[string][]byte{"user.one": []byte("1\x00"), "security.capability": bytes.Repeat([]byte{7}, 20)}},
		{Path: "empty", Xattrs: map[string][]byte{"user.long": bytes.Repeat([]byte("long"), 3000)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range tr.Entries {
		tr.Entries[i].UID, tr.Entries[i].GID = uint32(i%3)*100_000, 0
	}
	return dir, tr
}

func write1(t testing.TB, tr *tree.Tree, set tree.Settings) []byte {
	t.Helper()
	var b buffer
	if err := (Format{}).Write(context.Background(), tr, &b, set, nil); err != nil {
		t.Fatal(err)
	}
	return b.data
}

func judge(t *testing.T, argv ...string) string {
	t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		t.Skipf("%s is not installed; scripts/install-test-deps does that", argv[0])
	}
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", argv, err, out)
	}
	return string(out)
}

func TestUnsquashfs(t *testing.T) {
	dir, tr := sample(t)
	var warned []string
	image := write1(t, tr, tree.Settings{Warn: func(s string) { warned = append(warned, s) }})
	if len(warned) != 1 || !strings.Contains(warned[0], "system.posix_acl_access") {
		t.Errorf("warnings: %q", warned)
	}
	file := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(file, image, 0o600); err != nil {
		t.Fatal(err)
	}
	if len(image)%imagePadding != 0 {
		t.Errorf("the image has %d bytes", len(image))
	}
	list := judge(t, "unsquashfs", "-lln", file)
	for _, want := range []string{"crw-rw-rw- ", "259,  5 ", "drwxr-xr-t ", "2023-11-14", " 200000/0 ", "squashfs-root/link -> ttt"} {
		if !strings.Contains(list, want) {
			t.Errorf("the list lacks %q:\n%s", want, list[strings.Index(list, "dev/null")-60:][:80])
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	judge(t, "unsquashfs", "-no-xattrs", "-ignore-errors", "-quiet", "-no-progress", "-d", out, file)
	for i := range tr.Entries {
		e := &tr.Entries[i]
		switch {
		case e.Path == "proc" || e.Path == "sys":
			if names, err := os.ReadDir(filepath.Join(out, e.Path)); err != nil || len(names) > 0 {
				t.Errorf("%s has %v (%v)", e.Path, names, err)
			}
		case e.Below("proc") || e.Below("sys"):
		case e.Type() == unix.S_IFREG:
			want, err := os.ReadFile(filepath.Join(dir, e.Path))
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(out, e.Path))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, %v; want %d", e.Path, len(got), err, len(want))
			}
		case e.Type() == unix.S_IFDIR, e.Type() == unix.S_IFLNK, e.Type() == unix.S_IFIFO:
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(out, e.Path), &st); err != nil || st.Mode != e.Mode {
				t.Errorf("%s has mode %o (%v), want %o", e.Path, st.Mode, err, e.Mode)
			}
		}
	}
	var a, b unix.Stat_t
	if err := unix.Stat(filepath.Join(out, "holes"), &a); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(filepath.Join(out, "many", "hard"), &b); err != nil || a.Ino != b.Ino || a.Nlink != 2 {
		t.Errorf("many/hard is no link of holes (%v)", err)
	}
	if a.Blocks*512 > 3*blockSize {
		t.Errorf("holes occupies %d bytes", a.Blocks*512)
	}
}

func TestWorkers(t *testing.T) {
	_, tr := sample(t)
	first := write1(t, tr, tree.Settings{Workers: 1})
	for _, n := range []int{2, 5} {
		if !bytes.Equal(write1(t, tr, tree.Settings{Workers: n}), first) {
			t.Errorf("the bytes with %d workers differ", n)
		}
	}
}

type failing struct{ left int }

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, fmt.Errorf("no space left")
	}
	return len(p), nil
}

func (f *failing) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

func TestErrors(t *testing.T) {
	dir, tr := sample(t)
	size := len(write1(t, tr, tree.Settings{}))
	for _, left := range []int{10, 1000, size / 2, size - 5000} {
		if err := (Format{}).Write(context.Background(), tr, &failing{left}, tree.Settings{}, nil); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("after %d bytes: %v", left, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := (Format{}).Write(ctx, tr, &buffer{}, tree.Settings{}, nil); err == nil {
		t.Error("a cancelled writing succeeds")
	}
	if err := os.Remove(filepath.Join(dir, "deep/0/0/21")); err != nil {
		t.Fatal(err)
	}
	if err := (Format{}).Write(context.Background(), tr, &buffer{}, tree.Settings{}, nil); err == nil || !strings.Contains(err.Error(), `cannot store "deep/0/0/21"`) {
		t.Errorf("a file that is gone: %v", err)
	}
}

func TestEmptyTree(t *testing.T) {
	tr, err := tree.Read(context.Background(), t.TempDir(), tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(file, write1(t, tr, tree.Settings{}), 0o600); err != nil {
		t.Fatal(err)
	}
	if list := judge(t, "unsquashfs", "-ls", file); strings.TrimSpace(list) != "squashfs-root" {
		t.Errorf("the list is %q", list)
	}
}

func TestDevice(t *testing.T) {
	// As the kernel's new_encode_dev; unsquashfs prints large minors wrongly.
	for _, c := range []struct{ major, minor, want uint32 }{{1, 3, 0x103}, {259, 5, 0x10305}, {8, 0x12345, 0x12300845}, {4095, 0xfffff, 0xffffffff}} {
		if got := device(c.major, c.minor); got != c.want {
			t.Errorf("%d:%d is %#x, want %#x", c.major, c.minor, got, c.want)
		}
	}
}
