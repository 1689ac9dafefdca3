package extfs

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/inspect"
)

// tree makes files of every kind that the caller may make.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(1, 2))
	write := func(name string, data []byte, mode fs.FileMode) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(path, data, 0o644), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	large := make([]byte, 3<<20)
	for i := range large {
		large[i] = byte(random.Uint32())
	}
	write("etc/empty", nil, 0o600)
	write("etc/small", []byte("fits into an inode\n"), 0o4755)
	write("etc/medium", bytes.Repeat([]byte("some bytes more "), 12), 0o640)
	write("var/large", large, 0o644)
	for i := range 600 {
		write(fmt.Sprintf("many/a-rather-long-name-so-that-a-directory-has-blocks-%03d", i), []byte{byte(i)}, 0o644)
	}
	sparse, err := os.Create(dir + "/var/sparse")
	if err != nil {
		t.Fatal(err)
	}
	_, e1 := sparse.WriteAt([]byte("begin"), 0)
	_, e2 := sparse.WriteAt([]byte("middle"), 20<<20)
	if err := errors.Join(e1, e2, sparse.Truncate(64<<20), sparse.Close()); err != nil {
		t.Fatal(err)
	}
	for target, name := range map[string]string{"small": "etc/link", "/" + strings.Repeat("long/", 40): "etc/long-link", strings.Repeat("x", 59): "etc/l59", strings.Repeat("x", 60): "etc/l60"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Link(dir+"/var/large", dir+"/etc/hard"), unix.Mkfifo(dir+"/etc/fifo", 0o620), os.Mkdir(dir+"/etc/emptydir", 0o1777), os.Chmod(dir+"/etc/emptydir", 0o1777|fs.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	set := func(name, attr string, value []byte) {
		if err := unix.Lsetxattr(filepath.Join(dir, name), attr, value, 0); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			t.Fatal(name, attr, err)
		}
	}
	set("etc/small", "user.short", []byte("value"))
	set("etc/medium", "user.long", bytes.Repeat([]byte("0123456789"), 90))
	set("etc", "user.dir", []byte{0, 1, 2})
	if os.Geteuid() == 0 {
		set("etc/small", "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
		set("etc/medium", "system.posix_acl_access", []byte("\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x39\x30\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff"))
		if err := errors.Join(
			unix.Mknod(dir+"/etc/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), unix.Mknod(dir+"/etc/disk", unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))),
			os.Lchown(dir+"/etc/medium", 12345, 70000), os.Lchown(dir+"/etc/link", 5, 6), os.Lchown(dir+"/many", 100000, 3),
			os.Chmod(dir+"/etc/small", 0o755|fs.ModeSetuid),
		); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// describe says of each file all that counts, links by the first name.
func describe(t *testing.T, w inspect.Walker) map[string]string {
	t.Helper()
	found, firsts := map[string]string{}, map[uint64]string{}
	err := w.Walk(func(e inspect.Entry) error {
		if strings.HasPrefix(e.Path, "lost+found") {
			return nil
		}
		text := fmt.Sprintf("%o %d:%d", e.Mode, e.UID, e.GID)
		if e.Path != "." {
			text += fmt.Sprintf(" %d", e.ModTime.UnixNano())
		}
		switch {
		case e.Content != nil:
			sum := sha256.New()
			n, err := io.Copy(sum, e.Content)
			if err != nil || n != e.Size {
				return fmt.Errorf("%s: %d of %d bytes: %w", e.Path, n, e.Size, err)
			}
			text += fmt.Sprintf(" %d %x", e.Size, sum.Sum(nil)[:4])
			if e.Links > 1 {
				if firsts[e.ID] == "" {
					firsts[e.ID] = e.Path
				}
				text += " = " + firsts[e.ID]
			}
		case e.Mode&inspect.TypeMask == inspect.Char || e.Mode&inspect.TypeMask == inspect.Block:
			text += fmt.Sprintf(" %d:%d", e.Major, e.Minor)
		case e.Mode&inspect.TypeMask == inspect.Symlink:
			text += " -> " + e.Target
		}
		text += fmt.Sprintf(" %q", e.Xattrs)
		found[e.Path] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func makeImage(t *testing.T, dir string, args ...string) *os.File {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image")
	// "-E" settings of the caller join ours, which keep the root as it is in dir.
	cmd := exec.Command("mke2fs", append(append([]string{"-q", "-F", "-d", dir, "-L", "a label"}, args...), file, "40M")...)
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/sbin:"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mke2fs %v: %v\n%s", args, err, out)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestWalk(t *testing.T) {
	if _, err := exec.LookPath("/usr/sbin/mke2fs"); err != nil {
		t.Skip("mke2fs is not installed; scripts/install-test-deps does that")
	}
	dir := tree(t)
	want := describe(t, &inspect.HostTree{Dir: dir})
	for _, args := range [][]string{
		{"-t", "ext4"},
		{"-t", "ext4", "-O", "^has_journal,inline_data", "-I", "256"},
		{"-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"},
		{"-t", "ext4", "-O", "^64bit,^metadata_csum", "-b", "4096"},
		{"-t", "ext4", "-O", "ea_inode"},
		{"-t", "ext3", "-b", "1024"},
		{"-t", "ext2", "-b", "1024", "-I", "256"},
		{"-t", "ext2", "-b", "4096", "-I", "128"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			f := makeImage(t, dir, args...)
			if !Is(f) {
				t.Error("not recognised")
			}
			image, err := Open(f)
			if err != nil {
				t.Fatal(err)
			}
			if image.Label() != "a label" {
				t.Errorf("label %q", image.Label())
			}
			got := describe(t, image)
			for path, w := range want {
				if path == "var/sparse" && strings.Contains(t.Name(), "inline_data") {
					continue // mke2fs itself cuts it short then: e2fsprogs 1.47.0
				}
				// mke2fs sets no fractions of seconds.
				if g := got[path]; withoutFraction(g) != withoutFraction(w) {
					t.Errorf("%s:\n got %s\nwant %s", path, g, w)
				}
			}
			for path := range got {
				if want[path] == "" {
					t.Errorf("%s is too much", path)
				}
			}
		})
	}
}

func withoutFraction(text string) string {
	words := strings.Fields(text)
	if len(words) > 2 && len(words[2]) > 15 {
		words[2] = words[2][:10]
	}
	return strings.Join(words, " ")
}

func TestTimes(t *testing.T) {
	if _, err := exec.LookPath("/usr/sbin/debugfs"); err != nil {
		t.Skip("debugfs is not installed; scripts/install-test-deps does that")
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/f", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f := makeImage(t, dir, "-t", "ext4")
	for _, set := range []string{"mtime 20380119031408", fmt.Sprintf("mtime_extra %d", 123456789<<2|1)} {
		if out, err := exec.Command("/usr/sbin/debugfs", "-w", "-R", "set_inode_field /f "+set, f.Name()).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	image, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(describe(t, image)["f"])[2]; got != "2147483648123456789" {
		t.Errorf("modified at %s", got)
	}
}

func TestRefusals(t *testing.T) {
	if _, err := exec.LookPath("/usr/sbin/mke2fs"); err != nil {
		t.Skip("mke2fs is not installed; scripts/install-test-deps does that")
	}
	data, err := os.ReadFile(makeImage(t, t.TempDir(), "-t", "ext4").Name())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		damage func(b []byte)
		says   string
	}{
		"journal":       {func(b []byte) { b[1024+96] |= recover }, "e2fsck"},
		"unknown":       {func(b []byte) { b[1024+98] |= 0x80 }, "features that are not understood"},
		"magic":         {func(b []byte) { b[1024+56] = 0 }, "not an ext2"},
		"block size":    {func(b []byte) { b[1024+24] = 30 }, "damaged"},
		"no inode size": {func(b []byte) { b[1024+88], b[1024+89] = 0, 0 }, "damaged"},
	} {
		b := bytes.Clone(data)
		c.damage(b)
		if _, err := Open(bytes.NewReader(b)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if Is(strings.NewReader("short")) {
		t.Error("a short file is taken for a filesystem")
	}
}

// FuzzWalk reads damaged images: it must end, and without a panic.
func FuzzWalk(f *testing.F) {
	if _, err := exec.LookPath("/usr/sbin/mke2fs"); err != nil {
		f.Skip("mke2fs is not installed")
	}
	dir := f.TempDir()
	if err := errors.Join(os.MkdirAll(dir+"/a/b", 0o755), os.WriteFile(dir+"/a/f", []byte("x"), 0o644), os.Symlink("f", dir+"/a/l")); err != nil {
		f.Fatal(err)
	}
	for i, kind := range []string{"ext4", "ext2"} {
		file := filepath.Join(f.TempDir(), "image")
		if out, err := exec.Command("/usr/sbin/mke2fs", "-q", "-F", "-t", kind, "-O", "^has_journal,^resize_inode", "-N", "16", "-b", "1024", "-d", dir, file, "128k").CombinedOutput(); err != nil {
			f.Fatalf("%d: %v\n%s", i, err, out)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		image, err := Open(bytes.NewReader(data))
		if err != nil {
			return
		}
		files := 0
		_ = image.Walk(func(e inspect.Entry) error {
			if files++; files > 10000 {
				return errors.New("enough")
			}
			if e.Content != nil {
				_, err := io.Copy(io.Discard, io.LimitReader(e.Content, 1<<20))
				return err
			}
			return nil
		})
	})
}
