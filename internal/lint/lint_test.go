package lint

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// tree makes a file system of texts by path; a path that ends in "!" is an
// executable file. Elements get a README.rst unless they have one.
func tree(texts map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for p, text := range texts {
		mode := fs.FileMode(0o644)
		if cut, ok := strings.CutSuffix(p, "!"); ok {
			p, mode = cut, 0o755
		}
		fsys[p] = &fstest.MapFile{Data: []byte(text), Mode: mode}
		if element, _, ok := strings.Cut(p, "/"); ok && fsys[element+"/README.rst"] == nil {
			fsys[element+"/README.rst"] = &fstest.MapFile{Data: []byte("x\n"), Mode: 0o644}
		}
	}
	return fsys
}

func found(t *testing.T, in Input) []string {
	t.Helper()
	result, err := Run(in)
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for _, f := range result.Findings {
		list = append(list, f.String())
	}
	return list
}

// want compares findings with prefixes of what is expected, one for each.
func want(t *testing.T, got []string, prefixes ...string) {
	t.Helper()
	ok := len(got) == len(prefixes)
	for i := 0; ok && i < len(prefixes); i++ {
		ok = strings.HasPrefix(got[i], strings.TrimSuffix(prefixes[i], "*"))
	}
	if !ok {
		t.Errorf("found:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(prefixes, "\n"))
	}
}

const good = "#!/bin/bash\nif [ \"${DIB_DEBUG_TRACE:-0}\" -gt 0 ]; then\n    set -x\nfi\nset -eu\nset -o pipefail\n"

func TestChecks(t *testing.T) {
	for _, c := range []struct {
		name string
		file string // below element e
		text string
		want []string // prefixes of findings
	}{
		{"good hook", "install.d/50-x!", good, nil},
		{"options together", "install.d/50-x!", "#!/bin/bash\n# DIB_DEBUG_TRACE\nset -eu -o pipefail\n", nil},
		{"source-repository without newline", "source-repository-x", "x git /x y", []string{"e/source-repository-x:1: the file does not end in a newline [sourcerepository]"}},
		{"script not executable", "install.d/50-x", good, []string{"e/install.d/50-x:1: a script that is not executable"}},
		{"not executable, switched off", "install.d/50-x", good + "# dib-lint: disable=sete executable\n", nil},
		{"indent", "install.d/50-x!", good + "if x; then\n  y\n     \nfi\n", []string{"e/install.d/50-x:8: indented by 2 spaces"}},
		{"indent switched off", "install.d/50-x!", good + "# dib-lint: disable=indent\n  y\n", nil},
		{"indent of any script", "bin/x!", "#!/bin/sh\n   y\n", []string{"e/bin/x:2: indented by 3"}},
		{"no indent without a shebang", "data", "  x\n", nil},
		{"a directive counts in column 0 only", "install.d/50-x!", good + "  # dib-lint: disable=indent\n", []string{"e/install.d/50-x:7: indented"}},
		{"element-deps unsorted", "element-deps", "# why\nb\n\na\n", []string{"e/element-deps: the names are not sorted",
			"e/element-deps:2: there is no element \"b\"", "e/element-deps:4: there is no element \"a\""}},
		{"shell path", "install.d/50-x!", "#!/usr/bin/env bash\n", []string{`e/install.d/50-x:1: "#!/usr/bin/env bash": want #!/bin/bash exactly [shell]`}},
		{"shell options in the first line", "install.d/50-x!", "#!/bin/bash -eu\n", []string{`e/install.d/50-x:1: "#!/bin/bash -eu"`}},
		{"bare bash", "install.d/50-x!", "#!/bin/bash\n  set -eu\n", []string{
			"e/install.d/50-x: the script does not look at DIB_DEBUG_TRACE [dibdebugtrace]", "e/install.d/50-x: no line starts with set -e [sete]",
			"e/install.d/50-x: no line starts with set -o pipefail [setpipefail]", "e/install.d/50-x: no line starts with set -u [setu]",
			"e/install.d/50-x:2: indented"}},
		{"bare bash switched off", "install.d/50-x!", "#!/bin/bash\n# dib-lint: disable=sete setu setpipefail dibdebugtrace\n", nil},
		{"environment executable", "environment.d/10-x!", "export A=1\n", []string{"e/environment.d/10-x: the file is executable"}},
		{"environment traced", "environment.d/10-x", "set -x\n", []string{"e/environment.d/10-x:1: set -x in environment.d"}},
		{"environment traced among options", "environment.d/10-x", "set -eux\n", []string{"e/environment.d/10-x:1: set -x in environment.d"}},
		{"export", "environment.d/10-x", "export A=$(b)\n# export A=$(b)\nexport A=${A:-}\n", []string{"e/environment.d/10-x:1: export of the output"}},
		{"sudo", "root.d/10-x!", good + "sudo rm -rf /\nsudo rm $TARGET_ROOT/x\nsudo -E install-packages x\nsudo x # dib-lint: safe_sudo\n# sudo y\n\"$sudo\" x\n",
			[]string{"e/root.d/10-x:7: sudo on the build host"}},
		{"sudo switched off", "root.d/10-x!", good + "# dib-lint: disable=safe_sudo\nsudo rm -rf /\n", nil},
		{"sudo in the image", "install.d/10-x!", good + "sudo rm -rf /\n", nil},
		{"which", "install.d/50-x!", good + "if which foo; then\n    x=$(which foo)\n    echo which one\nfi\ny=`which foo` # dib-lint: which\n# which z\n",
			[]string{"e/install.d/50-x:7: which", "e/install.d/50-x:8: which"}},
		{"tab", "bin/x!", "#!/bin/sh\n\tx\n", []string{"e/bin/x:2: tab in the indentation [tabindent]"}},
		{"tab in data", "data", "\tx\n", nil},
		{"tab in documentation", "README.rst", "x\n\ty\n", []string{"e/README.rst:2: tab"}},
		{"newline", "bin/x!", "#!/bin/sh\nx", []string{"e/bin/x:2: the file does not end in a newline [newline]"}},
		{"newline in data", "data", "x", nil},
		{"markdown", "more.md", "# x\n", []string{"e/more.md: documentation is written as reStructuredText"}},
		{"yaml", "some/where.yaml", "a: [\n", []string{"e/some/where.yaml:1: not YAML: "}},
		{"yaml of several documents", "x.yaml", "a: 1\n---\nb: {\n", []string{"e/x.yaml:3: not YAML"}},
		{"pkg-map", "pkg-map", "{\"default\": {\n", []string{"e/pkg-map:2: "}},
		{"pkg-map as a command", "bin/pkg-map!", "#!/bin/sh\n", nil},
		{"pkg-map schema", "pkg-map", "{\n  \"defaults\": {},\n  \"family\": {\n    \"arch\": {\"a\": \"b\"},\n    \"suse\": {}\n  }\n}\n", []string{
			"e/pkg-map:2: nothing reads section \"defaults\"", "e/pkg-map:4: no distribution is of the family \"arch\"; known are debian, gentoo, redhat, suse"}},
		{"pkg-map types", "pkg-map", "{\n  \"default\": {\"a\": [\"b\"]}\n}\n", []string{"e/pkg-map:2: *"}},
		{"svc-map", "svc-map", "a:\n  default: x\nb: y\nc:\n  debian: [z]\n", []string{"e/svc-map:3: service \"b\""}},
		{"svc-map names", "svc-map", "c:\n  debian: [z]\n", []string{"e/svc-map:2: service \"c\": the name for \"debian\""}},
		{"svc-map empty", "svc-map", "# nothing\n", nil},
		{"svc-map list", "svc-map", "- a\n", []string{"e/svc-map:1: a mapping of services"}},
		{"package-installs", "package-installs.yaml", "a:\n  phase: instal.d\n", []string{"e/package-installs.yaml:2: package a: phase \"instal.d\" is not one of"}},
		{"package-installs key", "package-installs.json", "{\"a\": {\"archs\": \"x\"}}\n", []string{"e/package-installs.json:1: package a: unknown parameter \"archs\""}},
		{"package-installs condition", "package-installs.yaml", "a:\n  when: X == y\n", []string{"e/package-installs.yaml:2: condition"}},
		{"block device", "block-device-default.yaml", "- local_loop:\n    name: a\n- nonsense:\n    name: b\n", []string{"e/block-device-default.yaml:3: Config entry is not a plugin value: nonsense"}},
		{"hook name", "install.d/50-x.sh!", good, []string{"e/install.d/50-x.sh: no hook has a name like this"}},
		{"data beside hooks", "install.d/50-x.txt", "x\n", nil},
		{"scripts below hooks", "install.d/x/50-x.sh!", good, nil},
		{"a functional test is an element", "test-elements/a/package-installs.yaml", "a:\n  phase: x\n", []string{"e/test-elements/a/package-installs.yaml:2: package a"}},
		{"hook name in a test", "test-elements/a/install.d/5.x!", good, []string{"e/test-elements/a/install.d/5.x: no hook"}},
		{"binary", "bin/x!", "\x7fELF\x00\tx", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			want(t, found(t, Input{Elements: []Source{{FS: tree(map[string]string{"e/" + c.file: c.text})}}}), c.want...)
		})
	}
}

