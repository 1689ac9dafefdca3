package disk

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/internal/blockdev"
)

// layout lays out partitions, of which one has the name root, on one disk.
func layout(t testing.TB, sizeMiB int64, more string, parts ...string) *blockdev.Layout {
	t.Helper()
	text := "- local_loop: {name: image0}\n- partitioning:\n    base: image0\n    label: mbr\n    partitions:\n    - " +
		strings.Join(parts, "\n    - ") + "\n- mkfs: {name: mkfs_root, base: root, mount: {mount_point: /, fstab: {fsck-passno: 1}}}\n" + more
	return layoutOf(t, sizeMiB, text)
}

func layoutOf(t testing.TB, sizeMiB int64, text string) *blockdev.Layout {
	t.Helper()
	c, err := blockdev.Check("test.yaml", []byte(text), blockdev.Params{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.Layout(blockdev.LayoutInput{SizeKiB: sizeMiB << 10, Seed: []byte("test")})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var tables = map[string][]string{
	"whole":   {"{name: root, flags: [boot, primary], size: 100%}"},
	"prep":    {"{name: b, flags: [boot, primary], size: 8MiB, type: '0x41'}", "{name: root, flags: [primary], size: 100%}"},
	"logical": {"{name: b, flags: [boot, primary], size: 256MiB}", "{name: s, size: 100MiB, type: 82}", "{name: root, size: 100%}"},
	"thirds":  {"{name: root, size: 33%}", "{name: b, size: 50%}", "{name: c, size: 100%}"},
}

// TestEncodeMBR compares with bytes computed by hand from the rules of the
// format. Starts and lengths are those of the specification's examples.
func TestEncodeMBR(t *testing.T) {
	for _, test := range []struct {
		table   string
		sizeMiB int64
		want    []string // record:slot:bytes
	}{
		{"whole", 64, []string{"0:0:80......83......0008000000f00100"}},
		{"prep", 10240, []string{"0:0:80......41......0008000000400000", "0:1:00......83......0048000000b03f01"}},
		{"logical", 1024, []string{
			"0:1:00......0f......0008080000f81700",
			"1:0:00......82......0008000000200300", "1:1:00......05......0028030000d01400",
			"2:0:00......83......0008000000c81400",
		}},
	} {
		sectors := EncodeMBR(layout(t, test.sizeMiB, "", tables[test.table]...).Disks[0].Table)
		for _, want := range test.want {
			var record, slot int
			parts := strings.SplitN(want, ":", 3)
			fmt.Sscan(parts[0], &record)
			fmt.Sscan(parts[1], &slot)
			got := hex.EncodeToString(sectors[record].Data[mbrEntries+slot*entrySize:][:entrySize])
			// The cylinder fields, dots here, have a test of their own.
			if ok, err := regexp.MatchString("^"+parts[2]+"$", got); err != nil || !ok {
				t.Errorf("%s: record %d slot %d is %s; want %s", test.table, record, slot, got, parts[2])
			}
		}
		for i, s := range sectors {
			if s.Data[510] != 0x55 || s.Data[511] != 0xaa {
				t.Errorf("%s: record %d has no signature", test.table, i)
			}
			if !bytes.Equal(s.Data[:440], make([]byte, 440)) {
				t.Errorf("%s: record %d has boot code", test.table, i)
			}
		}
	}
}

func TestCHS(t *testing.T) {
	for _, test := range []struct {
		lba  int64
		want string
	}{
		{0, "000100"}, {62, "003f00"}, {63, "010100"}, {2048, "202100"}, {16064, "fe3f00"}, {16065, "000101"},
		{16065 * 256, "004100"}, {16065*1023 + 16064, "feffff"}, {16065 * 1024, "feffff"}, {1 << 40, "feffff"},
	} {
		var b [3]byte
		putCHS(b[:], test.lba)
		if got := hex.EncodeToString(b[:]); got != test.want {
			t.Errorf("sector %d is %s; want %s", test.lba, got, test.want)
		}
	}
}

// image writes the boot records of a disk into a sparse file.
func image(t testing.TB, d blockdev.Disk) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(d.Size); err != nil {
		t.Fatal(err)
	}
	for _, s := range EncodeMBR(d.Table) {
		if _, err := f.WriteAt(s.Data[:], s.LBA*int64(d.SectorSize)); err != nil {
			t.Fatal(err)
		}
	}
	return name
}

func TestDecodeMBR(t *testing.T) {
	for name, parts := range tables {
		t.Run(name, func(t *testing.T) {
			d := layout(t, 1024, "", parts...).Disks[0]
			f, err := os.Open(image(t, d))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			got, err := DecodeMBR(f, 512, d.Size/512)
			if err != nil {
				t.Fatal(err)
			}
			want := *d.Table
			want.Partitions = nil
			for _, p := range d.Table.Partitions {
				p.Name, p.Device, p.PartUUID = "", "", ""
				want.Partitions = append(want.Partitions, p)
			}
			if diff := cmp.Diff(&want, got); diff != "" {
				t.Errorf("table differs (-written +read):\n%s", diff)
			}
		})
	}
}

func TestDecodeMBRErrors(t *testing.T) {
	loop := EncodeMBR(layout(t, 64, "", "{name: root, size: 10MiB}", "{name: b, size: 10MiB}").Disks[0].Table)
	disk := make([]byte, 64<<20)
	for _, s := range loop {
		copy(disk[s.LBA*512:], s.Data[:])
	}
	// The link of the first extended record leads back to itself.
	copy(disk[loop[1].LBA*512+mbrEntries+entrySize+8:], make([]byte, 4))
	for _, test := range []struct {
		name string
		disk []byte
		want string
	}{
		{"empty", make([]byte, 512), ErrNoTable.Error()},
		{"short", []byte{1}, "cannot read sector 0"},
		{"loop", disk, "leads from sector 2048 to 2048"},
	} {
		_, err := DecodeMBR(bytes.NewReader(test.disk), 512, int64(len(test.disk)/512))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v; want %q", test.name, err, test.want)
		}
	}
	if _, err := DecodeMBR(bytes.NewReader(make([]byte, 512)), 512, 1); !errors.Is(err, ErrNoTable) {
		t.Errorf("got %v; want ErrNoTable", err)
	}
}

func FuzzDecodeMBR(f *testing.F) {
	for _, parts := range tables {
		var disk []byte
		for _, s := range EncodeMBR(layout(f, 1024, "", parts...).Disks[0].Table)[:1] {
			disk = append(disk, s.Data[:]...)
		}
		f.Add(disk)
	}
	f.Fuzz(func(t *testing.T, disk []byte) {
		sectors := int64(len(disk) / 512)
		table, err := DecodeMBR(bytes.NewReader(disk), 512, sectors)
		if err != nil {
			return
		}
		for _, p := range table.Partitions {
			if p.Start < 0 || p.Start+p.Length > sectors {
				t.Errorf("partition %+v is not on a disk of %d sectors", p, sectors)
			}
		}
	})
}

// TestSfdiskAgrees has the tool of util-linux read what we wrote.
func TestSfdiskAgrees(t *testing.T) {
	sfdisk := needTool(t, "sfdisk")
	for name, parts := range tables {
		t.Run(name, func(t *testing.T) {
			d := layout(t, 1024, "", parts...).Disks[0]
			file := image(t, d)
			if out, err := exec.Command(sfdisk, "--verify", file).CombinedOutput(); err != nil || bytes.Contains(out, []byte("overlap")) {
				t.Errorf("sfdisk --verify: %v\n%s", err, out)
			}
			out, err := exec.Command(sfdisk, "-d", file).Output()
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("label-id: 0x%08x", d.Table.DiskID); !bytes.Contains(out, []byte(want)) {
				t.Errorf("no %q in\n%s", want, out)
			}
			plain := strings.Join(strings.Fields(string(out)), " ")
			for _, p := range d.Table.Partitions {
				want := fmt.Sprintf("%s%d : start= %d, size= %d, type=%x", file, p.Number, p.Start, p.Length, p.Type)
				if p.Boot {
					want += ", bootable"
				}
				if !strings.Contains(plain, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}

// needTool finds a program of the host or skips the test.
func needTool(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	t.Skipf("%s is not installed", name)
	return ""
}
