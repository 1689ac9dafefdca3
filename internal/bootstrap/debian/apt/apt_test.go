package apt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/bootstrap/debian/archive"
	"github.com/dib-builder/dib/internal/bootstrap/debian/resolve"
	"github.com/dib-builder/dib/internal/deb"
)

func TestExtendedStates(t *testing.T) {
	named := func(name, arch string) *resolve.Candidate {
		return &resolve.Candidate{Package: deb.Package{Name: name, Arch: arch}}
	}
	res := &resolve.Resolution{
		Base:   []*resolve.Candidate{named("sh", "amd64")},
		Rest:   []*resolve.Candidate{named("lib", "amd64"), named("data", "all"), named("app", "amd64")},
		Manual: map[string]bool{"sh": true, "app": true},
	}
	const want = "Package: lib\nArchitecture: amd64\nAuto-Installed: 1\n\nPackage: data\nArchitecture: amd64\nAuto-Installed: 1\n\n"
	if got := ExtendedStates(res, "amd64"); got != want {
		t.Errorf("%q", got)
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
	root, mapping := t.TempDir(), filepath.Join(t.TempDir(), MirrorsFile)
	const official = "deb http://ftp.debian.org/debian trixie main\n"
	const security = "deb [signed-by=/k] http://security.debian.org/debian-security/ trixie-security main\n"
	const stanza = "Types: deb\nURIs: http://ftp.debian.org/debian\nSuites: trixie\nComponents: main\n"
	const foreign = "deb http://near/debian trixie main\ndeb http://ftp.debian.org/debian-ports sid main\n"
	write(t, root, "etc/apt/sources.list.d/default.list", official)
	write(t, root, "etc/apt/sources.list.d/security.list", security)
	write(t, root, "etc/apt/sources.list.d/x.sources", stanza)
	write(t, root, "etc/apt/sources.list.d/foreign.list", foreign)
	if err := NoteMirrors(mapping, archive.Mirrors{archive.OfficialArchive: "http://near/debian", archive.OfficialSecurity: "http://near/debian-security"}); err != nil {
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
