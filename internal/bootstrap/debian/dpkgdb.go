package debian

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"github.com/dib-builder/dib/internal/deb"
)

// dpkgDir is dpkg's database inside a tree.
const dpkgDir = "var/lib/dpkg"

// dpkgDB writes packages into dpkg's database as dpkg --unpack leaves them.
// The formats are those of dpkg(1), deb-triggers(5) and dpkg's triggers
// documentation; the info directory has format 1.
type dpkgDB struct {
	root     string
	statuses strings.Builder // stanzas not yet in the status file

	interests map[string][]string // trigger -> lines of its interested packages
	activated map[string]bool
}

func newDpkgDB(root string) *dpkgDB {
	return &dpkgDB{root: root, interests: map[string][]string{}, activated: map[string]bool{}}
}

func (db *dpkgDB) path(elem ...string) string {
	return filepath.Join(append([]string{db.root, dpkgDir}, elem...)...)
}

// create makes an empty database for one architecture.
func (db *dpkgDB) create(arch string) error {
	for _, d := range []string{"", "alternatives", "info", "parts", "triggers", "updates"} {
		if err := os.MkdirAll(db.path(d), 0o755); err != nil {
			return err
		}
	}
	for name, content := range map[string]string{
		"status": "", "available": "", "diversions": "", "statoverride": "",
		"arch": arch + "\n", "info/format": "1\n", "triggers/File": "", "triggers/Unincorp": "",
	} {
		if err := os.WriteFile(db.path(name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// infoName is the name of a package in the info directory and in lists of
// packages: with its architecture where several may be installed side by side.
func (c *candidate) infoName(native string) string {
	if c.MultiArch != "same" {
		return c.Name
	}
	arch := c.Arch
	if arch == "all" {
		arch = native
	}
	return c.Name + ":" + arch
}

// writeInfo writes the info files of a package: its list of files, its
// maintainer scripts and what else its control part holds.
func (db *dpkgDB) writeInfo(st *staged, native string) error {
	base := db.path("info", st.pkg.infoName(native))
	if err := os.WriteFile(base+".list", []byte(fileList(st.entries)), 0o644); err != nil {
		return err
	}
	for name, f := range st.control.Files {
		if err := writeControlFile(base+"."+name, f); err != nil {
			return err
		}
	}
	if _, ok := st.control.Files["md5sums"]; !ok && st.md5sums != "" {
		return os.WriteFile(base+".md5sums", []byte(st.md5sums), 0o644)
	}
	return nil
}

// writeControlFile writes a file of a control part, executable when it is a script.
func writeControlFile(name string, f deb.ControlFile) error {
	mode := os.FileMode(0o644)
	if f.Mode&0o100 != 0 {
		mode = 0o755
	}
	if err := os.WriteFile(name, f.Data, mode); err != nil {
		return err
	}
	return os.Chmod(name, mode) // whatever the umask
}

// fileList is the content of a .list file: every path, the root as "/.".
func fileList(entries []entry) string {
	var b strings.Builder
	for _, e := range entries {
		if e.path == "/" {
			b.WriteString("/.\n")
			continue
		}
		b.WriteString(e.path)
		b.WriteByte('\n')
	}
	return b.String()
}

// newConffile is the sum that dpkg writes for a configuration file that it has
// not compared yet.
const newConffile = "newconffile"

// addUnpacked notes the status stanza of an unpacked package.
func (db *dpkgDB) addUnpacked(st *staged, keepConffiles bool) {
	db.statuses.WriteString(unpackedStanza(st, keepConffiles))
}

func unpackedStanza(st *staged, keepConffiles bool) string {
	var b strings.Builder
	for i, f := range st.control.Stanza {
		fmt.Fprintf(&b, "%s:%s\n", f.Name, spaced(f.Value))
		if i == 0 {
			b.WriteString("Status: install ok unpacked\n")
		}
	}
	if len(st.conffiles) > 0 {
		b.WriteString("Conffiles:\n")
		for _, p := range st.control.Conffiles() {
			sum := st.conffiles[p]
			if sum == "" {
				continue // declared, but not in the package
			}
			if !keepConffiles {
				sum = newConffile
			}
			fmt.Fprintf(&b, " %s %s\n", p, sum)
		}
	}
	b.WriteByte('\n')
	return b.String()
}

// spaced is a field's value with the blank that follows the colon, unless its
// first line is empty.
func spaced(value string) string {
	if value == "" || value[0] == '\n' {
		return value
	}
	return " " + value
}

// addTriggers notes which triggers a package is interested in and which it
// activates by being unpacked.
func (db *dpkgDB) addTriggers(st *staged, native string) error {
	interests, activates, err := parseTriggers(string(st.control.Files["triggers"].Data))
	if err != nil {
		return fmt.Errorf("package %s: triggers file: %w", st.pkg.Name, err)
	}
	name := st.pkg.infoName(native)
	for _, t := range interests {
		line := name
		if t.noAwait {
			line += "/noawait"
		}
		db.interests[t.name] = append(db.interests[t.name], line)
	}
	for _, t := range activates {
		db.activated[t] = true
	}
	for _, e := range st.entries {
		for dir := e.path; dir != "/"; dir = path.Dir(dir) {
			if len(db.interests[dir]) > 0 {
				db.activated[dir] = true
			}
		}
	}
	return nil
}

type interest struct {
	name    string
	noAwait bool
}

// parseTriggers reads a triggers control file (deb-triggers(5)).
func parseTriggers(text string) (interests []interest, activates []string, err error) {
	for _, l := range strings.Split(text, "\n") {
		l, _, _ = strings.Cut(l, "#")
		f := strings.Fields(l)
		if len(f) == 0 {
			continue
		}
		if len(f) != 2 || strings.Trim(f[1], "/") == "" {
			return nil, nil, fmt.Errorf("%q is not a directive and a trigger", l)
		}
		switch f[0] {
		case "interest", "interest-await":
			interests = append(interests, interest{name: f[1]})
		case "interest-noawait":
			interests = append(interests, interest{name: f[1], noAwait: true})
		case "activate", "activate-await", "activate-noawait":
			activates = append(activates, f[1])
		default:
			return nil, nil, fmt.Errorf("unknown directive %q", f[0])
		}
	}
	return interests, activates, nil
}

// flush writes what was noted to disk. Activations become entries that dpkg
// takes up in its next run; those of packages that are not configured yet it
// drops by itself, as their configuration covers them.
func (db *dpkgDB) flush() error {
	if err := appendFile(db.path("status"), db.statuses.String()); err != nil {
		return err
	}
	db.statuses.Reset()
	var fileTriggers strings.Builder
	for _, t := range sortedKeys(db.interests) {
		if strings.HasPrefix(t, "/") {
			for _, line := range db.interests[t] {
				fmt.Fprintf(&fileTriggers, "%s %s\n", t, line)
			}
			continue
		}
		if strings.Contains(t, "/") {
			return fmt.Errorf("trigger %q is neither a name nor an absolute path", t)
		}
		if err := os.WriteFile(db.path("triggers", t), []byte(strings.Join(db.interests[t], "\n")+"\n"), 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(db.path("triggers/File"), []byte(fileTriggers.String()), 0o644); err != nil {
		return err
	}
	var pending strings.Builder
	for _, t := range sortedKeys(db.activated) {
		if len(db.interests[t]) > 0 {
			fmt.Fprintf(&pending, "%s -\n", t)
		}
	}
	db.activated = map[string]bool{}
	return appendFile(db.path("triggers/Unincorp"), pending.String())
}

func appendFile(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
