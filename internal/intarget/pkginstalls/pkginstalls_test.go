package pkginstalls

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/dib-builder/dib/elements"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
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

func TestParseInstallsErrors(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", "a:\n  phas: install.d\n", `f:2: package a: unknown parameter "phas"`},
		{"unknown phase", "a:\n  phase: install\n", `f:2: package a: phase "install" is not one of`},
		{"both architectures", "a:\n  arch: x\n  not-arch: y\n", "exclude each other"},
		{"number as name", "1.5:\n", `f:1: package name "1.5" is not a string`},
		{"list for arch", "a:\n  arch: [x]\n", "f:2: arch must be a string"},
		{"boolean in when", "a:\n  when: true\n", "f:2: when must be a string"},
		{"blank before when", "a:\n  when: ' A = b'\n", `f:2: malformed condition " A = b"`},
		{"when without operator", "a:\n  when: [A = b, C]\n", `malformed condition "C"`},
		{"bad flag", "a:\n  uninstall: maybe\n", "f:2: uninstall must be true or false"},
		{"top-level list", "- a\n", "f:1: the file must be a mapping"},
		{"scalar parameters", "a: yes\n", "f:1: package a: parameters must be"},
		{"list of scalars", "a:\n  - b\n", "f:2: package a: list items must be mappings"},
		{"yaml syntax", "a: [\n", "cannot read f: yaml: line"},
		{"json with position", "{\n\t\"a\": {\"x\": 1}\n}", `f:2: package a: unknown parameter "x"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := parseInstalls("f", "e", []byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want ...%s...", err, tt.want)
			}
		})
	}
}

func TestSelection(t *testing.T) {
	env := cmdline.Environment{"ARCH": "ppc64le", "A": "x", "EMPTY": "", "DIB_INSTALLTYPE_my_element": "package", "DIB_DEFAULT_INSTALLTYPE": "source"}
	for _, tt := range []struct {
		params string
		want   string // empty: left out; otherwise the action and phase
	}{
		{"{}", "install install.d"},
		{"''", "install install.d"},
		{"[]", "install install.d"},
		{"{phase: post-install.d}", "install post-install.d"},
		{"{arch: 'ppc64, ppc64le'}", "install install.d"},
		{"{arch: 'ppc64'}", ""},
		{"{not-arch: 'ppc64, ppc64le'}", ""},
		{"{not-arch: ppc64}", "install install.d"},
		{"{uninstall: }", "uninstall install.d"},
		{"{uninstall: True}", "uninstall install.d"},
		{"{uninstall: no}", "install install.d"},
		{"{build-only: on}", "build-only install.d"},
		{"{build-only: 'off'}", "install install.d"},
		{"{build-only: true, uninstall: true}", "build-only install.d"},
		{"{installtype: package}", "install install.d"},
		{"{installtype: source}", ""},
		{"{dib_python_version: 3}", "install install.d"},
		{"{dib_python_version: '2'}", ""},
		{"{when: A=x}", "install install.d"},
		{"{when: 'A   =x'}", "install install.d"},
		{"{when: 'A = x '}", ""},
		{"{when: A != x}", ""},
		{"{when: 'EMPTY ='}", "install install.d"},
		{"{when: [A = x, EMPTY != y]}", "install install.d"},
		{"{when: [A = x, EMPTY = y]}", ""},
		{"{when: 'A == x'}", ""},
	} {
		t.Run(tt.params, func(t *testing.T) {
			entries, _, err := parseInstalls("f", "my-element", []byte("pkg: "+tt.params+"\n"))
			if err != nil || len(entries) != 1 {
				t.Fatalf("%d entries, %v", len(entries), err)
			}
			ok, err := entries[0].selected(env)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if ok {
				got = []string{"install", "uninstall", "build-only"}[entries[0].action] + " " + entries[0].phase
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestUnsetVariableIsFound(t *testing.T) {
	entries, _, err := parseInstalls("f", "e", []byte("p:\n  when: [A = no, B = b]\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = entries[0].selected(cmdline.Environment{"A": "x"})
	if err == nil || !strings.Contains(err.Error(), "variable B is not set") || !strings.HasPrefix(err.Error(), "f:1: ") {
		t.Errorf("got %v", err)
	}
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
	out := filepath.Join(dir, "out.json")
	_, errs, status := call(t, map[string]string{"A": "yes"}, "package-installs-squash",
		"--elements", "two one three four", "--path", dir+"/over:"+dir+"/lib", out)
	if status != 0 {
		t.Fatalf("status %d: %s", status, errs)
	}
	var got map[string]phasePackages
	if err := json.Unmarshal([]byte(commandtest.Read(t, out)), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]phasePackages{
		"install.d": {
			Install:   [][2]string{{"gone", "two"}, {"keep", "one"}, {"late", "three"}},
			Uninstall: [][2]string{{"gone", "two"}, {"filtered", "two"}},
		},
		"post-install.d": {Install: [][2]string{}, Uninstall: [][2]string{{"late", "two"}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if !strings.Contains(errs, "package late, installed in install.d by element three") {
		t.Errorf("no warning about a removal in a later phase: %q", errs)
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
		{"in order, once", []string{"--phase", "install.d", file}, "",
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

func TestLegacyLists(t *testing.T) {
	dir := t.TempDir()
	commandtest.Write(t, dir, map[string]string{"package-installs-x": "# comment\n\na\n-b\nc", "other": "z\n"})
	env := map[string]string{"DISTRO_NAME": "debian", "PATH": installer(t, 0)}
	for name, want := range map[string]string{
		"package-installs":   "> <a><b><c>\n",
		"package-uninstalls": "> <-e><b>\n",
	} {
		out, errs, status := call(t, env, name, "-d", dir)
		if status != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: status %d, out %q, err %q", name, status, out, errs)
		}
		if _, _, status := call(t, env, name); status != 1 {
			t.Errorf("%s without -d: status %d", name, status)
		}
	}
}

// TestLibraryInstalls holds what the library's package lists resolve to.
func TestLibraryInstalls(t *testing.T) {
	dir := t.TempDir()
	var all []element
	for _, name := range commandtest.Elements {
		for _, file := range []string{earlyFile, "package-installs.yaml", "pkg-map"} {
			data, err := fs.ReadFile(elements.FS(), name+"/"+file)
			if err == nil {
				commandtest.Write(t, dir, map[string]string{name + "/" + file: string(data)})
			}
		}
		all = append(all, element{name, filepath.Join(dir, name)})
	}
	var b strings.Builder
	for _, on := range []struct{ distro, release, arch, layout string }{
		{"debian", "bookworm", "amd64", "mbr"}, {"debian", "trixie", "amd64", "mbr"}, {"debian", "bookworm", "arm64", "efi"},
		{"ubuntu", "noble", "x86_64", "efi"}, {"fedora", "40", "amd64", "mbr"}, {"centos", "9-stream", "aarch64", "efi"},
		{"rhel", "9", "amd64", "efi"}, {"rocky", "9", "amd64", "gpt"}, {"opensuse", "15.6", "ppc64le", "mbr"},
		{"gentoo", "23.0", "amd64", "mbr"}, {"openeuler", "22.03-LTS", "amd64", ""},
	} {
		env := cmdline.Environment{
			"DISTRO_NAME": on.distro, "DIB_RELEASE": on.release, "ARCH": on.arch,
			"DIB_SKIP_BASE_PACKAGE_INSTALL": "0", "DIB_SKIP_GRUB_PACKAGE_INSTALL": "False",
		}
		if on.layout != "" {
			env["DIB_BLOCK_DEVICE"] = on.layout
		}
		packages, err := hintedPackages(all, env)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s %s %s:\n  %s\n", on.distro, on.release, on.arch, on.layout, strings.Join(packages, "\n  "))
	}
	commandtest.Golden(t, "installs.txt", b.String())
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

func FuzzParseInstalls(f *testing.F) {
	for _, seed := range []string{
		"", "# x\n", "a:\n", "a: {arch: b}\n", "a: [{when: A = b}, '']\n", "{\"a\": {\"phase\": \"install.d\"}}",
		"x: &x {arch: a}\ny:\n  <<: *x\n", "a: *b\n", "a: 1\n", "? [a]\n: b\n", "a:\n  when: [[]]\n", "\x00", "a: &a [*a]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, _, err := parseInstalls("list", "e", data)
		if err != nil {
			if !strings.Contains(err.Error(), "list") {
				t.Errorf("error does not name the file: %v", err)
			}
			return
		}
		env := cmdline.Environment{"ARCH": "amd64"}
		for _, e := range entries {
			for _, c := range e.when {
				env[c.variable] = c.value
			}
		}
		var chosen []entry
		for _, e := range entries {
			ok, err := e.selected(env)
			if err != nil {
				t.Errorf("all variables are set: %v", err)
			}
			if ok {
				chosen = append(chosen, e)
			}
		}
		result, _ := merge(chosen)
		for _, p := range result {
			if len(p.Install)+len(p.Uninstall) > 2*len(chosen) {
				t.Error("more records than entries")
			}
		}
	})
}
