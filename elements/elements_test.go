package elements

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// files lists every file of the library by path, without the Go files.
func files(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(name, "/") {
			return err
		}
		data, err := fs.ReadFile(FS(), name)
		all[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// names lists the elements.
func names(t *testing.T) []string {
	t.Helper()
	entries, err := fs.ReadDir(FS(), ".")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, e.Name())
		}
	}
	return all
}

var phaseDir = regexp.MustCompile(`^(root|extra-data|pre-install|install|post-install|post-root|block-device|pre-finalise|finalise|cleanup)\.d$`)

func TestEveryElementHasAReadme(t *testing.T) {
	all := files(t)
	for _, name := range names(t) {
		text, ok := all[name+"/README.rst"]
		if !ok {
			t.Errorf("%s has no README.rst", name)
			continue
		}
		lines := strings.Split(text, "\n")
		if len(lines) < 3 || lines[1] != name || strings.Trim(lines[0], "=") != "" || len(lines[0]) != len(name) || lines[2] != lines[0] {
			t.Errorf("%s/README.rst does not start with the element's name as its title", name)
		}
	}
}

func TestScripts(t *testing.T) {
	hookName := regexp.MustCompile(`^[0-9A-Za-z_-]+$`)
	for name, text := range files(t) {
		dir := path.Base(path.Dir(name))
		script := strings.HasPrefix(text, "#!")
		hook := phaseDir.MatchString(dir) && strings.Count(name, "/") == 2
		switch {
		case hook && !hookName.MatchString(path.Base(name)):
			t.Errorf("%s: dib-run-parts would skip this name", name)
		case hook && !script:
			t.Errorf("%s: a hook without #! would not be executable", name)
		case dir == "environment.d" && script:
			t.Errorf("%s: environment files are sourced, not executed", name)
		case dir == "environment.d" && strings.Contains(text, "set -x"):
			t.Errorf("%s: tracing would show credentials", name)
		}
		if st, err := os.Stat(name); err != nil || st.Mode().Perm()&0o111 != Mode([]byte(text))&0o111 {
			t.Errorf("%s: permissions in the checkout are not those of Mode (%v)", name, err)
		}
		if strings.HasSuffix(text, "\n\n") || !strings.HasSuffix(text, "\n") {
			t.Errorf("%s does not end in exactly one newline", name)
		}
		for i, line := range strings.Split(text, "\n") {
			indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
			if strings.Contains(indent, "\t") || strings.HasSuffix(line, " ") {
				t.Errorf("%s:%d: tab in indentation or trailing blank", name, i+1)
			}
		}
		// What runs elsewhere than in a build, in a ramdisk say, is excused as for dib-lint.
		if !strings.HasPrefix(text, "#!/bin/bash\n") || strings.Contains(text, "\n# dib-lint: disable=sete setu setpipefail dibdebugtrace\n") {
			continue
		}
		for _, must := range []string{"\nset -eu\n", "\nset -o pipefail\n", "DIB_DEBUG_TRACE"} {
			if !strings.Contains(text, must) {
				t.Errorf("%s lacks %q", name, must)
			}
		}
	}
}

func TestShellcheck(t *testing.T) {
	program, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("shellcheck is not installed")
	}
	var scripts []string
	for name, text := range files(t) {
		if strings.HasPrefix(text, "#!/bin/bash\n") || strings.HasPrefix(text, "#!/bin/sh\n") || strings.Contains(name, "/environment.d/") {
			scripts = append(scripts, name)
		}
	}
	if len(scripts) == 0 {
		t.Fatal("no scripts found")
	}
	slices.Sort(scripts)
	// SC2153 takes variables of the environment for misspelt ones of the script.
	if out, err := exec.Command(program, append([]string{"--exclude=SC2153"}, scripts...)...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestDependencyFiles(t *testing.T) {
	known := names(t)
	provided := []string{}
	all := files(t)
	for name, text := range all {
		if path.Base(name) == "element-provides" {
			provided = append(provided, strings.Fields(text)...)
		}
	}
	for name, text := range all {
		if base := path.Base(name); base != "element-deps" && base != "element-provides" {
			continue
		}
		lines := strings.Fields(text)
		if !slices.IsSorted(lines) || len(slices.Compact(slices.Clone(lines))) != len(lines) {
			t.Errorf("%s is not sorted and unique", name)
		}
		for _, dep := range lines {
			if path.Base(name) == "element-deps" && !slices.Contains(known, dep) && !slices.Contains(provided, dep) {
				t.Errorf("%s: there is no element %q", name, dep)
			}
		}
	}
}

// exclusive names elements of which a build has at most one.
var exclusive = [][]string{{"dpkg", "fake-os", "gentoo", "yum", "zypper"}, {"block-device-mbr", "block-device-gpt", "block-device-efi", "block-device-efi-4k"}}

func TestHookNamesAreUnique(t *testing.T) {
	owner := map[string]string{}
	for name := range files(t) {
		element, rest, _ := strings.Cut(name, "/")
		if strings.Count(rest, "/") != 1 {
			continue // top-level files and deeper trees are merged by other rules
		}
		if other, ok := owner[rest]; ok && !slices.ContainsFunc(exclusive, func(set []string) bool {
			return slices.Contains(set, element) && slices.Contains(set, other)
		}) {
			t.Errorf("%s is in %s and in %s: they could not be used together", rest, element, other)
		}
		owner[rest] = element
	}
}

func TestPackageMapsAreJSON(t *testing.T) {
	for name, text := range files(t) {
		if strings.Count(name, "/") == 1 && path.Base(name) == "pkg-map" && !json.Valid([]byte(text)) {
			t.Errorf("%s is not JSON", name)
		}
	}
}

// TestEnvironment sources every environment file as hooks find it, with nothing
// but what the build always sets.
func TestEnvironment(t *testing.T) {
	var sources []string
	for name := range files(t) {
		if strings.Contains(name, "/environment.d/") {
			sources = append(sources, name)
		}
	}
	slices.SortFunc(sources, func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) })
	for _, again := range []string{"", `; first=$(export -p); for f in "$@"; do source "$f"; done; [ "$first" = "$(export -p)" ]`} {
		args := append([]string{"-c", `set -eu -o pipefail; for f in "$@"; do source "$f"; done` + again, "bash"}, sources...)
		cmd := exec.Command("/bin/bash", args...)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "ARCH=amd64", "IMAGE_NAME=image", "DIB_INIT_SYSTEM=systemd"}
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v: %s", err, out)
		}
	}
}
