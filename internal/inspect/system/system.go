// Package system finds out what operating system a filesystem holds: its name,
// kernels, packages and boot programs.
package system

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/inspect"
	"github.com/dib-builder/dib/internal/shellwords"
)

// System is what was found in one filesystem.
type System struct {
	Release  map[string]string // the variables of os-release; nil without one
	Kernels  []string          // versions, of /boot or of a filesystem that is mounted there
	Modules  []string          // versions for which there are modules
	Packages []Packages
	EFI      []string // paths of EFI programs
}

// Packages is the database of a package manager.
type Packages struct {
	Manager string // dpkg, rpm, apk or pacman
	Count   int    // installed ones; negative when the database cannot be read here
}

// Limits of what is taken from a filesystem, which may be of anybody.
const (
	maxEntries = 1 << 20
	maxList    = 256
	maxRelease = 64 << 10
	maxStatus  = 256 << 20
)

// dirs are the directories that are looked into; of a filesystem that is
// mounted as /boot, /var or /usr only a part of the path is there.
var dirs = map[string]bool{
	".": true, "etc": true, "boot": true, "usr": true, "usr/lib": true, "usr/lib/modules": true, "usr/lib/sysimage": true,
	"usr/lib/sysimage/rpm": true, "usr/lib/apk": true, "usr/lib/apk/db": true, "lib": true, "lib/modules": true, "lib/apk": true, "lib/apk/db": true,
	"lib/dpkg": true, "lib/rpm": true, "lib/pacman": true, "lib/pacman/local": true, "lib/sysimage": true, "lib/sysimage/rpm": true,
	"var": true, "var/lib": true, "var/lib/dpkg": true, "var/lib/rpm": true, "var/lib/pacman": true, "var/lib/pacman/local": true,
}

// releases are the places of os-release, the best first.
var releases = []string{"etc/os-release", "usr/lib/os-release", "lib/os-release"}

// Read looks into a filesystem. What it found before an error comes with it.
func Read(ctx context.Context, w inspect.Walker) (System, error) {
	r := reader{ctx: ctx, found: map[string]map[string]string{}}
	err := w.Walk(r.visit)
	for _, name := range releases {
		if r.Release == nil {
			r.Release = r.found[name]
		}
	}
	slices.Sort(r.Kernels)
	slices.Sort(r.Modules)
	r.Kernels, r.Modules = slices.Compact(r.Kernels), slices.Compact(r.Modules)
	if r.pacman > 0 {
		r.Packages = append(r.Packages, Packages{"pacman", r.pacman})
	}
	return r.System, err
}

type reader struct {
	System
	ctx    context.Context
	found  map[string]map[string]string // of each os-release
	seen   int
	pacman int
}

func (r *reader) visit(e inspect.Entry) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if r.seen++; r.seen > maxEntries {
		return fmt.Errorf("more than %d files have to be looked at", maxEntries)
	}
	dir, name := path.Split(e.Path)
	dir = strings.TrimSuffix(dir, "/")
	switch e.Mode & inspect.TypeMask {
	case inspect.Dir:
		return r.directory(e.Path, dir, name)
	case inspect.Regular:
		return r.file(e, dir, name)
	}
	return nil
}

// directory decides whether to look into one.
func (r *reader) directory(full, dir, name string) error {
	switch dir {
	case "lib/modules", "usr/lib/modules":
		r.Modules = add(r.Modules, name)
	case "lib/pacman/local", "var/lib/pacman/local":
		r.pacman++
	}
	if dirs[full] || efi(full) && strings.Count(full, "/") < 4 {
		return nil
	}
	return fs.SkipDir
}

// efi reports whether a path is in the directory of EFI programs; FAT does not
// care for the case of letters.
func efi(full string) bool {
	first, _, _ := strings.Cut(full, "/")
	return strings.EqualFold(first, "efi")
}

func (r *reader) file(e inspect.Entry, dir, name string) (err error) {
	switch {
	case slices.Contains(releases, e.Path):
		if e.Size <= maxRelease {
			r.found[e.Path], err = release(e.Content)
		}
	case dir == "" || dir == "boot":
		for _, prefix := range []string{"vmlinuz-", "vmlinux-"} {
			if version, ok := strings.CutPrefix(name, prefix); ok {
				r.Kernels = add(r.Kernels, version)
			}
		}
	case efi(e.Path) && strings.EqualFold(path.Ext(name), ".efi"):
		r.EFI = add(r.EFI, e.Path)
	case strings.HasSuffix(e.Path, "lib/dpkg/status"):
		err = r.count("dpkg", e, func(line string) bool {
			return strings.HasPrefix(line, "Status: ") && strings.HasSuffix(line, " installed")
		})
	case strings.HasSuffix(e.Path, "lib/apk/db/installed"):
		err = r.count("apk", e, func(line string) bool { return strings.HasPrefix(line, "P:") })
	case strings.HasSuffix(dir, "/rpm") && slices.Contains([]string{"rpmdb.sqlite", "Packages", "Packages.db"}, name):
		if !slices.ContainsFunc(r.Packages, func(p Packages) bool { return p.Manager == "rpm" }) {
			r.Packages = append(r.Packages, Packages{"rpm", -1})
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", e.Path, err)
	}
	return nil
}

func add(list []string, s string) []string {
	if len(list) == maxList {
		return list
	}
	return append(list, s)
}

// count counts the lines of a database that stand for an installed package.
func (r *reader) count(manager string, e inspect.Entry, is func(line string) bool) error {
	if e.Size > maxStatus {
		r.Packages = append(r.Packages, Packages{manager, -1})
		return nil
	}
	n := 0
	err := lines(r.ctx, e.Content, func(line string) {
		if is(line) {
			n++
		}
	})
	if err == nil {
		r.Packages = append(r.Packages, Packages{manager, n})
	}
	return err
}

// lines calls f for every line; long ones are cut.
func lines(ctx context.Context, content io.Reader, f func(string)) error {
	in := bufio.NewReaderSize(content, 64<<10)
	for {
		line, more, err := in.ReadLine()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		f(string(line))
		for more && err == nil {
			_, more, err = in.ReadLine()
		}
	}
}

// release reads os-release(5): assignments as in a shell.
func release(content io.Reader) (map[string]string, error) {
	data, err := io.ReadAll(io.LimitReader(content, maxRelease))
	if err != nil {
		return nil, err
	}
	vars := map[string]string{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		words, err := shellwords.Split(value)
		if err != nil || len(words) == 0 {
			continue
		}
		vars[name] = words[0]
	}
	return vars, nil
}
