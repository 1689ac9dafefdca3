package debian

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/bootstrap/debian/archive"
)

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
		o.mirror, o.security, o.components = archive.OfficialArchive, archive.OfficialSecurity, "main,contrib"
		s, err := o.sourceList()
		if err != nil || len(s) != want || len(s[0].Components) != 2 {
			t.Errorf("%s: %+v, %v", release, s, err)
		}
	}
}
