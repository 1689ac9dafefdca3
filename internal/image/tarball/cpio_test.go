package tarball

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/image/tree"
)

// TestCpio has GNU cpio unpack what is written and compares files with the tree.
func TestCpio(t *testing.T) {
	tr := sample(t)
	var warned []string
	archive := write(t, format(t, "cpio"), tr, tree.Settings{Warn: func(text string) { warned = append(warned, text) }})
	if len(warned) != 2 || !strings.Contains(warned[0], "attributes") || !strings.Contains(warned[1], "inode flags") {
		t.Errorf("warnings are %q", warned)
	}
	if len(archive)%512 != 0 {
		t.Errorf("the archive has %d bytes", len(archive))
	}
	dir := t.TempDir()
	args := []string{"-i", "-d", "-m", "--no-preserve-owner", "--quiet"}
	root := os.Getuid() == 0
	if !root {
		args = append(args, "-f", "dev/*") // device nodes are for root
	}
	cmd := exec.Command("cpio", args...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(archive)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	groups := map[int]uint64{}
	for i := range tr.Entries {
		e := &tr.Entries[i]
		path := filepath.Join(dir, e.Path)
		var st unix.Stat_t
		err := unix.Lstat(path, &st)
		if strings.HasPrefix(e.Path, "proc/") || strings.HasPrefix(e.Path, "sys/") {
			if err == nil {
				t.Errorf("%s is archived", e.Path)
			}
			continue
		}
		if !root && e.Below("dev") {
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", e.Path, err)
			continue
		}
		if e.Type() == unix.S_IFLNK {
			if got, err := os.Readlink(path); err != nil || got != e.Target {
				t.Errorf("%s leads to %q (%v)", e.Path, got, err)
			}
			continue
		}
		// GNU cpio fills directories after it has set their times.
		if st.Mode != e.Mode || st.Mtim.Sec != e.ModTime && e.Type() != unix.S_IFDIR {
			t.Errorf("%s: mode %o, time %d; want %o, %d", e.Path, st.Mode, st.Mtim.Sec, e.Mode, e.ModTime)
		}
		if e.Type() == unix.S_IFCHR || e.Type() == unix.S_IFBLK {
			if unix.Major(st.Rdev) != e.Major || unix.Minor(st.Rdev) != e.Minor {
				t.Errorf("%s has another device number", e.Path)
			}
		}
		if e.Group > 0 {
			if ino, ok := groups[e.Group]; ok && ino != st.Ino {
				t.Errorf("%s is no hard link", e.Path)
			}
			groups[e.Group] = st.Ino
		}
		if e.Type() == unix.S_IFREG {
			want, err := os.ReadFile(sourceOf(t, e))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes differ (%v)", e.Path, len(got), err)
			}
		}
	}
	list := exec.Command("cpio", "-itvn", "--quiet")
	list.Stdin = bytes.NewReader(archive)
	if out, err := list.Output(); err != nil || !strings.Contains(string(out), " 3000000 ") || !strings.Contains(string(out), " 1234 ") {
		t.Errorf("the list is (%v)\n%s", err, out)
	}
	z, err := gzip.NewReader(bytes.NewReader(write(t, format(t, "cpio.gz"), tr, tree.Settings{Workers: 3})))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := io.ReadAll(z); err != nil || !bytes.Equal(plain, archive) {
		t.Errorf("cpio.gz has other bytes (%v)", err)
	}
}

// sourceOf is the file that an entry was listed from.
func sourceOf(t *testing.T, e *tree.Entry) string {
	t.Helper()
	f, err := e.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return f.Name()
}

func TestCpioRefusesLargeFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "large"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "large"), 4<<30); err != nil {
		t.Fatal(err)
	}
	tr, err := tree.Read(t.Context(), dir, tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = format(t, "cpio").Write(t.Context(), tr, &buffer{}, tree.Settings{}, nil)
	if err == nil || !strings.Contains(err.Error(), `"large"`) || !strings.Contains(err.Error(), "4 GiB") {
		t.Errorf("error is %v", err)
	}
}
