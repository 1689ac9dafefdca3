package unpack

import (
	"archive/tar"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/bootstrap/debian/dpkg"
	"github.com/dib-builder/dib/internal/bootstrap/debian/resolve"
	"github.com/dib-builder/dib/internal/deb"
	"github.com/dib-builder/dib/internal/deb/debtest"
)

// stagePackage stages a package twice, from the .deb and from the copy kept of
// it, and returns the second.
func stagePackage(t *testing.T, name string, more string, files []tar.Header, content, scripts map[string]string) *Staged {
	t.Helper()
	for i := range files {
		files[i].Uid, files[i].Gid = os.Getuid(), os.Getgid()
		if files[i].Mode == 0 {
			files[i].Mode = 0o755
		}
	}
	p := simplePackage(name, more)
	p.Files, p.Content, p.Scripts, p.Compression = files, content, scripts, ".xz"
	dir := t.TempDir()
	file := filepath.Join(dir, "p.deb")
	if err := os.WriteFile(file, p.Build(), 0o644); err != nil {
		t.Fatal(err)
	}
	c := &resolve.Candidate{Package: deb.Package{Name: name, Version: "1.0", Arch: "amd64", SHA256: strings.Repeat("a", 64)}}
	if i := strings.Index(more, "Replaces: "); i >= 0 {
		c.Replaces = strings.TrimSpace(more[i+len("Replaces: "):])
	}
	s := &Stager{Cache: filepath.Join(dir, "kept")}
	var st *Staged
	for _, out := range []string{"first", "second"} {
		var err error
		if st, err = s.Stage(t.Context(), c, file, filepath.Join(dir, out)); err != nil {
			t.Fatal(err)
		}
	}
	return st
}

