package deb

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/internal/deb/debtest"
)

func TestCompareVersions(t *testing.T) {
	// Each row is older than the next.
	ordered := []string{
		"0~~", "0~~a", "0~", "0", "0a", "0+", "0.1", "0.1a", "0.9", "0.10", "1.0~rc1-1", "1.0-1~deb12u1", "1.0-1",
		"1.0-1+b1", "1.0-2", "1.0-10", "1.0a-1", "1.0+dfsg-1", "1.0.1", "10", "99999999999999999999", "100000000000000000000", "1:0",
	}
	for i, a := range ordered {
		for j, b := range ordered {
			got := CompareVersions(a, b)
			if (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("CompareVersions(%q, %q) = %d", a, b, got)
			}
		}
	}
	for _, same := range [][2]string{{"1.0", "0:1.0"}, {"1.0", "1.0-0"}, {"1.01", "1.1"}, {"00:1", "1"}} {
		if got := CompareVersions(same[0], same[1]); got != 0 {
			t.Errorf("CompareVersions(%q, %q) = %d", same[0], same[1], got)
		}
	}
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("1.0-1", "1:0~")
	f.Add("", "~~")
	f.Fuzz(func(t *testing.T, a, b string) {
		if ab, ba := CompareVersions(a, b), CompareVersions(b, a); (ab < 0) != (ba > 0) || (ab == 0) != (ba == 0) {
			t.Errorf("%q, %q: %d one way, %d the other", a, b, ab, ba)
		}
		if CompareVersions(a, a) != 0 {
			t.Errorf("%q differs from itself", a)
		}
	})
}

