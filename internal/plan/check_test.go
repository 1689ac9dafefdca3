package plan

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Whatever would keep a hook from starting is found before the build.
func TestHookFiles(t *testing.T) {
	const dos = "its lines end as on Windows (CR LF), and the CR would become part of names and commands: convert it: sed -i 's/\\r$//' /own/mine/"
	for _, c := range []struct {
		summary, hook, content, want string
	}{
		{"an interpreter of the host", "root.d/10-x", "#!/bin/bash\n", ""},
		{"an interpreter with an argument", "root.d/10-x", "#! /bin/bash -e\n", ""},
		{"an interpreter found by env", "root.d/10-x", "#!/usr/bin/env bash\n", ""},
		{"an interpreter found by env, with arguments", "root.d/10-x", "#!/usr/bin/env -S bash -e\n", ""},
		{"a path given to env", "root.d/10-x", "#!/usr/bin/env /bin/bash\n", ""},
		{"env with more than a name", "root.d/10-x", "#!/usr/bin/env LANG=C nothing\n", ""},
		{"an interpreter that the build brings", "root.d/10-x", "#!/.dib/build/hooks/bin/mine\n", ""},
		{"no interpreter", "root.d/10-x", "echo hi\n", ""},
		{"a program", "root.d/10-x", "\x7fELF\x00\r\n", ""},
		{"nothing", "root.d/10-x", "", ""},
		{"an interpreter that is missing", "root.d/10-x", "#!/usr/bin/pyhton3\n", "its interpreter /usr/bin/pyhton3 is not on this machine: install it, or correct the name"},
		{"an interpreter that env will not find", "cleanup.d/10-x", "#!/usr/bin/env pyhton3\n", "its interpreter pyhton3 is in no directory of PATH (/usr/bin:/bin): install it on this machine, or correct the name"},
		{"an interpreter in the image, which is not known", "install.d/10-x", "#!/usr/bin/pyhton3\n", ""},
		{"lines of Windows on the host", "root.d/10-x", "#!/bin/bash\r\necho\r\n", dos + "root.d/10-x"},
		{"lines of Windows in the image", "install.d/10-x", "#!/bin/bash\r\necho\r\n", dos + "install.d/10-x"},
		{"lines of Windows without interpreter", "finalise.d/10-x", "echo\r\n", dos + "finalise.d/10-x"},
		{"a byte order mark", "install.d/10-x", "\xef\xbb\xbf#!/bin/bash\n", "it begins with a byte order mark, which hides the #! from the kernel: remove it: sed -i '1s/^\\xef\\xbb\\xbf//' /own/mine/install.d/10-x"},
		{"a file that is no hook", "lib/10-x", "#!/nowhere\r\n", ""},
	} {
		t.Run(c.summary, func(t *testing.T) {
			opt := pure
			opt.Executable = func(path string) error {
				if path == "/bin/bash" || path == "/usr/bin/bash" {
					return nil
				}
				return fs.ErrNotExist
			}
			own := files{"mine/" + c.hook + "*": c.content}
			_, err := Make(newRecipe("debian mine", Env{"PATH": "/usr/bin:/bin"}), library(t, own), opt)
			want := c.want
			if want != "" {
				want = `cannot run hook ` + c.hook + ` of element "mine": /own/mine/` + c.hook + ":1: " + want
			}
			got := ""
			if err != nil {
				got = err.Error()
				if e := new(HookFileError); !errors.As(err, &e) || e.Hook != c.hook || e.Element != "mine" {
					t.Errorf("error is a %T", err)
				}
			}
			if got != want {
				t.Errorf("error is\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Where an environment file changes PATH, nobody knows what env will find.
func TestInterpreterOnAnotherPath(t *testing.T) {
	opt := pure
	opt.Executable = func(string) error { return fs.ErrNotExist }
	own := files{"mine/root.d/10-x*": "#!/usr/bin/env tool\n", "mine/environment.d/10-path": "# PATH=\nexport MYPATH=/x\n"}
	if _, err := Make(newRecipe("debian mine", Env{"PATH": "/bin"}), libraryOf(t, own, files{"debian/element-provides": "operating-system", "base/README": ""}), opt); err == nil || !strings.Contains(err.Error(), "its interpreter tool is in no directory of PATH (/bin)") {
		t.Errorf("PATH is left alone: %v", err)
	}
	own["mine/environment.d/10-path"] = "export PATH=$TMP_HOOKS_PATH/bin:$PATH\n"
	if _, err := Make(newRecipe("debian mine", Env{"PATH": "/bin"}), libraryOf(t, own, files{"debian/element-provides": "operating-system", "base/README": ""}), opt); err != nil {
		t.Errorf("PATH is changed: %v", err)
	}
}

func FuzzInterpreterOf(f *testing.F) {
	for _, seed := range []string{"/bin/bash", " /usr/bin/env -S python3 -u", "/usr/bin/env", "/usr/bin/env A=b c", "", "env x/y"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		interpreter, lookedUp := interpreterOf(line)
		switch {
		case interpreter != "" && !strings.Contains(line, interpreter):
			t.Errorf("%q: %q is not in it", line, interpreter)
		case lookedUp && (interpreter == "" || strings.ContainsAny(interpreter, "/= \t")):
			t.Errorf("%q: %q cannot be looked up", line, interpreter)
		}
	})
}

// Data files are read by the planner with the parsers of those who use them
// hours later: everything that is wrong, with its place, at once.
func TestDataFiles(t *testing.T) {
	own := files{
		"a/package-installs.yaml": "vim:\n  pahse: install.d\ngit:\n  phase: instal.d\n",
		"b/package-installs.json": "{\"x\": {\"arch\": [1]}}\n",
		"c/pkg-map":               "{\"family\":\n {\"debian\": 1}}\n",
		"d/svc-map":               "ssh:\n  default: [a]\n",
		"e/pkg-map":               "{\"default\": {\"x\": \"y\"}}",
		// What reads the files when it is in the image.
		"all/element-deps": "a\nb\nc\nd\ne\npackage-installs\npkg-map\nsvc-map\n",
	}
	builtin := files{"package-installs/README": "", "pkg-map/README": "", "svc-map/README": ""}
	for name, content := range builtinFiles {
		builtin[name] = content
	}
	_, err := Make(newRecipe("debian all", nil), libraryOf(t, own, builtin), pure)
	if err == nil {
		t.Fatal("no error")
	}
	var places []string
	for _, line := range strings.Split(err.Error(), "\n") {
		place, _, _ := strings.Cut(line, ": ")
		places = append(places, place)
	}
	if diff := cmp.Diff([]string{
		"/own/a/package-installs.yaml:2:3", "/own/a/package-installs.yaml:4:10", "/own/b/package-installs.json:1:16", "/own/c/pkg-map:2:13", "/own/d/svc-map:2",
	}, places); diff != "" {
		t.Errorf("findings differ (-want +got):\n%s\n%v", diff, err)
	}

	// A foreign element that replaces the reader may have a format of its own.
	own["package-installs/README"], own["pkg-map/README"], own["svc-map/README"] = "", "", ""
	if _, err := Make(newRecipe("debian all", nil), libraryOf(t, own, builtin), pure); err != nil {
		t.Errorf("with foreign readers: %v", err)
	}
	// Without a reader nobody looks at the files.
	if _, err := Make(newRecipe("debian a b c d", nil), libraryOf(t, own, builtinFiles), pure); err != nil {
		t.Errorf("without readers: %v", err)
	}
}
