package hook

import (
	"bytes"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var orderExamples = []struct {
	summary string
	want    []string
}{
	{"numbers, not text", []string{"9-b", "10-a", "99-x", "100-x"}},
	{"no number is 0, after 00 and before 01", []string{"00-a", "kernel_config", "open-iscsi-config", "01-x"}},
	{"equal numbers by bytes", []string{"007", "07", "07-Z", "07-a", "7"}},
	{"numbers longer than a machine word", []string{"9", "18446744073709551616-x", "18446744073709551617-a"}},
	{"signs and blanks", []string{"-10", "-5x", "+4", "-", "0", " 3", "3"}},
	{"fractions", []string{"-1.5", "-1.25", ".5", "1.25", "1.5", "1.50", "2"}},
	{"minus zero is zero", []string{"-0", "0", "0-a", "a"}},
}

func TestCompare(t *testing.T) {
	for _, c := range orderExamples {
		for i, a := range c.want {
			for j, b := range c.want {
				if got := Compare(a, b); sign(got) != sign(i-j) {
					t.Errorf("%s: Compare(%q, %q) is %d", c.summary, a, b, got)
				}
			}
		}
	}
}

func sign(n int) int { return min(1, max(-1, n)) }

func TestCompareAgreesWithSort(t *testing.T) {
	program, err := exec.LookPath("sort")
	if err != nil {
		t.Skip("needs sort")
	}
	var names []string
	for _, c := range orderExamples {
		for _, name := range c.want {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	cmd := exec.Command(program, "-n")
	cmd.Env = []string{"LC_ALL=C"}
	cmd.Stdin = strings.NewReader(strings.Join(names, "\n") + "\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(names, Compare)
	if want := strings.Split(strings.TrimSuffix(string(bytes.TrimRight(out, "\n")), "\n"), "\n"); !reflect.DeepEqual(names, want) {
		t.Errorf("got  %q\nsort %q", names, want)
	}
}

// The order must be total, or sorting depends on where it starts.
func FuzzCompare(f *testing.F) {
	f.Add("10-a", "9-b", "a")
	f.Add("-0", "0", "00")
	f.Add("1.5", "1.50", " 1.5")
	f.Add("-1.25", "-1.5", "-")
	f.Add("", ".", "-.")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if sign(Compare(a, b)) != -sign(Compare(b, a)) {
			t.Errorf("%q and %q compare as %d and %d", a, b, Compare(a, b), Compare(b, a))
		}
		if (Compare(a, b) == 0) != (a == b) {
			t.Errorf("%q and %q compare as %d", a, b, Compare(a, b))
		}
		if Compare(a, b) <= 0 && Compare(b, c) <= 0 && Compare(a, c) > 0 {
			t.Errorf("%q, %q, %q are not in order", a, b, c)
		}
	})
}
