package element

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"github.com/dib-builder/dib/internal/place"
)

// fixture makes a file system from "path: content" pairs; a path ending in "/"
// is an empty directory.
func fixture(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for p, content := range files {
		if dir, ok := strings.CutSuffix(p, "/"); ok {
			fsys[dir] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
			continue
		}
		fsys[p] = &fstest.MapFile{Data: []byte(content), Mode: 0o644}
	}
	return fsys
}

func TestParseNames(t *testing.T) {
	for _, c := range []struct {
		summary, text string
		want          []string
	}{
		{"empty", "", nil},
		{"order of the file, without newline at the end", "b\na", []string{"b", "a"}},
		{"blanks and blank lines", "  a \n\n\t\n b\t\r\n", []string{"a", "b"}},
		{"repetition", "a\nb\na\n", []string{"a", "b"}},
		{"comments", "# why\na # because\n  # b\n", []string{"a"}},
		{"a hash inside a name", "c#\n", []string{"c#"}},
		{"a blank inside a name", "my element\n", []string{"my element"}},
	} {
		if got := ParseNames([]byte(c.text)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.summary, got, c.want)
		}
	}
}

func FuzzParseNames(f *testing.F) {
	for _, seed := range []string{"", "a\nb", "# a\n", "a #b\r\n", "\xff\n\x00", "a\n a\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		names := ParseNames(data)
		for i, name := range names {
			if name == "" || name != strings.TrimSpace(name) || strings.ContainsRune(name, '\n') || name[0] == '#' {
				t.Errorf("name %d of %q is %q", i, data, name)
			}
		}
		if again := ParseNames([]byte(strings.Join(names, "\n"))); !reflect.DeepEqual(again, names) {
			t.Errorf("%q reads as %q, that as %q", data, names, again)
		}
	})
}

func TestLoad(t *testing.T) {
	root := t.TempDir()
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		t.Fatal(err)
	}
	write(t, root, "one/mine/element-deps", "other\n")
	write(t, root, "one/blank name/element-provides", "virtual\n")
	write(t, root, "one/README", "no element")
	write(t, root, "two/mine/element-deps", "hidden\n")
	write(t, root, "elsewhere/real/element-provides", "linked\n")
	symlink(t, "../elsewhere/real", filepath.Join(root, "one/alias"))
	symlink(t, "nowhere", filepath.Join(root, "one/dangling"))
	builtin := fixture(map[string]string{"mine/element-deps": "", "base/element-deps": "mine\n", "elements.go": "package"})

	lib, err := Load(root+"/one:"+root+"/two:"+place.ElementsDir, builtin)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(lib.Names(), ","), "alias,base,blank name,mine"; got != want {
		t.Errorf("names are %s, want %s", got, want)
	}
	for name, want := range map[string]Element{
		"mine":       {Dir: root + "/one/mine", Deps: []string{"other"}},
		"blank name": {Dir: root + "/one/blank name", Provides: []string{"virtual"}},
		"alias":      {Dir: root + "/elsewhere/real", Provides: []string{"linked"}},
		"base":       {Dir: place.ElementsDir + "/base", Builtin: true, Deps: []string{"mine"}},
	} {
		got, ok := lib.Lookup(name)
		if !ok {
			t.Errorf("element %q is missing", name)
		}
		got.FS, want.Name = nil, name
		if !reflect.DeepEqual(got, want) {
			t.Errorf("element %q is %+v, want %+v", name, got, want)
		}
	}
	var warnings []string
	for _, w := range lib.Warnings {
		warnings = append(warnings, w.String())
	}
	want := []string{
		`element "mine": using ` + root + `/one/mine instead of ` + root + `/two/mine`,
		`element "mine": using ` + root + `/one/mine instead of /.dib/elements/mine (built in)`,
	}
	if !reflect.DeepEqual(warnings, want) {
		t.Errorf("warnings are %q, want %q", warnings, want)
	}
}

