package hook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/run"
)

// RunParts is the command dib-run-parts: it runs the hooks of a directory as a
// phase does.
//
//	dib-run-parts [--list] DIRECTORY
//
// The environment files of DIRECTORY/../environment.d are sourced first. The
// first hook that fails ends the run and gives the exit status; 1 is a
// mistake in the call or a directory that cannot be read.
func RunParts(ctx context.Context, io command.IO, args []string) int {
	p := parts{io: io, now: time.Now}
	return p.main(ctx, args)
}

var _ command.Func = RunParts

type parts struct {
	io  command.IO
	now func() time.Time
}

// LogPrefix begins every line that reports on the running of hooks; people search logs for it.
const LogPrefix = "dib-run-parts "

const runPartsUsage = "usage: dib-run-parts [--list] DIRECTORY"

func (p parts) main(ctx context.Context, args []string) int {
	list, dir, err := parseRunParts(args)
	if err != nil {
		p.say(err.Error())
		fmt.Fprintln(p.io.Err, runPartsUsage)
		return 1
	}
	hooks, ignored, err := Select(dir, p.io.Getenv("RUN_PARTS_REGEX"))
	if err != nil {
		p.say(err.Error())
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			fmt.Fprintln(p.io.Err, runPartsUsage)
		}
		return 1
	}
	for _, i := range ignored {
		p.say("warning: " + i.Warning(dir))
	}
	if list {
		for _, name := range hooks {
			fmt.Fprintln(p.io.Out, member(dir, name))
		}
		return 0
	}
	return p.run(ctx, dir, hooks)
}

func parseRunParts(args []string) (list bool, dir string, err error) {
	var dirs []string
	options := true
	for _, arg := range args {
		switch {
		case options && arg == "--":
			options = false
		case options && arg == "--list":
			list = true
		case options && strings.HasPrefix(arg, "-"):
			return false, "", fmt.Errorf("unknown option %q", arg)
		default:
			dirs = append(dirs, arg)
		}
	}
	switch len(dirs) {
	case 0:
		return false, "", errors.New("no directory given")
	case 1:
		return list, dirs[0], nil
	}
	return false, "", fmt.Errorf("more than one directory given: %s", strings.Join(dirs, ", "))
}

// member joins without cleaning: hooks see their name as the caller wrote it.
func member(dir, name string) string { return strings.TrimRight(dir, "/") + "/" + name }

func (p parts) run(ctx context.Context, dir string, hooks []string) int {
	around, err := p.environment(ctx, dir)
	if err != nil {
		p.say(err.Error())
		return exitStatus(err)
	}
	var timings []Timing
	for _, name := range hooks {
		file := member(dir, name)
		p.say("Running " + file)
		start := p.now()
		err := Run(ctx, around.Apply(p.command(file)))
		timings = append(timings, Timing{name, p.now().Sub(start).Seconds()})
		if err != nil {
			status := exitStatus(err)
			p.say(fmt.Sprintf("%s failed with exit status %d", file, status))
			p.profile(dir, timings)
			return status
		}
		p.say(file + " completed")
	}
	p.profile(dir, timings)
	return 0
}

func (p parts) profile(dir string, timings []Timing) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		abs = dir
	}
	for _, line := range Profile(filepath.Base(abs), timings) {
		p.errLine([]byte(line))
	}
}

// environment sources the files beside the hooks' directory, where that really
// is when dir is a link.
func (p parts) environment(ctx context.Context, hooks string) (Surroundings, error) {
	hooks, err := filepath.EvalSymlinks(hooks)
	if err != nil {
		return Surroundings{}, fmt.Errorf("cannot find environment files: %w", err)
	}
	dir := filepath.Join(hooks, "..", EnvironmentDir)
	names, err := EnvironmentFiles(dir)
	if err != nil {
		return Surroundings{}, err
	}
	env := p.io.Environ()
	if len(names) == 0 {
		return Surroundings{Env: env}, nil
	}
	return Surround(ctx, run.Cmd{
		Env:        env,
		ShareGroup: true,
		Stdout:     p.io.Out,
		Log:        p.errLine,
	}, dir, names)
}

func (p parts) command(file string) run.Cmd {
	// Hooks may ask the person at the terminal, hence ShareGroup.
	c := run.Cmd{Argv: []string{file}, ShareGroup: true}
	if !strings.Contains(file, "/") {
		c.Argv[0] = "./" + file
	}
	c.Stdin, c.Stdout, c.Log = p.io.In, p.io.Out, p.errLine
	return c
}

func (p parts) errLine(line []byte) { fmt.Fprintf(p.io.Err, "%s\n", line) }

func (p parts) say(line string) { p.errLine([]byte(LogPrefix + line)) }

// Run runs a hook. A file in no format the kernel knows, that is a script
// without "#!", is read by bash, as a shell that starts it would do.
func Run(ctx context.Context, c run.Cmd) error {
	err := c.Run(ctx)
	if errors.Is(err, syscall.ENOEXEC) {
		bash := "bash"
		if c.Root != "" {
			bash = "/bin/bash"
		}
		c.Argv = append([]string{bash}, c.Argv...)
		return c.Run(ctx)
	}
	return err
}

func exitStatus(err error) int {
	var e *run.Error
	switch {
	case errors.As(err, &e):
		return e.Exit
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return 130
	}
	return 1
}
