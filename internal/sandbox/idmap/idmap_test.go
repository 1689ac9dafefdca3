package idmap

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	got, err := Parse(strings.NewReader("# comment\nann:100000:65536\n\n1000:200000:10\nbad\nx:1:0\nx:4294967295:2\nbob:-1:5\n"))
	want := []Range{{"ann", 100000, 65536}, {"1000", 200000, 10}}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if d := cmp.Diff(want[:1], Of(got, "ann", 7)); d != "" {
		t.Errorf("by name (-want +got):\n%s", d)
	}
	if d := cmp.Diff(want, Of(got, "ann", 1000)); d != "" {
		t.Errorf("by name and uid (-want +got):\n%s", d)
	}
	if n := Total(got); n != 65546 {
		t.Errorf("Total = %d", n)
	}
	if d := cmp.Diff(want[:1], ParseGetsubids("0: ann 100000 65536\nnoise\n")); d != "" {
		t.Errorf("getsubids (-want +got):\n%s", d)
	}
}

func TestMap(t *testing.T) {
	for _, c := range []struct {
		name   string
		own    uint32
		ranges []Range
		want   []Extent
		bad    string
	}{
		{"usual", 1000, []Range{{"", 100000, 65536}}, []Extent{{0, 1000, 1}, {1, 100000, 65535}}, ""},
		{"two ranges", 1000, []Range{{"", 100000, 65000}, {"", 300000, 65536}}, []Extent{{0, 1000, 1}, {1, 100000, 65000}, {65001, 300000, 535}}, ""},
		{"own id inside", 100001, []Range{{"", 100000, 65536}, {"", 200000, 5}}, []Extent{{0, 100001, 1}, {1, 100000, 1}, {2, 100002, 65534}}, ""},
		{"too few", 1000, []Range{{"", 100000, 1000}}, nil, "1000 subordinate ids, 65534 are needed"},
		{"none", 1000, nil, nil, "0 subordinate ids, 65534 are needed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Map(c.own, c.ranges)
			if text := errText(err); text != c.bad {
				t.Fatalf("error %q, want %q", text, c.bad)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestArgs(t *testing.T) {
	got := strings.Join(Args(42, []Extent{{0, 1000, 1}, {1, 100000, 65535}}), " ")
	if want := "42 0 1000 1 1 100000 65535"; got != want {
		t.Errorf("Args = %q, want %q", got, want)
	}
}

func TestFree(t *testing.T) {
	for _, c := range []struct {
		name  string
		taken []Range
		want  string
	}{
		{"none", nil, "100000-165535"},
		{"first taken", []Range{{"", 100000, 65536}}, "165536-231071"},
		{"unsorted", []Range{{"", 165536, 65536}, {"", 100000, 65536}}, "231072-296607"},
		{"gap", []Range{{"", 100000, 65536}, {"", 300000, 65536}}, "165536-231071"},
		{"gap too small", []Range{{"", 100000, 65536}, {"", 200000, 65536}}, "265536-331071"},
		{"below", []Range{{"", 1000, 10}}, "100000-165535"},
	} {
		if got := Free(c.taken).String(); got != c.want {
			t.Errorf("%s: Free = %s, want %s", c.name, got, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("ann:100000:65536\n")
	f.Add("0:4294967295:1\n:1:1\n#x:1:1")
	f.Fuzz(func(t *testing.T, text string) {
		ranges, err := Parse(strings.NewReader(text))
		if err != nil {
			return
		}
		m, err := Map(1000, ranges)
		if err != nil {
			return
		}
		next := uint32(0)
		for _, e := range m {
			if e.Inside != next || e.Count == 0 {
				t.Fatalf("map %v is not contiguous inside", m)
			}
			next += e.Count
		}
		if next != Subordinate+1 && next != Needed+1 {
			t.Fatalf("map %v ends at %d", m, next)
		}
	})
}

func TestMapOfAContainer(t *testing.T) {
	// What images of podman with an ordinary user have in /etc/subuid.
	m, err := Map(1000, []Range{{"podman", 1, 999}, {"podman", 1001, 64535}})
	if err != nil || len(m) != 3 {
		t.Errorf("Map = %v, %v", m, err)
	}
	if _, err := Map(1000, []Range{{"podman", 1, 999}, {"podman", 1001, 64534}}); err == nil {
		t.Error("id 65534 is missing, and nobody said so")
	}
}

func TestSame(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"whole machine", "         0          0 4294967295\n", "0 0 65536\n"},
		{"rootless podman", "0 1001 1\n1 100000 65536\n", "0 0 1\n1 1 65535\n"},
		{"any order", "1 100000 65536\n0 1001 1\n", "0 0 1\n1 1 65535\n"},
		{"one id less", "0 100000 65535\n", "0 0 65535\n"},
		{"too few", "0 100000 65534\n", ""},
		{"one id", "0 1001 1\n", ""},
		{"gap", "0 1001 1\n2 100000 65536\n", ""},
		{"no map", "", ""},
	} {
		m, err := Same(ParseMap(c.text))
		if got := Lines(m); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

func TestMissing(t *testing.T) {
	here := ParseMap("0 1001 1\n1 100000 65536\n")
	for _, c := range []struct {
		name string
		m    []Extent
		want string
	}{
		{"all there", []Extent{{0, 1000, 1}, {1, 1, 999}, {1000, 1001, 64536}}, "0-0 false"},
		{"of the host", []Extent{{0, 1000, 1}, {1, 100000, 65535}}, "100000-165534 true"},
		{"last one", []Extent{{0, 1000, 64538}}, "1000-65537 true"},
	} {
		first, last, missing := Missing(c.m, here)
		if got := fmt.Sprintf("%d-%d %v", first, last, missing); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func FuzzParseMap(f *testing.F) {
	f.Add("0 0 4294967295\n")
	f.Add("0 1001 1\n1 100000 65536\n")
	f.Fuzz(func(t *testing.T, text string) {
		here := ParseMap(text)
		m, err := Same(here)
		if err != nil {
			return
		}
		if first, last, missing := Missing(m, here); missing {
			t.Fatalf("%v offers %d-%d, which %v has not", m, first, last, here)
		}
	})
}
