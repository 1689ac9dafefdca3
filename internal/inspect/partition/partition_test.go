package partition

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// table lets sfdisk write one on a disk of 64 MiB.
func table(t testing.TB, script string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("/usr/sbin/sfdisk"); err != nil {
		t.Skip("sfdisk is not installed; scripts/install-test-deps does that")
	}
	file := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 64<<20)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/sfdisk", append(append([]string{"-q"}, args...), file)...)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const (
	dos = "label: dos\nstart=2048, size=4096, type=83, bootable\nstart=8192, size=65536, type=f\nstart=10240, size=2048, type=82\nstart=16384, size=8192, type=83\nstart=30720, size=1024, type=7\n"
	gpt = "label: gpt\nstart=2048, size=4096, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=EFI\nstart=8192, size=2048, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name=\"ro\u00f6t\"\n"
)

func show(parts []Partition) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "%d %d+%d %s %s\n", p.Number, p.Offset/512, p.Size/512, p.Type, p.Name)
	}
	return b.String()
}

func TestRead(t *testing.T) {
	const wantGPT = "1 2048+4096 c12a7328-f81f-11d2-ba4b-00a0c93ec93b EFI\n2 8192+2048 0fc63daf-8483-4772-8e79-3d69d8477de4 roöt\n"
	damaged := table(t, gpt)
	clear(damaged[600:700])
	for name, c := range map[string]struct {
		disk []byte
		want string
	}{
		"dos": {table(t, dos), "1 2048+4096 83 \n5 10240+2048 82 \n6 16384+8192 83 \n7 30720+1024 07 \n"},
		"gpt": {table(t, gpt), wantGPT}, "damaged gpt": {damaged, wantGPT},
	} {
		parts, err := Read(bytes.NewReader(c.disk), int64(len(c.disk)))
		if got := show(parts); err != nil || got != c.want {
			t.Errorf("%s: %v\n%swant\n%s", name, err, got, c.want)
		}
	}
}

func TestErrors(t *testing.T) {
	empty := make([]byte, 4096)
	fat := bytes.Clone(empty)
	copy(fat[446:], "some code of a boot sector, which is no table")
	fat[510], fat[511] = 0x55, 0xaa
	for _, disk := range [][]byte{nil, empty, fat} {
		if _, err := Read(bytes.NewReader(disk), int64(len(disk))); !errors.Is(err, ErrNoTable) {
			t.Errorf("%d bytes: %v", len(disk), err)
		}
	}
	good := table(t, dos)
	circle := bytes.Clone(good)
	copy(circle[8192*512+446+16:], circle[446+16:446+32]) // the extended partition itself as the next one
	clear(circle[8192*512+446+16+8 : 8192*512+446+16+12]) // at its own beginning
	outside := bytes.Clone(good)
	outside[446+8+3] = 0xff
	both := table(t, gpt)
	clear(both[512:1024])
	clear(both[len(both)-512:])
	for says, disk := range map[string][]byte{"does not end": circle, "partition 1, from": outside, "cannot read the GPT": both} {
		if _, err := Read(bytes.NewReader(disk), int64(len(disk))); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %s", err, says)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(table(f, dos)[:64<<10])
	f.Add(table(f, gpt)[:64<<10])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, disk []byte) {
		const size = 64 << 20
		parts, err := Read(bytes.NewReader(disk), size)
		if err != nil {
			return
		}
		for _, p := range parts {
			if p.Offset <= 0 || p.Size <= 0 || p.Offset+p.Size > size || p.Number < 1 {
				t.Errorf("%+v is not on the disk", p)
			}
		}
	})
}