func TestReadme(t *testing.T) {
	fsys := fstest.MapFS{"a/README.rst": {}, "b/x": {}, ".git/x": {}, "file": {}}
	want(t, found(t, Input{Elements: []Source{{Name: "elements", FS: fsys}}}), "elements/b: the element has no README.rst [readme]")
}

func TestIgnored(t *testing.T) {
	fsys := tree(map[string]string{"e/a.md": "", "e/junk/b.md": "", "junk/c.md": "", "f/d.md": ""})
	source := Source{FS: fsys, Ignored: func(p string) bool { return slices.Contains([]string{"e/a.md", "e/junk", "junk"}, p) }}
	want(t, found(t, Input{Elements: []Source{source}}), "f/d.md: ")
	source.Only = []string{"e"}
	want(t, found(t, Input{Elements: []Source{source}}))
}

// TestDefects holds what DIB's dib-lint gets wrong.
func TestDefects(t *testing.T) {
	t.Run("M76 each file decides on its own checks", func(t *testing.T) {
		fsys := tree(map[string]string{
			"e/bin/a!": "#!/bin/sh\n\ta",
			"e/bin/z!": "#!/bin/sh\n# dib-lint: disable=tabindent newline mddocs\n\tz",
		})
		want(t, found(t, Input{Elements: []Source{{FS: fsys}}}), "e/bin/a:2: the file does not end", "e/bin/a:2: tab")
	})
	t.Run("M76 phases of the host", func(t *testing.T) {
		for _, dir := range []string{"root.d", "extra-data.d", "post-root.d", "block-device.d", "pre-finalise.d", "cleanup.d"} {
			want(t, found(t, Input{Elements: []Source{{FS: tree(map[string]string{"e/" + dir + "/1!": good + "sudo x\n"})}}}), "e/"+dir+"/1:7: sudo")
		}
		for _, dir := range []string{"pre-install.d", "install.d", "post-install.d", "finalise.d"} {
			want(t, found(t, Input{Elements: []Source{{FS: tree(map[string]string{"e/" + dir + "/1!": good + "sudo x\n"})}}}))
		}
	})
	t.Run("M76 every documented name works", func(t *testing.T) {
		texts := map[string]string{
			"e/install.d/1":               "#!/bin/bash\n  which x\n",
			"e/root.d/2.x!":               "#!/bin/bash\n\tsudo x",
			"e/x.md":                      "",
			"e/package-installs.yaml":     "a: {b: c}\n",
			"e/pkg-map":                   "{\"x\": {}}\n",
			"e/svc-map":                   "x\n",
			"e/block-device-default.yaml": "x\n",
			"e/element-deps":              "nowhere\n",
			"f/root.d/2.x!":               good,
		}
		all := found(t, Input{Elements: []Source{{FS: tree(texts)}}})
		for _, name := range Switchable {
			if !slices.ContainsFunc(all, func(f string) bool { return strings.HasSuffix(f, "["+name+"]") }) {
				t.Errorf("nothing is found by %s:\n%s", name, strings.Join(all, "\n"))
			}
		}
		want(t, found(t, Input{Elements: []Source{{FS: tree(texts)}}, Ignore: Switchable}))
	})
	t.Run("M76 Python goes to its checker by its first line", func(t *testing.T) {
		result, err := Run(Input{Elements: []Source{{Name: "d", FS: tree(map[string]string{
			"e/bin/a!": "#!/usr/bin/env python3\n  x\n", "e/bin/b!": "#!/usr/local/bin/dib-python\n", "e/c.py": "import x\n"})}}})
		if err != nil || !slices.Equal(result.Python, []string{"d/e/bin/a", "d/e/bin/b"}) || len(result.Findings) > 0 {
			t.Errorf("%v, %v", result, err)
		}
	})
	t.Run("M09 duplicate hooks of elements that a build can have together", testDuplicates)
}

