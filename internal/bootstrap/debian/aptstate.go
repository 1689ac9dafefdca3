package debian

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
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

// writeLists puts the verified indexes where apt expects them for the
// addresses they were fetched from, so that the next update finds them
// current. The time of the signed file is what apt asks the server about.
func writeLists(root string, suites []*suite) error {
	dir := filepath.Join(root, listsDir)
	for _, d := range []string{"partial", "auxfiles"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	for _, s := range suites {
		base := s.fetchURI + "/dists/" + s.name + "/"
		modified := s.modified
		if modified.IsZero() {
			modified = s.release.Date
		}
		if err := writeList(filepath.Join(dir, listName(base+"InRelease")), s.signed, modified); err != nil {
			return err
		}
		for _, ix := range s.indexes {
			data, err := os.ReadFile(ix.path)
			if err != nil {
				return err
			}
			if err := writeList(filepath.Join(dir, listName(base+ix.name)), data, s.release.Date); err != nil {
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

// extendedStates is apt's record of the packages that are there only because
// others need them; apt-get autoremove goes by it.
func extendedStates(res *resolution, native string) string {
	var b strings.Builder
	for _, c := range res.all() {
		if res.manual[c.Name] {
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
