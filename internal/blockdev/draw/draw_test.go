package draw

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/internal/blockdev"
)

var update = flag.Bool("update", false, "write golden files anew")

var layouts = map[string]struct {
	text    string
	sizeKiB int64
}{
	"plain": {blockdev.Fallback, 1 << 20},
	"efi": {`
- local_loop:
    name: image0
    partitioning:
      label: gpt
      partitions:
      - {name: ESP, type: EF00, size: 550MiB, mkfs: {type: vfat, mount: {mount_point: /boot/efi, fstab: {}}}}
      - {name: BSP, type: EF02, size: 8MiB}
      - {name: spare, type: 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B700, size: 25%}
      - {name: root, type: 8300, size: 60%, mkfs: {name: mkfs_root, mount: {mount_point: /, fstab: {fsck-passno: 1}}}}
`, 10 << 20},
	"lvm": {`
- local_loop: {name: image0}
- partitioning:
    base: image0
    label: mbr
    partitions:
      - {name: kernel, flags: [boot, primary], size: 300MiB, mkfs: {type: ext2, mount: {mount_point: /boot}}}
      - {name: data, size: 100%}
- lvm: {name: store, pvs: [{name: pvA, base: data}], vgs: [{name: vgA, base: [pvA]}], lvs: [{name: lvSwap, base: vgA, size: 512MiB}, {name: lvRoot, base: vgA, extents: 50%FREE}]}
- mkfs: {base: lvRoot, name: mkfs_root, mount: {mount_point: /}}
- mkfs: {base: lvSwap, type: swap}
`, 4 << 20},
	"logical": {`
- local_loop: {name: sys}
- local_loop: {name: data, size: 2GiB, block_size: 4096, mkfs: {type: ext2, label: "a&b", mount: {mount_point: "/srv/a b"}}}
- partitioning:
    base: sys
    label: mbr
    partitions:
    - {name: boot, flags: [boot, primary], size: 300MiB, mkfs: {type: ext2, mount: {mount_point: /boot}}}
    - {name: swap, size: 512MiB, type: 82, mkfs: {type: swap}}
    - {name: root, size: 50%, mkfs: {name: mkfs_root, mount: {mount_point: /}}}
`, 4 << 20},
}

func layoutOf(t *testing.T, name string) *blockdev.Layout {
	t.Helper()
	c, err := blockdev.Check(name, []byte(layouts[name].text), blockdev.Params{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.Layout(blockdev.LayoutInput{SizeKiB: layouts[name].sizeKiB, Seed: []byte("seed")})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestGolden(t *testing.T) {
	for name := range layouts {
		t.Run(name, func(t *testing.T) {
			l := layoutOf(t, name)
			for suffix, got := range map[string]string{".txt": Text(l, 78), ".svg": SVG(l)} {
				golden := filepath.Join("testdata", name+suffix)
				if *update {
					if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), got); diff != "" {
					t.Errorf("%s differs (-want +got):\n%s", golden, diff)
				}
			}
		})
	}
}

// TestSVGIsXML has another program read the drawings.
func TestSVGIsXML(t *testing.T) {
	for name := range layouts {
		d := xml.NewDecoder(strings.NewReader(SVG(layoutOf(t, name))))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// TestBarIsToScale holds what a drawing promises: its width, and that twice the
// size is about twice the room.
func TestBarIsToScale(t *testing.T) {
	for _, width := range []int{60, 78, 200} {
		lines := strings.Split(bar([]row{{number: 1, name: "a", end: 100}, {number: 2, name: "b", start: 100, end: 300}, {number: 3, name: "c", start: 300, end: 301}}, width), "\n")
		for _, line := range lines[:3] {
			if n := utf8.RuneCountInString(line); n != width {
				t.Errorf("line of %d characters; want %d:\n%s", n, width, line)
			}
		}
		cells := strings.Split(lines[1], "│")
		a, b := utf8.RuneCountInString(cells[1])+1, utf8.RuneCountInString(cells[2])+1
		if ratio := float64(b) / float64(a); ratio < 1.8 || ratio > 2.2 {
			t.Errorf("in %d characters, a has %d and b %d", width, a, b)
		}
	}
	var many []row
	for i := range 100 {
		many = append(many, row{number: i + 1, name: "p", start: int64(i), end: int64(i + 1)})
	}
	if got := bar(many, 78); !strings.Contains(got, "│100") {
		t.Errorf("a partition is missing:\n%s", got)
	}
}

// TestSplitVolume says of a volume in several places no place at all.
func TestSplitVolume(t *testing.T) {
	l := layoutOf(t, "lvm")
	l.Filesystem("mkfs_root").Split = true
	got := Text(l, 78)
	if !strings.Contains(got, "mkfs_root    several  places") || strings.Contains(got, "│mkfs_root") {
		t.Errorf("got\n%s", got)
	}
}
