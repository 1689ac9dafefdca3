// Package cli is the command line of dib: it picks a command by the name the
// program was called by or by its first argument, and turns arguments into
// values that the packages below understand.
package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/plan"
	"github.com/dib-builder/dib/internal/recipe"
)

// Version is dib's own version; release builds set it at link time.
var Version = "0.1.0-dev"

// exitUsage is the status for a command line that names no command. Commands
// under DIB's names have the statuses of DIB.
const exitUsage = 2

// Program is the whole program: what package cli knows itself plus what main
// hands to it.
type Program struct {
	// Create builds an image and returns the exit status. Without it there are
	// no commands to build images.
	Create func(ctx context.Context, std command.IO, rec recipe.Recipe) int
	// Plan prints what Create would do, as text or as JSON, and returns the exit
	// status. Without it there is no command "plan".
	Plan func(ctx context.Context, std command.IO, rec recipe.Recipe, json bool) int
	// MakePlan plans what Create would do. Without it, "layout" takes only files.
	MakePlan func(rec recipe.Recipe) (*plan.Plan, error)
	// Commands are further commands by name, such as those that run inside an
	// image. They cannot replace the commands of this package.
	Commands map[string]command.Func
}

// Main runs the command that argv asks for and returns the exit status of the
// process. The base name of argv[0] decides if it is that of a command;
// otherwise the first argument does.
func (p Program) Main(ctx context.Context, std command.IO, argv []string) int {
	table := p.table()
	if len(argv) == 0 {
		argv = []string{"dib"}
	}
	self, args := filepath.Base(argv[0]), argv[1:]
	if run, ok := table[self]; ok {
		return run(ctx, std, args)
	}
	if slices.Contains(dibNames, self) && self != "dib" {
		_, _ = fmt.Fprintf(std.Err, "%s: this command is not part of this version of dib; available: %s\n", self, strings.Join(names(table), ", "))
		return exitUsage
	}
	if len(args) == 0 {
		printHelp(std.Err, table)
		return exitUsage
	}
	name, args := args[0], args[1:]
	switch name {
	case "-h", "--help":
		name = "help"
	case "--version":
		name = "version"
	}
	if name == "help" {
		return p.help(ctx, std, table, args)
	}
	run, ok := table[name]
	if list := table[listCommand]; !ok && list != nil && isListArgument(name) {
		return list(ctx, std, argv[1:])
	}
	if !ok {
		_, _ = fmt.Fprintf(std.Err, "dib: unknown command %q%s; \"dib help\" lists all commands\n", name, didYouMean(name, append(names(table), "help")))
		return exitUsage
	}
	return run(ctx, std, args)
}

// help shows all commands, or the help text of one.
func (p Program) help(ctx context.Context, std command.IO, table map[string]command.Func, args []string) int {
	if len(args) == 0 {
		printHelp(std.Out, table)
		return 0
	}
	return p.Main(ctx, std, []string{"dib", args[0], "--help"})
}

func printHelp(w io.Writer, table map[string]command.Func) {
	_, _ = fmt.Fprintf(w, `Usage: dib COMMAND [ARGUMENT]...

dib builds disk images from elements. It is a drop-in replacement of
diskimage-builder: called as disk-image-create it is that command.

Commands:
`)
	for _, name := range names(table) {
		_, _ = fmt.Fprintf(w, "  %-22s %s\n", name, summaries[name])
	}
	_, _ = fmt.Fprintf(w, `  %-22s %s

"dib help COMMAND" shows the options of a command.
`, "help", "show this text")
}

// names lists the commands for people: those without a summary are for the
// scripts of elements only.
func names(table map[string]command.Func) []string {
	list := slices.Sorted(maps.Keys(table))
	return slices.DeleteFunc(list, func(name string) bool { return summaries[name] == "" })
}
