package hook

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/element"
)

// el makes an element of "path: content" pairs: a path ending in "*" is
// executable, one ending in "@" a link to its content, one in "/" a directory.
func el(name string, files map[string]string) element.Element {
	fsys := fstest.MapFS{}
	for p, content := range files {
		f := &fstest.MapFile{Data: []byte(content), Mode: 0o644, ModTime: time.Unix(1e9, 0)}
		switch p[len(p)-1] {
		case '*':
			p, f.Mode = p[:len(p)-1], 0o755
		case '@':
			p, f.Mode = p[:len(p)-1], fs.ModeSymlink|0o777
		case '/':
			p, f.Mode = p[:len(p)-1], fs.ModeDir|0o750
		}
		fsys[p] = f
	}
	return element.Element{Name: name, Dir: "/e/" + name, FS: fsys}
}

type files = map[string]string

func TestAssemble(t *testing.T) {
	for _, c := range []struct {
		summary  string
		elements []element.Element
		want     []string // "path element"
	}{
		{"directories merge, some are left out", []element.Element{
			el("a", files{"install.d/10-a*": "", "tests/t": "", "__pycache__/x": "", ".git/HEAD": "", "x.pyc": "", "test-elements/t/README": ""}),
			el("b", files{"install.d/20-b*": "", ".git/HEAD": "other"}),
		}, []string{"install.d a", "install.d/10-a a", "install.d/20-b b", "test-elements a", "test-elements/t a", "test-elements/t/README a"}},
		{"hidden files and blanks", []element.Element{
			el("a", files{"install.d/.hidden": "1", "static/a b/c d": "", ".top": "", "dot dir/x": ""}),
			el("b", files{"install.d/.hidden": "2"}),
		}, []string{".top a", "dot dir a", "dot dir/x a", "install.d a", "install.d/.hidden b", "static a", "static/a b a", "static/a b/c d a"}},
		{"the later file at the top counts", []element.Element{
			el("a", files{"README.rst": "a", "pkg-map": "{}", "source-repository-x": "same"}),
			el("b", files{"README.rst": "b", "source-repository-x": "same"}),
		}, []string{"README.rst b", "pkg-map a", "source-repository-x b"}},
		{"equal files deeper down", []element.Element{
			el("a", files{"static/etc/x": "1", "install.d/x-source-install/10-x": "1"}),
			el("b", files{"static/etc/x": "1", "install.d/x-source-install/20-x": "1"}),
		}, []string{"install.d a", "install.d/x-source-install a", "install.d/x-source-install/10-x a",
			"install.d/x-source-install/20-x b", "static a", "static/etc a", "static/etc/x b"}},
		{"nothing reads test elements here", []element.Element{
			el("a", files{"test-elements/ok/element-deps": "1"}),
			el("b", files{"test-elements/ok/element-deps": "2"}),
		}, []string{"test-elements a", "test-elements/ok a", "test-elements/ok/element-deps b"}},
		{"equal links", []element.Element{
			el("a", files{"static/l@": "x"}), el("b", files{"static/l@": "x"}),
		}, []string{"static a", "static/l b"}},
	} {
		t.Run(c.summary, func(t *testing.T) {
			tree, err := Assemble(c.elements)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range tree.Paths() {
				got = append(got, p+" "+tree.Owner(p))
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestAssembleConflicts(t *testing.T) {
	const both, own, kind = "both bring this file", "each brings its own content", "is a directory in one and not in the other"
	for _, c := range []struct {
		summary string
		a, b    files
		want    []string // "path: reason"
	}{
		{"the same hook, even with equal content", files{"install.d/10-x": ""}, files{"install.d/10-x": ""}, []string{"install.d/10-x: " + both}},
		{"a directory that is no phase", files{"bin/tool": ""}, files{"bin/tool": ""}, []string{"bin/tool: " + both}},
		{"several at once", files{"bin/t": "", "install.d/x": "", "a/ok": ""}, files{"bin/t": "", "install.d/x": "", "b/ok": ""},
			[]string{"bin/t: " + both, "install.d/x: " + both}},
		{"M41 source repositories", files{"source-repository-x": "1"}, files{"source-repository-x": "2"}, []string{"source-repository-x: " + own}},
		{"static", files{"static/etc/motd": "1"}, files{"static/etc/motd": "2"}, []string{"static/etc/motd: " + own}},
		{"hidden static file", files{"static/.rel": "1"}, files{"static/.rel": "2"}, []string{"static/.rel: " + own}},
		{"init scripts", files{"init-scripts/systemd/x": "1"}, files{"init-scripts/systemd/x": "2"}, []string{"init-scripts/systemd/x: " + own}},
		{"variant hooks", files{"install.d/x-source-install/10": "1"}, files{"install.d/x-source-install/10": "2"},
			[]string{"install.d/x-source-install/10: " + own}},
		{"file and directory", files{"static/x": ""}, files{"static/x/y": ""}, []string{"static/x: " + kind}},
		{"file and directory at the top", files{"x": ""}, files{"x/y": ""}, []string{"x: " + kind}},
		{"link and file", files{"bin/x": ""}, files{"bin/x@": "y"}, []string{"bin/x: " + both}},
		{"links to different places", files{"static/l@": "x"}, files{"static/l@": "y"}, []string{"static/l: " + own}},
	} {
		t.Run(c.summary, func(t *testing.T) {
			_, err := Assemble([]element.Element{el("a", c.a), el("b", c.b)})
			var got []string
			if joined, ok := err.(interface{ Unwrap() []error }); ok {
				for _, e := range joined.Unwrap() {
					var conflict *ConflictError
					if errors.As(e, &conflict) {
						got = append(got, conflict.Path+": "+conflict.Reason)
					}
				}
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %q, want %q (%v)", got, c.want, err)
			}
		})
	}
}

func TestConflictNamesBothFiles(t *testing.T) {
	_, err := Assemble([]element.Element{el("dpkg", files{"bin/install-packages": ""}), el("yum", files{"bin/install-packages": ""})})
	want := `cannot combine elements "dpkg" and "yum": bin/install-packages: both bring this file (/e/dpkg/bin/install-packages and /e/yum/bin/install-packages): rename one, or leave one element out`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestAssembleWarnings(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "install.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "install.d/pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := Assemble([]element.Element{{Name: "a", Dir: "/e/a", FS: os.DirFS(dir)}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`element "a": /e/a/gone is a dangling link and is left out`,
		`element "a": /e/a/install.d/pipe is neither a file, a link nor a directory and is left out`,
	}
	if !reflect.DeepEqual(tree.Warnings, want) {
		t.Errorf("got %q, want %q", tree.Warnings, want)
	}
}

// describe lists a directory as "mode path" or "path -> target".
func describe(t *testing.T, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		st, err := os.Lstat(p)
		if err != nil {
			return err
		}
		if st.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(p)
			lines = append(lines, rel+" -> "+target)
			return err
		}
		lines = append(lines, st.Mode().String()+" "+rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestWrite(t *testing.T) {
	builtin := el("built", files{
		"install.d/10-b": "#!/bin/bash\n", "environment.d/10-e.bash": "#!/bin/bash\n", "static/data": "x",
	})
	builtin.Builtin = true
	tree, err := Assemble([]element.Element{
		el("own", files{"install.d/20-o*": "#!/bin/sh\n", "install.d/30-plain": "#!/bin/sh\n", "static/l@": "../nowhere", "static/sub/": "", "README": "r"}),
		builtin,
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "hooks")
	if err := tree.Write(dir); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"-rw-r--r-- README",
		"drwxr-xr-x environment.d",
		"-rw-r--r-- environment.d/10-e.bash",
		"drwxr-xr-x install.d",
		"-rwxr-xr-x install.d/10-b",
		"-rwxr-xr-x install.d/20-o",
		"-rw-r--r-- install.d/30-plain",
		"drwxr-xr-x static",
		"-rw-r--r-- static/data",
		"static/l -> ../nowhere",
		"drwxr-x--- static/sub",
	}
	if got := describe(t, dir); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	st, err := os.Stat(filepath.Join(dir, "README"))
	if err != nil || !st.ModTime().Equal(time.Unix(1e9, 0)) {
		t.Errorf("time of README is %v (%v)", st.ModTime(), err)
	}
	if err := tree.Write(dir); err == nil {
		t.Error("written twice to the same place")
	}
}

// Real directories, with a link as an element's phase directory and one inside it.
func TestAssembleRealDirectory(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"real/hooks", "shared"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(root, "shared/20-linked"), "#!/bin/sh\n", 0o700)
	if err := os.Symlink("../shared", filepath.Join(root, "real/install.d")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("20-linked", filepath.Join(root, "shared/10-first")); err != nil {
		t.Fatal(err)
	}
	layer := os.DirFS(root)
	sub, err := fs.Sub(layer, "real")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := Assemble([]element.Element{{Name: "real", Dir: root + "/real", FS: sub}})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "out")
	if err := tree.Write(dir); err != nil {
		t.Fatal(err)
	}
	want := []string{"drwxr-xr-x hooks", "drwxr-xr-x install.d", "install.d/10-first -> 20-linked", "-rwx------ install.d/20-linked"}
	if got := describe(t, dir); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	hooks, _, err := tree.Select("install.d", "")
	if want := []string{"10-first", "20-linked"}; err != nil || !reflect.DeepEqual(hooks, want) {
		t.Errorf("hooks are %q, want %q (%v)", hooks, want, err)
	}
}

func writeFile(t *testing.T, name, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func TestWriteElements(t *testing.T) {
	dir := t.TempDir()
	err := WriteElements(fstest.MapFS{
		"a/bin/tool":              {Data: []byte("#!/bin/sh\n"), Mode: 0o444},
		"a/environment.d/10-x":    {Data: []byte("#!/bin/sh\n"), Mode: 0o444},
		"a/README.rst":            {Data: []byte("text"), Mode: 0o444},
		"common-functions":        {Data: []byte("text"), Mode: 0o444},
		"elements.go":             {Data: []byte("package"), Mode: 0o444},
		"a/static/environment.go": {Data: []byte("package"), Mode: 0o444},
	}, dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"drwxr-xr-x a", "-rw-r--r-- a/README.rst", "drwxr-xr-x a/bin", "-rwxr-xr-x a/bin/tool",
		"drwxr-xr-x a/environment.d", "-rw-r--r-- a/environment.d/10-x",
		"drwxr-xr-x a/static", "-rw-r--r-- a/static/environment.go", "-rw-r--r-- common-functions",
	}
	if got := describe(t, dir); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestTreeSelect(t *testing.T) {
	built := el("built", files{"install.d/00-b": "#!/bin/sh\n", "install.d/01-data": "data"})
	built.Builtin = true
	tree, err := Assemble([]element.Element{built, el("own", files{
		"install.d/100-o*": "", "install.d/20-o*": "", "install.d/20-o.sh*": "", "install.d/30-link@": "../bin/real",
		"install.d/40-gone@": "nowhere", "install.d/50-loop@": "50-loop", "install.d/variant/x*": "",
		"install.d/package-installs-own": "", "install.d/.hidden*": "", "bin/real*": "",
	})})
	if err != nil {
		t.Fatal(err)
	}
	hooks, ignored, err := tree.Select("install.d", "")
	if err != nil {
		t.Fatal(err)
	}
	if want := "00-b 20-o 30-link 100-o"; strings.Join(hooks, " ") != want {
		t.Errorf("hooks are %q, want %s", hooks, want)
	}
	want := []Ignored{
		{"01-data", "is not executable", "chmod +x it, or move it to another directory if it is no hook"},
		{"20-o.sh", "has a name that does not match " + DefaultNames, "rename it, or move it to another directory if it is no hook"},
		{"40-gone", "is a dangling link", "correct or remove it"},
	}
	if !reflect.DeepEqual(ignored, want) {
		t.Errorf("ignored are %q, want %q", ignored, want)
	}
	if hooks, _, err := tree.Select("root.d", ""); err != nil || hooks != nil {
		t.Errorf("hooks of a missing directory are %q (%v)", hooks, err)
	}
}

func TestTreeEnvironmentFiles(t *testing.T) {
	tree, err := Assemble([]element.Element{el("a", files{
		"environment.d/20-b": "", "environment.d/100-a.bash": "", "environment.d/x~": "", "environment.d/.gitignore": "", "environment.d/sub/x": "",
	})})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tree.EnvironmentFiles(), []string{"100-a.bash", "20-b"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
