package disk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/inspect"
	"github.com/dib-builder/dib/internal/inspect/extfs"
	"github.com/dib-builder/dib/internal/inspect/fatfs"
)

// TestRandomLayouts writes disks of random configurations and has other
// programs judge them: sgdisk and sfdisk the tables, e2fsck and fsck.vfat the
// filesystems, blkid what they are called; their files are compared with the
// tree. 20 disks, or 1,000 with DIB_TEST_FULL=1. DIB_TEST_SEED=N makes disk N
// alone, the one that a failure names.
func TestRandomLayouts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("hiding nested mount points needs the right to mount")
	}
	for _, name := range []string{"sgdisk", "sfdisk", "e2fsck", "fsck.vfat", "blkid", "mke2fs"} {
		needTool(t, name)
	}
	first, count := uint64(1), uint64(20)
	if v := os.Getenv("DIB_TEST_FULL"); v != "" && v != "0" {
		first, count = uint64(time.Now().Unix()), 1000
	}
	if v := os.Getenv("DIB_TEST_SEED"); v != "" {
		seed, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		first, count = seed, 1
	}
	t.Logf("DIB_TEST_SEED=%d is the first of %d", first, count)
	for seed := first; seed < first+count; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			d := drawDisk(t, rand.New(rand.NewPCG(seed, 0)))
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("DIB_TEST_SEED=%d; %d KiB\n%s", seed, d.sizeKiB, d.config)
				}
			})
			d.writeAndJudge(t)
		})
	}
}

// randomDisk is a configuration and the tree that goes with it.
type randomDisk struct {
	r       *rand.Rand
	config  string
	sizeKiB int64
	layout  *blockdev.Layout
	tree    string
	side    []SideEntry
}

// drawDisk draws configurations until one is valid. Percentages and small disks
// make some that do not fit, and none other may be refused.
func drawDisk(t *testing.T, r *rand.Rand) *randomDisk {
	t.Helper()
	for range 200 {
		d := &randomDisk{r: r, sizeKiB: 64 * (512 + r.Int64N(8000))}
		if r.IntN(8) == 0 {
			d.sizeKiB += 1 << 20 // room for FAT32
		}
		d.config = d.draw()
		c, err := blockdev.Check("random", []byte(d.config), blockdev.Params{})
		if err != nil {
			t.Fatalf("refused: %v\n%s", err, d.config)
		}
		d.layout, err = c.Layout(blockdev.LayoutInput{SizeKiB: d.sizeKiB, Seed: []byte(d.config)})
		switch {
		case err == nil && d.roomy():
			d.plant(t)
			return d
		case err == nil:
		case !strings.Contains(err.Error(), "does not fit") && !strings.Contains(err.Error(), "less than one") &&
			!strings.Contains(err.Error(), "no FAT") && !strings.Contains(err.Error(), "too small for a swap area"):
			t.Fatalf("refused: %v\n%s", err, d.config)
		}
	}
	t.Fatal("no valid configuration in 200")
	return nil
}

