package fat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

const mib = 1 << 20

var day = time.Date(2024, 5, 17, 12, 34, 56, 0, time.UTC)

func file(size int, seed uint64) *fstest.MapFile {
	data := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return &fstest.MapFile{Data: data, Mode: 0o644, ModTime: day}
}

// write makes a filesystem in a file of its own, offset bytes into it.
func write(t testing.TB, tree fs.FS, o Options, offset int64) (string, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fat")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(offset + o.Length); err != nil {
		t.Fatal(err)
	}
	return name, Write(context.Background(), f, offset, tree, o)
}

func tool(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if p, err := exec.LookPath(dir + name); err == nil {
			return p
		}
	}
	t.Skipf("%s is not installed; scripts/install-test-deps does that", name)
	return ""
}

// judge has fsck.vfat look for faults and mtools read everything back.
func judge(t *testing.T, image string, tree fs.FS) string {
	t.Helper()
	out, err := exec.Command(tool(t, "fsck.vfat"), "-n", "-v", image).CombinedOutput()
	if err != nil {
		t.Fatalf("fsck.vfat: %v\n%s", err, out)
	}
	if entries, err := fs.ReadDir(tree, "."); err != nil || len(entries) == 0 {
		return string(out) // mcopy takes nothing to copy for an error
	}
	to := t.TempDir()
	cmd := exec.Command(tool(t, "mcopy"), "-s", "-m", "-Q", "-n", "-i", image, "::*", to)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1", "TZ=UTC", "LC_ALL=C.UTF-8")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mcopy: %v\n%s", err, text)
	}
	want := map[string][]byte{}
	_ = fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			want[p], err = fs.ReadFile(tree, p)
		} else if p != "." {
			want[p+"/"] = nil
		}
		return err
	})
	err = filepath.WalkDir(to, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(to, p)
		if d.IsDir() {
			if _, ok := want[rel+"/"]; !ok && rel != "." {
				t.Errorf("unexpected directory %q", rel)
			}
			delete(want, rel+"/")
			return nil
		}
		got, err := os.ReadFile(p)
		if err != nil {
			t.Error(err)
		}
		if data, ok := want[rel]; !ok || !bytes.Equal(got, data) {
			t.Errorf("file %q: %d bytes that differ from what was written (known: %v)", rel, len(got), ok)
		}
		delete(want, rel)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for name := range want {
		t.Errorf("%q is missing", name)
	}
	return string(out)
}

func sampleTree() fstest.MapFS {
	tree := fstest.MapFS{
		"EFI":                        {Mode: fs.ModeDir | 0o755, ModTime: day},
		"EFI/BOOT/BOOTX64.EFI":       file(958592, 1),
		"EFI/debian/grub.cfg":        file(126, 2),
		"EFI/debian/empty":           file(0, 0),
		"EFI/debian/exactly-4096":    file(4096, 3),
		"emptydir":                   {Mode: fs.ModeDir | 0o755, ModTime: day},
		"Ünïcödé name – ☃.txt":       file(77, 4),
		"loader/entries/a b.c.conf":  file(10, 5),
		"loader/entries/a b.d.conf":  file(11, 6),
		"UPPER.TXT":                  file(12, 7),
		".hidden":                    file(13, 8),
		strings.Repeat("n", 255):     file(14, 9),
		"thirteen-unit/thirteenunit": file(15, 10),
	}
	for i := range 300 {
		tree[fmt.Sprintf("many/some longer file name %d.conf", i)] = file(i, uint64(i))
	}
	return tree
}

func TestWrite(t *testing.T) {
	for _, test := range []struct {
		name   string
		length int64
		sector int
		opts   []string
		want   string
	}{
		{"FAT12", 8 * mib, 512, nil, "12 bit entries"},
		{"FAT16", 100 * mib, 512, nil, "16 bit entries"},
		{"FAT16, odd size", 33*mib + 512*77, 512, nil, "16 bit entries"},
		{"FAT32", 550 * mib, 512, nil, "32 bit entries"},
		{"FAT32 by option", 64 * mib, 512, []string{"-F", "32", "-s1"}, "32 bit entries"},
		{"FAT32, 4096-byte sectors", 550 * mib, 4096, nil, "32 bit entries"},
		{"FAT16, 4096-byte sectors", 100 * mib, 4096, nil, "16 bit entries"},
		{"FAT32, 9 GiB", 9 << 30, 512, nil, "32 bit entries"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := Options{Length: test.length, SectorSize: test.sector, Label: "MKFS_ESP", VolumeID: "8D6C-1A2B", MkfsOpts: test.opts}
			image, err := write(t, sampleTree(), o, 0)
			if err != nil {
				t.Fatal(err)
			}
			if out := judge(t, image, sampleTree()); !strings.Contains(out, test.want) {
				t.Errorf("fsck.vfat does not say %q:\n%s", test.want, out)
			}
			out, err := exec.Command("file", "-b", image).CombinedOutput()
			if err == nil && !strings.Contains(string(out), "serial number 0x8d6c1a2b") {
				t.Errorf("file says %s", out)
			}
		})
	}
}

