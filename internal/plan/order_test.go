package plan

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dib-builder/dib/internal/element"
	"github.com/dib-builder/dib/internal/hook"
	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/recipe"
)

// shuffledFS lists directories in another order each time, as file systems do.
type shuffledFS struct {
	fstest.MapFS
	random *rand.Rand
}

func (f shuffledFS) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := f.MapFS.ReadDir(name)
	f.random.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
	return entries, err
}

// Sub keeps MapFS from answering with a file system that sorts.
func (f shuffledFS) Sub(dir string) (fs.FS, error) { return fs.Sub(hideSub{f}, dir) }

// hideSub has all methods of shuffledFS but Sub.
type hideSub struct{ f shuffledFS }

func (h hideSub) Open(name string) (fs.File, error)          { return h.f.Open(name) }
func (h hideSub) ReadDir(name string) ([]fs.DirEntry, error) { return h.f.ReadDir(name) }
func (h hideSub) Stat(name string) (fs.FileInfo, error)      { return h.f.Stat(name) }
func (h hideSub) Lstat(name string) (fs.FileInfo, error)     { return h.f.Lstat(name) }
func (h hideSub) ReadLink(name string) (string, error)       { return h.f.ReadLink(name) }
func (h hideSub) ReadFile(name string) ([]byte, error)       { return h.f.ReadFile(name) }

// randomLibrary makes up the files of a directory of elements. Names come from
// small sets, so that elements meet in many ways.
func randomLibrary(random *rand.Rand) fstest.MapFS {
	fsys := fstest.MapFS{}
	pick := func(words ...string) string { return words[random.IntN(len(words))] }
	names := func(from []string) string {
		var lines []string
		for range random.IntN(4) {
			lines = append(lines, from[random.IntN(len(from))])
		}
		return strings.Join(lines, "\n") + "\n"
	}
	var elements []string
	for i := range 4 + random.IntN(9) {
		elements = append(elements, fmt.Sprintf("e%d", i))
	}
	virtual := []string{"operating-system", "block-device", "thing", elements[0]}
	for _, e := range elements {
		file := func(name, content string, mode fs.FileMode) {
			fsys[e+"/"+name] = &fstest.MapFile{Data: []byte(content), Mode: mode}
		}
		file("README.rst", e, 0o644)
		if random.IntN(2) == 0 {
			file("element-deps", names(slices.Concat(elements, []string{"thing", "vm", "base"})), 0o644)
		}
		if random.IntN(4) == 0 {
			file("element-provides", names(virtual), 0o644)
		}
		for range random.IntN(6) {
			hookName := fmt.Sprintf("%s-%s%d", pick("5", "05", "10", "99", "100", "x"), e, random.IntN(3))
			if random.IntN(20) == 0 {
				hookName = "50-shared"
			}
			file(pick("root", "install", "finalise", "cleanup", "post-install")+".d/"+hookName, "#!/bin/bash\n", fs.FileMode(0o644|random.IntN(4)*0o37&0o111))
		}
		if random.IntN(3) == 0 {
			file(hook.EnvironmentDir+"/"+pick("100-", "20-", "05-")+e, "export X=1\n", 0o644)
		}
		if random.IntN(6) == 0 {
			file("static/etc/"+pick("same", "other"), pick("a", "b"), 0o644)
		}
		if random.IntN(6) == 0 {
			file(pick("block-device-default.yaml", "block-device-amd64.yaml"), "- local_loop: {name: "+e+"}\n", 0o644)
		}
		if random.IntN(8) == 0 {
			fsys[e+"/install.d/"+pick("30-", "7-")+e] = &fstest.MapFile{Data: []byte("../lib/real"), Mode: fs.ModeSymlink | 0o777}
			file("lib/real", "#!/bin/bash\n", 0o755)
		}
	}
	return fsys
}

// The same elements give the same plan, or the same refusal, whatever the order
// in which directories are listed and maps are walked.
func TestOrder_D26_M05_M07_M15(t *testing.T) {
	plans, refusals := 0, 0
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 7))
		own, builtin := randomLibrary(random), randomLibrary(random)
		builtin["vm/element-deps"] = &fstest.MapFile{Data: []byte("block-device\n")}
		builtin["base/README.rst"] = &fstest.MapFile{}
		builtin["os/element-provides"] = &fstest.MapFile{Data: []byte("operating-system\n")}
		builtin["block-device-mbr/element-provides"] = &fstest.MapFile{Data: []byte("block-device\n")}
		builtin["block-device-mbr/block-device-default.yaml"] = &fstest.MapFile{Data: []byte("- local_loop: {name: mbr}\n")}
		words := []string{"os", "e1"}
		for range random.IntN(3) {
			words = append(words, fmt.Sprintf("e%d", random.IntN(6)))
		}
		if random.IntN(2) == 0 {
			words = append(words, "vm")
		}
		first := ""
		for round := range uint64(4) {
			shuffle := rand.New(rand.NewPCG(seed, round))
			got := planText(t, words, shuffledFS{own, shuffle}, shuffledFS{builtin, shuffle})
			if round == 0 {
				first = got
				continue
			}
			if got != first {
				t.Fatalf("library %d, elements %q: first\n%s\nthen\n%s", seed, words, first, got)
			}
		}
		if strings.HasPrefix(first, "{") {
			plans++
		} else {
			refusals++
		}
	}
	// Neither kind may be so rare that it proves nothing.
	if plans < 40 || refusals < 40 {
		t.Errorf("%d plans and %d refusals", plans, refusals)
	}
}

// planText is a plan as JSON and what the hooks tree consists of, or why there is none.
func planText(t *testing.T, words []string, own, builtin fs.FS) string {
	t.Helper()
	lib, err := element.New(element.Layer{Path: "/own", FS: own}, element.Layer{Path: place.ElementsDir, FS: builtin, Builtin: true})
	if err != nil {
		return err.Error()
	}
	p, err := Make(recipe.Recipe{Elements: words, Arch: "amd64", Types: []string{"qcow2"}, Env: Env{"PATH": "/bin"}}, lib, pure)
	if err != nil {
		return err.Error()
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var elements []element.Element
	for _, e := range p.Elements {
		found, _ := lib.Lookup(e.Name)
		elements = append(elements, found)
	}
	tree, err := hook.Assemble(elements)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range tree.Paths() {
		text = fmt.Appendf(text, "\n%s %s", path, tree.Source(path))
	}
	return string(text)
}