func TestLoadEmptyPathIsBuiltinOnly(t *testing.T) {
	lib, err := Load("", fixture(map[string]string{"a/": ""}))
	if err != nil {
		t.Fatal(err)
	}
	if got := lib.Names(); !reflect.DeepEqual(got, []string{"a"}) {
		t.Errorf("names are %q", got)
	}
}

func TestLoadFailures(t *testing.T) {
	root := t.TempDir()
	write(t, root, "file", "")
	write(t, root, "good/a/element-deps", "")
	write(t, root, "bad/a/element-deps/x", "")
	for _, c := range []struct {
		summary, path string
		entries       []string // of InvalidDirErrors
		text          string
	}{
		{"missing directory", root + "/none", []string{root + "/none"}, "no such file"},
		{"file", root + "/file", []string{root + "/file"}, "not a directory"},
		{"leading colon", ":" + root + "/good", []string{""}, "empty entry"},
		{"trailing colon", root + "/good:", []string{""}, "empty entry"},
		{"doubled colon and more", root + "/good::" + root + "/none", []string{"", root + "/none"}, "empty entry"},
		{"deps is a directory", root + "/bad", nil, `cannot read "` + root + `/bad/a/element-deps" of element "a"`},
	} {
		_, err := Load(c.path, fstest.MapFS{})
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: error is %v, want %q in it", c.summary, err, c.text)
			continue
		}
		var entries []string
		for _, e := range findings[*InvalidDirError](err) {
			entries = append(entries, e.Entry)
		}
		if !reflect.DeepEqual(entries, c.entries) {
			t.Errorf("%s: faulty entries are %q, want %q", c.summary, entries, c.entries)
		}
	}
}

// findings collects every error of a type from a joined error.
func findings[T error](err error) []T {
	var found []T
	var one T
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			found = append(found, findings[T](e)...)
		}
	} else if errors.As(err, &one) {
		found = append(found, one)
	}
	return found
}

func write(t *testing.T, root, name, content string) {
	t.Helper()
	file := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

// The directory in which an element is found must not matter, as long as
// nothing hides it.
func TestOrderOfLayersDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a", "b", "c", "d", "e", "f"}
		virtual := []string{"v", "w"}
		layers := []Layer{{Path: "/one", FS: fstest.MapFS{}}, {Path: "/two", FS: fstest.MapFS{}}, {Path: "/three", FS: fstest.MapFS{}}}
		for i, name := range names {
			deps := rapid.SliceOfN(rapid.SampledFrom(append(virtual, names...)), 0, 4).Draw(t, name+" deps")
			provides := rapid.SliceOfN(rapid.SampledFrom(append(virtual, OperatingSystem, names[(i+1)%6])), 0, 1).Draw(t, name+" provides")
			fsys := layers[rapid.IntRange(0, 2).Draw(t, name+" layer")].FS.(fstest.MapFS)
			fsys[name+"/element-deps"] = &fstest.MapFile{Data: []byte(strings.Join(deps, "\n"))}
			fsys[name+"/element-provides"] = &fstest.MapFile{Data: []byte(strings.Join(provides, "\n"))}
		}
		request := rapid.SliceOfN(rapid.SampledFrom(names), 1, 3).Draw(t, "request")
		outcome := func(layers []Layer) string {
			lib, err := New(layers...)
			if err != nil {
				t.Fatal(err)
			}
			resolved, err := lib.Resolve(request)
			if err != nil {
				// Searched directories are listed in order of the path.
				err = errors.New(strings.Split(err.Error(), ": searched")[0])
			}
			var b strings.Builder
			for _, r := range resolved {
				b.WriteString(r.Name + " (" + r.Reason + ") ")
			}
			return b.String() + errText(err)
		}
		first := outcome(layers)
		if again := outcome(rapid.Permutation(layers).Draw(t, "permutation")); again != first {
			t.Fatalf("got %s, then %s", first, again)
		}
	})
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
