package pkgmap

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
		{"M30 stream 9", "centos", "9-stream", []string{"--pkg-map", file, "a"}, "c9-a\n", "", 0},
		{"M30 exact stream, null", "centos", "10-stream", []string{"--pkg-map", file, "a", "b"}, "c10-a\n", "", 0},
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
		{"M32 list", "debian", "x", []string{"--pkg-map", bad, "a"}, "", bad + ":2:", 1},
		{"M32 syntax", "debian", "x", []string{"--pkg-map", broken, "a"}, "", broken + ":2:14", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, errs, status := commandtest.Call(t, cmdline.Command("pkg-map", Run), map[string]string{"DISTRO_NAME": tt.distro, "DIB_RELEASE": tt.rel}, tt.args...)
			if out != tt.out || status != tt.status || !strings.Contains(errs, tt.errs) {
				t.Errorf("status %d, out %q, err %q; want %d, %q, ...%q...", status, out, errs, tt.status, tt.out, tt.errs)
			}
		})
	}
}

// TestTable holds the order of sections, for every distribution that belongs to
// a family.
func TestTable(t *testing.T) {
	m, err := Parse("map", []byte(`{
		"default": {"a": "default", "b": "default", "c": "default", "d": "default"},
		"family": {"redhat": {"b": "redhat", "c": "redhat", "d": "redhat"}, "debian": {"b": "deb"}, "suse": {"b": "suse"}, "gentoo": {"b": "gentoo"}},
		"distro": {"centos": {"c": "centos", "d": "centos"}},
		"release": {"centos": {"9": {"d": "c9"}, "10-stream": {"d": "c10s"}, "10": {"d": "c10"}}, "ubuntu": {"noble": {"d": "n"}}, "openeuler": {"22.03": {"d": "oe"}}}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, distro, release, want string }{
		{"", "centos", "9", "default redhat centos c9"},
		{"M30", "centos", "9-stream", "default redhat centos c9"},
		{"M30", "centos", "10-stream", "default redhat centos c10s"},
		{"", "centos", "10", "default redhat centos c10"},
		{"M30", "openeuler", "22.03-LTS", "default redhat redhat oe"},
		{"", "centos", "8-stream", "default redhat centos centos"},
		{"M31", "almalinux", "9", "default redhat redhat redhat"},
		{"M31", "rocky", "9", "default redhat redhat redhat"},
		{"M31", "openeuler", "24.03", "default redhat redhat redhat"},
		{"", "fedora", "42", "default redhat redhat redhat"},
		{"", "rhel", "9", "default redhat redhat redhat"},
		{"", "debian", "bookworm", "default deb default default"},
		{"", "ubuntu", "noble", "default deb default n"},
		{"", "opensuse", "15.6", "default suse default default"},
		{"M31", "gentoo", "gentoo", "default gentoo default default"},
		{"", "mandrake", "9", "default default default default"},
		{"", "", "", "default default default default"},
	} {
		t.Run(strings.TrimSpace(tt.name+" "+tt.distro+" "+tt.release), func(t *testing.T) {
			lines, err := Names(m.Table(tt.distro, tt.release), []string{"a", "b", "c", "d"}, false)
			if got := strings.Join(lines, " "); err != nil || got != tt.want {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestSections(t *testing.T) {
	m, err := Parse("map", []byte(`{"Default": {"a": "x"}, "famliy": {}, "default": {"a": "y"}}`))
	if err != nil || strings.Join(m.Unknown, " ") != "Default famliy" || m.Table("", "")["a"] != "y" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	commandtest.Write(t, dir, map[string]string{"one/pkg-map": "{\n bad", "two/pkg-map": `{"familiy": {}}`, "three/pkg-map": "[]"})
	_, errs, status := commandtest.Call(t, cmdline.Command("pkg-map-check", Check), nil, dir+"/one/pkg-map", dir+"/two/pkg-map", dir+"/three/pkg-map", dir+"/four")
	for _, want := range []string{
		dir + "/one/pkg-map:2:2: ", "WARNING: " + dir + `/two/pkg-map: section "familiy" is not read`, dir + "/three/pkg-map:1:1: ", "/four: no such file",
	} {
		if status != 1 || !strings.Contains(errs, want) {
			t.Errorf("M32: status %d, %q: lacks %q", status, errs, want)
		}
	}
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
