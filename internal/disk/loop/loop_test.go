package loop

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// needLoop skips where there are no loop devices; the end-to-end tests run as
// root and do not.
func needLoop(t *testing.T) {
	t.Helper()
	if err := Available(); err != nil {
		t.Skip(err)
	}
}

func image(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAttach checks against the kernel's own description, for both sector sizes.
func TestAttach(t *testing.T) {
	needLoop(t)
	for _, sector := range []int{512, 4096} {
		path := image(t, 8<<20)
		parts := []Partition{{1, 1 << 20, 2 << 20}, {5, 4 << 20, 1 << 20}}
		d, err := Attach(path, sector, parts)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readNumber(filepath.Join(sysBlock, filepath.Base(d.Path), "queue/logical_block_size")); err != nil || got != int64(sector) {
			t.Errorf("sectors of %d bytes (%v), want %d", got, err, sector)
		}
		for _, p := range parts {
			name := filepath.Base(d.Path) + "p" + strconv.Itoa(p.Number)
			if d.Partitions[p.Number] != "/dev/"+name || sameExtent(name, p) != 0 {
				t.Errorf("partition %d is %q", p.Number, d.Partitions[p.Number])
			}
			// What is written to a partition must be in the image at its place.
			f, err := os.OpenFile(d.Partitions[p.Number], os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString(name); err != nil {
				t.Error(err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat("/dev/mapper/" + name); err != nil {
				t.Error(err)
			}
		}
		base := filepath.Base(d.Path)
		if err := d.Detach(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			name := base + "p" + strconv.Itoa(p.Number)
			if !strings.HasPrefix(string(text[p.Start:]), name) {
				t.Errorf("what was written to %s is not in the image", name)
			}
			if _, err := os.Lstat("/dev/mapper/" + name); err == nil {
				t.Errorf("/dev/mapper/%s is left", name)
			}
		}
	}
}

func TestAttachFails(t *testing.T) {
	needLoop(t)
	for _, c := range []struct {
		name       string
		image      string
		sector     int
		partitions []Partition
		want       string
	}{
		{"no image", filepath.Join(t.TempDir(), "none"), 512, nil, "no such file"},
		{"sector size", image(t, 1<<20), 513, nil, "LOOP_CONFIGURE with sectors of 513 bytes"},
		{"partition beyond the end", image(t, 1<<20), 512, []Partition{{1, 1 << 30, 1 << 20}}, "cannot announce partition 1"},
		{"overlap", image(t, 8<<20), 512, []Partition{{1, 1 << 20, 2 << 20}, {2, 2 << 20, 2 << 20}}, "cannot announce partition 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := Attach(c.image, c.sector, c.partitions)
			if d != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, %v, want %s", d, err, c.want)
			}
			files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), c.image) {
					t.Errorf("%s holds the image still", f)
				}
			}
		})
	}
}

func TestProbe(t *testing.T) {
	needLoop(t)
	dir := t.TempDir()
	if err := Probe(dir); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if err := Probe(filepath.Join(dir, "none")); err == nil {
		t.Error("no error without a directory")
	}
}
