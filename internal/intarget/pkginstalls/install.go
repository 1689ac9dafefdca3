package pkginstalls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/intarget/jsonpos"
	"github.com/dib-builder/dib/internal/intarget/pkglist"
	"github.com/dib-builder/dib/internal/run"
)

const installUsage = `usage: package-installs-v2 --phase PHASE [--uninstall] [--noop] FILE

Install or remove the packages that FILE lists for PHASE.
`

// Install is the command package-installs-v2 --phase PHASE [--uninstall]
// [--noop] FILE: it installs or removes what Squash has written to FILE.
func Install(ctx context.Context, io command.IO, args []string) error {
	var phase string
	var remove, noop, help bool
	operands, err := cmdline.Options{
		"--phase": &phase, "--uninstall": &remove, "--noop": &noop, "-n": &noop,
		"--help": &help, "-h": &help,
	}.Parse(args, false)
	if help {
		fmt.Fprint(io.Out, installUsage)
		return cmdline.ErrHelp
	}
	if err == nil && (phase == "" || len(operands) != 1) {
		err = errors.New("a phase and exactly one file are needed")
	}
	if err != nil {
		fmt.Fprint(io.Err, installUsage)
		return &cmdline.ExitError{Code: 2, Err: err}
	}
	records, err := recordsOf(operands[0], phase, remove)
	if err != nil {
		return err
	}
	if records == nil {
		verb := "install"
		if remove {
			verb = "uninstall"
		}
		fmt.Fprintf(io.Out, "Nothing to %s\n", verb)
		return nil
	}
	packages, err := mapRecords(ctx, io, records, noop)
	if err != nil {
		return err
	}
	argv := []string{"install-packages"}
	if remove {
		argv = append(argv, "-e")
	}
	argv = append(argv, packages...)
	if noop {
		fmt.Fprintln(io.Out, run.QuoteArgv(argv))
		return nil
	}
	return runInstallPackages(ctx, io, argv)
}

// recordsOf reads the list of one phase. It is nil when the file has none,
// which is not the same as an empty list.
func recordsOf(file, phase string, remove bool) ([][2]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read package list: %w", err)
	}
	var phases map[string]*pkglist.Lists
	if err := json.Unmarshal(data, &phases); err != nil {
		return nil, jsonpos.Error(file, data, err)
	}
	p := phases[phase]
	switch {
	case p == nil:
		return nil, nil
	case remove:
		return p.Uninstall, nil
	}
	return p.Install, nil
}

// mapRecords maps the packages of each element with its map, elements and
// packages in order of first appearance, and drops repetitions. With noop,
// names that cannot be mapped stay as they are.
func mapRecords(ctx context.Context, io command.IO, records [][2]string, noop bool) ([]string, error) {
	var order []string
	byElement := map[string][]string{}
	for _, r := range records {
		if _, ok := byElement[r[1]]; !ok {
			order = append(order, r[1])
		}
		byElement[r[1]] = append(byElement[r[1]], r[0])
	}
	m := newMapper(io)
	var packages []string
	for _, element := range order {
		names := byElement[element]
		mapped, err := m.names(ctx, element, names)
		if err != nil {
			if !noop {
				return nil, fmt.Errorf("element %s: %w", element, err)
			}
			fmt.Fprintf(io.Err, "package-installs-v2: element %s: %v\n", element, err)
			mapped = names
		}
		if m.env.Trace() > 1 {
			fmt.Fprintf(io.Out, "Map of element %s: %q -> %q\n", element, names, mapped)
		}
		for _, name := range mapped {
			if !slices.Contains(packages, name) {
				packages = append(packages, name)
			}
		}
	}
	return packages, nil
}

// runInstallPackages runs install-packages and echoes what it says.
func runInstallPackages(ctx context.Context, io command.IO, argv []string) error {
	fmt.Fprintf(io.Out, "Running: %s\n", run.QuoteArgv(argv))
	err := run.Cmd{Argv: argv, Env: io.Environ(), Log: func(line []byte) {
		fmt.Fprintf(io.Out, "> %s\n", line)
	}}.Run(ctx)
	status := 0
	var failed *run.Error
	if errors.As(err, &failed) {
		status = failed.Exit
	}
	if err == nil || failed != nil {
		fmt.Fprintf(io.Out, "install-packages returned %d\n", status)
	}
	if err != nil {
		return fmt.Errorf("cannot change packages: %w", err)
	}
	return nil
}
