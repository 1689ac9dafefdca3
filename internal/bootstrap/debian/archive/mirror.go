package archive

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/dib-builder/dib/internal/deb"
	"github.com/dib-builder/dib/internal/event"
)

// Debian's official hosts: what an image names unless a variable says otherwise.
const (
	OfficialArchive  = "http://ftp.debian.org/debian"
	OfficialSecurity = "http://security.debian.org/debian-security"
)

// Mirrors says where to fetch what an address stands for. Keys are addresses
// as the image will name them, values where they are fetched from during the
// build; an address that is not a key is fetched from itself.
type Mirrors map[string]string

// Fetch is the address to fetch from instead of uri.
func (m Mirrors) Fetch(uri string) string {
	if f, ok := m[strings.TrimRight(uri, "/")]; ok {
		return f
	}
	return uri
}

// ChooseMirrors finds the mirror that the host's own sources name for the
// Debian archive and for its security archive. Only addresses that the user
// did not choose are redirected: archive and security say whether the official
// host is there by default.
func ChooseMirrors(host []deb.Source, archive, security bool) Mirrors {
	m := Mirrors{}
	for _, s := range host {
		for _, suite := range s.Suites {
			for _, uri := range s.URIs {
				kind := debianArchive(uri, suite, s.Components)
				switch {
				case kind == OfficialArchive && !archive, kind == OfficialSecurity && !security, kind == "":
				case m[kind] == "" && uri != kind:
					m[kind] = uri
				}
			}
		}
	}
	return m
}

// debianArchive tells which of Debian's archives a source of a Debian host is
// a mirror of, or "". Third parties use Debian's suite names too, hence the
// look at path and component.
func debianArchive(uri, suite string, components []string) string {
	u, err := url.Parse(uri)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") {
		return ""
	}
	main := false
	for _, c := range components {
		main = main || c == "main"
	}
	base, part, _ := strings.Cut(suite, "-")
	if !main || !isRelease(base) {
		return ""
	}
	switch {
	case part == "security" && path.Base(u.Path) == "debian-security":
		return OfficialSecurity
	case (part == "" || part == "updates") && path.Base(u.Path) == "debian":
		return OfficialArchive
	}
	return ""
}

// HostSources reads the apt sources below root's /etc/apt. A file that cannot
// be read or understood is a warning: it is the host's, not the build's.
func HostSources(root string, events event.Sink) []deb.Source {
	var files []string
	files = append(files, filepath.Join(root, "etc/apt/sources.list"))
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, _ := filepath.Glob(filepath.Join(root, "etc/apt/sources.list.d", pattern)) // the pattern is good
		files = append(files, more...)
	}
	var all []deb.Source
	for _, f := range files {
		data, err := os.ReadFile(f)
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			parse := deb.ParseSourceLines
			if strings.HasSuffix(f, ".sources") {
				parse = deb.ParseSourceStanzas
			}
			var s []deb.Source
			s, err = parse(string(data))
			all = append(all, s...)
		}
		if err != nil {
			events.Emit(event.Warn(fmt.Sprintf("the host's apt sources are not looked at for a mirror: %s: %v", f, err)))
		}
	}
	return all
}
