package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/dib-builder/dib/internal/cli/getopt"
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/recipe"
)

const planUsage = `Usage: dib plan [-f text|json] [--ramdisk] ARGUMENT...
       dib plan [-f text|json] disk-image-create ARGUMENT...

Print what a build would do with the same arguments: its elements and why they
are there, hooks in order, the disk layout, the environment of hooks, and the
files it would write. Nothing is written, fetched or built, and no root is needed.

  -f, --format text|json  how to print it (default: text); "dib schema plan"
                          prints the schema of the JSON
      --ramdisk           plan a ramdisk, as ramdisk-image-create builds it
  -h, --help              show this text

These options stand before all others; everything after them is as for
disk-image-create ("dib help create" shows that). A whole command line that
begins with disk-image-create or ramdisk-image-create may follow as well.

Exit status: 0 success, 1 what a build would refuse, 2 wrong usage.
`

// planRequest is a command line of "dib plan".
type planRequest struct {
	json bool
	name string   // whose arguments follow: disk-image-create or ramdisk-image-create
	args []string // of that command
}

var errPlanUsage = errors.New("wrong usage")

// parsePlan reads the options of plan, which end where the arguments of the
// command begin whose work is planned: its options remain what they are.
func parsePlan(args []string) (planRequest, error) {
	req := planRequest{name: "disk-image-create"}
	for len(args) > 0 {
		arg := args[0]
		name, value, attached := strings.Cut(arg, "=")
		switch {
		case arg == "-h" || arg == "--help":
			return req, ErrHelp
		case arg == "--ramdisk":
			req.name = ramdiskCommand
			args = args[1:]
			continue
		case name == "--format" && attached:
			args = args[1:]
		case strings.HasPrefix(arg, "-f") && arg != "-f":
			value, args = arg[2:], args[1:]
		case arg == "-f" || arg == "--format":
			if len(args) < 2 {
				return req, fmt.Errorf("%w: %s needs a format, text or json", errPlanUsage, arg)
			}
			value, args = args[1], args[2:]
		case arg == "disk-image-create" || arg == ramdiskCommand || arg == "create":
			if arg == ramdiskCommand {
				req.name = arg
			}
			req.args = args[1:]
			return req, nil
		default:
			req.args = args
			return req, nil
		}
		if value != "text" && value != "json" {
			return req, fmt.Errorf("%w: unknown format %q%s: want text or json", errPlanUsage, value, didYouMean(value, []string{"text", "json"}))
		}
		req.json = value == "json"
	}
	return req, nil
}

// planCommand is "dib plan".
func (p Program) planCommand(ctx context.Context, std command.IO, args []string) int {
	const name = "dib plan"
	req, err := parsePlan(args)
	switch {
	case errors.Is(err, ErrHelp):
		_, _ = io.WriteString(std.Out, planUsage)
		return 0
	case err != nil:
		complain(std.Err, name, err)
		return exitUsage
	}
	host, err := hostFacts(ctx, std)
	if err != nil {
		complain(std.Err, name, err)
		return 1
	}
	rec, err := ParseCreate(req.name, req.args, host)
	switch {
	case errors.Is(err, ErrHelp):
		_, _ = io.WriteString(std.Out, planUsage)
		return 0
	case errors.Is(err, ErrVersion):
		_, _ = fmt.Fprintln(std.Out, recipe.CompatVersion)
		return 0
	case err != nil:
		complain(std.Err, name, misplaced(err, req.args))
		return 1
	}
	return p.Plan(ctx, std, rec, req.json)
}

// misplaced explains a failure that may come from an option of plan which
// stands among those of the other command.
func misplaced(err error, args []string) error {
	var syntax *getopt.Error
	if !errors.As(err, &syntax) {
		return err
	}
	for _, arg := range args {
		if strings.HasPrefix(arg, "--format") || strings.HasPrefix(arg, "-f") {
			return &getopt.Error{Messages: append(syntax.Messages, arg+" is an option of plan: put it first, before all other arguments")}
		}
	}
	return err
}
