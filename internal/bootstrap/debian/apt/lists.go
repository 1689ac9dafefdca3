// Package apt keeps the state of the apt inside a tree: its lists and the states
// of packages when the tree is made, its sources and lists during the build.
package apt

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dib-builder/dib/internal/bootstrap/debian/archive"
	"github.com/dib-builder/dib/internal/bootstrap/debian/resolve"
)

// listName is the name that apt gives a file of a repository in its lists
// directory: the address without scheme and user, '/' as '_', and '_' and
// other special characters quoted.
func listName(uri string) string {
	if _, rest, ok := strings.Cut(uri, "://"); ok {
		uri = rest
	}
	if host, rest, _ := strings.Cut(uri, "/"); strings.Contains(host, "@") {
		uri = host[strings.LastIndex(host, "@")+1:] + "/" + rest
	}
	var b strings.Builder
	for i := 0; i < len(uri); i++ {
		switch c := uri[i]; {
		case c == '/':
			b.WriteByte('_')
		case c <= ' ' || c >= 0x7f || strings.IndexByte("\\|{}[]<>\"^~_=!@#$%^&*", c) >= 0:
			fmt.Fprintf(&b, "%%%02x", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// listsDir is where apt keeps the indexes of its sources.
const listsDir = "var/lib/apt/lists"

// WriteLists puts the verified indexes where apt expects them for the
// addresses they were fetched from, so that the next update finds them
// current. The time of the signed file is what apt asks the server about.
func WriteLists(root string, suites []*archive.Suite) error {
	dir := filepath.Join(root, listsDir)
	for _, d := range []string{"partial", "auxfiles"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	for _, s := range suites {
		base := s.FetchURI + "/dists/" + s.Name + "/"
		modified := s.Modified
		if modified.IsZero() {
			modified = s.Release.Date
		}
		if err := writeList(filepath.Join(dir, listName(base+"InRelease")), s.Signed, modified); err != nil {
			return err
		}
		for _, ix := range s.Indexes {
			data, err := os.ReadFile(ix.Path)
			if err != nil {
				return err
			}
			if err := writeList(filepath.Join(dir, listName(base+ix.Name)), data, s.Release.Date); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeList(name string, data []byte, modified time.Time) error {
	if err := os.WriteFile(name, data, 0o644); err != nil {
		return err
	}
	if err := os.Chmod(name, 0o644); err != nil {
		return err
	}
	return os.Chtimes(name, modified, modified)
}

// ExtendedStates is apt's record of the packages that are there only because
// others need them (var/lib/apt/extended_states); apt-get autoremove goes by it.
// Packages of architecture "all" are noted with the native one.
func ExtendedStates(res *resolve.Resolution, native string) string {
	var b strings.Builder
	for _, c := range res.All() {
		if res.Manual[c.Name] {
			continue
		}
		arch := c.Arch
		if arch == "all" {
			arch = native
		}
		fmt.Fprintf(&b, "Package: %s\nArchitecture: %s\nAuto-Installed: 1\n\n", c.Name, arch)
	}
	return b.String()
}
