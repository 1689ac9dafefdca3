package workdir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLifeOfADirectory(t *testing.T) {
	parent := t.TempDir()
	outside := filepath.Join(parent, "precious")
	if err := os.WriteFile(outside, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Create(parent)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(d.Path); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	deep := filepath.Join(d.Root(), "a/b/c")
	for _, err := range []error{
		os.MkdirAll(deep, 0o755),
		os.Symlink(parent, filepath.Join(deep, "link")),
		os.Mkdir(filepath.Join(deep, "closed"), 0),
		os.Link(outside, filepath.Join(deep, "hard")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3000 {
		if err := os.WriteFile(filepath.Join(deep, fmt.Sprintf("file%04d", i)), nil, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := acquire(d.Path); !errors.Is(err, ErrBusy) {
		t.Errorf("a second lock: %v, want ErrBusy", err)
	}
	if dirs, err := Stale(parent, os.Getuid()); err != nil || len(dirs) != 0 {
		t.Errorf("Stale = %v, %v while in use", dirs, err)
	}
	d.Lock.Close() // the build was killed

	if dirs, err := Stale(parent, os.Getuid()+1); err != nil || len(dirs) != 0 {
		t.Errorf("Stale = %v, %v for somebody else", dirs, err)
	}
	dirs, err := Stale(parent, os.Getuid())
	if err != nil || len(dirs) != 1 {
		t.Fatalf("Stale = %v, %v, want one", dirs, err)
	}
	if err := Remove(dirs[0]); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(parent)
	if err != nil || len(left) != 1 || left[0].Name() != "precious" {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestStaleIgnoresForeignNames(t *testing.T) {
	parent := t.TempDir()
	for _, name := range []string{"dib_build.short", "dib_build.toolongname", "other"} {
		if err := os.Mkdir(filepath.Join(parent, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(parent, filepath.Join(parent, "dib_build.abcdefgh")); err != nil {
		t.Fatal(err)
	}
	if dirs, err := Stale(parent, os.Getuid()); err != nil || len(dirs) != 0 {
		t.Errorf("Stale = %v, %v", dirs, err)
	}
}

func TestRemoveRefusesMounts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount")
	}
	d, err := Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	point := filepath.Join(d.Root(), "point")
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", point, "tmpfs", 0, ""); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	defer unix.Unmount(point, unix.MNT_DETACH)
	if err := Remove(d); err == nil || !strings.Contains(err.Error(), "mount point") {
		t.Errorf("Remove: %v", err)
	}
}

func TestRemoveImmutable(t *testing.T) {
	parent := t.TempDir()
	d, err := Create(parent)
	if err != nil {
		t.Fatal(err)
	}
	sub := filepath.Join(d.Path, "sub")
	file := filepath.Join(sub, "file")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, sub} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err == nil {
			err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|fsImmutable))
		}
		f.Close()
		if err != nil {
			_ = Remove(d)
			t.Skipf("cannot make files immutable here: %v", err)
		}
	}
	if err := Remove(d); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(d.Path); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
}
