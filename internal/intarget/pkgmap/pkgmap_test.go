package pkgmap

import (
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dib-builder/dib/elements"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/test/commandtest"
)

const exampleMap = `{
  "default": {"a": "default-a", "b": "default-b", "none": "x"},
  "family": {"redhat": {"a": "rh-a rh-a2", "none": ""}},
  "distro": {"fedora": {"a": "fedora-a"}},
  "release": {"centos": {"9": {"a": "c9-a"}, "8": {"a": "c8-a"}, "10-stream": {"a": "c10-a", "b": null}}}
}`

func TestPkgMap(t *testing.T) {
	file := filepath.Join(t.TempDir(), "map")
	commandtest.Write(t, filepath.Dir(file), map[string]string{"map": exampleMap, "bad": "{\n  \"default\": {\"a\": [1]}\n}", "broken": "{\n  \"default\": }"})
	bad, broken := filepath.Join(filepath.Dir(file), "bad"), filepath.Join(filepath.Dir(file), "broken")
	for _, tt := range []struct {
		name   string
		distro string
		rel    string
		args   []string
		out    string
		errs   string // part of standard error
		status int
	}{
		{"default", "debian", "bookworm", []string{"--pkg-map", file, "a", "b"}, "default-a\ndefault-b\n", "", 0},
		{"family", "rocky", "9", []string{"--pkg-map=" + file, "a", "none", "b"}, "rh-a rh-a2\ndefault-b\n", "", 0},
		{"distro", "fedora", "40", []string{"--pkg-map", file, "a"}, "fedora-a\n", "", 0},
		{"release", "centos", "9", []string{"--pkg-map", file, "a"}, "c9-a\n", "", 0},
		{"stream 8", "centos", "8-stream", []string{"--pkg-map", file, "a"}, "c8-a\n", "", 0},
		{"stream 9", "centos", "9-stream", []string{"--pkg-map", file, "a"}, "c9-a\n", "", 0},
		{"exact stream, null", "centos", "10-stream", []string{"--pkg-map", file, "a", "b"}, "c10-a\n", "", 0},
		{"options override environment", "debian", "bookworm", []string{"a", "--distro", "centos", "--release", "9", "--pkg-map", file}, "c9-a\n", "", 0},
		{"prefix", "debian", "x", []string{"--prefix", "-", "--pkg-map", file, "a"}, "-default-a\n", "", 0},
		{"unknown distribution", "fake", "1", []string{"--pkg-map", file, "none"}, "x\n", "", 0},
		{"missing ok", "debian", "x", []string{"--missing-ok", "--pkg-map", file, "zzz", "a"}, "zzz\ndefault-a\n", "", 0},
		{"unknown option is a name", "debian", "x", []string{"--missing-ok", "--pkg-map", file, "--odd"}, "--odd\n", "", 0},
		{"missing, earlier names printed", "debian", "x", []string{"--pkg-map", file, "a", "zzz"}, "default-a\n", `"zzz"`, 1},
		{"no map", "debian", "x", []string{"--element", "no-such-element", "a"}, "", "no map", 2},
		{"no map ok", "debian", "x", []string{"--missing-ok", "--element", "no-such-element", "a"}, "a\n", "", 0},
		{"both", "debian", "x", []string{"--element", "e", "--pkg-map", file, "a"}, "", "exactly one", 1},
		{"neither", "debian", "x", []string{"a"}, "", "exactly one", 1},
		{"no distribution", "", "x", []string{"--pkg-map", file, "a"}, "", "DISTRO_NAME", 1},
		{"no value", "debian", "x", []string{"--pkg-map"}, "", "needs a value", 2},
		{"list", "debian", "x", []string{"--pkg-map", bad, "a"}, "", bad + ":2:", 1},
		{"syntax", "debian", "x", []string{"--pkg-map", broken, "a"}, "", broken + ":2:14", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, errs, status := commandtest.Call(t, cmdline.Command("pkg-map", Run), map[string]string{"DISTRO_NAME": tt.distro, "DIB_RELEASE": tt.rel}, tt.args...)
			if out != tt.out || status != tt.status || !strings.Contains(errs, tt.errs) {
				t.Errorf("status %d, out %q, err %q; want %d, %q, ...%q...", status, out, errs, tt.status, tt.out, tt.errs)
			}
		})
	}
}

// TestLibraryNames holds what every abstract name of the library stands for.
func TestLibraryNames(t *testing.T) {
	var b strings.Builder
	for _, on := range [][2]string{
		{"debian", "bookworm"}, {"ubuntu", "noble"}, {"fedora", "40"}, {"centos", "9-stream"}, {"centos", "10-stream"}, {"rhel", "9"},
		{"rocky", "9"}, {"almalinux", "9"}, {"opensuse", "15.6"}, {"gentoo", "23.0"}, {"openeuler", "22.03-LTS"},
	} {
		for _, element := range commandtest.Elements {
			data, err := fs.ReadFile(elements.FS(), element+"/pkg-map")
			if err != nil {
				continue
			}
			m, err := Parse(element+"/pkg-map", data)
			if err != nil {
				t.Fatal(err)
			}
			table := m.Table(on[0], on[1])
			for _, name := range slices.Sorted(maps.Keys(table)) {
				fmt.Fprintf(&b, "%s %s: %s/%s = %q\n", on[0], on[1], element, name, table[name])
			}
		}
	}
	commandtest.Golden(t, "names.txt", b.String())
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{exampleMap, "", "{}", "null", "[]", `{"default": null}`, `{"default": {"a": 1}}`, "{\"default\":\n}", "\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse("map", data)
		if err != nil {
			if !strings.Contains(err.Error(), "map") {
				t.Errorf("error does not name the file: %v", err)
			}
			return
		}
		for _, distro := range []string{"centos", "debian", "x"} {
			table := m.Table(distro, "9-stream")
			names := slices.Sorted(maps.Keys(table))
			lines, err := Names(table, names, false)
			if err != nil || len(lines) > len(names) {
				t.Errorf("known names do not map: %v", err)
			}
		}
	})
}