// listing is a tree as text: type, mode, path, and content or target.
func listing(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		more := ""
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			more, err = os.Readlink(name)
		case d.Type().IsRegular():
			var data []byte
			data, err = os.ReadFile(name)
			more = string(data)
			if !st.ModTime().Equal(debtest.Epoch) {
				more += " " + st.ModTime().String()
			}
		}
		rel, _ := filepath.Rel(root, name)
		b.WriteString(strings.TrimSpace(st.Mode().String()+" "+rel+" "+more) + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPlace(t *testing.T) {
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"bin", "lib"} {
		if err := os.MkdirAll(filepath.Join(root, "usr", dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("usr/"+dir, filepath.Join(root, dir)); err != nil {
			t.Fatal(err)
		}
	}
	// Links of the tree are followed as a chroot would follow them.
	if err := os.MkdirAll(filepath.Join(root, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "var"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/run", filepath.Join(root, "var/run")); err != nil {
		t.Fatal(err)
	}
	st := stagePackage(t, "a", "", []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir},
		{Name: "./bin/", Typeflag: tar.TypeDir},
		{Name: "./bin/tool", Typeflag: tar.TypeReg, Mode: 0o4755},
		{Name: "./usr/bin/alias", Typeflag: tar.TypeLink, Linkname: "./bin/tool"},
		{Name: "./lib/link", Typeflag: tar.TypeSymlink, Linkname: "../bin/tool"},
		{Name: "./var/run/a/", Typeflag: tar.TypeDir, Mode: 0o700},
		{Name: "./var/run/a/pid", Typeflag: tar.TypeReg, Mode: 0o600},
		{Name: "./etc/a.conf", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "./usr/sbin/diverted", Typeflag: tar.TypeReg, Mode: 0o755},
	}, map[string]string{"./bin/tool": "tool", "./var/run/a/pid": "1", "./etc/a.conf": "conf", "./usr/sbin/diverted": "real"},
		map[string]string{"conffiles": "/etc/a.conf\n"})
	p := NewPlacer(root)
	p.diversions = []dpkg.Diversion{{From: "/usr/sbin/diverted", To: "/usr/sbin/diverted.away", By: ":"}}
	if err := p.Place(st, false); err != nil {
		t.Fatal(err)
	}
	want := `drwxr-xr-x .
Lrwxrwxrwx bin usr/bin
drwxr-xr-x etc
-rw-r--r-- etc/a.conf.dpkg-new conf
Lrwxrwxrwx lib usr/lib
drwxr-xr-x run
drwx------ run/a
-rw------- run/a/pid 1
drwxr-xr-x usr
drwxr-xr-x usr/bin
urwxr-xr-x usr/bin/alias tool
urwxr-xr-x usr/bin/tool tool
drwxr-xr-x usr/lib
Lrwxrwxrwx usr/lib/link ../bin/tool
drwxr-xr-x usr/sbin
-rwxr-xr-x usr/sbin/diverted.away real
drwxr-xr-x var
Lrwxrwxrwx var/run /run
`
	if got := listing(t, root); got != want {
		t.Errorf("got\n%s", got)
	}
	a, _ := os.Stat(filepath.Join(root, "usr/bin/tool"))
	b, _ := os.Stat(filepath.Join(root, "usr/bin/alias"))
	if !os.SameFile(a, b) {
		t.Error("hard link became a copy")
	}
	if got, want := strings.Join(st.Files, " "), "/ /bin /bin/tool /usr/bin/alias /lib/link /var/run/a /var/run/a/pid /etc/a.conf /usr/sbin/diverted"; got != want {
		t.Errorf("list %q", got)
	}
	if got := st.MD5Sums; !strings.Contains(got, "  bin/tool\n") || strings.Contains(got, "a.conf") {
		t.Errorf("md5sums %q", got)
	}
}

func TestFilesOfOthers(t *testing.T) {
	file := func() []tar.Header {
		return []tar.Header{{Name: "./usr/x", Typeflag: tar.TypeReg, Mode: 0o644}}
	}
	root := t.TempDir()
	p := NewPlacer(root)
	if err := p.Place(stagePackage(t, "a", "", file(), map[string]string{"./usr/x": "a"}, nil), true); err != nil {
		t.Fatal(err)
	}
	if err := p.Place(stagePackage(t, "b", "", file(), map[string]string{"./usr/x": "b"}, nil), true); err == nil || !strings.Contains(err.Error(), "belongs to a") {
		t.Errorf("%v", err)
	}
	if err := p.Place(stagePackage(t, "c", "Replaces: a (<< 2)\n", file(), map[string]string{"./usr/x": "c"}, nil), true); err != nil {
		t.Error(err)
	}
	if data, _ := os.ReadFile(filepath.Join(root, "usr/x")); string(data) != "c" {
		t.Errorf("%q", data)
	}
}

func simplePackage(name, more string) debtest.Package {
	return debtest.Package{Control: "Package: " + name + "\nVersion: 1.0\nArchitecture: amd64\n" + more}
}

func TestDamagedKeptCopyIsReplaced(t *testing.T) {
	p := simplePackage("a", "")
	p.Files, p.Compression = []tar.Header{{Name: "./x", Typeflag: tar.TypeReg, Mode: 0o644, Uid: os.Getuid(), Gid: os.Getgid()}}, ".xz"
	p.Content = map[string]string{"./x": strings.Repeat("content", 1000)}
	dir := t.TempDir()
	file := filepath.Join(dir, "p.deb")
	if err := os.WriteFile(file, p.Build(), 0o644); err != nil {
		t.Fatal(err)
	}
	c := &resolve.Candidate{Package: deb.Package{Name: "a", Version: "1.0", Arch: "amd64", SHA256: strings.Repeat("b", 64)}}
	s := &Stager{Cache: filepath.Join(dir, "kept")}
	kept := filepath.Join(s.Cache, "bb", c.SHA256+".tar.zst")
	for i, damage := range []func([]byte) []byte{
		nil,
		func(b []byte) []byte { return b[:len(b)-3] },
		func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
	} {
		if damage != nil {
			data, err := os.ReadFile(kept)
			if err != nil {
				t.Fatal(err)
			}
			os.Chmod(kept, 0o644)
			if err := os.WriteFile(kept, damage(data), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		out := filepath.Join(dir, "out", string(rune('a'+i)))
		st, err := s.Stage(t.Context(), c, file, out)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(st.entries[0].file); err != nil || string(data) != p.Content["./x"] {
			t.Errorf("%d: %d bytes, %v", i, len(data), err)
		}
	}
}

func TestWrongPackageIsRefused(t *testing.T) {
	p := simplePackage("other", "")
	dir := t.TempDir()
	file := filepath.Join(dir, "p.deb")
	if err := os.WriteFile(file, p.Build(), 0o644); err != nil {
		t.Fatal(err)
	}
	c := &resolve.Candidate{Package: deb.Package{Name: "a", Version: "1.0", Arch: "amd64", SHA256: strings.Repeat("c", 64)}}
	if _, err := (&Stager{Cache: dir}).Stage(t.Context(), c, file, filepath.Join(dir, "out")); err == nil || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("%v", err)
	}
}

func TestNewEntry(t *testing.T) {
	for name, want := range map[string]string{"./": "/", "./usr/bin/": "/usr/bin", "../../etc/x": "/etc/x", "/abs": "/abs"} {
		e, err := newEntry(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o104755})
		if err != nil || e.path != want || e.mode != 0o4755 {
			t.Errorf("%q: %+v, %v", name, e, err)
		}
	}
	if _, err := newEntry(&tar.Header{Name: "x", Typeflag: 'Z'}); err == nil {
		t.Error("no error")
	}
}

func TestDiverted(t *testing.T) {
	p := Placer{diversions: []dpkg.Diversion{{From: "/a", To: "/b", By: ":"}, {From: "/c", To: "/d", By: "pkg"}}}
	for _, c := range [][3]string{{"/a", "x", "/b"}, {"/c", "x", "/d"}, {"/c", "pkg", "/c"}, {"/e", "x", "/e"}} {
		if to := p.diverted(c[0], c[1]); to != c[2] {
			t.Errorf("%v: %s", c, to)
		}
	}
}
