package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/lint"
)

func writeFiles(t *testing.T, texts map[string]string) {
	t.Helper()
	for p, text := range texts {
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLint(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFiles(t, map[string]string{
		"diskimage_builder/elements/a/README.rst":      "a\n",
		"diskimage_builder/elements/a/bin/x":           "#!/bin/sh\n  x\n",
		"diskimage_builder/elements/a/junk.md":         "\n",
		"diskimage_builder/elements/a/scratch/deep.md": "\n",
		"diskimage_builder/lib/common":                 "\tx\n",
		"other/b/README.rst":                           "b\n",
		"other/b/element-deps":                         "a\nmine\npkg-map\n",
		"mine/mine/README.rst":                         "mine\n",
		".gitignore":                                   "junk.md\nscratch/\n",
	})
	check := func(env map[string]string, status int, want string, args ...string) {
		t.Helper()
		got, out, stderr := call(t, program(), env, append([]string{"dib-lint"}, args...)...)
		if got != status || out != want {
			t.Errorf("%v %v: status %d, want %d\n%s%s", env, args, got, status, out, stderr)
		}
	}
	const elements, indent = "ERROR: diskimage_builder/elements/", "a/bin/x:2: indented by 2 spaces; want a multiple of 4 [indent]\n"
	const junk = elements + "a/junk.md: documentation is written as reStructuredText (.rst), not Markdown [mddocs]\n"
	const deep = elements + "a/scratch/deep.md: documentation is written as reStructuredText (.rst), not Markdown [mddocs]\n"
	const tab = "ERROR: diskimage_builder/lib/common:1: tab in the indentation [tabindent]\n"
	check(nil, 1, elements+indent+junk+deep+tab+"FAIL: 4 errors\n")
	if out, err := exec.Command("git", "init", "-q").CombinedOutput(); err != nil {
		t.Fatalf("git init: %v: %s", err, out)
	}
	check(nil, 1, elements+indent+tab+"FAIL: 2 errors\n")
	check(map[string]string{"LIB_DIR": "other"}, 1, elements+indent+"FAIL: 1 errors\n")
	check(map[string]string{"ELEMENTS_DIR": "mine", "LIB_DIR": "other"}, 0, "PASS\n")
	check(map[string]string{"LIB_DIR": "nowhere"}, 1, "")
	check(map[string]string{"ELEMENTS_DIR": "nowhere"}, 1, "")
	writeFiles(t, map[string]string{"tox.ini": "[dib-lint]\nignore = indent\n  tabindent\n"})
	check(nil, 0, "PASS\n")

	// Elements are found where builds find them: here, on the path, in the program.
	check(map[string]string{"ELEMENTS_PATH": "mine:diskimage_builder/elements"}, 0, "PASS\n", "other")
	check(map[string]string{"ELEMENTS_PATH": "mine:diskimage_builder/elements"}, 0, "PASS\n", "other/b")
	const unknown = `ERROR: other/b/element-deps:2: there is no element "mine"; if it comes from elsewhere, name its directory in ELEMENTS_PATH [unknowndep]` + "\n"
	check(map[string]string{"ELEMENTS_PATH": "diskimage_builder/elements"}, 1, unknown+"FAIL: 1 errors\n", "other/b")
	t.Chdir("other/b")
	check(map[string]string{"ELEMENTS_PATH": "../../diskimage_builder/elements"}, 1,
		strings.ReplaceAll(unknown, "other/b", filepath.Join(filepath.Dir(cwd(t)), "b"))+"FAIL: 1 errors\n", ".")
	_, out, _ := call(t, program(), map[string]string{"ELEMENTS_PATH": "../../diskimage_builder/elements"}, "dib", "lint", "--format", "json", "..")
	var list []lint.Finding
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || list[0].Path != "../b/element-deps" || list[0].Line != 2 || list[0].Check != "unknowndep" {
		t.Errorf("%v: %s", err, out)
	}
	if _, out, _ = call(t, program(), nil, "dib-lint", "--format=json", "../../mine"); out != "[]\n" {
		t.Errorf("no finding in JSON: %q", out)
	}
}

func cwd(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestLintPython(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFiles(t, map[string]string{
		"elements/a/README.rst": "a\n", "elements/a/bin/x": "#!/usr/bin/env python3\nimport os\n",
		"bin/flake8":    "#!/bin/bash\necho \"$2:2:1: F401 'os' imported but unused\"\nexit 1\n",
		"broken/flake8": "#!/bin/bash\necho no such option >&2\nexit 2\n",
	})
	path := os.Getenv("PATH")
	t.Setenv("PATH", cwd(t)+"/bin:"+path)
	status, out, stderr := call(t, program(), nil, "dib-lint")
	if status != 1 || out != "ERROR: elements/a/bin/x:2: F401 'os' imported but unused [python]\nFAIL: 1 errors\n" || stderr != "" {
		t.Errorf("status %d\n%s%s", status, out, stderr)
	}
	t.Setenv("PATH", cwd(t)+"/broken:"+path)
	if status, out, stderr = call(t, program(), nil, "dib-lint"); status != 1 || out != "" || !strings.Contains(stderr, "no such option") {
		t.Errorf("status %d\n%s%s", status, out, stderr)
	}
	t.Setenv("PATH", "/nowhere")
	status, out, stderr = call(t, program(), nil, "dib-lint")
	if status != 0 || out != "PASS\n" || stderr != "dib-lint: note: flake8 is not installed: 1 scripts in Python are not checked\n" {
		t.Errorf("status %d\n%s%s", status, out, stderr)
	}
}
