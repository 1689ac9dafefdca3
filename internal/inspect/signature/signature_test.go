package signature

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func command(t *testing.T, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/sbin:"+os.Getenv("PATH"))
	if cmd.Path, _ = exec.LookPath("/usr/sbin/" + argv[0]); cmd.Path == "" {
		cmd.Path, _ = exec.LookPath(argv[0])
	}
	if cmd.Path == "" {
		t.Skip(argv[0] + " is not installed; scripts/install-test-deps does that")
	}
	cmd.Err = nil
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

// blkid is what util-linux says of a file.
func blkid(t *testing.T, path string) map[string]string {
	t.Helper()
	vars := map[string]string{}
	for line := range strings.Lines(command(t, "blkid", "-p", "-o", "export", path)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			vars[name] = strings.ReplaceAll(value, `\ `, " ")
		}
	}
	return vars
}

const id = "8a3c1d2e-0f4b-4c6d-9e8f-123456789abc"

// luksHeader is one of version 1 or 2, which no tool here makes.
func luksHeader(version uint16, label string) []byte {
	b := make([]byte, 1<<20)
	copy(b, "LUKS\xba\xbe")
	binary.BigEndian.PutUint16(b[6:], version)
	copy(b[24:], label)
	copy(b[168:], id)
	binary.BigEndian.PutUint64(b[8:], 16384) // of version 2, its length
	return b
}

func TestIdentify(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, 10_000), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		size int64
		argv []string // the file's name follows
		data []byte
		used bool
	}{
		{"ext2", 8 << 20, []string{"mke2fs", "-q", "-F", "-t", "ext2", "-L", "a label", "-U", id}, nil, true},
		{"ext3", 16 << 20, []string{"mke2fs", "-q", "-F", "-t", "ext3"}, nil, true},
		{"ext4", 16 << 20, []string{"mke2fs", "-q", "-F", "-t", "ext4", "-L", "sixteen letters!", "-d", dir}, nil, true},
		{"xfs", 300 << 20, []string{"mkfs.xfs", "-q", "-L", "twelve chars", "-m", "uuid=" + id}, nil, true},
		{"btrfs", 128 << 20, []string{"mkfs.btrfs", "-q", "-L", "a tree", "-U", id}, nil, true},
		{"fat12", 4 << 20, []string{"mkfs.vfat", "-F", "12", "-n", "SMALL", "-i", "1234abcd"}, nil, true},
		{"fat16", 32 << 20, []string{"mkfs.vfat", "-F", "16", "-n", "MIDDLE"}, nil, true},
		{"fat32", 64 << 20, []string{"mkfs.vfat", "-F", "32", "-n", "ESP"}, nil, true},
		{"fat without a name", 4 << 20, []string{"mkfs.vfat"}, nil, true},
		{"swap", 4 << 20, []string{"mkswap", "-q", "-L", "to disk", "-U", id}, nil, false},
		{"squashfs", 0, []string{"mksquashfs", dir}, nil, true},
		{"luks1", 0, nil, luksHeader(1, ""), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "part")
			switch {
			case c.data != nil:
				if err := os.WriteFile(path, c.data, 0o644); err != nil {
					t.Fatal(err)
				}
			case c.size > 0:
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(path, c.size); err != nil {
					t.Fatal(err)
				}
			}
			if c.argv != nil {
				command(t, append(c.argv, path)...)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			got, ok := Identify(f)
			want := blkid(t, path)
			if !ok || got.Type != want["TYPE"] || got.Label != want["LABEL"] || got.UUID != want["UUID"] {
				t.Errorf("%+v, but blkid says %v", got, want)
			}
			if c.used != (got.Used >= 0) || c.used && (got.Used > got.Size || got.Size > max(c.size, 1<<20)) {
				t.Errorf("%d of %d bytes used", got.Used, got.Size)
			}
		})
	}
}

// lvmLabel is the label of a physical volume in its second sector.
func lvmLabel() []byte {
	b := make([]byte, 1<<20)
	copy(b[512:], "LABELONE")
	binary.LittleEndian.PutUint64(b[520:], 1)
	binary.LittleEndian.PutUint32(b[512+20:], 32)
	copy(b[512+24:], "LVM2 001")
	copy(b[512+32:], "0123456789abcdefghijABCDEFGHIJKL")
	binary.LittleEndian.PutUint64(b[512+64:], 1<<20)
	return b
}

func TestWithoutTools(t *testing.T) {
	for _, c := range []struct {
		data []byte
		want Content
	}{
		{lvmLabel(), Content{"LVM2_member", "", "012345-6789-abcd-efgh-ijAB-CDEF-GHIJKL", 1 << 20, -1}},
		{luksHeader(2, "secrets"), Content{"crypto_LUKS", "secrets", id, -1, -1}},
		{make([]byte, 1<<20), Content{}},
		{nil, Content{}},
	} {
		if got, ok := Identify(bytes.NewReader(c.data)); got != c.want || ok != (c.want != Content{}) {
			t.Errorf("%+v, want %+v", got, c.want)
		}
	}
}

func FuzzIdentify(f *testing.F) {
	f.Add(0, lvmLabel()[:2048])
	f.Add(0, luksHeader(2, "label")[:512])
	f.Add(0, []byte("XFSB"))
	f.Add(1024+56, []byte{0x53, 0xef})
	f.Add(0x10040, []byte("_BHRfS_M"))
	f.Add(4086, []byte("SWAPSPACE2"))
	f.Add(0x8000, []byte("\x01CD001"))
	f.Add(0, append(append([]byte("\xeb\x3c\x90mkfs.fat\x00\x02\x04\x01\x00\x02\x00\x02\x00\x20\xf8\x20\x00"), make([]byte, 486)...), 0x55, 0xaa))
	f.Fuzz(func(t *testing.T, at int, piece []byte) {
		disk := make([]byte, 80<<10)
		if at >= 0 && at < len(disk) {
			copy(disk[at:], piece)
		}
		c, _ := Identify(bytes.NewReader(disk))
		if c.Used > c.Size || c.Size < -1 || c.Used < -1 {
			// btrfs has two numbers that nothing ties together.
			if c.Type != "btrfs" {
				t.Errorf("%+v", c)
			}
		}
	})
}
