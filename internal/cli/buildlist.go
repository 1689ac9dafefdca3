package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/cli/getopt"
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/finding"
	"github.com/dib-builder/dib/internal/recipe/buildlist"
)

const listCommand = "diskimage-builder"

const listUsage = "Usage: diskimage-builder [--dry-run] [--stop-on-failure] [-h] FILE...\n"

const listHelp = listUsage + `
Build the images that YAML files list, one after the other.

  --dry-run          print the commands only
  --stop-on-failure  stop at the first build that fails
  -h, --help         show this text

A file is a list of images, each a mapping with the keys below. Entries of the
same imagename, in all files, are one image: lists grow, mappings are updated,
other values are replaced. An entry without imagename belongs to the image of
the entry before. "dib schema" prints a JSON Schema for editors.

Exit status: 0 success, 1 a bad file or a failed build, 2 wrong usage.

Keys:

`

// maxListFile is more than any list of images needs, in bytes.
const maxListFile = 4 << 20

// maxFindings is how many warnings or mistakes are shown at once.
const maxFindings = 100

var listOptions = []getopt.Option{{Long: "dry-run"}, {Long: "stop-on-failure"}, {Short: 'h', Long: "help"}}

func knownTypes() buildlist.Options { return buildlist.Options{Types: supportedTypes()} }

// listBuilds is diskimage-builder: it builds what YAML files list.
func (p Program) listBuilds(ctx context.Context, std command.IO, args []string) int {
	matches, names, err := getopt.Parse(listOptions, args, false)
	given := map[string]bool{}
	for _, m := range matches {
		given[m.Option.Long] = true
	}
	if given["help"] {
		_, _ = io.WriteString(std.Out, listHelp+buildlist.Help(supportedTypes()))
		return 0
	}
	if err == nil && len(names) == 0 {
		err = errors.New("no file given")
	}
	if err != nil {
		_, _ = io.WriteString(std.Err, listUsage)
		complain(std.Err, listCommand, err)
		return exitUsage
	}
	builds, err := readList(std.Err, names)
	if err != nil {
		return 1
	}
	return p.runBuilds(ctx, std, builds, given["dry-run"], given["stop-on-failure"])
}

// readList reads the files and prints what is wrong, or only doubtful, in any of them.
func readList(w io.Writer, names []string) ([]buildlist.Build, error) {
	var files []buildlist.File
	var unreadable finding.List
	for _, name := range names {
		text, err := readListFile(name)
		if err != nil {
			unreadable = append(unreadable, finding.Finding{Source: name, Message: err.Error()})
			continue
		}
		files = append(files, buildlist.File{Name: name, Text: text})
	}
	builds, wrong, doubtful := buildlist.Read(files, knownTypes())
	for i := range doubtful {
		doubtful[i].Message = "warning: " + doubtful[i].Message
	}
	explain(w, doubtful, "warnings")
	wrong = append(unreadable, wrong...)
	explain(w, wrong, "mistakes")
	return builds, wrong.Err()
}

// explain prints findings, of very many only the first.
func explain(w io.Writer, list finding.List, what string) {
	if len(list) == 0 {
		return
	}
	shown := list[:min(len(list), maxFindings)]
	_, _ = fmt.Fprintln(w, shown.Explain())
	if more := len(list) - len(shown); more > 0 {
		_, _ = fmt.Fprintf(w, "%s: %d more %s\n", listCommand, more, what)
	}
}

func readListFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read: %w", withoutPath(err))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxListFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read: %w", withoutPath(err))
	case len(text) > maxListFile:
		return nil, fmt.Errorf("cannot read: more than %d MiB, which is no list of images", maxListFile>>20)
	}
	return text, nil
}

// withoutPath is the cause of an error about a file that is named already.
func withoutPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// runBuilds prints and runs builds, each as its command would run, and goes on
// after a failure unless told to stop.
func (p Program) runBuilds(ctx context.Context, std command.IO, builds []buildlist.Build, dryRun, stop bool) int {
	failed := 0
	for _, b := range builds {
		own := withEnv(std, b.Env)
		_, _ = fmt.Fprintf(std.Err, "%s\n\n", b.Line(environMap(own.Environ())))
		if dryRun {
			continue
		}
		status := p.createCommand(b.Command())(ctx, own, b.Args)
		if ctx.Err() != nil {
			return max(status, 1)
		}
		if status == 0 {
			continue
		}
		failed++
		complain(std.Err, listCommand, fmt.Errorf("cannot build %q: %s ended with exit status %d", b.Name, b.Command(), status))
		if stop {
			break
		}
	}
	if failed > 0 {
		complain(std.Err, listCommand, fmt.Errorf("%d of %d builds failed", failed, len(builds)))
		return 1
	}
	return 0
}

// withEnv is std with more variables in its environment.
func withEnv(std command.IO, more []buildlist.Variable) command.IO {
	env := environMap(std.Environ())
	for _, v := range more {
		env[v.Name] = v.Value
	}
	std.Getenv = func(name string) string { return env[name] }
	std.Environ = func() []string {
		var words []string
		for _, name := range slices.Sorted(maps.Keys(env)) {
			words = append(words, name+"="+env[name])
		}
		return words
	}
	return std
}

// isListArgument tells whether an argument of "dib" belongs to diskimage-builder,
// whose other name DIB's release notes promise that to be: a file, by its
// ending, or one of its options.
func isListArgument(arg string) bool {
	if strings.HasSuffix(arg, ".yaml") || strings.HasSuffix(arg, ".yml") {
		return true
	}
	return arg == "--dry-run" || arg == "--stop-on-failure"
}
