package pkginstalls

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dib-builder/dib/elements"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/intarget/pkglist"
	"github.com/dib-builder/dib/internal/intarget/pkgmap"
	"github.com/dib-builder/dib/test/commandtest"
)

// targets are the distributions and releases whose package names are held.
var targets = []struct {
	distro   string
	releases []string
}{
	{"almalinux", []string{"9", "10"}},
	{"centos", []string{"9-stream", "10-stream"}},
	{"debian", []string{"bullseye", "bookworm", "trixie"}},
	{"fedora", []string{"41", "42"}},
	{"gentoo", []string{"gentoo"}},
	{"openeuler", []string{"22.03-LTS", "24.03-LTS"}},
	{"opensuse", []string{"15.6", "tumbleweed"}},
	{"rhel", []string{"8", "9", "10"}},
	{"rocky", []string{"9", "10"}},
	{"ubuntu", []string{"jammy", "noble"}},
}

// TestLibrary holds, one file a distribution, what the package lists and maps
// of every element stand for there.
func TestLibrary(t *testing.T) {
	for _, target := range targets {
		t.Run(target.distro, func(t *testing.T) {
			var b strings.Builder
			for _, release := range target.releases {
				fmt.Fprintf(&b, "== %s %s\n", target.distro, release)
				describe(t, &b, elements.FS(), target.distro, release)
			}
			commandtest.Golden(t, "packages/"+target.distro+".txt", b.String())
		})
	}
}

// TestSynthetic holds the same of elements that have every key and section.
func TestSynthetic(t *testing.T) {
	var b strings.Builder
	for _, target := range targets {
		for _, release := range target.releases {
			fmt.Fprintf(&b, "== %s %s\n", target.distro, release)
			describe(t, &b, os.DirFS("testdata/synthetic"), target.distro, release)
		}
	}
	commandtest.Golden(t, "synthetic.txt", b.String())
}

