// Package dpkg works on the dpkg of a tree: it writes the database as
// dpkg --unpack would leave it, and runs dpkg and maintainer scripts inside
// the tree for what only they can do.
package dpkg

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/deb"
)

// databaseDir is dpkg's database inside a tree.
const databaseDir = "var/lib/dpkg"

// Unpacked is a package whose files are in the tree, or on their way to it, as
// the database records it.
type Unpacked struct {
	deb.Package // as the index describes it

	Control   *deb.Control
	Files     []string          // absolute and clean paths of all members, in their order
	Conffiles map[string]string // absolute path -> MD5 sum of the content, "" when the package has no such file
	MD5Sums   string            // content of the md5sums file when the package brings none
}

// Script tells whether the package has the maintainer script, such as "preinst".
func (u *Unpacked) Script(name string) bool {
	_, ok := u.Control.Files[name]
	return ok
}

// Database writes packages into dpkg's database as dpkg --unpack leaves them.
// The formats are those of dpkg(1), deb-triggers(5) and dpkg's triggers
// documentation; the info directory has format 1.
type Database struct {
	root     string
	native   string          // architecture of the tree
	statuses strings.Builder // stanzas not yet in the status file

	interests map[string][]string // trigger -> lines of its interested packages
	activated map[string]bool
}

func (db *Database) path(elem ...string) string {
	return filepath.Join(append([]string{db.root, databaseDir}, elem...)...)
}

// CreateDatabase makes an empty database for one architecture in the tree at root.
func CreateDatabase(root, arch string) (*Database, error) {
	db := &Database{root: root, native: arch, interests: map[string][]string{}, activated: map[string]bool{}}
	for _, d := range []string{"", "alternatives", "info", "parts", "triggers", "updates"} {
		if err := os.MkdirAll(db.path(d), 0o755); err != nil {
			return nil, err
		}
	}
	for name, content := range map[string]string{
		"status": "", "available": "", "diversions": "", "statoverride": "",
		"arch": arch + "\n", "info/format": "1\n", "triggers/File": "", "triggers/Unincorp": "",
	} {
		if err := os.WriteFile(db.path(name), []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	return db, nil
}

// infoName is the name of a package in the info directory and in lists of
// packages: with its architecture where several may be installed side by side.
func infoName(p deb.Package, native string) string {
	if p.MultiArch != "same" {
		return p.Name
	}
	return p.Name + ":" + installedArch(p, native)
}

// installedArch is the architecture of a package as installed: the tree's own
// when it is for all.
func installedArch(p deb.Package, native string) string {
	if p.Arch == "all" {
		return native
	}
	return p.Arch
}

// Add registers a package as unpacked and notes its triggers. Its info files
// are written at once, the rest by the next Flush. With keepConffiles its
// configuration files have their final names already.
func (db *Database) Add(u *Unpacked, keepConffiles bool) error {
	if err := db.writeInfo(u); err != nil {
		return fmt.Errorf("cannot register %s: %w", u.Name, err)
	}
	db.statuses.WriteString(unpackedStanza(u, keepConffiles))
	return db.addTriggers(u)
}

// writeInfo writes the info files of a package: its list of files, its
// maintainer scripts and what else its control part holds.
func (db *Database) writeInfo(u *Unpacked) error {
	base := db.path("info", infoName(u.Package, db.native))
	if err := os.WriteFile(base+".list", []byte(fileList(u.Files)), 0o644); err != nil {
		return err
	}
	for name, f := range u.Control.Files {
		if err := writeControlFile(base+"."+name, f); err != nil {
			return err
		}
	}
	if _, ok := u.Control.Files["md5sums"]; !ok && u.MD5Sums != "" {
		return os.WriteFile(base+".md5sums", []byte(u.MD5Sums), 0o644)
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
func fileList(files []string) string {
	var b strings.Builder
	for _, f := range files {
		if f == "/" {
			b.WriteString("/.\n")
			continue
		}
		b.WriteString(f)
		b.WriteByte('\n')
	}
	return b.String()
}

// newConffile is the sum that dpkg writes for a configuration file that it has
// not compared yet.
const newConffile = "newconffile"

// unpackedStanza is the status stanza of an unpacked package.
func unpackedStanza(u *Unpacked, keepConffiles bool) string {
	var b strings.Builder
	for i, f := range u.Control.Stanza {
		fmt.Fprintf(&b, "%s:%s\n", f.Name, spaced(f.Value))
		if i == 0 {
			b.WriteString("Status: install ok unpacked\n")
		}
	}
	if len(u.Conffiles) > 0 {
		b.WriteString("Conffiles:\n")
		for _, p := range u.Control.Conffiles() {
			sum := u.Conffiles[p]
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
func (db *Database) addTriggers(u *Unpacked) error {
	interests, activates, err := parseTriggers(string(u.Control.Files["triggers"].Data))
	if err != nil {
		return fmt.Errorf("package %s: triggers file: %w", u.Name, err)
	}
	name := infoName(u.Package, db.native)
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
	for _, f := range u.Files {
		for dir := f; dir != "/"; dir = path.Dir(dir) {
			if len(db.interests[dir]) > 0 {
				db.activated[dir] = true
			}
		}
	}
	return nil
}

// Flush writes what was noted to disk. Activations become entries that dpkg
// takes up in its next run; those of packages that are not configured yet it
// drops by itself, as their configuration covers them.
func (db *Database) Flush() error {
	if err := appendFile(db.path("status"), db.statuses.String()); err != nil {
		return err
	}
	db.statuses.Reset()
	var fileTriggers strings.Builder
	for _, t := range slices.Sorted(maps.Keys(db.interests)) {
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
	for _, t := range slices.Sorted(maps.Keys(db.activated)) {
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
