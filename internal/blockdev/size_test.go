package blockdev

import (
	"math"
	"strings"
	"testing"
)

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"198": 198, "512B": 512, "154MiB": 161480704, "7.5GiB": 8053063680, "1.5 GiB": 1610612736,
		"1G": 1000000000, "40G": 40000000000, "1.75TB": 1750000000000, "12KB": 12000,
		"20TiB": 20 << 40, "1024KiB": 1 << 20, "1.2TB": 1200000000000, "2.4T": 2400000000000, "364": 364,
		"9007199254740993": 9007199254740993, ".5KiB": 512, "1.": 1, "1.9": 1,
	} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{
		"1  GiB", "1GiB ", "1gib", "10k", "1PiB", "1e3", "-1", "+1", "5%", "1.2.3M", ".", "747InVaLiDUnIt", "_+!HuHi+-=",
		"", "GiB", "0", "0.0001K", "99999999999TiB", strings.Repeat("9", 100), "1\n",
	} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("%q is %d; want an error", in, got)
		}
	}
}

func TestParseRelativeSize(t *testing.T) {
	for _, test := range []struct {
		in         string
		free, want int64
	}{
		{"100%", 1000000007, 1000000007}, {"33%", 1000000007, 330000002}, {"33.3%", 1000000007, 333000002},
		{"50 %", 100, 50}, {"0.5%", 1000, 5}, {"154MiB", 0, 161480704}, {"100%", math.MaxInt64, math.MaxInt64}, {"10%", -5, 0},
	} {
		s, err := ParseRelativeSize(test.in)
		if err != nil {
			t.Errorf("%q: %v", test.in, err)
		} else if got := s.Of(test.free); got != test.want {
			t.Errorf("%q of %d is %d; want %d", test.in, test.free, got, test.want)
		}
	}
	for _, in := range []string{"-10%", "150%", "inf%", "nan%", "%", "0%", "100.1%", "", "1e1%"} {
		if _, err := ParseRelativeSize(in); err == nil {
			t.Errorf("%q is accepted", in)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, seed := range []string{"1.5 GiB", "100%", "", ".", "1e9"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s, err := ParseRelativeSize(in)
		if err == nil && s.Of(1<<40) < 0 {
			t.Errorf("%q is negative", in)
		}
	})
}

func TestSplitWords(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "  a  b ": "a|b", `-O "a b" c\ d`: "-O|a b|c d", `''`: "", `a''b`: "ab", `"\$x\y"`: `$x\y`, `'a\b'`: `a\b`,
		"a\\\nb": "ab",
	} {
		got, err := SplitWords(in)
		if err != nil || strings.Join(got, "|") != want {
			t.Errorf("%q splits into %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{`'a`, `"a`, `a\`} {
		if got, err := SplitWords(in); err == nil {
			t.Errorf("%q splits into %q; want an error", in, got)
		}
	}
}

func FuzzSplitWords(f *testing.F) {
	f.Add(`-i 4096 -J 'size=64' "a\"b" \`)
	f.Fuzz(func(t *testing.T, in string) {
		words, err := SplitWords(in)
		if err != nil {
			return
		}
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		again, err := SplitWords(strings.Join(quoted, " "))
		if err != nil || strings.Join(again, "\x00") != strings.Join(words, "\x00") {
			t.Errorf("%q: %q quoted splits into %q, %v", in, words, again, err)
		}
	})
}

func TestImageSize(t *testing.T) {
	for _, test := range []struct {
		name string
		in   SizeInput
		want int64
	}{
		{"computed", SizeInput{UsedKiB: 600000, RootFSType: "xfs"}, 1000000},
		{"journal", SizeInput{UsedKiB: 600000, RootFSType: "ext4"}, 1000000 + 64*1024},
		{"own journal", SizeInput{UsedKiB: 600000, RootFSType: "ext4", JournalMiB: "128"}, 1000000 + 128*1024},
		{"no float rounding", SizeInput{UsedKiB: 3 * 64, RootFSType: "xfs"}, 320},
		{"rounded up", SizeInput{UsedKiB: 1, RootFSType: "xfs"}, 64},
		{"extra", SizeInput{UsedKiB: 1000, ExtraMiB: "1.5", RootFSType: "xfs"}, 2560},
		{"given", SizeInput{UsedKiB: 1, ImageSizeGiB: "2.5", ExtraMiB: "9", RootFSType: "ext4"}, 2621440},
		{"unit", SizeInput{ImageSizeGiB: "6GiB"}, 6 << 20},
		{"beyond 2 TiB", SizeInput{ImageSizeGiB: "12000"}, 12000 << 20},
		{"efi", SizeInput{UsedKiB: 600000, RootFSType: "xfs", Elements: []string{"vm", "block-device-efi-lvm"}}, 1000000 + 525*1024},
		{"efi, given size", SizeInput{ImageSizeGiB: "1", Elements: []string{"block-device-efi"}}, 1 << 20},
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
		in   MkfsInput
		want string
	}{
		{MkfsInput{RootFSType: "ext4"}, "-i 4096 -J size=64"},
		{MkfsInput{RootFSType: "ext4", JournalMiB: "128", MaxOnlineResize: "1000", Release: "trusty", Options: "-m 1"}, "-E resize=1000 -O ^metadata_csum -i 4096 -J size=128 -m 1"},
		{MkfsInput{RootFSType: "xfs", MaxOnlineResize: "1000", Release: "trusty", Options: "-f"}, "-f"},
		{MkfsInput{RootFSType: "ext2", MaxOnlineResize: "1000", Release: "trusty"}, "-E resize=1000"},
	} {
		if got, err := MkfsOptions(test.in); err != nil || got != test.want {
			t.Errorf("%+v gives %q, %v; want %q", test.in, got, err, test.want)
		}
	}
	if _, err := MkfsOptions(MkfsInput{RootFSType: "ext4", JournalMiB: "x"}); err == nil {
		t.Error("journal size x is accepted")
	}
}
