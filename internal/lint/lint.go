// Package lint checks element libraries: everything that DIB's dib-lint checks,
// and what else can be known of elements without building an image.
//
// It is pure: it reads file systems that it is given and returns findings.
package lint

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Finding is one fault.
type Finding struct {
	Path    string `json:"path"`           // as the user would name the file
	Line    int    `json:"line,omitempty"` // from 1; 0 when the fault has no line
	Check   string `json:"check"`
	Message string `json:"message"`
}

func (f Finding) String() string {
	if f.Line > 0 {
		return fmt.Sprintf("%s:%d: %s [%s]", f.Path, f.Line, f.Message, f.Check)
	}
	return fmt.Sprintf("%s: %s [%s]", f.Path, f.Message, f.Check)
}

// Source is a directory to be checked.
type Source struct {
	Name string // what paths in findings start with; "" for none
	FS   fs.FS
	// Only limits the checks to these elements; nil means all of them. Sources
	// that are not element libraries do not have it.
	Only []string
	// Ignored says which paths below FS, files and directories, do not count.
	Ignored func(path string) bool
}

// Input is all that is to be checked and known.
type Input struct {
	Elements []Source
	// Lib is a directory of shell code beside the elements, checked for
	// indentation and final newlines only; nil for none.
	Lib *Source
	// Ignore names checks that are switched off for the whole project.
	Ignore []string
	// Context is what else can be on ELEMENTS_PATH, first the directory that
	// wins: elements found there may be depended on and used together with
	// those that are checked.
	Context []fs.FS
}

// Result is what was found.
type Result struct {
	Findings []Finding // by path, then line
	// Python are scripts that a checker of Python should look at, as paths the
	// user would use.
	Python []string
}

// file is one regular file that is checked.
type file struct {
	source     *Source
	path       string // below source.FS
	executable bool
	data       []byte
	disabled   []string
	lines      []string // nil for a binary file
}

func (f *file) name() string { return path.Join(f.source.Name, f.path) }

func (f *file) base() string { return path.Base(f.path) }

// firstLine is empty for a binary file.
func (f *file) firstLine() string {
	if len(f.lines) == 0 {
		return ""
	}
	return f.lines[0]
}

func (f *file) script() bool { return strings.HasPrefix(f.firstLine(), "#!") }

// Names of checks. Those in alwaysOn cannot be switched off, as in DIB.
const (
	checkReadme           = "readme"
	checkSourceRepository = "sourcerepository"
	checkExecutable       = "executable"
	checkIndent           = "indent"
	checkDepsOrder        = "depsorder"
	checkShell            = "shell"
	checkSetE             = "sete"
	checkSetU             = "setu"
	checkPipefail         = "setpipefail"
	checkTrace            = "dibdebugtrace"
	checkEnvironment      = "environment"
	checkExport           = "export"
	checkSudo             = "safe_sudo"
	checkWhich            = "which"
	checkTab              = "tabindent"
	checkNewline          = "newline"
	checkMarkdown         = "mddocs"
	checkYAML             = "yaml"
	checkPkgMap           = "pkgmap"
	// CheckPython is the check that others make, with a program for Python.
	CheckPython = "python"

	checkPackageInstalls = "packageinstalls"
	checkPkgMapSchema    = "pkgmapschema"
	checkSvcMap          = "svcmap"
	checkBlockDevice     = "blockdevice"
	checkHookName        = "hookname"
	checkDuplicate       = "duplicate"
	checkUnknownDep      = "unknowndep"
)

// Switchable are the names that disable= and ignore= know.
var Switchable = []string{
	checkBlockDevice, checkTrace, checkDuplicate, checkExecutable, checkHookName, checkIndent, checkMarkdown, checkNewline,
	checkPackageInstalls, checkPkgMapSchema, checkSudo, checkSetE, checkPipefail, checkSetU, checkSvcMap, checkTab,
	checkUnknownDep, checkWhich,
}

