package lvm

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/internal/blockdev"
)

var update = flag.Bool("update", false, "write the golden files")

// group has a linear volume in two pieces and a striped one.
func group(name string) *blockdev.VolumeGroup {
	const id = "abcdef-ghij-klmn-opqr-stuv-wxyz-ABCDE"
	pv := func(n string) blockdev.PhysicalVolume {
		return blockdev.PhysicalVolume{Node: "pv" + n, UUID: id + n, Device: "/dev/dib/p" + n, Offset: 4096, Length: 9 << 20, PEStart: 1 << 20, PECount: 8}
	}
	return &blockdev.VolumeGroup{
		Name: name, UUID: id + "v", ExtentSize: 1 << 20,
		PVs: []blockdev.PhysicalVolume{pv("0"), pv("1")},
		LVs: []blockdev.LogicalVolume{
			{Name: "split", UUID: id + "a", Segments: []blockdev.Segment{
				{Start: 0, Count: 5, Stripes: []blockdev.Stripe{{PV: 0, Start: 0}}}, {Start: 5, Count: 2, Stripes: []blockdev.Stripe{{PV: 1, Start: 0}}},
			}},
			{Name: "striped", UUID: id + "b", Segments: []blockdev.Segment{{Count: 4, StripeSize: 64 << 10, Stripes: []blockdev.Stripe{{PV: 0, Start: 5}, {PV: 1, Start: 2}}}}},
		},
	}
}

func TestText(t *testing.T) {
	got := Text(group("vg"), time.Unix(1600000000, 0))
	if *update {
		if err := os.WriteFile("testdata/text.golden", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/text.golden")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// disk is a disk of 2 MiB in memory.
type disk [2 << 20]byte

func (d *disk) WriteAt(b []byte, off int64) (int, error) { return copy(d[off:], b), nil }

func TestWrite(t *testing.T) {
	var d disk
	if err := Write(&d, group("vg"), 1, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	at := func(off, n int) string { return string(d[4096+off : 4096+off+n]) }
	for _, test := range []struct {
		off  int
		want string
	}{
		{0, strings.Repeat("\x00", 512)}, {512, "LABELONE\x01\x00"}, {536, "LVM2 001abcdefghijklmnopqrstuvwxyzABCDE1\x00\x00\x90\x00"}, {4100, " LVM2 x[5A%r0N*>\x01"}, {4608, "vg {\n\tid = "},
	} {
		if got := at(test.off, len(test.want)); got != test.want {
			t.Errorf("at %d: %q; want %q", test.off, got, test.want)
		}
	}
}

func TestTooMuchForTheArea(t *testing.T) {
	var d disk
	vg := group(strings.Repeat("x", 127))
	for len(vg.LVs) < 4000 {
		vg.LVs = append(vg.LVs, vg.LVs[0])
	}
	if err := Write(&d, vg, 0, time.Unix(1, 0)); err == nil || !strings.Contains(err.Error(), "use fewer volumes") || d != (disk{}) {
		t.Errorf("got %v, and the disk must be untouched", err)
	}
	vg = group("vg")
	vg.PVs[0].UUID = "short"
	if err := Write(&d, vg, 0, time.Unix(1, 0)); err == nil || d != (disk{}) {
		t.Errorf("a bad id: %v", err)
	}
}
