package blockdev

import "testing"

func TestImageSize(t *testing.T) {
	for _, test := range []struct {
		name string
		in   SizeInput
		want int64
	}{
		{"D44 computed", SizeInput{UsedKiB: 600000, RootFSType: "xfs"}, 1000000},
		{"journal", SizeInput{UsedKiB: 600000, RootFSType: "ext4"}, 1000000 + 64*1024},
		{"own journal", SizeInput{UsedKiB: 600000, RootFSType: "ext4", JournalMiB: "128"}, 1000000 + 128*1024},
		{"no float rounding", SizeInput{UsedKiB: 3 * 64, RootFSType: "xfs"}, 320},
		{"rounded up", SizeInput{UsedKiB: 1, RootFSType: "xfs"}, 64},
		{"extra", SizeInput{UsedKiB: 1000, ExtraMiB: "1.5", RootFSType: "xfs"}, 2560},
		{"given", SizeInput{UsedKiB: 1, ImageSizeGiB: "2.5", ExtraMiB: "9", RootFSType: "ext4"}, 2621440},
		{"unit", SizeInput{ImageSizeGiB: "6GiB"}, 6 << 20},
		{"D47 beyond 2 TiB", SizeInput{ImageSizeGiB: "12000"}, 12000 << 20},
		{"efi", SizeInput{UsedKiB: 600000, RootFSType: "xfs", Elements: []string{"vm", "block-device-efi-lvm"}}, 1000000 + 525*1024},
		{"D43 efi, given size", SizeInput{ImageSizeGiB: "1", Elements: []string{"block-device-efi"}}, 1 << 20},
	} {
		want := (test.want + 63) / 64 * 64
		if got, err := ImageSize(test.in); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", test.name, got, err, want)
		}
	}
	for _, in := range []SizeInput{
		{ImageSizeGiB: "x"}, {ImageSizeGiB: "6MiB"}, {ImageSizeGiB: "-1"}, {ExtraMiB: "1e3"}, {ImageSizeGiB: "0"},
		{UsedKiB: 1, RootFSType: "ext4", JournalMiB: "1.5"}, {ImageSizeGiB: "99999999999999"},
	} {
		if got, err := ImageSize(in); err == nil {
			t.Errorf("%+v gives %d; want an error", in, got)
		}
	}
}

func TestMkfsOptions(t *testing.T) {
	for _, test := range []struct {
		name string
		in   MkfsInput
		want string
	}{
		{"default", MkfsInput{RootFSType: "ext4"}, "-i 4096 -J size=64"},
		{"all", MkfsInput{RootFSType: "ext4", JournalMiB: "128", MaxOnlineResize: "1000", Release: "trusty", Options: "-m 1"}, "-E resize=1000 -O ^metadata_csum -i 4096 -J size=128 -m 1"},
		{"D45 no resizing of xfs", MkfsInput{RootFSType: "xfs", MaxOnlineResize: "1000", Release: "trusty", Options: "-f"}, "-f"},
		{"D45 resizing of ext2", MkfsInput{RootFSType: "ext2", MaxOnlineResize: "1000", Release: "trusty"}, "-E resize=1000"},
	} {
		if got, err := MkfsOptions(test.in); err != nil || got != test.want {
			t.Errorf("%s: got %q, %v; want %q", test.name, got, err, test.want)
		}
	}
	if _, err := MkfsOptions(MkfsInput{RootFSType: "ext4", JournalMiB: "x"}); err == nil {
		t.Error("journal size x is accepted")
	}
}
