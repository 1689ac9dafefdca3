package size

import (
	"math"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]int64{
		"198": 198, "512B": 512, "154MiB": 161480704, "7.5GiB": 8053063680, "1.5 GiB": 1610612736,
		"1G": 1000000000, "40G": 40000000000, "1.75TB": 1750000000000, "12KB": 12000,
		"20TiB": 20 << 40, "1024KiB": 1 << 20, "1.2TB": 1200000000000, "2.4T": 2400000000000, "364": 364,
		"9007199254740993": 9007199254740993, ".5KiB": 512, "1.": 1, "1.9": 1,
	} {
		if got, err := Parse(in); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{
		"1  GiB", "1GiB ", "1gib", "10k", "1PiB", "1e3", "-1", "+1", "5%", "1.2.3M", ".", "747InVaLiDUnIt", "_+!HuHi+-=",
		"", "GiB", "0", "0.0001K", "99999999999TiB", strings.Repeat("9", 100), "1\n",
	} {
		if got, err := Parse(in); err == nil {
			t.Errorf("%q is %d; want an error", in, got)
		}
	}
}

func TestParseRelative(t *testing.T) {
	for _, test := range []struct {
		in         string
		free, want int64
	}{
		{"100%", 1000000007, 1000000007}, {"33%", 1000000007, 330000002}, {"33.3%", 1000000007, 333000002},
		{"50 %", 100, 50}, {"0.5%", 1000, 5}, {"154MiB", 0, 161480704}, {"100%", math.MaxInt64, math.MaxInt64}, {"10%", -5, 0},
	} {
		s, err := ParseRelative(test.in)
		if err != nil {
			t.Errorf("%q: %v", test.in, err)
		} else if got := s.Of(test.free); got != test.want {
			t.Errorf("%q of %d is %d; want %d", test.in, test.free, got, test.want)
		}
	}
	for _, in := range []string{"-10%", "150%", "inf%", "nan%", "%", "0%", "100.1%", "", "1e1%"} {
		if _, err := ParseRelative(in); err == nil {
			t.Errorf("%q is accepted", in)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"1.5 GiB", "100%", "", ".", "1e9"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s, err := ParseRelative(in)
		if err == nil && s.Of(1<<40) < 0 {
			t.Errorf("%q is negative", in)
		}
	})
}
