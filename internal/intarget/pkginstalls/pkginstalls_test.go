package pkginstalls

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/intarget/pkglist"
	"github.com/dib-builder/dib/test/commandtest"
)

// call runs a command of the package.
func call(t *testing.T, env map[string]string, name string, args ...string) (out, errs string, status int) {
	t.Helper()
	do := map[string]cmdline.Func{
		"early-packages": Early, "package-installs": LegacyInstall, "package-installs-squash": Squash,
		"package-installs-v2": Install, "package-uninstalls": LegacyUninstall,
	}[name]
	return commandtest.Call(t, cmdline.Command(name, do), env, args...)
}

func TestSquash(t *testing.T) {
	dir := t.TempDir()
	commandtest.Write(t, dir, map[string]string{
		"over/one/package-installs.yaml": "keep:\n",
		"lib/one/package-installs.yaml":  "shadowed:\n",
		"lib/two/package-installs.yaml": "keep: {uninstall: true}\ngone: {build-only: true}\nfiltered: {uninstall: true}\n" +
			"late: {phase: post-install.d, uninstall: true}\n",
		"lib/three/package-installs.json": "{\n\t\"filtered\": {\"when\": \"A = no\"}, \"late\": \"\"}",
		"lib/three/package-installs.yaml": "# nothing\n",
		"lib/four/README.rst":             "",
	})
	want := map[string]pkglist.Lists{
		"install.d": {
			Install:   [][2]string{{"gone", "two"}, {"keep", "one"}, {"late", "three"}},
			Uninstall: [][2]string{{"gone", "two"}, {"filtered", "two"}},
		},
		"post-install.d": {Install: [][2]string{}, Uninstall: [][2]string{{"late", "two"}}},
	}
	resolved := ""
	for _, e := range []string{"over/one", "lib/two", "lib/three", "lib/four"} {
		resolved += filepath.Base(e) + ": " + dir + "/" + e + "\n"
	}
	for name, c := range map[string]struct {
		env  map[string]string
		path string
	}{
		"M25 the first directory of the path": {map[string]string{"A": "yes"}, dir + "/over:" + dir + "/lib"},
		"M25 the build's own resolution":      {map[string]string{"A": "yes", "IMAGE_ELEMENT_YAML": resolved}, dir + "/lib:" + dir + "/over"},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out.json")
			_, errs, status := call(t, c.env, "package-installs-squash", "--elements", "two one three four", "--path", c.path, out)
			if status != 0 {
				t.Fatalf("status %d: %s", status, errs)
			}
			var got map[string]pkglist.Lists
			if err := json.Unmarshal([]byte(commandtest.Read(t, out)), &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("M26: got  %v\nwant %v", got, want)
			}
			if !strings.Contains(errs, "package late, installed in install.d by element three") {
				t.Errorf("M27: no warning about a removal in a later phase: %q", errs)
			}
		})
	}
}

// All that is wrong with the lists is said at once, and nothing is written.
func TestSquashFindsEverything(t *testing.T) {
	dir := t.TempDir()
	commandtest.Write(t, dir, map[string]string{
		"a/package-installs.yaml": "p: {phas: install.d}\nq: {arch: 1}\n",
		"b/package-installs.json": "{\"p\": {\"when\": \"NOT_SET = 1\"},\n\"q\": {\"when\": \"UNSET = 1\"}}",
	})
	_, errs, status := call(t, nil, "package-installs-squash", "--elements", "a b", "--path", dir, dir+"/out")
	for _, want := range []string{
		"/a/package-installs.yaml:1:5: ", "/a/package-installs.yaml:2:11: ", "/b/package-installs.json:1: condition", "/b/package-installs.json:2: condition",
	} {
		if status != 1 || !strings.Contains(errs, dir+want) {
			t.Errorf("status %d, %s: lacks %s", status, errs, want)
		}
	}
	if _, err := os.Stat(dir + "/out"); err == nil {
		t.Error("a list was written")
	}
}

func TestSquashFailures(t *testing.T) {
	dir := t.TempDir()
	commandtest.Write(t, dir, map[string]string{"e/package-installs.yaml": "p:\n  when: NOT_SET = 1\n"})
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"usage", []string{"--elements", "e"}, 2, "usage"},
		{"no such element", []string{"--elements", "x", "--path", dir, dir + "/out"}, 1, `element "x"`},
		{"unset variable", []string{"--elements", "e", "--path", dir, dir + "/out"}, 1, "e/package-installs.yaml:1: condition"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, errs, status := call(t, nil, "package-installs-squash", tt.args...)
			if status != tt.status || !strings.Contains(errs, tt.want) {
				t.Errorf("status %d, %q", status, errs)
			}
		})
	}
}

