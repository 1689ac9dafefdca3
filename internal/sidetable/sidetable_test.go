package sidetable

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func write(t *testing.T, path, content string) ID {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	id, err := Identify(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestFactsFollowFiles(t *testing.T) {
	dir := t.TempDir()
	tree, path := filepath.Join(dir, "tree"), filepath.Join(dir, "table")
	null := write(t, filepath.Join(tree, "dev/null"), "")
	gone := write(t, filepath.Join(tree, "dev/gone"), "")
	locked := write(t, filepath.Join(tree, "etc/resolv.conf"), "x")
	plain := write(t, filepath.Join(tree, "etc/plain"), "x")

	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		r.SetXattr(null, "security.stale", []byte("of an earlier life")),
		r.SetNode(null, Node{Mode: unix.S_IFCHR, Major: 1, Minor: 3}),
		r.SetNode(gone, Node{Mode: unix.S_IFBLK, Major: 8, Minor: 0}),
		r.SetFlags(locked, FlagImmutable),
		r.SetXattr(locked, "security.selinux", []byte("system_u\x00")),
		r.SetXattr(plain, "security.ima", []byte("1")),
		r.RemoveXattr(plain, "security.ima"),
		os.Rename(filepath.Join(tree, "dev/null"), filepath.Join(tree, "dev/renamed")),
		os.Link(filepath.Join(tree, "dev/renamed"), filepath.Join(tree, "dev/linked")),
		os.Remove(filepath.Join(tree, "dev/gone")),
		r.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	table, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := table.Resolve(tree)
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	node := &Node{Mode: unix.S_IFCHR | 0o640, Major: 1, Minor: 3}
	want := []Entry{
		{Path: "dev/linked", Node: node, UID: uid, GID: gid},
		{Path: "dev/renamed", Node: node, UID: uid, GID: gid},
		{Path: "etc/resolv.conf", Flags: FlagImmutable, Xattrs: map[string][]byte{"security.selinux": []byte("system_u\x00")}, UID: uid, GID: gid},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Resolve (-want +got):\n%s", d)
	}
}

// A file that took over the inode number of a placeholder is not a device.
func TestReusedInode(t *testing.T) {
	dir := t.TempDir()
	id := write(t, filepath.Join(dir, "tree/file"), "")
	if id.BirthSec == 0 {
		t.Skip("the file system of the temporary directory tells no time of birth")
	}
	id.BirthSec--
	r, err := Open(filepath.Join(dir, "table"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.SetNode(id, Node{Mode: unix.S_IFCHR, Major: 1, Minor: 3}); err != nil {
		t.Fatal(err)
	}
	table, err := Load(filepath.Join(dir, "table"))
	if err != nil {
		t.Fatal(err)
	}
	if table.Len() != 1 {
		t.Fatalf("table knows %d inodes, want 1", table.Len())
	}
	if got, err := table.Resolve(filepath.Join(dir, "tree")); err != nil || len(got) != 0 {
		t.Errorf("Resolve = %v, %v; want nothing", got, err)
	}
}

func TestLoad(t *testing.T) {
	for _, c := range []struct {
		name, text string
		n          int
		bad        bool
	}{
		{"empty", "", 0, false},
		{"cut off", `{"dev":1,"ino":2,"flags":16}` + "\n" + `{"dev":1,"ino":3,"fl`, 1, false},
		{"last counts", `{"dev":1,"ino":2,"flags":16}` + "\n" + `{"dev":1,"ino":2}` + "\n", 0, false},
		{"not json", "hello\n", 0, true},
		{"unknown field", `{"dev":1,"ino":2,"colour":3}` + "\n", 0, true},
		{"not a device", `{"dev":1,"ino":2,"node":{"mode":33188,"major":0,"minor":0}}` + "\n", 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "table")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			table, err := Load(path)
			if (err != nil) != c.bad {
				t.Fatalf("Load: %v", err)
			}
			if err == nil && table.Len() != c.n {
				t.Errorf("%d facts, want %d", table.Len(), c.n)
			}
		})
	}
	if table, err := Load(filepath.Join(t.TempDir(), "missing")); err != nil || table.Len() != 0 {
		t.Errorf("missing table: %v, %v", table, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"dev":1,"ino":2,"birth_sec":3,"node":{"mode":8192,"major":1,"minor":3}}` + "\n"))
	f.Add([]byte(`{"dev":1,"ino":2,"xattrs":{"security.selinux":"AA=="}}` + "\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := parse(bytes.NewReader(data))
		if err != nil {
			return
		}
		for id, fact := range table.facts {
			if fact.empty() {
				t.Errorf("%v kept without a fact", id)
			}
		}
	})
}
