package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dib-builder/dib/elements"
	"github.com/dib-builder/dib/internal/cli/getopt"
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/lint"
	"github.com/dib-builder/dib/internal/run"
)

const lintUsage = `Usage: dib-lint [--format text|json] [DIRECTORY]...

Check elements for faults. A directory is one of elements, or one element.
Without any, ELEMENTS_DIR is checked (default: diskimage_builder/elements, else
elements), and the shell code in LIB_DIR (default: diskimage_builder/lib).

  --format FORMAT  text: a line "ERROR: ..." for each fault, at last PASS or FAIL
                   (the default); json: a list of objects with path, line, check
                   and message
  -h, --help       show this text

Files that git ignores are left out. A file switches checks off for itself with
a line "# dib-lint: disable=NAME...", a project with "ignore = NAME..." in section
[dib-lint] of tox.ini in the current directory. Names are:

%s
Elements of ELEMENTS_PATH and of the library that comes with the program may be
depended on. Scripts in Python are checked by flake8 where it is installed.

Exit status: 0 no fault, 1 faults or elements that cannot be read, 2 wrong usage.
`

func lintHelp(w io.Writer) {
	var names strings.Builder
	line := " "
	for _, name := range lint.Switchable {
		if len(line)+1+len(name) > 78 {
			names.WriteString(line + "\n")
			line = " "
		}
		line += " " + name
	}
	names.WriteString(line + "\n")
	_, _ = fmt.Fprintf(w, lintUsage, names.String())
}

// lintCommand is dib-lint.
func lintCommand(ctx context.Context, std command.IO, args []string) int {
	const name = "dib-lint"
	matches, words, err := getopt.Parse([]getopt.Option{{Long: "format", Arg: true}, {Short: 'h', Long: "help"}}, args, false)
	if err != nil {
		complain(std.Err, name, err)
		return exitUsage
	}
	format := "text"
	for _, m := range matches {
		if m.Option.Long == "help" {
			lintHelp(std.Out)
			return 0
		}
		format = m.Value
	}
	if format != "text" && format != "json" {
		complain(std.Err, name, fmt.Errorf("unknown format %q: want text or json", format))
		return exitUsage
	}
	in, err := lintInput(ctx, std, words)
	if err != nil {
		complain(std.Err, name, err)
		return 1
	}
	result, err := lint.Run(in)
	if err == nil {
		err = flake8(ctx, std, &result)
	}
	if err != nil {
		complain(std.Err, name, err)
		return 1
	}
	if format == "json" {
		err = printFindingsJSON(std.Out, result.Findings)
	} else {
		err = printFindings(std.Out, result.Findings)
	}
	if err != nil {
		complain(std.Err, name, err)
		return 1
	}
	if len(result.Findings) > 0 {
		return 1
	}
	return 0
}

func printFindings(w io.Writer, findings []lint.Finding) error {
	var text strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&text, "ERROR: %s\n", f)
	}
	if len(findings) == 0 {
		text.WriteString("PASS\n")
	} else {
		fmt.Fprintf(&text, "FAIL: %d errors\n", len(findings))
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func printFindingsJSON(w io.Writer, findings []lint.Finding) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(append([]lint.Finding{}, findings...))
}

// lintInput finds what is to be checked.
func lintInput(ctx context.Context, std command.IO, words []string) (lint.Input, error) {
	var in lint.Input
	if len(words) == 0 {
		words = []string{firstDir(std.Getenv("ELEMENTS_DIR"), "diskimage_builder/elements", "elements")}
		lib := firstDir(std.Getenv("LIB_DIR"), "diskimage_builder/lib")
		if _, err := os.Stat(lib); err == nil {
			source, err := lintSource(ctx, std, lib)
			if err != nil {
				return in, err
			}
			in.Lib = &source
		} else if std.Getenv("LIB_DIR") != "" {
			return in, fmt.Errorf("cannot check LIB_DIR: %w", err)
		}
	}
	for _, dir := range words {
		source, err := elementsSource(ctx, std, dir)
		if err != nil {
			return in, err
		}
		in.Elements = append(in.Elements, source)
	}
	// A single element stands beside others that it may use.
	for _, source := range in.Elements {
		if source.Only != nil {
			in.Context = append(in.Context, source.FS)
		}
	}
	for _, dir := range filepath.SplitList(std.Getenv("ELEMENTS_PATH")) {
		if dir != "" {
			in.Context = append(in.Context, os.DirFS(dir))
		}
	}
	in.Context = append(in.Context, elements.FS())
	text, err := os.ReadFile("tox.ini")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return in, fmt.Errorf("cannot read settings: %w", err)
	}
	in.Ignore = lint.ParseToxINI(string(text))
	return in, nil
}

