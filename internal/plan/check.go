package plan

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/element"
	"github.com/dib-builder/dib/internal/hook"
	"github.com/dib-builder/dib/internal/intarget/pkglist"
	"github.com/dib-builder/dib/internal/intarget/pkgmap"
	"github.com/dib-builder/dib/internal/intarget/svcmap"
	"github.com/dib-builder/dib/internal/place"
)

// HookFileError is a hook that cannot be started.
type HookFileError struct {
	Element string
	Hook    string // "install.d/50-name"
	File    string // where the element has it
	Reason  string
	Cure    string
}

func (e *HookFileError) Error() string {
	return fmt.Sprintf("cannot run hook %s of element %q: %s:1: %s: %s", e.Hook, e.Element, e.File, e.Reason, e.Cure)
}

// checkStart looks at the first line of a script for what would keep it from
// being started. Which interpreters the image will have is not known; those of
// the host are.
func (p *Plan) checkStart(tree *hook.Tree, h Hook, phase Phase, executable func(string) error) error {
	file := path.Join(phase.Name+".d", h.Name)
	content, err := tree.ReadFile(file)
	if err != nil {
		return fmt.Errorf("cannot read hook %s of element %q: %w", file, h.Element, err)
	}
	fail := func(reason, cure string) error {
		return &HookFileError{Element: h.Element, Hook: file, File: tree.Source(file), Reason: reason, Cure: cure}
	}
	first, _, _ := bytes.Cut(content, []byte("\n"))
	switch {
	case bytes.IndexByte(first, 0) >= 0:
		return nil // a program
	case bytes.HasPrefix(first, []byte("\xef\xbb\xbf")):
		return fail("it begins with a byte order mark, which hides the #! from the kernel", "remove it: sed -i '1s/^\\xef\\xbb\\xbf//' "+tree.Source(file))
	case bytes.HasSuffix(first, []byte("\r")):
		return fail("its lines end as on Windows (CR LF), and the CR would become part of names and commands", "convert it: sed -i 's/\\r$//' "+tree.Source(file))
	}
	line, script := strings.CutPrefix(string(first), "#!")
	if !script || phase.Side != Host {
		return nil
	}
	interpreter, lookedUp := interpreterOf(line)
	switch {
	case interpreter == "" || strings.HasPrefix(interpreter, place.Root+"/"):
		return nil
	case lookedUp && p.changesPath(tree):
		return nil // who knows where to
	case lookedUp:
		for _, dir := range filepath.SplitList(p.Env["PATH"]) {
			if executable(filepath.Join(dir, interpreter)) == nil {
				return nil
			}
		}
		return fail(fmt.Sprintf("its interpreter %s is in no directory of PATH (%s)", interpreter, p.Env["PATH"]), "install it on this machine, or correct the name")
	case executable(interpreter) != nil:
		return fail(fmt.Sprintf("its interpreter %s is not on this machine", interpreter), "install it, or correct the name")
	}
	return nil
}

var setsPath = regexp.MustCompile(`(?m)^[^#\n]*\bPATH\+?=`)

// changesPath says whether an environment file may change PATH.
func (p *Plan) changesPath(tree *hook.Tree) bool {
	return slices.ContainsFunc(p.Environment, func(h Hook) bool {
		content, err := tree.ReadFile(path.Join(hook.EnvironmentDir, h.Name))
		return err != nil || setsPath.Match(content)
	})
}

// interpreterOf reads the rest of a line that begins with "#!". With env(1) the
// interpreter is a name to look up; "" stands for what is too involved to tell.
func interpreterOf(line string) (interpreter string, lookedUp bool) {
	words := strings.Fields(line)
	switch {
	case len(words) == 0:
		return "", false
	case path.Base(words[0]) != "env" || len(words) == 1:
		return words[0], false
	}
	rest := words[1:]
	if rest[0] == "-S" {
		rest = rest[1:]
	}
	if len(rest) == 0 || strings.HasPrefix(rest[0], "-") || strings.Contains(rest[0], "=") {
		return "", false
	}
	if strings.Contains(rest[0], "/") {
		return rest[0], false
	}
	return rest[0], true
}

// executableFile says whether a program can be started from path.
func executableFile(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	return unix.Access(path, unix.X_OK)
}

// checkData reads the files of elements that in-target commands read later in
// the build, by when hours may have passed. A file counts only where the
// embedded element reads it: another one of that name may have a format of its own.
func (p *Plan) checkData(elements []element.Element) error {
	builtin := func(name string) bool {
		return slices.ContainsFunc(elements, func(e element.Element) bool { return e.Name == name && e.Builtin })
	}
	var errs []error
	for _, e := range elements {
		if builtin("package-installs") {
			_, warnings, err := pkglist.Read(e.Dir, e.FS, e.Name, pkglist.Files...)
			errs = append(errs, err)
			for _, w := range warnings {
				p.Warnings = append(p.Warnings, w.String())
			}
		}
		for _, f := range []struct {
			reader, name string
			parse        func(file string, data []byte) error
		}{
			{"pkg-map", "pkg-map", func(file string, data []byte) error { _, err := pkgmap.Parse(file, data); return err }},
			{"svc-map", "svc-map", func(file string, data []byte) error { _, err := svcmap.Parse(file, data); return err }},
		} {
			if !builtin(f.reader) {
				continue
			}
			data, err := fs.ReadFile(e.FS, f.name)
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				errs = append(errs, fmt.Errorf("cannot read %s of element %q: %w", f.name, e.Name, err))
			default:
				errs = append(errs, f.parse(path.Join(e.Dir, f.name), data))
			}
		}
	}
	return errors.Join(errs...)
}
