package tempfile

import (
	"path/filepath"
	"syscall"
	"testing"
)

func TestCreateBeside(t *testing.T) {
	umask := syscall.Umask(0o027)
	defer syscall.Umask(umask)
	path := filepath.Join(t.TempDir(), "f")
	f, err := CreateBeside(path, 0o777)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Mode().Perm() != 0o750 || filepath.Dir(f.Name()) != filepath.Dir(path) || f.Name() == path {
		t.Errorf("%s with mode %v, %v", f.Name(), st.Mode(), err)
	}
	if _, err := CreateBeside(filepath.Join(path, "g"), 0o666); err == nil {
		t.Error("a file in a directory that does not exist")
	}
}
