package imagetree

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestCompareSeesEveryKindOfDifference(t *testing.T) {
	make := func(change func(dir string)) Tree {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "file"), "abc", 0o644)
		write(t, filepath.Join(dir, "one"), "same", 0o644)
		if err := os.Link(filepath.Join(dir, "one"), filepath.Join(dir, "two")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		change(dir)
		tree, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	base := make(func(string) {})
	if d := Compare(base, make(func(string) {})); len(d) != 0 {
		t.Fatalf("equal trees differ: %v", d)
	}
	relink := func(dir, target string) {
		os.Remove(filepath.Join(dir, "link"))
		if err := os.Symlink(target, filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		change func(dir string)
		want   string
	}{
		{"content", func(dir string) { write(t, filepath.Join(dir, "file"), "abd", 0o644) }, "file: content"},
		{"size", func(dir string) { write(t, filepath.Join(dir, "file"), "abcd", 0o644) }, "file: size 3 against 4"},
		{"mode", func(dir string) { write(t, filepath.Join(dir, "file"), "abc", 0o4755) }, "file: mode 100644 against"},
		{"type", func(dir string) {
			os.Remove(filepath.Join(dir, "file"))
			if err := os.Mkdir(filepath.Join(dir, "file"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, "file: mode 100644 against 40755"},
		{"target", func(dir string) { relink(dir, "elif") }, "link: target file against elif"},
		{"missing", func(dir string) { os.Remove(filepath.Join(dir, "link")) }, "link: only in the first"},
		{"added", func(dir string) { write(t, filepath.Join(dir, "new"), "", 0o644) }, "new: only in the second"},
		{"link group", func(dir string) {
			os.Remove(filepath.Join(dir, "two"))
			write(t, filepath.Join(dir, "two"), "same", 0o644)
		}, "link group one against "},
	} {
		t.Run(c.name, func(t *testing.T) {
			var text strings.Builder
			for _, d := range Compare(base, make(c.change)) {
				text.WriteString(d.String() + "\n")
			}
			if !strings.Contains(text.String(), c.want) {
				t.Errorf("differences are %q, want one with %q", text.String(), c.want)
			}
		})
	}
}

func TestRootPartition(t *testing.T) {
	image := filepath.Join(t.TempDir(), "disk")
	sector := make([]byte, 1<<20)
	write(t, image, string(sector), 0o644)
	if offset, length, err := RootPartition(image); err != nil || offset != 0 || length != 1<<20 {
		t.Errorf("no table: %d %d %v, want the whole image", offset, length, err)
	}
	sector[510], sector[511] = 0x55, 0xaa
	write(t, image, string(sector), 0o644)
	if _, _, err := RootPartition(image); err == nil {
		t.Error("a table without a Linux partition is accepted")
	}
	copy(sector[446+16:], []byte{0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0x10, 0, 0, 0})
	write(t, image, string(sector), 0o644)
	if offset, length, err := RootPartition(image); err != nil || offset != 2048*512 || length != 16*512 {
		t.Errorf("got %d %d %v, want %d %d", offset, length, err, 2048*512, 16*512)
	}
}

func TestExceptions(t *testing.T) {
	list, err := ParseExceptions(strings.NewReader("# why\n\nvar/cache/x  it holds a clock\netc/*.conf reason\n"))
	if err != nil {
		t.Fatal(err)
	}
	rest := Unexcused([]Difference{{"etc/a.conf", ""}, {"etc/d/a.conf", ""}, {"var/cache/x", ""}}, list)
	if len(rest) != 1 || rest[0].Path != "etc/d/a.conf" {
		t.Errorf("unexcused: %v, want etc/d/a.conf only", rest)
	}
	for name, text := range map[string]string{
		"no reason": "etc/x\n", "bad pattern": "etc/[ reason\n", "too many": strings.Repeat("a b\n", MaxExceptions+1),
	} {
		if _, err := ParseExceptions(strings.NewReader(text)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
