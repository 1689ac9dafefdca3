package svcmap

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/intarget/pkgmap"
	"github.com/dib-builder/dib/test/commandtest"
)

const example = `# comment
web:
  default: apache2
  redhat: httpd
  opensuse: apache2-suse
  suse: never-seen
database: {redhat: mariadb, debian: mysql, gentoo: mysql-gentoo, ubuntu: mysql-ubuntu}
queue:
  openeuler: rabbitmq-eule
  fedora: rabbit
own-name: {}
`

// distributions are those of the library.
var distributions = []string{
	"debian", "ubuntu", "fedora", "centos", "rhel", "rocky", "almalinux", "openeuler", "opensuse", "gentoo", "fake",
}

// TestResolution holds what every service of the example is called everywhere.
func TestResolution(t *testing.T) {
	services, err := Parse("svc-map", []byte(example))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, d := range distributions {
		for _, s := range services {
			fmt.Fprintf(&b, "%s: %s = %s\n", d, s.Name, s.On(d))
		}
	}
	commandtest.Golden(t, "services.txt", b.String())
}

// A family means the same to both kinds of maps.
func TestFamilies(t *testing.T) {
	t.Run("M31 one table for pkg-map and svc-map", func(t *testing.T) {
		services, err := Parse("svc-map", []byte("x: {redhat: redhat, debian: debian, suse: suse, gentoo: gentoo, default: none}"))
		if err != nil {
			t.Fatal(err)
		}
		packages, err := pkgmap.Parse("pkg-map", []byte(`{"default": {"x": "none"}, "family": {
			"redhat": {"x": "redhat"}, "debian": {"x": "debian"}, "suse": {"x": "suse"}, "gentoo": {"x": "gentoo"}}}`))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range distributions {
			if svc, pkg := services[0].On(d), packages.Table(d, "1")["x"]; svc != pkg || (svc == "none") != (d == "fake") {
				t.Errorf("%s: svc-map says %s, pkg-map %s", d, svc, pkg)
			}
		}
	})
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"- web":                      "f:1: a mapping of services belongs here",
		"web:":                       `f:1: service "web": a mapping of distributions`,
		"\nweb: httpd":               `f:2: service "web": a mapping of distributions`,
		"web:\n  default:":           `f:2: service "web": the name for "default" must be a single word`,
		"web:\n  default: [a]":       `f:2: service "web": the name for "default"`,
		"a: {}\nb: {}\na: {}":        `f:3: "a" is defined already in line 1`,
		"a: {x: b,\n x: c}":          `f:2: "x" is defined already in line 1`,
		"? [a]\n: {}":                "f:1: a name belongs here",
		"web: {":                     "cannot read f:",
		"a: {}\n---\nb: {}":          "more than one YAML document",
		"x: &x {a: b}\ny:\n  <<: *x": "f:3: a name belongs here",
	} {
		if _, err := Parse("f", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func merge(t *testing.T, distro string, files map[string]string) (out, errs string, status int) {
	t.Helper()
	dir := t.TempDir()
	resolved := ""
	for element, text := range files {
		resolved += element + ": " + filepath.Join(dir, element) + "\n"
		name := "svc-map"
		if text == "absent" {
			name = "README.rst"
		}
		commandtest.Write(t, dir, map[string]string{element + "/" + name: text})
	}
	return commandtest.Call(t, cmdline.Command("svc-map-merge", Merge), map[string]string{
		"IMAGE_ELEMENT_YAML": resolved, "DISTRO_NAME": distro, "PATH": "/nowhere", // M35: no interpreter is looked for
	})
}

func TestMerge(t *testing.T) {
	t.Run("M35 in process, with empty files", func(t *testing.T) {
		out, errs, status := merge(t, "rocky", map[string]string{
			"b": "web: {redhat: httpd, default: apache2}\n'yes': {default: 'no'}", "a": "cron: {debian: cron, redhat: crond}",
			"c": "", "d": "# nothing\n", "e": "absent", "f": "null", "g": "{}",
		})
		if want := "cron: crond\nweb: httpd\n\"yes\": \"no\"\n"; out != want || status != 0 {
			t.Errorf("status %d, %q, %s; want %q", status, out, errs, want)
		}
	})
	out, errs, status := merge(t, "debian", map[string]string{"one": "a: {}\nweb: {}", "two": "web: {default: x}"})
	if status != 1 || out != "" || !strings.Contains(errs, `element "two"`) || !strings.Contains(errs, "two/svc-map:1)") || !strings.Contains(errs, `one/svc-map:2)`) {
		t.Errorf("a service of two elements: status %d, %q, %s", status, out, errs)
	}
	if out, errs, status := merge(t, "debian", nil); status != 0 || out != "{}\n" {
		t.Errorf("no elements: %d, %q, %s", status, out, errs)
	}
}

func TestSvcMap(t *testing.T) {
	root := t.TempDir()
	call := func(args ...string) string {
		t.Helper()
		out, errs, status := commandtest.Call(t, cmdline.Command("svc-map", func(_ context.Context, io command.IO, args []string) error {
			return run(root, io, args)
		}), nil, args...)
		if status != 0 {
			t.Fatalf("status %d: %s", status, errs)
		}
		return out
	}
	if got := call("web", "db"); got != "web\ndb\n" {
		t.Errorf("without a map: %q", got)
	}
	commandtest.Write(t, root, map[string]string{
		"usr/share/svc-map/services":           "web: httpd\ndb: mysqld\ncache: redis\nqueue: rabbit\nmasked: other\n",
		"lib/systemd/system/db.service":        "",
		"usr/lib/systemd/system/cache.service": "",
		"etc/systemd/system/queue.service":     "",
		"etc/init/old.conf":                    "",
	})
	if err := os.Symlink("/dev/null", root+"/etc/systemd/system/masked.service"); err != nil {
		t.Fatal(err)
	}
	if got := call("web", "db", "old", "masked", "../lib/systemd/system/db"); got != "httpd\ndb\nold\nother\n../lib/systemd/system/db\n" {
		t.Errorf("got %q", got)
	}
	t.Run("M35 every directory of units", func(t *testing.T) {
		if got := call("cache", "queue"); got != "cache\nqueue\n" {
			t.Errorf("got %q", got)
		}
	})
	if got := call(); got != "" {
		t.Errorf("no services: %q", got)
	}
	if got := call("-h"); !strings.HasPrefix(got, "usage: svc-map") {
		t.Errorf("-h: %q", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{example, "", "null", "[]", "a: &a {b: c}\nd: *a", "a: {b: }", "\xff", "a: {<<: {b: c}}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		services, err := Parse("map", data)
		if err != nil {
			if !strings.Contains(err.Error(), "map") {
				t.Errorf("error does not name the file: %v", err)
			}
			return
		}
		var names []string
		for _, s := range services {
			names = append(names, s.Name)
			if s.On("debian") == "" || s.Line < 1 {
				t.Errorf("service %+v has no name or place", s)
			}
		}
		slices.Sort(names)
		if len(slices.Compact(names)) != len(services) {
			t.Error("a service is there twice")
		}
	})
}
