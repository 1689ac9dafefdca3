// Package internal_test holds the rules about which package may know which:
// cmd/dib -> cli, build -> the rooms below. docs/architecture.md says why.
package internal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/dib-builder/dib/"

// importedBy closes the list of importers of a package. What is not listed may
// be imported by everybody who has no rule of his own in onlyImports.
var importedBy = map[string][]string{
	"internal/cli":      {"cmd/dib"},
	"internal/build":    {"cmd/dib"},
	"internal/ui":       {"cmd/dib", "internal/cli", "internal/build"},
	"internal/sandbox":  {"cmd/dib", "internal/build"},
	"internal/boot":     {"cmd/dib", "internal/build"},
	"internal/plan":     {"cmd/dib", "internal/build", "internal/cli", "internal/plan/show"},
	"internal/intarget": {"cmd/dib"},
	"internal/functest": {"internal/cli"},
	"internal/lint":     {"internal/cli"},
	// The commands inside the target are programs of their own, which only their
	// table knows; package-installs maps names as pkg-map does.
	"internal/intarget/aptpins":       {"internal/intarget"},
	"internal/intarget/cacheurl":      {"internal/intarget"},
	"internal/intarget/copyprograms":  {"internal/intarget"},
	"internal/intarget/installstatic": {"internal/intarget"},
	"internal/intarget/mappackages":   {"internal/intarget"},
	"internal/intarget/pkginstalls":   {"internal/intarget"},
	"internal/intarget/pkglist":       {"internal/intarget/pkginstalls", "internal/lint", "internal/plan"},
	"internal/intarget/pkgmap":        {"internal/intarget", "internal/intarget/pkginstalls", "internal/lint", "internal/plan"},
	"internal/intarget/svcmap":        {"internal/intarget", "internal/lint", "internal/plan"},
	"elements":                        {"cmd/dib", "internal/build", "internal/cli"},
	"lib":                             {"cmd/dib", "internal/build"},
	// A program is started through package run, so that every failure names the
	// command and every process dies with the build. Package sandbox is what
	// run's processes live in; its sudo starts what sudo starts; package boot holds a process that outlives the
	// call that starts it.
	"os/exec": {"internal/run", "internal/sandbox", "internal/sandbox/standin", "internal/boot"},
}

// onlyImports closes the list of what a package imports beside the standard
// library. A name ending in /... stands for everything below it.
var onlyImports = map[string][]string{
	"internal/cli/getopt":       {"internal/similar"},
	"internal/command":          {},
	"internal/distro":           {},
	"internal/event":            {},
	"internal/functest":         {"internal/run"},
	"internal/lint":             {"internal/blockdev", "internal/finding", "internal/distro", "internal/element", "internal/hook", "internal/intarget/pkglist", "internal/intarget/pkgmap", "internal/intarget/svcmap", "internal/similar", "go.yaml.in/yaml/v3"},
	"internal/place":            {},
	"internal/recipe":           {},
	"internal/run":              {"internal/shellwords", "golang.org/x/sys/..."},
	"internal/sourcerepo":       {},
	"internal/tarball":          {"github.com/klauspost/compress/...", "github.com/therootcompany/xz", "golang.org/x/sys/..."},
	"internal/treepath":         {},
	"internal/sidetable":        {"golang.org/x/sys/..."},
	"internal/fetch":            {"internal/event", "golang.org/x/sync/...", "golang.org/x/sys/..."},
	"internal/element":          {"internal/place", "internal/similar"},
	"internal/secret":           {},
	"internal/intarget/pkglist": {"internal/finding", "go.yaml.in/yaml/v3"},
	"internal/shellwords":       {},
	"internal/blockdev":         {"github.com/google/uuid", "internal/blockdev/...", "internal/disk/fat", "internal/finding", "internal/shellwords", "internal/yamldoc"},
	"internal/finding":          {},
	"internal/similar":          {},
	"internal/recipe/buildlist": {"internal/finding", "internal/secret", "internal/shellwords", "internal/similar", "internal/yamldoc"},
	"internal/blockdev/size":    {},
	"internal/yamldoc":          {"internal/finding", "go.yaml.in/yaml/v4"},
	// The steps of a bootstrap, each of which knows the results of those before.
	"internal/bootstrap/debian/archive": {"internal/similar", "internal/deb", "internal/event", "internal/fetch", "github.com/ProtonMail/go-crypto/...", "golang.org/x/sync/..."},
	"internal/bootstrap/debian/resolve": {"internal/deb"},
	"internal/bootstrap/debian/dpkg":    {"internal/deb", "internal/event", "internal/run", "golang.org/x/sys/..."},
	"internal/bootstrap/debian/unpack": {
		"internal/bootstrap/debian/dpkg", "internal/bootstrap/debian/resolve", "internal/deb", "github.com/klauspost/compress/...", "golang.org/x/sys/...",
	},
	"internal/bootstrap/debian/install": {
		"internal/bootstrap/debian/dpkg", "internal/bootstrap/debian/resolve", "internal/bootstrap/debian/unpack", "internal/event", "internal/fetch", "golang.org/x/sync/...",
	},
	"internal/bootstrap/debian/apt": {
		"internal/bootstrap/debian/archive", "internal/bootstrap/debian/resolve", "internal/command", "internal/run",
	},
	// Formats know bytes: the standard library, codecs, and the shape of their kind.
	"internal/deb":               {"github.com/klauspost/compress/...", "github.com/therootcompany/xz"},
	"internal/disk/ext":          {"github.com/google/uuid", "golang.org/x/sync/...", "golang.org/x/sys/..."},
	"internal/disk/fat":          {},
	"internal/disk/lvm":          {"internal/blockdev"},
	"internal/image":             {"golang.org/x/sys/..."},
	"internal/image/raw":         {"internal/image", "golang.org/x/sys/..."},
	"internal/image/qcow2":       {"internal/image", "github.com/klauspost/compress/...", "golang.org/x/sync/..."},
	"internal/image/formats":     {"internal/image", "internal/image/..."},
	"internal/image/convert":     {"internal/image", "internal/image/checksum", "internal/image/formats", "internal/image/output"},
	"internal/image/output":      {"golang.org/x/sys/..."},
	"internal/image/mapped":      {"internal/image"},
	"internal/image/packed":      {"internal/image", "github.com/klauspost/..."},
	"internal/image/vdi":         {"internal/image", "internal/image/mapped"},
	"internal/image/vhd":         {"internal/image", "internal/image/mapped"},
	"internal/image/vhdx":        {"internal/image", "internal/image/mapped"},
	"internal/image/vmdk":        {"internal/image", "internal/image/mapped", "github.com/klauspost/compress/..."},
	"internal/image/checksum":    {"internal/image", "lukechampine.com/blake3"},
	"internal/image/tree":        {"internal/image", "internal/sidetable", "golang.org/x/sys/..."},
	"internal/image/tarball":     {"internal/image", "internal/image/tree", "github.com/klauspost/...", "golang.org/x/sys/..."},
	"internal/image/squashfs":    {"internal/image", "internal/image/tree", "github.com/klauspost/...", "golang.org/x/sys/..."},
	"internal/sandbox/idmap":     {"internal/run", "github.com/moby/sys/...", "golang.org/x/sys/..."},
	"internal/sandbox/seccomp":   {"golang.org/x/sys/..."},
	"internal/pidns":             {"golang.org/x/sys/..."},
	"internal/inspect":           {"golang.org/x/sys/..."},
	"internal/inspect/extfs":     {"internal/inspect"},
	"internal/inspect/fatfs":     {"internal/inspect"},
	"internal/inspect/partition": {},
	"internal/inspect/signature": {"internal/inspect/fatfs"},
	"internal/inspect/system":    {"internal/inspect", "internal/shellwords"},
	"internal/inspect/report":    {"internal/image/formats", "internal/inspect", "internal/inspect/...", "golang.org/x/sys/..."},
}