// firstDir is what a variable says, else the first of some directories that
// exists, else the first of them.
func firstDir(value string, defaults ...string) string {
	if value != "" {
		return value
	}
	for _, dir := range defaults {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			return dir
		}
	}
	return defaults[0]
}

// Files and directories that an element has and a directory of elements has not.
var (
	elementFiles = regexp.MustCompile(`^(element-deps|element-provides|package-installs\.(yaml|json)|pkg-map|svc-map)$`)
	elementDirs  = regexp.MustCompile(`^(environment|root|extra-data|pre-install|install|post-install|post-root|block-device|pre-finalise|finalise|cleanup)\.d$`)
)

// elementsSource is a directory of elements, or the single element that dir is.
func elementsSource(ctx context.Context, std command.IO, dir string) (lint.Source, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return lint.Source{}, fmt.Errorf("cannot list elements: %w", err)
	}
	single := slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return e.IsDir() && elementDirs.MatchString(e.Name()) || e.Type().IsRegular() && elementFiles.MatchString(e.Name())
	})
	if !single {
		return lintSource(ctx, std, dir)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return lint.Source{}, err
	}
	parent := filepath.Dir(abs)
	if clean := filepath.Clean(dir); clean != "." && filepath.Base(clean) == filepath.Base(abs) {
		parent = filepath.Dir(clean)
	}
	source, err := lintSource(ctx, std, parent)
	source.Only = []string{filepath.Base(abs)}
	return source, err
}

// lintSource is a directory, without what git ignores in it.
func lintSource(ctx context.Context, std command.IO, dir string) (lint.Source, error) {
	st, err := os.Stat(dir)
	if err != nil {
		return lint.Source{}, fmt.Errorf("cannot check directory: %w", err)
	}
	if !st.IsDir() {
		return lint.Source{}, fmt.Errorf("cannot check %s: not a directory", dir)
	}
	source := lint.Source{Name: filepath.ToSlash(filepath.Clean(dir)), FS: os.DirFS(dir)}
	cmd := run.Cmd{Dir: dir, Env: std.Environ(),
		Argv: []string{"git", "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory", "--", "."}}
	out, err := cmd.Output(ctx)
	if ctx.Err() != nil {
		return source, ctx.Err()
	}
	if err != nil {
		return source, nil // no git, or not a work tree of it: nothing is ignored
	}
	ignored := map[string]bool{}
	for p := range strings.SplitSeq(string(out), "\x00") {
		if p != "" {
			ignored[path.Clean(p)] = true
		}
	}
	source.Ignored = func(p string) bool { return ignored[p] }
	return source, nil
}

var flake8Line = regexp.MustCompile(`^(.+?):(\d+):\d+: (.*)$`)

// flake8 checks the Python scripts, if there are any and it is installed.
func flake8(ctx context.Context, std command.IO, result *lint.Result) error {
	if len(result.Python) == 0 {
		return nil
	}
	cmd := run.Cmd{Env: std.Environ(), Argv: append([]string{"flake8", "--"}, result.Python...)}
	out, err := cmd.Output(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var failed *run.Error
	if errors.As(err, &failed) && failed.Exit == 127 {
		_, _ = fmt.Fprintf(std.Err, "dib-lint: note: flake8 is not installed: %d scripts in Python are not checked\n", len(result.Python))
		return nil
	}
	found := 0
	for line := range strings.Lines(string(out)) {
		m := flake8Line.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		at, aerr := strconv.Atoi(m[2])
		if aerr != nil {
			continue
		}
		result.Findings = append(result.Findings, lint.Finding{Path: m[1], Line: at, Check: lint.CheckPython, Message: m[3]})
		found++
	}
	if err != nil && found == 0 {
		return fmt.Errorf("cannot check scripts in Python: %w", err)
	}
	return nil
}