// roomy says whether every filesystem that files go to can hold them.
func (d *randomDisk) roomy() bool {
	for _, f := range d.layout.Filesystems {
		least := int64(4 << 20)
		if strings.HasPrefix(f.Type, "ext") {
			least = 8 << 20
		}
		if f.Type != "swap" && f.Length < least {
			return false
		}
	}
	return true
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

var points = []string{"/boot", "/boot/efi", "/srv", "/srv/a b", "/srv/a b/deep/er", "/var", "/var/log", "/var/log/x", "/home", "/opt/new/dir"}

// draw makes a configuration.
func (d *randomDisk) draw() string {
	r := d.r
	sector := pick(r, 512, 512, 4096)
	var b strings.Builder
	fmt.Fprintf(&b, "- local_loop: {name: image0, block_size: %d}\n", sector)
	if r.IntN(12) == 0 {
		return b.String() + "- mkfs: " + d.filesystem("image0", "/", sector, 0) + "\n"
	}
	label := pick(r, "mbr", "gpt")
	fmt.Fprintf(&b, "- partitioning:\n    base: image0\n    label: %s\n", label)
	if label == "mbr" && r.IntN(2) == 0 {
		fmt.Fprintf(&b, "    align: %s\n", pick(r, "4KiB", "32KiB", "1 MiB", "4MiB", "65536", "1048576B"))
	}
	b.WriteString("    partitions:\n")
	free := slices.Clone(points)
	r.Shuffle(len(free), func(i, k int) { free[i], free[k] = free[k], free[i] })
	count := 1 + r.IntN(7)
	root, primaries := r.IntN(count), r.IntN(4)
	var rest strings.Builder
	for i := range count {
		name := fmt.Sprintf("p%d%s", i, pick(r, "", "-x", ".y", " z"))
		fmt.Fprintf(&b, "    - {name: %s, size: %s", name, d.partitionSize(i == count-1))
		if label == "mbr" {
			var flags []string
			if i < primaries {
				flags = append(flags, "primary")
			}
			if r.IntN(4) == 0 {
				flags = append(flags, "boot")
			}
			fmt.Fprintf(&b, ", flags: [%s], type: %s", strings.Join(flags, ", "), pick(r, "83", "0x83", "'82'", "0c", "0x8e", "ef"))
		} else {
			fmt.Fprintf(&b, ", type: %s", pick(r, "8300", "'EF00'", "ef02", "0x8200", "0700", "8304", "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"))
		}
		b.WriteString("}\n")
		switch {
		case i == root:
			rest.WriteString("- mkfs: " + d.filesystem(name, "/", sector, i) + "\n")
		case r.IntN(6) > 0:
			point := ""
			if r.IntN(4) > 0 {
				point = free[i]
			}
			rest.WriteString("- mkfs: " + d.filesystem(name, point, sector, i) + "\n")
		}
	}
	return b.String() + rest.String()
}

func (d *randomDisk) partitionSize(last bool) string {
	switch r := d.r; {
	case last && r.IntN(2) == 0:
		return "100%"
	case r.IntN(2) == 0:
		return fmt.Sprintf("%d.%d%%", 5+r.IntN(60), r.IntN(10))
	case r.IntN(12) == 0:
		return pick(r, "520MiB", "0.55GiB", "600M")
	default:
		return fmt.Sprintf("%d%s", 9+r.IntN(40), pick(r, "MiB", " MiB", "M", "MB", ".5MiB"))
	}
}

// filesystem makes the mapping of a mkfs item on a base, mounted on point
// unless that is empty.
func (d *randomDisk) filesystem(base, point string, sector, i int) string {
	r := d.r
	kinds := []string{"ext4", "ext4", "ext3", "ext2"}
	if point != "/" {
		kinds = append(kinds, "vfat", "fat", "vfat", "swap")
	}
	kind := pick(r, kinds...)
	opts := ""
	switch {
	case kind == "vfat":
		opts = pick(r, "", "", "-s 1", "-F 16", "-i 1234abcd")
	case strings.HasPrefix(kind, "ext"):
		opts = pick(r, "", "", "-m 0", "-i 8192", "-N 2000", "-m 1 -E lazy_itable_init=1", "-I 256", "-b 4096", "-T default", "-E resize=4194304")
		if kind == "ext4" {
			opts = pick(r, opts, "-O ^metadata_csum", "-O ^has_journal")
		}
	}
	label := fmt.Sprintf("L%d%s", i, pick(r, "", " b", "-C", "_xyz"))
	if kind != "vfat" && kind != "fat" {
		label = pick(r, label, fmt.Sprintf("%dä'\\\"ß", i))
	}
	quoted, _ := json.Marshal(label) // a text of JSON is one of YAML
	out := fmt.Sprintf("{base: %s, type: %s, label: %s", base, kind, quoted)
	if opts != "" {
		out += fmt.Sprintf(", opts: %q", opts)
	}
	if r.IntN(3) == 0 {
		out += fmt.Sprintf(", uuid: %08x-0000-4000-8000-%012x", r.Uint32(), i)
	}
	if kind == "swap" {
		point = "none"
	}
	if point != "" {
		out += fmt.Sprintf(", mount: {mount_point: %q, fstab: {by: %s}}", point, pick(r, "label", "uuid"))
	}
	return out + "}"
}

// plant makes the tree: files everywhere, plain ones on FAT.
func (d *randomDisk) plant(t *testing.T) {
	t.Helper()
	d.tree = filepath.Join(t.TempDir(), "tree")
	r := d.r
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	for _, m := range d.layout.Mounts {
		// Directories of other filesystems can be missing, but not on FAT.
		above, _ := d.layout.Holding(path.Dir(m.Point))
		fs := d.layout.Filesystem(m.Filesystem)
		if strings.HasPrefix(fs.Type, "ext") && m.Point != "/" && strings.HasPrefix(above.Type, "ext") && r.IntN(4) == 0 {
			continue
		}
		must(os.MkdirAll(filepath.Join(d.tree, m.Point), 0o755))
	}
	must(os.MkdirAll(d.tree, 0o755))
	for _, m := range d.layout.Mounts {
		dir := filepath.Join(d.tree, m.Point)
		if _, err := os.Lstat(dir); err != nil {
			continue
		}
		fat := !strings.HasPrefix(d.layout.Filesystem(m.Filesystem).Type, "ext")
		var files []string
		for i := range r.IntN(25) {
			sub := pick(r, dir, dir, filepath.Join(dir, "sub dir"), filepath.Join(dir, "d", "e", "e", "p"))
			must(os.MkdirAll(sub, 0o755))
			name := fmt.Sprintf("f%d%s", i, pick(r, "", ".conf", " with blanks and a long name.text", ".äöü"))
			if !fat {
				name += pick(r, "", "", "\n", `"\`, "\xff\xfe", strings.Repeat("n", 180))
			}
			file := filepath.Join(sub, name)
			must(os.WriteFile(file, randomBytes(r, pick(r, 0, 1, 59, 60, 4095, 4096, 4097, 30000, 90000)), os.FileMode(pick(r, 0o644, 0o600, 0o755))))
			must(os.Chtimes(file, time.Time{}, time.Unix(1500000000+2*r.Int64N(90000000), 0)))
			if fat {
				continue
			}
			files = append(files, file)
			switch r.IntN(8) {
			case 0:
				must(os.Symlink(strings.Repeat("target/", 1+r.IntN(30)), file+".l"))
			case 1:
				must(os.Link(pick(r, files...), file+".h"))
			case 2:
				must(os.Truncate(file, 3<<20)) // a hole at its end
			case 3:
				must(unix.Mkfifo(file+".p", 0o640))
			case 4:
				must(os.Lchown(file, 1000, 70000))
			case 5:
				rel, err := filepath.Rel(d.tree, file+".d")
				must(err)
				if strings.ContainsAny(rel, "\n\\") || !utf8.ValidString(rel) {
					break // mke2fs's way cannot do it
				}
				must(os.WriteFile(file+".d", nil, 0o600))
				d.side = append(d.side, SideEntry{Path: rel, Node: &Node{Mode: unix.S_IFCHR | 0o620, Major: 5, Minor: uint32(i), GID: 5}})
			}
		}
	}
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func (d *randomDisk) writeAndJudge(t *testing.T) {
	images, err := Write(context.Background(), Options{
		Layout: d.layout, Tree: d.tree, Side: d.side, Dir: t.TempDir(), Env: []string{"PATH=" + os.Getenv("PATH")},
	})
	if err != nil {
		t.Fatal(err)
	}
	image := images[0].Path
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Size() != d.sizeKiB<<10 {
		t.Errorf("image has %v bytes, %v", st.Size(), err)
	}
	d.judgeTable(t, image)
	for i := range d.layout.Filesystems {
		d.judgeFilesystem(t, f, &d.layout.Filesystems[i])
	}
}

// judgeTable has sfdisk and sgdisk look at the partition table. Both take
// sectors of a file to be of 512 bytes.
func (d *randomDisk) judgeTable(t *testing.T, image string) {
	t.Helper()
	disk := &d.layout.Disks[0]
	if disk.Table == nil || disk.SectorSize != 512 {
		return
	}
	if out, err := exec.Command(needTool(t, "sfdisk"), "--verify", image).CombinedOutput(); err != nil {
		t.Errorf("sfdisk --verify: %v\n%s", err, out)
	}
	if disk.Table.Label == "gpt" {
		out, err := exec.Command(needTool(t, "sgdisk"), "-v", image).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "No problems found") {
			t.Errorf("sgdisk -v: %v\n%s", err, out)
		}
	}
	out, err := exec.Command(needTool(t, "sfdisk"), "-J", image).Output()
	if err != nil {
		t.Fatalf("sfdisk -J: %v", err)
	}
	var seen struct {
		PartitionTable struct {
			Label, ID  string
			Partitions []struct {
				Node             string
				Start, Size      int64
				Type, UUID, Name string
				Bootable         bool
			}
		}
	}
	if err := json.Unmarshal(out, &seen); err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, p := range seen.PartitionTable.Partitions {
		number := strings.TrimPrefix(p.Node, image)
		if p.Type == "f" { // the extended partition
			continue
		}
		got = append(got, strings.ToLower(fmt.Sprint(number, " ", p.Start, " ", p.Size, " ", p.Type, " ", p.UUID, " ", p.Bootable))+" "+p.Name)
	}
	for _, p := range disk.Table.Partitions {
		kind, id, name := p.TypeGUID, p.PartUUID, p.Name
		if kind == "" {
			kind, id, name = fmt.Sprintf("%x", p.Type), "", ""
		}
		want = append(want, fmt.Sprint(p.Number, " ", p.Start, " ", p.Length, " ", kind, " ", id, " ", p.Boot)+" "+name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sfdisk sees another table (-want +got):\n%s", diff)
	}
}

func (d *randomDisk) judgeFilesystem(t *testing.T, f *os.File, fs *blockdev.Filesystem) {
	t.Helper()
	part := io.NewSectionReader(f, fs.Offset, fs.Length)
	want := map[string]string{"LABEL": fs.Label, "UUID": fs.UUID, "TYPE": fs.Type}
	if fs.Type == "fat" {
		want["TYPE"] = "vfat"
	}
	if slices.Contains(fs.Opts, "-i") && want["TYPE"] == "vfat" {
		want["UUID"] = "1234-ABCD"
	}
	for key, value := range want {
		out, err := exec.Command(needTool(t, "blkid"), "-p", "-O", fmt.Sprint(fs.Offset), "-S", fmt.Sprint(fs.Length), "-s", key, "-o", "value", f.Name()).Output()
		if got := strings.TrimSuffix(string(out), "\n"); err != nil || got != value {
			t.Errorf("blkid says %s of %s is %q, %v; want %q", key, fs.Node, got, err, value)
		}
	}
	var walker inspect.Walker
	var err error
	switch want["TYPE"] {
	case "swap":
		return
	case "vfat":
		judgeFAT(t, part, fs)
		walker, err = fatfs.Open(part)
	default:
		check(t, f.Name(), fs)
		walker, err = extfs.Open(part)
	}
	if err != nil {
		t.Fatalf("%s: %v", fs.Node, err)
	}
	got := map[string]string{}
	err = walker.Walk(func(e inspect.Entry) error {
		if e.Path == "." || e.Path == "lost+found" {
			return nil
		}
		var sum []byte
		if e.Content != nil {
			if sum, err = io.ReadAll(e.Content); err != nil {
				return err
			}
		}
		got[e.Path] = about(e.Mode, e.UID, e.GID, e.Major, e.Minor, e.Target, e.ModTime, sum, want["TYPE"] == "vfat")
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", fs.Node, err)
	}
	if diff := cmp.Diff(d.expected(t, fs), got); diff != "" {
		t.Errorf("%s (%s) differs from the tree (-want +got):\n%.3000s", fs.Node, fs.Type, diff)
	}
}

// judgeFAT has fsck.vfat look at a copy of the partition, since it takes no offset.
func judgeFAT(t *testing.T, part *io.SectionReader, fs *blockdev.Filesystem) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fat")
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	buf, zero := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); at < part.Size(); {
		n, err := part.ReadAt(buf, at)
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := out.WriteAt(buf[:n], at); err != nil {
				t.Fatal(err)
			}
		}
		if at += int64(n); err != nil && at < part.Size() {
			t.Fatal(err)
		}
	}
	if err := out.Truncate(part.Size()); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command(needTool(t, "fsck.vfat"), "-n", name).CombinedOutput(); err != nil {
		t.Errorf("fsck.vfat of %s: %v\n%s", fs.Node, err, text)
	}
}

// expected describes what a filesystem should hold: the part of the tree below
// its mount point, with empty directories where others are mounted.
func (d *randomDisk) expected(t *testing.T, fs *blockdev.Filesystem) map[string]string {
	t.Helper()
	want := map[string]string{}
	point := ""
	for _, m := range d.layout.Mounts {
		if m.Filesystem == fs.Node {
			point = m.Point
		}
	}
	if point == "" {
		return want
	}
	fat := !strings.HasPrefix(fs.Type, "ext")
	base := filepath.Join(d.tree, point)
	nodes := map[string]*Node{}
	for _, e := range d.side {
		nodes[path.Join("/", e.Path)] = e.Node
	}
	err := filepath.WalkDir(base, func(p string, _ os.DirEntry, err error) error {
		if os.IsNotExist(err) && p == base {
			return nil // the tree has no such directory
		}
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(d.tree, p)
		in := path.Join("/", rel)
		mounted := slices.ContainsFunc(d.layout.Mounts, func(m blockdev.Mount) bool { return m.Point == in && m.Point != point })
		name, err := filepath.Rel(base, p)
		if err != nil || name == "." {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		var target string
		var data []byte
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, err = os.Readlink(p)
		case unix.S_IFREG:
			data, err = os.ReadFile(p)
		}
		if err != nil {
			return err
		}
		if n := nodes[in]; n != nil {
			want[name] = about(n.Mode, n.UID, n.GID, n.Major, n.Minor, "", time.Unix(st.Mtim.Sec, 0), nil, fat)
			return nil
		}
		want[name] = about(st.Mode, st.Uid, st.Gid, 0, 0, target, time.Unix(st.Mtim.Sec, 0), data, fat)
		if mounted {
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// Where the tree lacks the directory of another filesystem, it is made.
	for _, m := range d.layout.Mounts {
		if above, _ := d.layout.Holding(path.Dir(m.Point)); m.Point == "/" || above == nil || above.Node != fs.Node {
			continue
		}
		for p := m.Point; p != point && p != "/"; p = path.Dir(p) {
			name := strings.TrimPrefix(strings.TrimPrefix(p, strings.TrimSuffix(point, "/")), "/")
			if _, ok := want[name]; !ok {
				want[name] = made
			}
		}
	}
	for _, name := range slices.Collect(maps.Keys(want)) {
		if want[name] == made {
			want[name] = about(unix.S_IFDIR|0o755, 0, 0, 0, 0, "", time.Time{}, nil, fat)
		}
	}
	return want
}

// made marks directories that the writer makes.
const made = "made"

// about describes a file as far as its filesystem can keep it. Times of
// directories are left out, since those that are made have no expected one, and
// of devices, to which mke2fs's way gives that of writing.
func about(mode, uid, gid, major, minor uint32, target string, mtime time.Time, data []byte, fat bool) string {
	kind := mode & unix.S_IFMT
	if kind == unix.S_IFDIR || kind == unix.S_IFLNK || kind == unix.S_IFCHR {
		mtime = time.Time{}
	}
	stamp := int64(0)
	if !mtime.IsZero() {
		stamp = mtime.Unix()
	}
	if fat {
		return fmt.Sprintf("%o %d bytes %x", kind, len(data), sum(data))
	}
	return fmt.Sprintf("%o %d:%d %d:%d %q %d %d bytes %x", mode, uid, gid, major, minor, target, stamp, len(data), sum(data))
}

func sum(data []byte) []byte {
	h := sha256.Sum256(data)
	return h[:8]
}