func TestParseStanzas(t *testing.T) {
	got, err := ParseStanzas("# comment\nA: 1\nB:\n x\n  y\n\n \nC: last ")
	if err != nil {
		t.Fatal(err)
	}
	want := []Stanza{{{"A", "1"}, {"B", "\n x\n  y"}}, {{"C", "last"}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for text, line := range map[string]int{"A: 1\nnonsense\n": 2, " A: 1": 1, "A: 1\n\n: x": 3, "-----BEGIN: x": 1} {
		var syntax *SyntaxError
		if _, err := ParseStanzas(text); !errors.As(err, &syntax) || syntax.Line != line {
			t.Errorf("%q: %v, want an error in line %d", text, err, line)
		}
	}
}

func FuzzParseStanzas(f *testing.F) {
	f.Add("A: 1\nB:\n x\n\nC: 2")
	f.Add("#\n\n :\n")
	f.Fuzz(func(t *testing.T, text string) {
		stanzas, err := ParseStanzas(text)
		if err != nil {
			return
		}
		for _, s := range stanzas {
			if len(s) == 0 {
				t.Error("empty stanza")
			}
			for _, f := range s {
				if f.Name == "" || strings.TrimLeft(f.Value, " \t") != f.Value {
					t.Errorf("field %q: %q", f.Name, f.Value)
				}
			}
		}
	})
}

const sum0 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParseIndex(t *testing.T) {
	text := "Package: a\nVersion: 1:2-3\nArchitecture: all\nEssential: yes\nMulti-Arch: same\nPriority: required\n" +
		"Depends: b (>= 1),\n c\nFilename: pool/a.deb\nSize: 42\nSHA256: " + sum0 + "\nDescription: ignored\n\n"
	got, err := ParseIndex(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []Package{{Name: "a", Version: "1:2-3", Arch: "all", Essential: true, MultiArch: "same", Priority: "required",
		Depends: "b (>= 1),\n c", Filename: "pool/a.deb", Size: 42, SHA256: sum0}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, c := range []struct{ old, new, want string }{
		{"Package: a", "Package: ../a", "not a package name"},
		{"pool/a.deb", "/etc/passwd", "inside the archive"},
		{"pool/a.deb", "pool/../../a", "inside the archive"},
		{"Size: 42", "Size: -1", "number of bytes"},
		{sum0, "abc", "SHA-256"},
		{"Version: 1:2-3\n", "", "without"},
	} {
		if _, err := ParseIndex(strings.Replace(text, c.old, c.new, 1)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q: %v, want %q", c.new, c.old, err, c.want)
		}
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add("Package: a\nVersion: 1\nArchitecture: all\nFilename: p\nSize: 1\nSHA256: " + sum0 + "\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		packages, err := ParseIndex(text)
		if err != nil {
			return
		}
		for _, p := range packages {
			if !ValidName(p.Name) || strings.HasPrefix(p.Filename, "/") || len(p.SHA256) != 64 {
				t.Errorf("%+v", p)
			}
		}
	})
}

func TestParseRelations(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"a", "a"},
		{"a, b|c ,d", "a; b | c; d"},
		{"a (>= 1.0-1) | b:any (<< 2), c(=3)", "a (>= 1.0-1) | b:any (<< 2); c (= 3)"},
		{"a (>1) , b (< 2),", "a (>= 1); b (<= 2)"},
		{"a [amd64 !i386] <!nocheck> <cross>,\n b (>= 1) [linux-any]", "a; b (>= 1)"},
	} {
		deps, err := ParseRelations(c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		var got []string
		for _, d := range deps {
			got = append(got, d.String())
		}
		if s := strings.Join(got, "; "); s != c.want {
			t.Errorf("%q: %q, want %q", c.in, s, c.want)
		}
	}
	for _, bad := range []string{"|", "a (>= 1", "a (1)", "a ()", "a (== 1)", "a b", "A", "a [x", "a <x", "a (>= 1 2)"} {
		if deps, err := ParseRelations(bad); err == nil {
			t.Errorf("%q: %v, want an error", bad, deps)
		}
	}
}

func TestRelationAllows(t *testing.T) {
	for op, want := range map[string]string{"": "012", "<<": "0", "<=": "01", "=": "1", ">=": "12", ">>": "2"} {
		got := ""
		for _, v := range []string{"0", "1", "2"} {
			if (Relation{Name: "a", Op: op, Version: "1"}).Allows(v) {
				got += v
			}
		}
		if got != want {
			t.Errorf("%q 1 allows %s, want %s", op, got, want)
		}
	}
}

func FuzzParseRelations(f *testing.F) {
	f.Add("a (>= 1) | b:any, c [amd64] <!nocheck>")
	f.Add("a,,b|")
	f.Fuzz(func(t *testing.T, text string) {
		deps, err := ParseRelations(text)
		if err != nil {
			return
		}
		for _, d := range deps {
			again, err := ParseRelations(d.String())
			if err != nil || len(again) != 1 || again[0].String() != d.String() {
				t.Errorf("%q is read again as %v, %v", d.String(), again, err)
			}
		}
	})
}

func TestParseRelease(t *testing.T) {
	text := "Origin: Debian\nSuite: stable\nCodename: trixie\nDate: Sat, 1 Nov 2026 09:15:44 UTC\n" +
		"Valid-Until: Sat, 21 Nov 2026 09:15:44 UTC\nAcquire-By-Hash: yes\nComponents: main contrib\nArchitectures: all amd64\n" +
		"SHA256:\n " + sum0 + "   42 main/binary-amd64/Packages\n"
	got, err := ParseRelease(text)
	if err != nil {
		t.Fatal(err)
	}
	want := &Release{Origin: "Debian", Suite: "stable", Codename: "trixie", ByHash: true,
		Date: time.Date(2026, 11, 1, 9, 15, 44, 0, time.UTC), ValidUntil: time.Date(2026, 11, 21, 9, 15, 44, 0, time.UTC),
		Components: []string{"main", "contrib"}, Architectures: []string{"all", "amd64"},
		Files: map[string]FileSum{"main/binary-amd64/Packages": {42, sum0}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, c := range [][2]string{{"Date: Sat", "Date: Xyz"}, {"Valid-Until: Sat", "Valid-Until: 7"}, {" 42 ", " x "}, {sum0, "abc"}, {"Suite", "\nSuite"}} {
		if _, err := ParseRelease(strings.Replace(text, c[0], c[1], 1)); err == nil {
			t.Errorf("%q for %q: no error", c[1], c[0])
		}
	}
}

func FuzzParseRelease(f *testing.F) {
	f.Add("Date: Sat, 1 Nov 2026 09:15:44 UTC\nSHA256:\n " + sum0 + " 1 a\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRelease(text)
		if err == nil && r.Date.IsZero() {
			t.Error("a release without a date")
		}
	})
}

func TestParseSources(t *testing.T) {
	lines := "# comment\n\ndeb http://h/debian/ bookworm main contrib # tail\ndeb-src http://h/debian bookworm main\n" +
		"deb [arch=amd64 trusted=yes signed-by=/k.gpg check-valid-until=no] https://s/x  sid/\n"
	want := []Source{
		{URIs: []string{"http://h/debian"}, Suites: []string{"bookworm"}, Components: []string{"main", "contrib"}},
		{URIs: []string{"https://s/x"}, Suites: []string{"sid/"}, Components: []string{}, SignedBy: "/k.gpg", Trusted: true, IgnoreValidUntil: true},
	}
	got, err := ParseSourceLines(lines)
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(err, d)
	}
	stanzas := "Types: deb deb-src\nURIs: http://h/debian/ http://i/debian\n# inside\nSuites: bookworm\n# within a field\n bookworm-updates\nComponents: main\n" +
		"Signed-By: /k.gpg\n\nTypes: deb\nEnabled: no\nURIs: http://x/\nSuites: y\nComponents: z\n\nTypes: deb-src\nURIs: http://x/\nSuites: y\nComponents: z\n"
	want = []Source{{URIs: []string{"http://h/debian", "http://i/debian"}, Suites: []string{"bookworm", "bookworm-updates"}, Components: []string{"main"}, SignedBy: "/k.gpg"}}
	got, err = ParseSourceStanzas(stanzas)
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(err, d)
	}
	for _, bad := range []string{"rpm http://h x y", "deb http://h", "deb [x http://h a b", "deb http://h a", "deb http://h a/ main"} {
		if _, err := ParseSourceLines(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	for _, bad := range []string{"Types: deb\nURIs: http://h\n", "Types: deb\nURIs: http://h\nSuites: a\n", "x"} {
		if _, err := ParseSourceStanzas(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func FuzzParseSources(f *testing.F) {
	f.Add("deb [trusted=yes] http://h/d s main\n")
	f.Add("Types: deb\nURIs: http://h\nSuites: a\nComponents: main\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func(string) ([]Source, error){ParseSourceLines, ParseSourceStanzas} {
			sources, err := parse(text)
			if err != nil {
				continue
			}
			for _, s := range sources {
				if len(s.URIs) == 0 || len(s.Suites) == 0 {
					t.Errorf("%+v", s)
				}
			}
		}
	})
}

var sample = debtest.Package{
	Control: "Package: hello\nVersion: 1.0\nArchitecture: all\nDescription: greets\n long\n",
	Scripts: map[string]string{"preinst": "#!/bin/sh\n", "conffiles": "/etc/hello\nremove-on-upgrade /etc/old\n"},
	Files: []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./etc/hello", Typeflag: tar.TypeReg, Mode: 0o644},
	},
	Content: map[string]string{"./etc/hello": "hello\n"},
}

func TestReadPackage(t *testing.T) {
	for _, compression := range []string{"", ".gz", ".xz", ".zst"} {
		p := sample
		p.Compression = compression
		var names []string
		var control *Control
		err := ReadPackage(bytes.NewReader(p.Build()),
			func(c *Control) error { control = c; return nil },
			func(name string, r io.Reader) error {
				return withTar(name, r, func(tr *tar.Reader) error {
					for {
						h, err := tr.Next()
						if err == io.EOF {
							return nil
						}
						if err != nil {
							return err
						}
						names = append(names, h.Name)
					}
				})
			})
		if err != nil {
			t.Errorf("%q: %v", compression, err)
			continue
		}
		if got := strings.Join(names, " "); got != "./ ./etc/hello" {
			t.Errorf("%q: files %q", compression, got)
		}
		if control.Stanza.Get("package") != "hello" || control.Files["preinst"].Mode != 0o755 || string(control.Raw) != p.Control {
			t.Errorf("%q: control part %+v", compression, control)
		}
		if got := control.Conffiles(); len(got) != 1 || got[0] != "/etc/hello" {
			t.Errorf("%q: conffiles %q", compression, got)
		}
	}
}

func TestReadPackageRefuses(t *testing.T) {
	good := sample.Build()
	escape := sample
	escape.Scripts = map[string]string{"../../etc/passwd/x": "x"}
	two := sample
	two.Control += "\nPackage: b\n"
	for name, data := range map[string][]byte{
		"empty":        nil,
		"no ar":        []byte("hello"),
		"cut short":    good[:len(good)-700],
		"wrong format": bytes.Replace(good, []byte("2.0\n"), []byte("3.0\n"), 1),
		"bad header":   bytes.Replace(good, []byte("`\n"), []byte("'\n"), 1),
		"member name":  bytes.Replace(good, []byte("data.tar "), []byte("evil.tar "), 1),
		"compression":  bytes.Replace(good, []byte("data.tar    "), []byte("data.tar.bz2"), 1),
		"sub path":     escape.Build(),
		"two stanzas":  two.Build(),
	} {
		err := ReadPackage(bytes.NewReader(data), nil, func(name string, r io.Reader) error {
			return withTar(name, r, func(tr *tar.Reader) error {
				for {
					if _, err := tr.Next(); err == io.EOF {
						return nil
					} else if err != nil {
						return err
					}
				}
			})
		})
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzReadPackage(f *testing.F) {
	f.Add(sample.Build())
	p := sample
	p.Compression = ".gz"
	f.Add(p.Build())
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = ReadPackage(bytes.NewReader(data), func(c *Control) error {
			if len(c.Stanza) == 0 {
				t.Error("control part without fields")
			}
			for name := range c.Files {
				if strings.Contains(name, "/") {
					t.Errorf("control part with path %q", name)
				}
			}
			return nil
		}, func(name string, r io.Reader) error {
			_, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			return err
		})
	})
}
