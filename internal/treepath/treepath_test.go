package treepath

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestResolve(t *testing.T) {
	tree := t.TempDir()
	for _, d := range []string{"usr/lib", "etc"} {
		if err := os.MkdirAll(filepath.Join(tree, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(tree, "usr/lib/x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"lib": "usr/lib", "abs": "/usr/lib/x", "out": "../../../../usr/lib", "a": "b", "b": "a", "etc/up": "../lib/x"} {
		if err := os.Symlink(target, filepath.Join(tree, link)); err != nil {
			t.Fatal(err)
		}
	}
	for in, want := range map[string]string{"lib/x": "usr/lib/x", "/abs": "usr/lib/x", "out/x": "usr/lib/x", "etc/up": "usr/lib/x", "..": ""} {
		if got, err := Resolve(tree, in); err != nil || got != filepath.Join(tree, want) {
			t.Errorf("%s leads to %s, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"a", "nowhere"} {
		if got, err := Resolve(tree, in); err == nil {
			t.Errorf("%s leads to %s; want an error", in, got)
		}
	}
}

func TestWalk(t *testing.T) {
	tree := t.TempDir()
	if err := os.MkdirAll(filepath.Join(tree, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "a/file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a/b", filepath.Join(tree, "link")); err != nil {
		t.Fatal(err)
	}
	var steps []string
	end, err := Walk(tree, "/link/../file", func(s Step) error {
		steps = append(steps, s.Path+" "+s.Mode.Type().String()+" "+s.Target)
		return nil
	})
	want := []string{"link L--------- a/b", "a d--------- ", "a/b d--------- ", "a/file ---------- "}
	if err != nil || end != "a/file" || !slices.Equal(steps, want) {
		t.Errorf("%q, %v by %q; want %q", end, err, steps, want)
	}
	stop := errors.New("stop")
	if _, err := Walk(tree, "a", func(Step) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}