// imports reads what each package of the module imports, tests left out, as
// paths relative to the module where they belong to it.
func imports(t *testing.T, root string) map[string][]string {
	t.Helper()
	sets := map[string]map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		if sets[dir] == nil {
			sets[dir] = map[string]bool{}
		}
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			sets[dir][strings.TrimPrefix(name, module)] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	lists := map[string][]string{}
	for dir, set := range sets {
		lists[dir] = slices.Sorted(maps.Keys(set))
	}
	return lists
}

func standard(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return !strings.Contains(first, ".") && first != "internal" && first != "elements" && first != "lib" && first != "cmd" && first != "test"
}

func allowed(name string, list []string) bool {
	return slices.ContainsFunc(list, func(entry string) bool {
		prefix, wild := strings.CutSuffix(entry, "...")
		return name == entry || wild && strings.HasPrefix(name+"/", prefix)
	})
}

// violations lists the imports that break a rule.
func violations(graph map[string][]string) []string {
	var found []string
	for _, dir := range slices.Sorted(maps.Keys(graph)) {
		// What only tests and measurements need may know everything.
		if strings.HasPrefix(dir, "test/") || dir == "bench" {
			continue
		}
		for _, name := range graph[dir] {
			if importers, ok := importedBy[name]; ok && !slices.Contains(importers, dir) {
				found = append(found, dir+" imports "+name+", which only "+strings.Join(importers, ", ")+" may")
			}
			if strings.HasPrefix(name, "test/") || name == "bench" || strings.HasPrefix(name, "cmd/") {
				found = append(found, dir+" imports "+name+", which is no part of the program")
			}
			if list, ok := onlyImports[dir]; ok && !standard(name) && !allowed(name, list) {
				found = append(found, dir+" imports "+name+", which is not on its list")
			}
		}
	}
	return found
}

func TestImports(t *testing.T) {
	graph := imports(t, "..")
	for _, v := range violations(graph) {
		t.Error(v)
	}
	// A rule about a package that is gone guards nothing.
	for _, rules := range []map[string][]string{importedBy, onlyImports} {
		for name := range rules {
			if standard(name) {
				continue
			}
			if _, err := os.Stat(filepath.Join("..", name)); err != nil {
				t.Errorf("there is a rule for %s, which does not exist", name)
			}
		}
	}
}

func TestViolations(t *testing.T) {
	for _, c := range []struct {
		from, to string
		bad      bool
	}{
		{"cmd/dib", "internal/cli", false},
		{"internal/build", "internal/ui", false},
		{"internal/build", "internal/cli", true},
		{"internal/plan", "internal/build", true},
		{"internal/disk", "internal/ui", true},
		{"internal/disk", "os/exec", true},
		{"internal/image/qcow2", "github.com/klauspost/compress/flate", false},
		{"internal/image/qcow2", "internal/event", true},
		{"internal/image/qcow2", "golang.org/x/net", true},
		{"internal/event", "encoding/json", false},
		{"internal/hook", "test/lab", true},
		{"test/e2e", "internal/boot", false},
	} {
		if got := violations(map[string][]string{c.from: {c.to}}); (len(got) > 0) != c.bad {
			t.Errorf("%s -> %s: violations %v, want some: %v", c.from, c.to, got, c.bad)
		}
	}
}
