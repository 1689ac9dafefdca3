package debian

import (
	"archive/tar"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/deb"
	"github.com/dib-builder/dib/internal/deb/debtest"
)

// stagePackage stages a package twice, from the .deb and from the copy kept of
// it, and returns the second.
func stagePackage(t *testing.T, name string, more string, files []tar.Header, content, scripts map[string]string) *staged {
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
	c := &candidate{Package: deb.Package{Name: name, Version: "1.0", Arch: "amd64", SHA256: strings.Repeat("a", 64)}}
	if i := strings.Index(more, "Replaces: "); i >= 0 {
		c.Replaces = strings.TrimSpace(more[i+len("Replaces: "):])
	}
	s := &stager{cache: filepath.Join(dir, "kept")}
	var st *staged
	for _, out := range []string{"first", "second"} {
		var err error
		if st, err = s.stage(t.Context(), c, file, filepath.Join(dir, out)); err != nil {
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
	if err := mergeUsr(root, []string{"bin", "lib"}); err != nil {
		t.Fatal(err)
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
	p := newPlacer(root)
	p.diversions = []diversion{{"/usr/sbin/diverted", "/usr/sbin/diverted.away", ":"}}
	if err := p.place(st, false); err != nil {
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
	if got, want := fileList(st.entries), "/.\n/bin\n/bin/tool\n/usr/bin/alias\n/lib/link\n/var/run/a\n/var/run/a/pid\n/etc/a.conf\n/usr/sbin/diverted\n"; got != want {
		t.Errorf("list %q", got)
	}
	if got := st.md5sums; !strings.Contains(got, "  bin/tool\n") || strings.Contains(got, "a.conf") {
		t.Errorf("md5sums %q", got)
	}
}

func TestFilesOfOthers(t *testing.T) {
	file := func() []tar.Header {
		return []tar.Header{{Name: "./usr/x", Typeflag: tar.TypeReg, Mode: 0o644}}
	}
	root := t.TempDir()
	p := newPlacer(root)
	if err := p.place(stagePackage(t, "a", "", file(), map[string]string{"./usr/x": "a"}, nil), true); err != nil {
		t.Fatal(err)
	}
	if err := p.place(stagePackage(t, "b", "", file(), map[string]string{"./usr/x": "b"}, nil), true); err == nil || !strings.Contains(err.Error(), "belongs to a") {
		t.Errorf("%v", err)
	}
	if err := p.place(stagePackage(t, "c", "Replaces: a (<< 2)\n", file(), map[string]string{"./usr/x": "c"}, nil), true); err != nil {
		t.Error(err)
	}
	if data, _ := os.ReadFile(filepath.Join(root, "usr/x")); string(data) != "c" {
		t.Errorf("%q", data)
	}
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
	c := &candidate{Package: deb.Package{Name: "a", Version: "1.0", Arch: "amd64", SHA256: strings.Repeat("b", 64)}}
	s := &stager{cache: filepath.Join(dir, "kept")}
	kept := filepath.Join(s.cache, "bb", c.SHA256+".tar.zst")
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
		st, err := s.stage(t.Context(), c, file, out)
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
	c := &candidate{Package: deb.Package{Name: "a", Version: "1.0", Arch: "amd64", SHA256: strings.Repeat("c", 64)}}
	if _, err := (&stager{cache: dir}).stage(t.Context(), c, file, filepath.Join(dir, "out")); err == nil || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("%v", err)
	}
}

func TestTriggersOfUnpackedFiles(t *testing.T) {
	db := newDpkgDB(t.TempDir())
	if err := db.create("amd64"); err != nil {
		t.Fatal(err)
	}
	interested := &staged{pkg: &candidate{Package: deb.Package{Name: "i", MultiArch: "same", Arch: "amd64"}},
		control: &deb.Control{Files: map[string]deb.ControlFile{"triggers": {Data: []byte("interest-noawait /usr/share/x\ninterest name\n")}}}}
	other := &staged{pkg: &candidate{Package: deb.Package{Name: "o"}}, entries: []entry{{path: "/usr/share/x/deep/file"}},
		control: &deb.Control{Files: map[string]deb.ControlFile{"triggers": {Data: []byte("activate-noawait name\nactivate nobody\n")}}}}
	for _, st := range []*staged{interested, other} {
		if err := db.addTriggers(st, "amd64"); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.flush(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"triggers/File": "/usr/share/x i:amd64/noawait\n", "triggers/name": "i:amd64\n",
		"triggers/Unincorp": "/usr/share/x -\nname -\n", "arch": "amd64\n",
	} {
		if got, err := os.ReadFile(db.path(name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
