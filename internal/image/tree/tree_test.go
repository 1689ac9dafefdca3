package tree

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/sidetable"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(dir, "b"), 0o750))
	must(os.WriteFile(filepath.Join(dir, "b", "file"), []byte("content"), 0o4755))
	must(os.Chmod(filepath.Join(dir, "b", "file"), 0o755|os.ModeSetuid))
	must(os.Link(filepath.Join(dir, "b", "file"), filepath.Join(dir, "a-link")))
	must(os.Symlink("b/\xff", filepath.Join(dir, "b-sym")))
	must(os.WriteFile(filepath.Join(dir, "node"), nil, 0o640))
	must(unix.Mkfifo(filepath.Join(dir, "\xe9"), 0o600))
	must(os.Link(filepath.Join(dir, "node"), filepath.Join(dir, "node2")))
	old := time.Unix(1000, 5)
	must(os.Chtimes(filepath.Join(dir, "node"), old, old))
	if err := unix.Setxattr(filepath.Join(dir, "b"), "user.k", []byte("v\x00w"), 0); err != nil {
		t.Logf("no user attributes here: %v", err)
	}
	node := &sidetable.Node{Mode: unix.S_IFCHR | 0o640, Major: 1, Minor: 3}
	side := []sidetable.Entry{
		{Path: "b", Xattrs: map[string][]byte{"security.z": []byte("1"), "security.a": []byte("2")}, Flags: sidetable.FlagImmutable},
		{Path: "node", Node: node, UID: 7, GID: 8},
		{Path: "node2", Node: node, UID: 7, GID: 8},
	}
	tr, err := Read(context.Background(), dir, Options{Side: side, Epoch: 2000})
	must(err)
	byPath := map[string]*Entry{}
	var order []string
	for i := range tr.Entries {
		e := &tr.Entries[i]
		byPath[e.Path] = e
		order = append(order, e.Path)
	}
	// "b-sym" sorts before "b/..." in bytes of paths, but a directory's own
	// entries come right behind it.
	if want := []string{".", "a-link", "b", "b/file", "b-sym", "node", "node2", "\xe9"}; !slices.Equal(order, want) {
		t.Errorf("order %q, want %q", order, want)
	}
	if e := byPath["b/file"]; e.Mode != unix.S_IFREG|0o4755 || e.Size != 7 || e.ModTime != 2000 || e.Group != 1 || byPath["a-link"].Group != 1 {
		t.Errorf("b/file is %+v, a-link %+v", e, byPath["a-link"])
	}
	if e := byPath["node"]; e.Mode != unix.S_IFCHR|0o640 || e.Major != 1 || e.Minor != 3 || e.UID != 7 || e.GID != 8 || e.ModTime != 1000 || e.Group != 2 {
		t.Errorf("node is %+v", e)
	}
	var names []string
	for _, x := range byPath["b"].Xattrs {
		if !strings.HasPrefix(x.Name, "user.") {
			names = append(names, x.Name)
		}
	}
	if !slices.Equal(names, []string{"security.a", "security.z"}) || byPath["b"].Flags != FlagImmutable {
		t.Errorf("b has attributes %q and flags %#x", names, byPath["b"].Flags)
	}
	if byPath["b-sym"].Target != "b/\xff" {
		t.Errorf("b-sym leads to %q", byPath["b-sym"].Target)
	}
	must(os.WriteFile(filepath.Join(dir, "b", "file"), []byte("longer content"), 0))
	if _, err := byPath["b/file"].Open(); err == nil || !strings.Contains(err.Error(), "has changed its size from 7 to 14") {
		t.Errorf("a file that changed opens: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Read(ctx, dir, Options{}); err == nil {
		t.Error("a cancelled reading succeeds")
	}
}

func TestBelow(t *testing.T) {
	for path, want := range map[string]bool{"proc": true, "proc/1": true, "process": false, "usr/proc": false, ".": false} {
		if e := (Entry{Path: path}); e.Below("proc") != want {
			t.Errorf("%s below proc: %v", path, !want)
		}
	}
}