// describe lists what each element of a library installs and removes on a
// release, one line per phase, action and set of filters. Conditions on the
// distribution are decided, all others are shown. Then come the names that
// only the element's map has, for hooks that install by themselves.
func describe(t *testing.T, b *strings.Builder, library fs.FS, distro, release string) {
	t.Helper()
	dirs, err := fs.ReadDir(library, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if !dir.IsDir() {
			continue
		}
		element := dir.Name()
		fsys, err := fs.Sub(library, element)
		if err != nil {
			t.Fatal(err)
		}
		entries, warnings, err := pkglist.Read(element, fsys, element, pkglist.Files...)
		if err != nil || len(warnings) > 0 {
			t.Errorf("%v, %v", err, warnings)
		}
		m := &pkgmap.Map{}
		if data, err := fs.ReadFile(fsys, "pkg-map"); err == nil {
			if m, err = pkgmap.Parse(path.Join(element, "pkg-map"), data); err != nil || m.Unknown != nil {
				t.Errorf("%v, unknown sections %v", err, m.Unknown)
				continue
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		table := m.Table(distro, release)
		var order []string
		packages := map[string][]string{}
		for _, e := range entries {
			delete(table, e.Package)
			what, ok := filters(e, distro, release)
			if !ok {
				continue
			}
			lines, _ := pkgmap.Names(m.Table(distro, release), []string{e.Package}, true)
			if !slices.Contains(order, what) {
				order = append(order, what)
			}
			for _, name := range lines {
				if !slices.Contains(packages[what], name) {
					packages[what] = append(packages[what], name)
				}
			}
		}
		for _, what := range order {
			slices.Sort(packages[what])
			fmt.Fprintf(b, "%s: %s: %s\n", element, what, orNothing(strings.Join(packages[what], " ")))
		}
		for _, name := range slices.Sorted(maps.Keys(table)) {
			fmt.Fprintf(b, "%s: name %s: %s\n", element, name, orNothing(table[name]))
		}
	}
}

func orNothing(packages string) string {
	if packages == "" {
		return "-"
	}
	return packages
}

// filters names an entry's phase, action and filters but those on the
// distribution, which it decides.
func filters(e pkglist.Entry, distro, release string) (string, bool) {
	words := []string{e.Phase}
	if e.Action != pkglist.Install {
		words = append(words, e.Action.String())
	}
	if e.InstallType != "" {
		words = append(words, "installtype="+e.InstallType)
	}
	if e.Arch != nil {
		words = append(words, "arch="+strings.Join(e.Arch, ","))
	}
	if e.NotArch != nil {
		words = append(words, "not-arch="+strings.Join(e.NotArch, ","))
	}
	if e.Python != "" {
		words = append(words, "python="+e.Python)
	}
	decided := map[string]string{"DISTRO_NAME": distro, "DIB_RELEASE": release}
	for _, c := range e.When {
		value, known := decided[c.Variable]
		switch {
		case !known:
			words = append(words, "["+c.Text+"]")
		case (value == c.Value) != c.Equal:
			return "", false
		}
	}
	return strings.Join(words, " "), true
}

// TestLibraryInstalls holds what the library's package lists resolve to.
func TestLibraryInstalls(t *testing.T) {
	dir := t.TempDir()
	var all []element
	for _, name := range commandtest.Elements {
		for _, file := range []string{earlyFile, "package-installs.yaml", "pkg-map"} {
			data, err := fs.ReadFile(elements.FS(), name+"/"+file)
			if err == nil {
				commandtest.Write(t, dir, map[string]string{name + "/" + file: string(data)})
			}
		}
		all = append(all, element{name, filepath.Join(dir, name)})
	}
	var b strings.Builder
	for _, on := range []struct{ distro, release, arch, layout string }{
		{"debian", "bookworm", "amd64", "mbr"}, {"debian", "trixie", "amd64", "mbr"}, {"debian", "bookworm", "arm64", "efi"},
		{"ubuntu", "noble", "x86_64", "efi"}, {"fedora", "40", "amd64", "mbr"}, {"centos", "9-stream", "aarch64", "efi"},
		{"rhel", "9", "amd64", "efi"}, {"rocky", "9", "amd64", "gpt"}, {"opensuse", "15.6", "ppc64le", "mbr"},
		{"gentoo", "23.0", "amd64", "mbr"}, {"openeuler", "22.03-LTS", "amd64", ""},
	} {
		env := cmdline.Environment{
			"DISTRO_NAME": on.distro, "DIB_RELEASE": on.release, "ARCH": on.arch,
			"DIB_SKIP_BASE_PACKAGE_INSTALL": "0", "DIB_SKIP_GRUB_PACKAGE_INSTALL": "False",
		}
		if on.layout != "" {
			env["DIB_BLOCK_DEVICE"] = on.layout
		}
		packages, err := hintedPackages(all, env)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s %s %s:\n  %s\n", on.distro, on.release, on.arch, on.layout, strings.Join(packages, "\n  "))
	}
	commandtest.Golden(t, "installs.txt", b.String())
}

// TestPosix holds that every utility of POSIX stands for something that exists:
// names of other families, and of packages that were dropped, do not appear.
func TestPosix(t *testing.T) {
	entries, _, err := pkglist.Read("posix", commandtest.Sub(t, elements.FS(), "posix"), "posix", pkglist.Files...)
	if err != nil || len(entries) != 160 {
		t.Fatalf("%d utilities, %v", len(entries), err)
	}
	data, err := fs.ReadFile(elements.FS(), "posix/pkg-map")
	if err != nil {
		t.Fatal(err)
	}
	m, err := pkgmap.Parse("posix/pkg-map", data)
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range targets {
		for _, release := range target.releases {
			table := m.Table(target.distro, release)
			var dropped []string
			switch target.distro {
			case "debian", "ubuntu":
				dropped = []string{"bsdmainutils", "exuberant-ctags", "sysvinit-utils"}
			case "opensuse", "gentoo":
			default:
				dropped = []string{"ncurses-bin", "sysvinit-utils"}
			}
			for _, e := range entries {
				packages, ok := table[e.Package]
				if !ok {
					t.Errorf("M75: %s %s: %s is taken for a package", target.distro, release, e.Package)
				}
				for _, p := range strings.Fields(packages) {
					if slices.Contains(dropped, p) {
						t.Errorf("M75: %s %s: %s is %s, which does not exist there", target.distro, release, e.Package, p)
					}
				}
			}
			if table["time"] == "" || table["cat"] == "" {
				t.Errorf("M75: %s %s: time is %q, cat is %q", target.distro, release, table["time"], table["cat"])
			}
		}
	}
}
