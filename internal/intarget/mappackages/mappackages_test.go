package mappackages

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/test/commandtest"
)

func TestRun(t *testing.T) {
	run := cmdline.Command("map-packages", Run)
	out, errs, status := commandtest.Call(t, run, nil, "vim", "build-essential", "snmp-mibs-downloader", "libfoo-dev", "libc6-dev", "-dev", "--help")
	want := "vim\nmake automake gcc gcc-c++ kernel-devel\n\nlibfoo-devel\nglibc-devel\n-dev\n--help\n"
	if out != want || status != 0 {
		t.Errorf("status %d, %q, want %q", status, out, want)
	}
	if n := strings.Count(errs, "deprecated"); n != 4 || !strings.Contains(errs, `libfoo-dev is taken for "libfoo-devel"`) {
		t.Errorf("%d notes: %s", n, errs)
	}
	if out, errs, status := commandtest.Call(t, run, nil); out+errs != "" || status != 0 {
		t.Errorf("without names: status %d, %q, %q", status, out, errs)
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(table)) {
		fmt.Fprintf(&b, "%s: %s\n", name, Map(name))
	}
	commandtest.Golden(t, "table.txt", b.String())
}

func FuzzMap(f *testing.F) {
	for _, seed := range []string{"", "a", "a-dev", "-dev", "grub-pc", "a b-dev\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		packages := Map(name)
		if _, known := table[name]; known || packages == name {
			return
		}
		if base, ok := strings.CutSuffix(packages, "-devel"); !ok || base+"-dev" != name {
			t.Errorf("%q is taken for %q", name, packages)
		}
	})
}
