package raw_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/raw"
)

func TestHolesStayHoles(t *testing.T) {
	dir := t.TempDir()
	in, err := os.Create(filepath.Join(dir, "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := in.Truncate(256 << 20); err != nil {
		t.Fatal(err)
	}
	if _, err := in.WriteAt([]byte("data"), 100<<20); err != nil {
		t.Fatal(err)
	}
	src, err := image.FileSource(in)
	if err != nil {
		t.Fatal(err)
	}
	if src.DataSize() == src.Size() {
		t.Skip("this filesystem does not record holes")
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := (raw.Format{}).Write(context.Background(), src, out, image.Options{}, nil); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(out.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if st.Size != 256<<20 || st.Blocks*512 > 1<<20 {
		t.Errorf("copy has %d bytes in %d blocks", st.Size, st.Blocks)
	}
}
