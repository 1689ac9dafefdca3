package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMergedUsr(t *testing.T) {
	for _, c := range []struct{ arch, codename, want string }{
		{"amd64", "bookworm", "bin lib sbin lib64 lib32 libx32"},
		{"amd64", "trixie", "bin lib sbin lib64"},
		{"arm64", "bookworm", "bin lib sbin"},
	} {
		if got := strings.Join(mergedUsr(c.arch, c.codename), " "); got != c.want {
			t.Errorf("%s %s: %s", c.arch, c.codename, got)
		}
	}
}

func TestMergeUsr(t *testing.T) {
	root := t.TempDir()
	for range 2 { // what is there already is no error
		if err := mergeUsr(root, []string{"bin", "lib"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin", "lib"} {
		if to, err := os.Readlink(filepath.Join(root, dir)); err != nil || to != "usr/"+dir {
			t.Errorf("%s: %q, %v", dir, to, err)
		}
		if st, err := os.Lstat(filepath.Join(root, "usr", dir)); err != nil || !st.IsDir() {
			t.Errorf("usr/%s: %v", dir, err)
		}
	}
}