// linter collects the findings of one run.
type linter struct {
	in     Input
	result Result
}

// report adds a finding about f unless its check is switched off.
func (l *linter) report(f *file, line int, check, format string, args ...any) {
	if slices.Contains(Switchable, check) && (slices.Contains(l.in.Ignore, check) || slices.Contains(f.disabled, check)) {
		return
	}
	l.result.Findings = append(l.result.Findings, Finding{Path: f.name(), Line: line, Check: check, Message: fmt.Sprintf(format, args...)})
}

// Run checks everything. The error is one of reading, never a finding.
func Run(in Input) (Result, error) {
	l := &linter{in: in}
	var all []*file
	for i := range in.Elements {
		files, err := l.elements(&in.Elements[i])
		if err != nil {
			return Result{}, err
		}
		all = append(all, files...)
	}
	if in.Lib != nil {
		if err := walk(in.Lib, func(f *file) { l.layout(f) }); err != nil {
			return Result{}, err
		}
	}
	l.library(all)
	slices.SortStableFunc(l.result.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), a.Line-b.Line, strings.Compare(a.Check, b.Check))
	})
	slices.Sort(l.result.Python)
	return l.result, nil
}

// elements checks one library, file by file.
func (l *linter) elements(s *Source) ([]*file, error) {
	if err := l.readmes(s); err != nil {
		return nil, err
	}
	var files []*file
	err := walk(s, func(f *file) {
		files = append(files, f)
		l.data(f)
		if strings.HasSuffix(f.path, ".rst") || f.executable {
			l.layout(f)
		}
		switch path.Ext(f.path) {
		case ".rst", ".yaml", ".py":
		default:
			l.contents(f)
		}
	})
	return files, err
}

// readmes wants one in each element.
func (l *linter) readmes(s *Source) error {
	entries, err := fs.ReadDir(s.FS, ".")
	if err != nil {
		return fmt.Errorf("cannot list elements: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || s.skips(e.Name(), true) {
			continue
		}
		if _, err := fs.Stat(s.FS, e.Name()+"/README.rst"); err != nil {
			l.report(&file{source: s, path: e.Name()}, 0, checkReadme, "the element has no README.rst")
		}
	}
	return nil
}

// skips says whether an entry of the walk is left out.
func (s *Source) skips(p string, dir bool) bool {
	first, rest, _ := strings.Cut(p, "/")
	if s.Only != nil && !slices.Contains(s.Only, first) {
		return true
	}
	if dir && (path.Base(p) == "__pycache__" || rest == "" && strings.HasPrefix(first, ".")) {
		return true
	}
	return s.Ignored != nil && s.Ignored(p)
}

// walk reads every regular file below a source.
func walk(s *Source, check func(*file)) error {
	return fs.WalkDir(s.FS, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", path.Join(s.Name, p), err)
		}
		if p == "." {
			return nil
		}
		if d.IsDir() {
			if s.skips(p, true) {
				return fs.SkipDir
			}
			return nil
		}
		// What lies beside the elements, such as the code that embeds them, is
		// none of their files.
		if !d.Type().IsRegular() || s.skips(p, false) || path.Ext(p) == ".go" && !strings.Contains(p, "/") {
			return nil
		}
		f, err := readFile(s, p, d)
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", path.Join(s.Name, p), err)
		}
		check(f)
		return nil
	})
}

func readFile(s *Source, p string, d fs.DirEntry) (*file, error) {
	st, err := d.Info()
	if err != nil {
		return nil, err
	}
	f := &file{source: s, path: p, executable: st.Mode().Perm()&0o111 != 0}
	if f.data, err = fs.ReadFile(s.FS, p); err != nil {
		return nil, err
	}
	if text := string(f.data); !strings.ContainsRune(text, 0) {
		f.lines = strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		f.disabled = disabled(text)
	}
	return f, nil
}