// installer is an install-packages that says what it was called with.
func installer(t *testing.T, status int) string {
	dir := t.TempDir()
	commandtest.Write(t, dir, map[string]string{"install-packages!": fmt.Sprintf("#!/bin/bash\nprintf '<%%s>' \"$@\"\necho\nexit %d\n", status)})
	return dir + ":/usr/bin:/bin"
}

func TestRunInstalls(t *testing.T) {
	file := filepath.Join(t.TempDir(), "list.json")
	commandtest.Write(t, filepath.Dir(file), map[string]string{"list.json": `{"install.d": {
		"install": [["b", "no-map"], ["a", "no-map-2"], ["b", "no-map"], ["a", "no-map"]], "uninstall": []},
		"post-install.d": {"uninstall": [["c", "no-map"]]}}`})
	env := map[string]string{"DISTRO_NAME": "debian", "PATH": installer(t, 0)}
	for _, tt := range []struct {
		name   string
		args   []string
		path   string
		out    string
		status int
	}{
		{"M28 in order, once", []string{"--phase", "install.d", file}, "",
			"Running: install-packages b a\n> <b><a>\ninstall-packages returned 0\n", 0},
		{"empty list", []string{"--phase", "install.d", "--uninstall", file}, "",
			"Running: install-packages -e\n> <-e>\ninstall-packages returned 0\n", 0},
		{"no phase", []string{"--phase", "pre-install.d", file}, "", "Nothing to install\n", 0},
		{"no list", []string{"--phase", "post-install.d", file}, "", "Nothing to install\n", 0},
		{"no removal", []string{"--phase", "pre-install.d", "--uninstall", file}, "", "Nothing to uninstall\n", 0},
		{"removal", []string{file, "--uninstall", "--phase=post-install.d", "-n"}, "", "install-packages -e c\n", 0},
		{"failure", []string{"--phase", "install.d", file}, installer(t, 3),
			"Running: install-packages b a\n> <b><a>\ninstall-packages returned 3\n", 1},
		{"no such file", []string{"--phase", "install.d", file + "x"}, "", "", 1},
		{"no phase given", []string{file}, "", "", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.path != "" {
				old := env["PATH"]
				env["PATH"] = tt.path
				defer func() { env["PATH"] = old }()
			}
			out, errs, status := call(t, env, "package-installs-v2", tt.args...)
			if out != tt.out || status != tt.status {
				t.Errorf("status %d, out %q, err %q; want %d, %q", status, out, errs, tt.status, tt.out)
			}
		})
	}
}

func TestForeignPkgMapIsUsed(t *testing.T) {
	dir := t.TempDir()
	commandtest.Write(t, dir, map[string]string{
		"list.json": `{"install.d": {"install": [["a", "x"]]}}`,
		"pkg-map!":  "#!/bin/bash\necho log line\necho \"-mapped-${*: -1}\"\n",
	})
	env := map[string]string{
		"DISTRO_NAME": "debian", "PATH": dir + ":" + installer(t, 0),
		"IMAGE_ELEMENT_YAML": "pkg-map: " + dir + "/pkg-map\n",
	}
	out, errs, status := call(t, env, "package-installs-v2", "--phase", "install.d", dir+"/list.json")
	if status != 0 || !strings.Contains(out, "> <mapped-a>\n") {
		t.Errorf("status %d, out %q, err %q", status, out, errs)
	}
}

// M28: what pkg-map says is shown when it fails, and with --noop the names of
// the element whose map failed stay as they are.
func TestPkgMapFails(t *testing.T) {
	dir := t.TempDir()
	commandtest.Write(t, dir, map[string]string{
		"list.json": `{"install.d": {"install": [["a", "bad"], ["b", "good"], ["c", "bad"]]}}`,
		"pkg-map!":  "#!/bin/bash\necho \"called with: $*\"\ncase $* in *bad*) echo the reason >&2; exit 1 ;; esac\necho \"-good-${*: -1}\"\n",
	})
	env := map[string]string{
		"DISTRO_NAME": "debian", "PATH": dir + ":" + installer(t, 0), "IMAGE_ELEMENT_YAML": "pkg-map: " + dir + "/pkg-map\n",
	}
	out, errs, status := call(t, env, "package-installs-v2", "--phase", "install.d", dir+"/list.json")
	if status != 1 || strings.Contains(out, "Running") {
		t.Errorf("status %d, out %q", status, out)
	}
	for _, want := range []string{"the reason\n", "called with: --prefix - --missing-ok --element bad a c\n", "element bad: "} {
		if !strings.Contains(errs, want) {
			t.Errorf("M28: %q is not in %q", want, errs)
		}
	}
	out, _, status = call(t, env, "package-installs-v2", "--noop", "--phase", "install.d", dir+"/list.json")
	if want := "install-packages a c good-b\n"; status != 0 || out != want {
		t.Errorf("M28 --noop: status %d, out %q, want %q", status, out, want)
	}
}