func testDuplicates(t *testing.T) {
	texts := map[string]string{
		"debian/element-provides": "operating-system\n", "debian/element-deps": "dpkg\n",
		"fedora/element-provides": "operating-system\n", "fedora/element-deps": "yum\n",
		"debian/environment.d/10-distro": "", "fedora/environment.d/10-distro": "",
		"dpkg/bin/install-packages!": "#!/bin/sh\n", "yum/bin/install-packages!": "#!/bin/sh\n",
		"epel/element-deps": "yum\n", "epel/install.d/5!": good, "apt/element-deps": "dpkg\n", "apt/install.d/5!": good,
		"disk/element-provides": "block-device\n", "gpt/element-provides": "block-device\n",
		"disk/environment.d/15-b": "", "gpt/environment.d/15-b": "",
		"a/install.d/50-same!": good, "b/install.d/50-same!": good,
		"c/static/etc/x": "", "d/static/etc/x": "", "c/tests/x": "", "d/tests/x": "",
		"c/install.d/.keep": "", "d/install.d/.keep": "",
		"f/bin/x!": "#!/bin/sh\n", "g/bin/x!": "#!/bin/sh\n# dib-lint: disable=duplicate\n",
		"h/element-deps": "operating-system\n",
	}
	in := Input{Elements: []Source{{FS: tree(texts)}}}
	want(t, found(t, in), "b/install.d/50-same: element a has a file of this name too")
	// The same with the library as context: an element of the user that
	// meets one of it, and one that replaces another.
	mine := tree(map[string]string{"mine/install.d/50-same!": good, "b/install.d/51-other!": good, "mine/element-deps": "dpkgg\n"})
	want(t, found(t, Input{Elements: []Source{{FS: mine}}, Context: []fs.FS{tree(texts)}}),
		"mine/element-deps:1: there is no element \"dpkgg\" (did you mean dpkg?)", "mine/install.d/50-same: element a has")
}

