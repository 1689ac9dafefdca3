package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dib-builder/dib/test/lab"
)

// ownedCommand is a command of the element library.
type ownedCommand struct{ element, name string }

// ownedCommands finds every command in the library's bin directories, so that
// none that is added can be forgotten.
func ownedCommands(t *testing.T, l *lab.Lab) []ownedCommand {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(l.Checkout, "elements", "*", "bin", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var list []ownedCommand
	for _, f := range files {
		list = append(list, ownedCommand{filepath.Base(filepath.Dir(filepath.Dir(f))), filepath.Base(f)})
	}
	if len(list) < 10 {
		t.Fatalf("the library has only these commands: %v", list)
	}
	return list
}

// rounds divides commands into as few builds as can be: no two elements of one
// image may bring the same command.
func rounds(all []ownedCommand) [][]ownedCommand {
	var out [][]ownedCommand
	for _, c := range all {
		free := slices.IndexFunc(out, func(round []ownedCommand) bool {
			return !slices.ContainsFunc(round, func(o ownedCommand) bool { return o.name == c.name && o.element != c.element })
		})
		if free < 0 {
			out = append(out, nil)
			free = len(out) - 1
		}
		out[free] = append(out[free], c)
	}
	return out
}

// TestForeignCommandsWin replaces each element of the library that owns commands
// by a foreign one of the same name that brings its own: those are what hooks
// get on both sides, whatever the binary could do under the same name.
func TestForeignCommandsWin(t *testing.T) {
	l := openLab(t)
	b := newWorkbench(t, l, ordinary(t))
	for n, round := range rounds(ownedCommands(t, l)) {
		dir := b.dir(fmt.Sprintf("round%d", n))
		write := func(name, text string) {
			t.Helper()
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		// The operating system is a foreign one too, without commands of its own.
		if err := lab.CopyTree(filepath.Join(l.Checkout, "elements", "fake-os"), filepath.Join(dir, "fake-os")); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(dir, "fake-os", "bin")); err != nil {
			t.Fatal(err)
		}
		elements := []string{"fake-os", "caller"}
		var names []string
		for _, c := range round {
			write(c.element+"/bin/"+c.name, "#!/bin/bash\necho \"FOREIGN "+c.element+" "+c.name+" $1\"\n")
			names = append(names, c.name)
			if !slices.Contains(elements, c.element) {
				elements = append(elements, c.element)
			}
		}
		list := strings.Join(names, " ")
		write("caller/element-deps", "install-bin\n")
		write("caller/extra-data.d/95-call", "#!/bin/bash\nset -eu\nfor c in "+list+"; do \"$TMP_HOOKS_PATH/bin/$c\" host < /dev/null; done\n")
		write("caller/install.d/95-call", "#!/bin/bash\nset -eu\nfor c in "+list+"; do \"$c\" target < /dev/null; done\n")
		o := b.mustBuild(build{args: append([]string{"-n", "-t", "raw", "-o", "overridden"}, elements...),
			env: map[string]string{"ELEMENTS_PATH": dir, "OVERWRITE_OLD_IMAGE": "1"}})
		for _, c := range round {
			for _, side := range []string{"host", "target"} {
				if line := fmt.Sprintf("FOREIGN %s %s %s", c.element, c.name, side); !strings.Contains(o.Stdout, "\n"+line+"\n") {
					t.Errorf("%s of element %s, %s side: the foreign command did not run", c.name, c.element, side)
				}
			}
		}
		t.Logf("round %d: %v", n, round)
	}
}