func TestLegacyLists(t *testing.T) {
	dir := t.TempDir()
	commandtest.Write(t, dir, map[string]string{
		"d/package-installs-x": "# comment\n\na\n-b\nc", "d/package-installs-y": "-y", "d/other": "z\n", "empty/other": "", "stay/package-installs-x": "a\n",
		"pkg-map!": "#!/bin/bash\nwhile [ $# -gt 0 ]; do case $1 in --prefix|--element) shift ;; --*) ;; *) echo \"-map-$1\" ;; esac; shift; done\n",
		"broken!":  "#!/bin/bash\nexit 1\n",
	})
	foreign := "pkg-map: " + dir + "/pkg-map\n"
	for _, tt := range []struct {
		name, command, dir, resolved string
		status                       int
		out                          string
	}{
		{"all lines, the last without its line feed", "package-installs", "d", "", 0, "Running: install-packages a b c y\n> <a><b><c><y>\ninstall-packages returned 0\n"},
		{"M29 marked lines", "package-uninstalls", "d", "", 0, "Running: install-packages -e b y\n> <-e><b><y>\ninstall-packages returned 0\n"},
		{"nothing to install", "package-installs", "empty", "", 0, ""},
		{"nothing to remove", "package-uninstalls", "empty", "", 0, "Running: install-packages -e\n> <-e>\ninstall-packages returned 0\n"},
		{"nothing marked", "package-uninstalls", "stay", "", 0, "Running: install-packages -e\n> <-e>\ninstall-packages returned 0\n"},
		{"foreign map", "package-installs", "d", foreign, 0, "Running: install-packages map-a map-b map-c map-y\n> <map-a><map-b><map-c><map-y>\ninstall-packages returned 0\n"},
		{"M29 foreign map of marked lines", "package-uninstalls", "d", foreign, 0, "Running: install-packages -e map-b map-y\n> <-e><map-b><map-y>\ninstall-packages returned 0\n"},
		{"failure", "package-installs", "d", "", 7, "Running: install-packages a b c y\n> <a><b><c><y>\ninstall-packages returned 7\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := map[string]string{"DISTRO_NAME": "debian", "PATH": dir + ":" + installer(t, tt.status), "IMAGE_ELEMENT_YAML": tt.resolved}
			out, errs, status := call(t, env, tt.command, "-d", dir+"/"+tt.dir)
			if status != tt.status || out != tt.out {
				t.Errorf("status %d, out %q, err %q", status, out, errs)
			}
		})
	}
	for _, args := range [][]string{nil, {"-h"}, {"-d"}, {"-d", dir, "x"}, {"-x"}} {
		if _, errs, status := call(t, nil, "package-installs", args...); status != 1 || !strings.Contains(errs, "usage: package-installs -d DIR") {
			t.Errorf("%q: status %d, %q", args, status, errs)
		}
	}
	// A map that fails leaves the names as they are.
	commandtest.Write(t, dir, map[string]string{"bad/pkg-map!": commandtest.Read(t, dir+"/broken")})
	env := map[string]string{"PATH": dir + "/bad:" + installer(t, 0), "IMAGE_ELEMENT_YAML": foreign}
	if out, errs, status := call(t, env, "package-installs", "-d", dir+"/d"); status != 0 || !strings.Contains(out, "> <a><b><c><y>\n") || !strings.Contains(errs, "element x: ") {
		t.Errorf("status %d, out %q, err %q", status, out, errs)
	}
}

func TestEarlyPackagesOnlyOfBuiltinElements(t *testing.T) {
	dir := t.TempDir()
	commandtest.Write(t, dir, map[string]string{"mine/package-installs.yaml": "a:\n"})
	out, errs, status := call(t, map[string]string{"IMAGE_ELEMENT_YAML": "mine: " + dir + "/mine\n"}, "early-packages")
	if out != "" || status != 0 {
		t.Errorf("status %d, out %q, err %q", status, out, errs)
	}
	packages, err := hintedPackages([]element{{"mine", dir + "/mine"}}, nil)
	if err != nil || !reflect.DeepEqual(packages, []string{"a"}) {
		t.Errorf("%v, %v", packages, err)
	}
}
