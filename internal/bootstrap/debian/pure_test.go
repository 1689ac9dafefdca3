package debian

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/internal/deb"
	"github.com/dib-builder/dib/internal/event"
)

// world makes a universe from index stanzas; what every package has is added.
func world(t *testing.T, stanzas ...string) *universe {
	t.Helper()
	var all []deb.Package
	for _, s := range stanzas {
		if !strings.Contains(s, "\nVersion:") {
			s += "\nVersion: 1"
		}
		list, err := deb.ParseIndex("Package: " + s + "\nArchitecture: amd64\nFilename: pool/x\nSize: 1\nSHA256: " + strings.Repeat("0", 64) + "\n")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, list...)
	}
	u, err := newUniverse([]*suite{{name: "test"}}, [][]deb.Package{all}, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func names(list []*candidate) string {
	var n []string
	for _, c := range list {
		n = append(n, c.Name)
	}
	return strings.Join(n, " ")
}

func TestResolve(t *testing.T) {
	for _, c := range []struct {
		summary            string
		world              []string
		required, optional string
		base, rest         string
		fails, warns       string
	}{
		{summary: "essential, then priority required, then by name; needs first",
			world: []string{"sh\nEssential: yes\nDepends: libc", "libc", "tool\nPriority: required", "app\nDepends: lib", "lib", "other"},
			base:  "libc sh", rest: "tool lib app", required: "app"},
		{summary: "the first alternative that can be installed",
			world: []string{"app\nDepends: a | b", "a\nDepends: gone", "b"}, required: "app", rest: "b app"},
		{summary: "an alternative that is there already",
			world: []string{"app\nDepends: a | b", "a", "b"}, required: "b app", rest: "b app"},
		{summary: "an alternative that is asked for later",
			world: []string{"app\nDepends: a | b", "a", "b"}, required: "app", optional: "b", rest: "b app"},
		{summary: "a virtual package: the provider of the higher priority, then by name",
			world: []string{"app\nDepends: mta", "x\nProvides: mta", "y\nPriority: important\nProvides: mta", "z\nPriority: important\nProvides: mta"}, required: "app", rest: "y app"},
		{summary: "a versioned Provides",
			world: []string{"app\nDepends: v (>= 2)", "a\nProvides: v", "b\nProvides: v (= 1)", "c\nProvides: v (= 3)"}, required: "app", rest: "c app"},
		{summary: "by name the package itself, though another provides it",
			world: []string{"apt\nProvides: https (= 2)", "https"}, required: "apt https", rest: "apt https"},
		{summary: "circles end",
			world: []string{"a\nDepends: b", "b\nDepends: c", "c\nDepends: a"}, required: "a", rest: "c b a"},
		{summary: "highest version",
			world: []string{"a\nVersion: 1.9", "a\nVersion: 1.10\nDepends: b", "b"}, required: "a", rest: "b a"},
		{summary: "Pre-Depends count",
			world: []string{"a\nPre-Depends: b\nDepends: c", "b", "c"}, required: "a", rest: "b c a"},
		{summary: "Recommends do not",
			world: []string{"a\nRecommends: b", "b"}, required: "a", rest: "a"},
		{summary: "failed alternatives leave nothing behind",
			world: []string{"app\nDepends: a | b", "a\nDepends: x, gone", "x", "b"}, required: "app", rest: "b app"},
		{summary: "conflicts exclude an alternative",
			world: []string{"app\nDepends: a | b", "a\nConflicts: old", "b", "old"}, required: "old app", rest: "old b app"},
		{summary: "nothing conflicts with itself",
			world: []string{"a\nProvides: v\nConflicts: v"}, required: "a", rest: "a"},
		{summary: "the chain to what is missing",
			world: []string{"app\nDepends: lib (>= 1)", "lib\nDepends: gone (>= 3) | gone2"}, required: "app",
			fails: "cannot install app, which needs lib, which needs gone (>= 3) | gone2: no configured source has it"},
		{summary: "the version that is missing",
			world: []string{"app\nDepends: lib (>= 2)", "lib"}, required: "app",
			fails: "cannot install app, which needs lib (>= 2): only version 1 is available"},
		{summary: "conflict between what is asked for",
			world: []string{"a\nBreaks: b (<< 2)", "b"}, required: "a b", fails: "cannot install b: it conflicts with a 1"},
		{summary: "optional packages may be missing or conflict",
			world: []string{"a", "b\nConflicts: a", "c"}, required: "a", optional: "b gone c", rest: "a c",
			warns: "cannot install b: it conflicts with a 1; left to the hook that asks for it\ncannot install gone: no configured source has it; left to the hook that asks for it"},
		{summary: "a merged /usr needs no merging",
			world: []string{"init\nEssential: yes\nDepends: usrmerge | usr-is-merged", "usrmerge\nDepends: perl", "perl", "usr-is-merged"}, base: "usr-is-merged init"},
	} {
		res, err := resolve(world(t, c.world...), strings.Fields(c.required), strings.Fields(c.optional))
		if err != nil || c.fails != "" {
			if err == nil || err.Error() != c.fails {
				t.Errorf("%s: %v, want %q", c.summary, err, c.fails)
			}
			continue
		}
		if b, r := names(res.base), names(res.rest); b != c.base || r != c.rest {
			t.Errorf("%s: base %q, rest %q; want %q, %q", c.summary, b, r, c.base, c.rest)
		}
		if w := strings.Join(res.warnings, "\n"); w != c.warns {
			t.Errorf("%s: warnings %q", c.summary, w)
		}
	}
}

func TestExtendedStates(t *testing.T) {
	u := world(t, "sh\nEssential: yes", "app\nDepends: lib", "lib")
	res, err := resolve(u, []string{"app"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := extendedStates(res, "amd64"), "Package: lib\nArchitecture: amd64\nAuto-Installed: 1\n\n"; got != want {
		t.Errorf("%q", got)
	}
}

func TestBatches(t *testing.T) {
	u := world(t, "a\nPre-Depends: b", "b\nDepends: c", "c", "d\nPre-Depends: b", "e\nDepends: a", "f\nDepends: g", "g\nDepends: f")
	var units []*unit
	for _, n := range []string{"c", "b", "a", "d", "e", "f", "g"} {
		c := u.packages[n]
		if err := c.parse(); err != nil {
			t.Fatal(err)
		}
		files := map[string]deb.ControlFile{}
		if n == "a" {
			files["preinst"] = deb.ControlFile{}
		}
		units = append(units, &unit{pkg: c, staged: &staged{pkg: c, control: &deb.Control{Files: files}}})
	}
	var got []string
	for _, group := range batches(units) {
		var n []string
		for _, u := range group {
			n = append(n, u.pkg.Name)
		}
		got = append(got, strings.Join(n, " "))
	}
	if d := cmp.Diff([]string{"c b d f g", "a e"}, got); d != "" {
		t.Error(d)
	}
}

func TestChooseMirrors(t *testing.T) {
	debian := deb.Source{URIs: []string{"http://near/debian"}, Suites: []string{"bookworm", "bookworm-updates"}, Components: []string{"main"}}
	security := deb.Source{URIs: []string{"http://near/debian-security"}, Suites: []string{"bookworm-security"}, Components: []string{"main"}}
	docker := deb.Source{URIs: []string{"https://download.example/linux/debian"}, Suites: []string{"bookworm"}, Components: []string{"stable"}}
	other := deb.Source{URIs: []string{"https://packages.example/apt"}, Suites: []string{"bookworm"}, Components: []string{"main"}}
	file := deb.Source{URIs: []string{"file:/srv/debian"}, Suites: []string{"bookworm"}, Components: []string{"main"}}
	own := deb.Source{URIs: []string{OfficialArchive}, Suites: []string{"bookworm"}, Components: []string{"main"}}
	for name, c := range map[string]struct {
		host               []deb.Source
		archive, securityD bool
		want               Mirrors
	}{
		"both":            {[]deb.Source{other, docker, file, debian, security}, true, true, Mirrors{OfficialArchive: "http://near/debian", OfficialSecurity: "http://near/debian-security"}},
		"user's archive":  {[]deb.Source{debian, security}, false, true, Mirrors{OfficialSecurity: "http://near/debian-security"}},
		"user's security": {[]deb.Source{debian, security}, true, false, Mirrors{OfficialArchive: "http://near/debian"}},
		"nothing known":   {[]deb.Source{other, docker, file}, true, true, Mirrors{}},
		"official itself": {[]deb.Source{own}, true, true, Mirrors{}},
	} {
		if d := cmp.Diff(c.want, chooseMirrors(c.host, c.archive, c.securityD)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestHostSources(t *testing.T) {
	root := t.TempDir()
	write(t, root, "etc/apt/sources.list", "deb http://a/debian bookworm main\n")
	write(t, root, "etc/apt/sources.list.d/b.sources", "Types: deb\nURIs: http://b/debian\nSuites: trixie\nComponents: main\n")
	write(t, root, "etc/apt/sources.list.d/c.list", "nonsense\n")
	write(t, root, "etc/apt/sources.list.d/d.save", "deb http://d/debian bookworm main\n")
	var warnings []string
	var uris []string
	for _, s := range hostSources(root, event.SinkFunc(func(e event.Event) { warnings = append(warnings, string(e.Line)) })) {
		uris = append(uris, s.URIs...)
	}
	if got := strings.Join(uris, " "); got != "http://a/debian http://b/debian" {
		t.Errorf("%q", got)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "c.list: line 1") {
		t.Errorf("%q", warnings)
	}
}

func write(t *testing.T, root, name, text string) {
	t.Helper()
	full := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestSwapAndRestore(t *testing.T) {
	root, mapping := t.TempDir(), filepath.Join(t.TempDir(), mirrorsName)
	const official = "deb http://ftp.debian.org/debian trixie main\n"
	const security = "deb [signed-by=/k] http://security.debian.org/debian-security/ trixie-security main\n"
	const stanza = "Types: deb\nURIs: http://ftp.debian.org/debian\nSuites: trixie\nComponents: main\n"
	const foreign = "deb http://near/debian trixie main\ndeb http://ftp.debian.org/debian-ports sid main\n"
	write(t, root, "etc/apt/sources.list.d/default.list", official)
	write(t, root, "etc/apt/sources.list.d/security.list", security)
	write(t, root, "etc/apt/sources.list.d/x.sources", stanza)
	write(t, root, "etc/apt/sources.list.d/foreign.list", foreign)
	if err := (&mirrorState{Mirrors: Mirrors{OfficialArchive: "http://near/debian", OfficialSecurity: "http://near/debian-security"}}).write(mapping); err != nil {
		t.Fatal(err)
	}
	check := func(want map[string]string) {
		t.Helper()
		for name, text := range want {
			got, err := os.ReadFile(filepath.Join(root, "etc/apt/sources.list.d", name))
			if err != nil || string(got) != text {
				t.Errorf("%s: %q, want %q (%v)", name, got, text, err)
			}
		}
	}
	for range 2 {
		if err := swapMirrors(mapping, root); err != nil {
			t.Fatal(err)
		}
		check(map[string]string{
			"default.list":  "deb http://near/debian trixie main\n",
			"security.list": "deb [signed-by=/k] http://near/debian-security/ trixie-security main\n",
			"x.sources":     strings.Replace(stanza, "ftp.debian.org", "near", 1),
			"foreign.list":  foreign,
		})
	}
	for range 2 {
		if err := restoreMirrors(root); err != nil {
			t.Fatal(err)
		}
		check(map[string]string{"default.list": official, "security.list": security, "x.sources": stanza, "foreign.list": foreign})
	}
	if _, err := os.Lstat(filepath.Join(root, swappedFile)); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}

func TestStamps(t *testing.T) {
	root := t.TempDir()
	write(t, root, "etc/apt/sources.list.d/a.list", "deb http://a b c\n")
	write(t, root, listsDir+"/a_Packages", "x")
	fresh := func(want bool) {
		t.Helper()
		if got, err := stamped(root, freshStamp); got != want || err != nil {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
	}
	mark := func() {
		t.Helper()
		if err := writeStamp(root, freshStamp); err != nil {
			t.Fatal(err)
		}
		fresh(true)
	}
	fresh(false)
	mark()
	write(t, root, listsDir+"/partial/junk", "")
	write(t, root, listsDir+"/lock", "")
	fresh(true)
	write(t, root, listsDir+"/a_Packages", "xy")
	fresh(false)
	mark()
	write(t, root, "etc/apt/sources.list.d/b.list", "deb http://b b c\n")
	fresh(false)
	mark()
	write(t, root, "etc/apt/preferences", "Package: *\n")
	fresh(false)
}

func TestListName(t *testing.T) {
	for uri, want := range map[string]string{
		"http://deb.example/debian/dists/trixie/InRelease":             "deb.example_debian_dists_trixie_InRelease",
		"http://u:p@h:8080/my_repo/dists/sid/main/binary-x/Packages":   "h:8080_my%5frepo_dists_sid_main_binary-x_Packages",
		"https://h/~user/dists/bookworm-security/updates/main/InRelea": "h_%7euser_dists_bookworm-security_updates_main_InRelea",
	} {
		if got := listName(uri); got != want {
			t.Errorf("%s: %s", uri, got)
		}
	}
}

func TestParseSourcesConf(t *testing.T) {
	got, err := parseSourcesConf("\n  default:deb http://h/debian trixie  main\nsecurity: deb http://s/d trixie-security main contrib\n\n")
	if err != nil || len(got) != 2 || got[1].Suites[0] != "trixie-security" || len(got[1].Components) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"no colon", ":deb http://h a b", "a/b:deb http://h a b", "x:rpm http://h a b"} {
		if _, err := parseSourcesConf(bad); err == nil || !strings.Contains(err.Error(), "DIB_APT_SOURCES_CONF") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParseSourcesConf(f *testing.F) {
	f.Add("default:deb http://h/debian trixie main\n")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := parseSourcesConf(text); err == nil && strings.TrimSpace(text) == "" && len(s) != 0 {
			t.Errorf("%q: %v", text, s)
		}
	})
}

func TestParseTriggers(t *testing.T) {
	interests, activates, err := parseTriggers("# c\ninterest /usr/share/x\ninterest-noawait y # z\nactivate-noawait ldconfig\n\nactivate q\n")
	if err != nil || len(interests) != 2 || interests[0] != (interest{"/usr/share/x", false}) || interests[1] != (interest{"y", true}) || strings.Join(activates, " ") != "ldconfig q" {
		t.Errorf("%v %v %v", interests, activates, err)
	}
	for _, bad := range []string{"interest", "interest a b", "await x", "activate /"} {
		if _, _, err := parseTriggers(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func FuzzParseTriggers(f *testing.F) {
	f.Add("interest-noawait /a\nactivate b\n")
	f.Fuzz(func(t *testing.T, text string) {
		interests, activates, err := parseTriggers(text)
		if err == nil && len(interests)+len(activates) > strings.Count(text, "\n")+1 {
			t.Error("more directives than lines")
		}
	})
}

func TestUnpackedStanza(t *testing.T) {
	st := &staged{
		control: &deb.Control{
			Stanza: deb.Stanza{{Name: "Package", Value: "a"}, {Name: "Version", Value: "1"}, {Name: "Description", Value: "short\n long"}},
			Files:  map[string]deb.ControlFile{"conffiles": {Data: []byte("/etc/b\n/etc/a\n/etc/gone\n")}},
		},
		conffiles: map[string]string{"/etc/a": "11", "/etc/b": "22", "/etc/gone": ""},
	}
	const head = "Package: a\nStatus: install ok unpacked\nVersion: 1\nDescription: short\n long\n"
	if got, want := unpackedStanza(st, true), head+"Conffiles:\n /etc/b 22\n /etc/a 11\n\n"; got != want {
		t.Errorf("%q", got)
	}
	if got, want := unpackedStanza(st, false), head+"Conffiles:\n /etc/b newconffile\n /etc/a newconffile\n\n"; got != want {
		t.Errorf("%q", got)
	}
}

func TestParseDiversions(t *testing.T) {
	got, err := parseDiversions("/a\n/b\n:\n/c\n/d\npkg\n")
	if err != nil || len(got) != 2 || got[1] != (diversion{"/c", "/d", "pkg"}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parseDiversions("/a\n/b\n"); err == nil {
		t.Error("no error")
	}
	p := placer{diversions: got}
	for _, c := range [][3]string{{"/a", "x", "/b"}, {"/c", "x", "/d"}, {"/c", "pkg", "/c"}, {"/e", "x", "/e"}} {
		if to := p.diverted(c[0], c[1]); to != c[2] {
			t.Errorf("%v: %s", c, to)
		}
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

func TestOptions(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("c\nd\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"DIB_OFFLINE": "1", "TMP_BUILD_DIR": "/b", "TMP_HOOKS_PATH": "/h"}
	var out strings.Builder
	o, err := parseOptions([]string{"--arch", "amd64", "--cache", "/c", "--include", "a,b", "--include-from", list, "/t"}, func(k string) string { return env[k] }, &out)
	if err != nil || !o.offline || !o.checkValidUntil || o.target != "/t" || strings.Join(o.include, "") != "abcd" || o.epochFile != "/b/source-date-epoch" || o.mirrorsFile != "/h/.apt-mirrors" {
		t.Errorf("%+v, %v", o, err)
	}
	for _, bad := range [][]string{{}, {"/t"}, {"--arch", "a", "--cache", "/c"}, {"--arch", "a", "--cache", "/c", "/t", "/u"}} {
		if _, err := parseOptions(bad, func(string) string { return "" }, &out); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	for release, want := range map[string]int{"bookworm": 3, "stable": 3, "sid": 1, "testing": 1, "unstable": 1} {
		o.release = release
		o.mirror, o.security, o.components = OfficialArchive, OfficialSecurity, "main,contrib"
		s, err := o.sourceList()
		if err != nil || len(s) != want || len(s[0].Components) != 2 {
			t.Errorf("%s: %+v, %v", release, s, err)
		}
	}
}