func TestLib(t *testing.T) {
	lib := Source{Name: "lib", FS: fstest.MapFS{"common": {Data: []byte("\tx")}, "lib.go": {Data: []byte("\tx\n")}, "no": {Data: []byte("which x\n")}}}
	want(t, found(t, Input{Lib: &lib}), "lib/common:1: the file does not end", "lib/common:1: tab")
}

func TestUnreadable(t *testing.T) {
	if _, err := Run(Input{Elements: []Source{{Name: "x", FS: os.DirFS("testdata/none")}}}); err == nil {
		t.Error("a directory that is not there was checked")
	}
}

// TestOwnElements holds our library to the rules for everybody, and the linter
// to its speed.
func TestOwnElements(t *testing.T) {
	start := time.Now()
	lib := Source{Name: "lib", FS: os.DirFS("../../lib")}
	for _, f := range found(t, Input{Elements: []Source{{Name: "elements", FS: os.DirFS("../../elements")}}, Lib: &lib}) {
		t.Error(f)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestParseToxINI(t *testing.T) {
	for text, want := range map[string]string{
		"[dib-lint]\nignore = sete setu\n":                     "sete setu",
		"[dib-lint]\nignore=sete,setu # why\n":                 "sete setu",
		"[testenv]\nignore = sete\n[dib-lint]\n":               "",
		"[flake8]\nignore = E1\n[dib-lint]\nignore: which\n":   "which",
		"[dib-lint]\nignore =\n    sete\n    # x\n\tsetu\n":    "sete setu",
		"[dib-lint]\nother = x\n  sete\nignore = which\n":      "which",
		"[dib-lint]\r\nignore = which\r\n":                     "which",
		"# [dib-lint]\n; x\nignore = sete\n":                   "",
		"[dib-lint]\nignore = a\n[x]\n[dib-lint]\nignore = b":  "b",
		"[dib-lint]\nnonsense\n sete\nignore = which ; sete\n": "which",
	} {
		if got := strings.Join(ParseToxINI(text), " "); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzParseToxINI(f *testing.F) {
	f.Add("[dib-lint]\nignore = sete setu\n  which\n")
	f.Add("[x]\n= y\n[dib-lint]\n:\nignore:\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range ParseToxINI(text) {
			if name == "" || strings.ContainsAny(name, " ,\t\r\n") || !strings.Contains(text, name) {
				t.Errorf("%q gives %q", text, name)
			}
		}
	})
}

// FuzzFile looks at any text in the place of any file.
func FuzzFile(f *testing.F) {
	f.Add("install.d/50-x", good+"sudo x # dib-lint: safe_sudo\n", true)
	f.Add("pkg-map", `{"default": {"a": "b"}}`, false)
	f.Add("svc-map", "a: {default: b}\n", false)
	f.Add("package-installs.yaml", "a: [{when: A = b}]\n", false)
	f.Add("block-device-default.yaml", "- local_loop: {name: a}\n", false)
	f.Add("element-deps", "# dib-lint: disable=unknowndep\nb\na\n", false)
	f.Fuzz(func(t *testing.T, name, text string, executable bool) {
		if !fs.ValidPath(name) || name == "." {
			return
		}
		file := &fstest.MapFile{Data: []byte(text), Mode: 0o644}
		if executable {
			file.Mode = 0o755
		}
		result, err := Run(Input{Elements: []Source{{FS: fstest.MapFS{"e/" + name: file}}}})
		if err != nil {
			t.Skip() // names that no file system has
		}
		for _, one := range result.Findings {
			if one.Line < 0 || one.Line > strings.Count(text, "\n")+1 || one.Message == "" {
				t.Errorf("%+v", one)
			}
		}
	})
}
