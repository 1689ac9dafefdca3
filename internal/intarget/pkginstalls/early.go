package pkginstalls

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/intarget/pkglist"
	"github.com/dib-builder/dib/internal/intarget/pkgmap"
	"github.com/dib-builder/dib/internal/place"
)

// earlyFile names packages that an element's hooks install by themselves, in
// the format of package-installs.yaml.
const earlyFile = "early-packages.yaml"

// Early is the command early-packages: it prints, one a line, the
// packages that built-in elements of this build are going to install, so that
// the first root filesystem can be made with them in one transaction. It is a
// hint: what cannot be known yet is left out and installed in its phase.
func Early(_ context.Context, io command.IO, args []string) error {
	if len(args) > 0 {
		return cmdline.Exitf(2, "unexpected argument %q", args[0])
	}
	env := cmdline.EnvironmentOf(io)
	dirs, err := env.ElementDirs()
	if err != nil {
		return err
	}
	var elements []element
	for _, name := range slices.Sorted(maps.Keys(dirs)) {
		if e := (element{name, dirs[name]}); e.builtin(place.ElementsDir) {
			elements = append(elements, e)
		}
	}
	packages, err := hintedPackages(elements, env)
	if err != nil {
		return err
	}
	for _, p := range packages {
		fmt.Fprintln(io.Out, p)
	}
	return nil
}

// hintedPackages maps what the elements install for good, sorted and without
// repetition.
func hintedPackages(elements []element, env cmdline.Environment) ([]string, error) {
	packages := map[string]bool{}
	removed := map[string]bool{}
	for _, e := range elements {
		entries, _, err := readLists(e, append([]string{earlyFile}, pkglist.Files...)...)
		if err != nil {
			return nil, err
		}
		table, err := packageTable(e, env)
		if err != nil {
			return nil, err
		}
		for _, en := range entries {
			ok, err := en.Selected(env)
			var unset *pkglist.UnsetVariableError
			if errors.As(err, &unset) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			lines, err := pkgmap.Names(table, []string{en.Package}, true)
			if err != nil {
				return nil, err
			}
			for _, p := range strings.Fields(strings.Join(lines, " ")) {
				packages[p] = true
				if en.Action != pkglist.Install {
					removed[p] = true
				}
			}
		}
	}
	maps.DeleteFunc(packages, func(p string, _ bool) bool { return removed[p] })
	return slices.Sorted(maps.Keys(packages)), nil
}

// packageTable is an element's package map for the distribution of the build;
// empty if it has none.
func packageTable(e element, env cmdline.Environment) (map[string]string, error) {
	file := filepath.Join(e.dir, "pkg-map")
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read package map of element %s: %w", e.name, err)
	}
	m, err := pkgmap.Parse(file, data)
	if err != nil {
		return nil, err
	}
	return m.Table(env["DISTRO_NAME"], env["DIB_RELEASE"]), nil
}