func TestEmpty(t *testing.T) {
	image, err := write(t, nil, Options{Length: 20 * mib, SectorSize: 512, VolumeID: "00000001"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	judge(t, image, fstest.MapFS{})
}

// TestPlaceDoesNotMatter writes the same filesystem in two places.
func TestPlaceDoesNotMatter(t *testing.T) {
	o := Options{Length: 40 * mib, SectorSize: 512, Label: "ESP", VolumeID: "1", Epoch: day.Unix() - 3600}
	var got [][]byte
	for _, offset := range []int64{0, mib} {
		image, err := write(t, sampleTree(), o, offset)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, data[offset:])
	}
	if !bytes.Equal(got[0], got[1]) {
		t.Error("two runs differ")
	}
}

func TestRefusals(t *testing.T) {
	small := Options{Length: 8 * mib, SectorSize: 512, VolumeID: "1"}
	with := func(change func(*Options)) Options {
		o := small
		change(&o)
		return o
	}
	for _, test := range []struct {
		name string
		tree fstest.MapFS
		o    Options
		want string
	}{
		{"full", fstest.MapFS{"a": file(5*mib, 1), "b": file(4*mib, 2)}, small, `too few for "b"`},
		{"link", fstest.MapFS{"dir/l": {Mode: fs.ModeSymlink}}, small, `cannot store "dir/l" on FAT: it is a symbolic link`},
		{"case", fstest.MapFS{"File": file(1, 1), "file": file(1, 1)}, small, `only its case differs from "File"`},
		{"bytes", fstest.MapFS{"a\xff": file(1, 1)}, small, "not valid UTF-8"},
		{"colon", fstest.MapFS{"a:b": file(1, 1)}, small, "control character or one of"},
		{"dot", fstest.MapFS{"a.": file(1, 1)}, small, "ends in a dot"},
		{"long", fstest.MapFS{strings.Repeat("n", 256): file(1, 1)}, small, "longer than 255"},
		{"option", nil, with(func(o *Options) { o.MkfsOpts = []string{"-f", "1"} }), "option -f of mkfs.vfat is not known here"},
		{"option without argument", nil, with(func(o *Options) { o.MkfsOpts = []string{"-F"} }), "wants an argument"},
		{"kind", nil, with(func(o *Options) { o.MkfsOpts = []string{"-F13"} }), "want 12, 16 or 32"},
		{"clusters", nil, with(func(o *Options) { o.MkfsOpts = []string{"-s", "3"} }), "power of two"},
		{"too small for 32", nil, with(func(o *Options) { o.MkfsOpts = []string{"-F", "32"} }), "no FAT32 filesystem of 8388608 bytes"},
		{"label", nil, with(func(o *Options) { o.Label = "A/B" }), `has the character '/'`},
		{"id", nil, with(func(o *Options) { o.VolumeID = "xyz" }), "is not a volume id"},
		{"tiny", nil, with(func(o *Options) { o.Length = 4096 }), "no FAT filesystem of 4096 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var tree fs.FS
			if test.tree != nil {
				tree = test.tree
			}
			_, err := write(t, tree, test.o, 0)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v; want %q", err, test.want)
			}
			if test.name == "full" && !errors.Is(err, ErrNoSpace) {
				t.Errorf("%v is not ErrNoSpace", err)
			}
		})
	}
}

func TestShortNames(t *testing.T) {
	namer := shortNamer{taken: map[string]bool{}}
	var got []string
	for _, name := range []string{"GRUB.CFG", "grub.cfg", "long file name.text", "long file name.textual", ".profile", "A.B.C", "ü.é", "ABCDEFGHI", "a+b"} {
		short, whole := namer.name(name)
		got = append(got, fmt.Sprintf("%s %v", short, whole))
	}
	want := []string{"GRUB    CFG true", "GRUB~1  CFG false", "LONGFI~1TEX false", "LONGFI~2TEX false", "PROFIL~1    false",
		"AB~1    C   false", "_~1     _   false", "ABCDEF~1    false", "A_B~1       false"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestRandomTrees writes trees of random shape and size.
func TestRandomTrees(t *testing.T) {
	tool(t, "fsck.vfat")
	rounds := 6
	if v := os.Getenv("DIB_TEST_FULL"); v != "" && v != "0" {
		rounds = 300
	}
	for round := range rounds {
		r := rand.New(rand.NewPCG(uint64(round), 1))
		tree := fstest.MapFS{}
		for range r.IntN(400) {
			var parts []string
			for range 1 + r.IntN(4) {
				parts = append(parts, strings.TrimRight(strings.Repeat(string(rune('a'+r.IntN(26))), 1+r.IntN(40)), " .")+fmt.Sprint(r.IntN(30)))
			}
			name := strings.Join(parts, "/")
			if st, err := fs.Stat(tree, name); err == nil && st.IsDir() {
				continue
			}
			clash := false
			for i := 1; i < len(parts); i++ {
				_, clash2 := tree[strings.Join(parts[:i], "/")]
				clash = clash || clash2
			}
			if !clash {
				tree[name] = file(r.IntN(20000), r.Uint64())
			}
		}
		o := Options{Length: (9 + int64(r.IntN(120))) * mib, SectorSize: []int{512, 4096}[r.IntN(2)], VolumeID: "1", Label: "R"}
		image, err := write(t, tree, o, 0)
		if err != nil {
			if !errors.Is(err, ErrNoSpace) {
				t.Errorf("round %d: %v", round, err)
			}
			continue
		}
		judge(t, image, tree)
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"a", "GRUB.CFG", "ü", "a.b.c", " lead", strings.Repeat("x", 255), "~1", "..a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if name == "" || checkName(name) != "" {
			return
		}
		namer := shortNamer{taken: map[string]bool{}}
		first, _ := namer.name(name)
		second, whole := namer.name(name)
		if first == second || whole {
			t.Errorf("%q got the short name %q twice", name, first)
		}
		if long := longEntries(name, first); len(long)%entrySize != 0 || long[0]&0x40 == 0 {
			t.Errorf("%q has wrong long entries", name)
		}
	})
}
