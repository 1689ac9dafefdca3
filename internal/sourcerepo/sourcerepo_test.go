package sourcerepo

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func from(env map[string]string) Lookup {
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

var sum = strings.Repeat("ab", 32)

func TestParse(t *testing.T) {
	env := from(map[string]string{"URL": "https://h/x", "TWO": " a  b ", "EMPTY": "", "LINES": "a\nb", "HASH": "#x y"})
	for _, c := range []struct {
		name, text string
		want       string // NAME TYPE DEST LOCATION REF, "|" between lines
		err        string
	}{
		{"every field", "n git /opt/n https://h/n.git stable/1", "n git /opt/n https://h/n.git stable/1", ""},
		{"M42 last line without newline", "a file /a l\nb file /b l", "a file /a l |b file /b l ", ""},
		{"blank lines and comments", "\n  \n# x\n  # y\na file /a l # z\r\n", "a file /a l ", ""},
		{"squeezed blanks", "  a \t tar   /a    l  . ", "a tar /a l .", ""},
		{"no destination", "a git https://h/a", "a git  https://h/a ", ""},
		{"name and type only", "a git", "a git   ", ""},
		{"a clean destination", "a git //opt/./x/../y/ l", "a git /opt/y l ", ""},
		{"M37 packages", "a package", "a package   ", ""},
		{"variables", "a git /a $URL ${TWO}", "", `f:1: too many words, from "b" on`},
		{"variables in words", "a git /a/$URL-${EMPTY}x ${TWO}", "a git /a/https:/h/x-x a b", ""},
		{"defaults", "a git /a ${NO:-https://d} ${EMPTY-x}${NO-y}", "a git /a https://d y", ""},
		{"empty variables vanish", "a git /a $EMPTY l", "a git /a l ", ""},
		{"a variable that begins a comment", "$HASH", "", ""},
		{"quotes", `a git "/a" 'l'"$URL"\ x`, "a git /a lhttps://h/x x", ""},
		{"single quotes are literal", `a git /a '$URL`, "", "f:1: a ' is not closed"},
		{"escaped", `a git /a \$URL "\$URL\x"`, `a git /a $URL $URL\x`, ""},
		{"M36 characters of the shell", "a file /a http://h/?a=1&b=2;touch`id`|x>y*?[z]#f", "a file /a http://h/?a=1&b=2;touch`id`|x>y*?[z]#f ", ""},
		{"M36 commands are not run", "a file /a $(id)", "", "f:1: commands are not run"},
		{"M36 values are not evaluated", "a file /a $V", "a file /a $(id)`id`;$URL ", ""},
		{"no variable", "a file /a l$ $1", "a file /a l$ $1", ""},
		{"unset", "a git /a $NO", "", "f:1: the variable NO is not set"},
		{"lines in a value", "a git /a $LINES", "", "f:1: the variable LINES has more than one line"},
		{"other expansions", "a git /a ${URL%x}", "", "f:1: ${URL%x} is not understood"},
		{"nested default", "a git /a ${NO:-$URL}", "", "not understood"},
		{"open brace", "a git /a ${URL", "", "a ${ is not closed"},
		{"open quote", `a git /a "x`, "", `a " is not closed`},
		{"no name in braces", "a git /a ${}", "", "names no variable"},
		{"one word", "a", "", "f:1: a name and a type are needed"},
		{"no type", "a /opt/a l", "", `f:1: the type "/opt/a" is not one of`},
		{"a type glued to a path", "a git/opt/a l", "", `the type "git/opt/a" is not`},
		{"too many words", "a git /a l r x y", "", `too many words, from "x" on`},
		{"no letters", "-- git /a l", "", "has no letter or digit"},
		{"every fault is told", "a\nb git /b l\nc x", "b git /b l ", "f:3: the type"},
		{"the lines are numbered", "\n\nb\n", "", "f:3: a name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lookup := env
			if strings.Contains(c.text, "$V") {
				lookup = from(map[string]string{"V": "$(id)`id`;$URL"})
			}
			lines, err := Parse("f", []byte(c.text), lookup)
			var got []string
			for _, l := range lines {
				got = append(got, strings.Join([]string{l.Name, string(l.Type), l.Dest, l.Location, l.Ref}, " "))
			}
			if strings.Join(got, "|") != c.want {
				t.Errorf("got  %q\nwant %q", strings.Join(got, "|"), c.want)
			}
			if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
	_, err := Parse("f", []byte("a git /a $NO"), env)
	var unset *UnsetVariableError
	var line *LineError
	if !errors.As(err, &unset) || unset.Variable != "NO" || !errors.As(err, &line) || line.Number != 1 {
		t.Errorf("%v has not the types that planning looks for", err)
	}
}

func TestResolve(t *testing.T) {
	for _, c := range []struct {
		name, line, element, env string
		want                     string // TYPE LOCATION REF CHECKSUM, or what Skip contains behind "skip "
		err                      string
	}{
		{"defaults", "n git /n l", "", "", "git l master ", ""},
		{"file", "n file /n l", "", "", "file l  ", ""},
		{"M39 the default ref of an archive is deprecated", "n tar /n l", "", "", "tar l *  WARNING", ""},
		{"an archive named like a type", "tar git /n l", "", "", "git l master ", ""},
		{"M39 a chosen ref is not", "tar tar /n l .", "", "", "tar l . ", ""},
		{"M39 the default ref follows the type", "a-b.c git /n l", "", "DIB_REPOTYPE_a_b_c=tar", "tar l *  WARNING", ""},
		{"overrides", "a-b.c git /n l r", "", "DIB_REPOLOCATION_a_b_c=L DIB_REPOREF_a_b_c=R", "git L R ", ""},
		{"empty overrides", "n git /n l r", "", "DIB_REPOLOCATION_n= DIB_REPOREF_n= DIB_REPOTYPE_n=", "git l r ", ""},
		{"override brings the location", "n file /n", "", "DIB_REPOLOCATION_n=L", "file L  ", ""},
		{"unknown type", "n git /n l", "", "DIB_REPOTYPE_n=svn", "", "DIB_REPOTYPE_n: the type"},
		{"M37 package is a no-op", "n package", "", "", "skip package-installs", ""},
		{"M37 package by override", "n git /n l", "", "DIB_REPOTYPE_n=package", "skip package-installs", ""},
		{"no destination", "n git l", "", "", "", "f:1: n needs a destination"},
		{"no location", "n git /n", "", "", "", "f:1: n needs a location, here or in DIB_REPOLOCATION_n"},
		{"an option as location", "n git /n --upload-pack=x", "", "", "", "may begin with a hyphen"},
		{"an option as ref", "n git /n l", "", "DIB_REPOREF_n=-x", "", "may begin with a hyphen"},
		{"blanks", "n git /n l", "", "DIB_REPOREF_n=a_ b", "git l a_ ", ""},
		{"the root", "n git / l", "", "", "", "must be a path below /"},
		{"an archive over the root", "n tar / l .", "", "", "tar l . ", ""},

		{"default type", "n git /n l", "e", "DIB_DEFAULT_INSTALLTYPE=package", `skip "package" (DIB_DEFAULT_INSTALLTYPE)`, ""},
		{"by name", "a-b git /n l", "e", "DIB_DEFAULT_INSTALLTYPE=package DIB_INSTALLTYPE_a_b=source", "git l master ", ""},
		{"by name, off", "a-b git /n l", "e", "DIB_INSTALLTYPE_a_b=repo", `skip "repo" (DIB_INSTALLTYPE_a_b)`, ""},
		{"M46 the element decides", "glean git /n l", "simple-init", "DIB_DEFAULT_INSTALLTYPE=package DIB_INSTALLTYPE_simple_init=repo", "git l master ", ""},
		{"M46 the element decides, off", "glean git /n l", "simple-init", "DIB_INSTALLTYPE_simple_init=package", `skip "package" (DIB_INSTALLTYPE_simple_init)`, ""},
		{"M46 the name wins over the element", "glean git /n l", "simple-init", "DIB_INSTALLTYPE_simple_init=package DIB_INSTALLTYPE_glean=source", "git l master ", ""},

		{"M38 another server", "n git /n https://h/a/b.git", "", "DIB_GITREPOBASE=https://mirror/", "git https://mirror/a/b.git master ", ""},
		{"another server, users", "n git /n git://h/~u/b.git", "", "DIB_GITREPOBASE=https://mirror/", "git https://mirror/b.git master ", ""},
		{"another server without slash, users", "n git /n git://h/~u/b.git", "", "DIB_GITREPOBASE=https://mirror", "git https://mirror/b.git master ", ""},
		{"no server", "n git /n h:a/b.git", "", "DIB_GITREPOBASE=https://mirror/", "git h:a/b.git master ", ""},
		{"only git", "n tar /n https://h/a .", "", "DIB_GITREPOBASE=https://mirror/", "tar https://h/a . ", ""},
		{"not what was replaced", "n git /n https://h/a", "", "DIB_GITREPOBASE=https://mirror/ DIB_REPOLOCATION_n=https://own/a", "git https://own/a master ", ""},

		{"M45 checksum in the location", "n file /n http://h/f#sha256=" + sum, "", "", "file http://h/f#sha256=" + sum + "  sha256:" + sum, ""},
		{"M45 checksum in a variable", "n file /n http://h/f", "", "DIB_REPOCHECKSUM_n=sha256:" + strings.ToUpper(sum), "file http://h/f  sha256:" + sum, ""},
		{"M45 unknown algorithm", "n file /n l", "", "DIB_REPOCHECKSUM_n=md5:00", "", "the algorithm must be sha256 or sha512"},
		{"M45 too short", "n tar /n l#sha512=ab .", "", "", "", "not 128 hexadecimal digits"},
		{"M45 of git the commit", "n git /n l", "", "DIB_REPOCHECKSUM_n=sha256:" + sum, "", "give the commit as the ref"},
		{"other fragments", "n file /n l#part", "", "", "file l#part  ", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := map[string]string{}
			for _, kv := range strings.Fields(c.env) {
				k, v, _ := strings.Cut(kv, "=")
				env[k] = v
			}
			lines, err := Parse("f", []byte(c.line), from(env))
			if err != nil || len(lines) != 1 {
				t.Fatalf("%v, %v", lines, err)
			}
			s, err := lines[0].Resolve(c.element, from(env))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || !strings.HasPrefix(err.Error(), "f:1: ") {
					t.Errorf("%v, want f:1: ...%s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if why, ok := strings.CutPrefix(c.want, "skip "); ok {
				if !strings.Contains(s.Skip, why) {
					t.Errorf("skip is %q, want %q", s.Skip, why)
				}
				return
			}
			got := fmt.Sprintf("%s %s %s %s", s.Type, s.Location, s.Ref, s.Checksum)
			if len(s.Warnings) > 0 {
				got += " WARNING"
			}
			if got != c.want || s.Skip != "" {
				t.Errorf("got  %q, skip %q\nwant %q", got, s.Skip, c.want)
			}
		})
	}
}

func TestCacheName(t *testing.T) {
	// The sum of "git_https://h/x.git" and a newline, as sha1sum has it.
	s := Source{Line: Line{Name: "a-b.c", Type: Git, Location: "https://h/x.git"}}
	const want = "a_b_c_cf14012b0b832eaa117275af0dede9337c09ef51"
	if got := s.CacheName(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	t.Run("M38 a rewritten location has its own", func(t *testing.T) {
		l := Line{Name: "n", Type: Git, Dest: "/n", Location: "https://h/x"}
		a, err := l.Resolve("", from(nil))
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.Resolve("", from(map[string]string{"DIB_GITREPOBASE": "https://m/"}))
		if err != nil {
			t.Fatal(err)
		}
		l.Location = "https://m/x"
		c, err := l.Resolve("", from(nil))
		if err != nil {
			t.Fatal(err)
		}
		if a.CacheName() == b.CacheName() || b.CacheName() != c.CacheName() {
			t.Errorf("%s, %s, %s", a.CacheName(), b.CacheName(), c.CacheName())
		}
	})
}

func TestAddresses(t *testing.T) {
	for location, want := range map[string][2]string{
		"https://h/f#sha256=" + sum: {"https://h/f", "https://h/f#sha256=" + sum},
		"https://h/f#part":          {"https://h/f#part", "https://h/f#part"},
		"https://u:secret@h/f":      {"https://u:secret@h/f", "https://u@h/f"},
		"https://u@h/f":             {"https://u@h/f", "https://u@h/f"},
		"git@h:x/y.git":             {"git@h:x/y.git", "git@h:x/y.git"},
		"/local/%zz":                {"/local/%zz", "/local/%zz"},
	} {
		s := Source{Line: Line{Type: File, Location: location}}
		if got := [2]string{s.Address(), s.Public()}; got != want {
			t.Errorf("%s: %q, want %q", location, got, want)
		}
	}
}

func TestUnique(t *testing.T) {
	s := func(file string, number int, t Type, dest, location string) Source {
		return Source{Line: Line{File: file, Number: number, Name: "n", Type: t, Dest: dest, Location: location}}
	}
	a := s("a", 1, Git, "/x", "l")
	got, err := Unique([]Source{a, s("b", 2, Git, "/y", "l"), s("c", 3, Git, "/x", "l"), {Skip: "why", Line: Line{Dest: "/x"}}})
	if err != nil || len(got) != 3 || !reflect.DeepEqual(got[0], a) {
		t.Errorf("%v, %v", got, err)
	}
	for _, typ := range []Type{Tar, File, Git} {
		t.Run("M41 a destination twice, "+string(typ), func(t *testing.T) {
			_, err := Unique([]Source{s("a", 1, typ, "/x", "l"), s("b", 7, typ, "/x", "m")})
			var duplicate *DuplicateError
			if !errors.As(err, &duplicate) || err.Error() != "b:7: n: the destination /x is also that of n (a:1), from elsewhere" {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestIsFile(t *testing.T) {
	for name, want := range map[string]bool{"source-repository-x": true, "source-repository-x~": false, "source-repository": false, "x": false} {
		if got := IsFile(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"n git /opt/n https://h/n.git stable/1\n", "a tar /a $X \"${Y:-z}\" '#'\\ # c", "$X$Y", "a\\", "\"", "a file /a x`y`;z&&q", "a git /a ${", "\xff git /\xff \xff",
	} {
		f.Add(seed, "value")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		lookup := from(map[string]string{"X": value, "Y": ""})
		lines, err := Parse("file", []byte(text), lookup)
		if err != nil && !strings.HasPrefix(err.Error(), "file:") {
			t.Errorf("error without its place: %v", err)
		}
		for _, l := range lines {
			for _, field := range []string{l.Name, l.Dest, l.Location, l.Ref} {
				if strings.ContainsAny(field, " \t\n\x00") {
					t.Errorf("%q has a blank or worse in %+v", field, l)
				}
			}
			if l.Dest != "" && (l.Dest[0] != '/' || strings.Contains(l.Dest+"/", "/../")) {
				t.Errorf("destination %q", l.Dest)
			}
			// What was read, written out literally, reads the same.
			words := []string{l.Name, string(l.Type), l.Dest, l.Location, l.Ref}
			literal := ""
			for _, w := range words {
				if w != "" {
					literal += "'" + strings.ReplaceAll(w, "'", `'\''`) + "' "
				}
			}
			again, err := Parse("file", []byte(literal), from(nil))
			if strings.HasPrefix(l.Name, "#") {
				continue
			}
			l.Number = 1
			if err != nil || len(again) != 1 || again[0] != l {
				t.Errorf("%q reads as %+v (%v), want %+v", literal, again, err, l)
			}
			_, _ = l.Resolve("e", lookup)
		}
	})
}
