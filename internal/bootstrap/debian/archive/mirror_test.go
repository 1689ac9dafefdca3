package archive

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/internal/deb"
	"github.com/dib-builder/dib/internal/event"
)

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
		if d := cmp.Diff(c.want, ChooseMirrors(c.host, c.archive, c.securityD)); d != "" {
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
	for _, s := range HostSources(root, event.SinkFunc(func(e event.Event) { warnings = append(warnings, string(e.Line)) })) {
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
