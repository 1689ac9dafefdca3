// Package pkginstalls installs and removes the packages that elements declare in
// their package-installs files.
package pkginstalls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/intarget/pkglist"
)

const squashUsage = `usage: package-installs-squash --elements "NAME..." --path DIR:... OUTFILE

Write what the package-installs files of the elements ask for to OUTFILE, as
JSON for package-installs-v2.
`

// Squash is the command package-installs-squash --elements NAMES --path DIRS
// OUTFILE: it writes what the elements ask for, phase by phase, for Install.
func Squash(_ context.Context, io command.IO, args []string) error {
	var names, path string
	var help bool
	operands, err := cmdline.Options{"--elements": &names, "--path": &path, "--help": &help, "-h": &help}.Parse(args, false)
	if help {
		fmt.Fprint(io.Out, squashUsage)
		return cmdline.ErrHelp
	}
	if err == nil && len(operands) != 1 {
		err = errors.New("exactly one output file is needed")
	}
	if err != nil {
		fmt.Fprint(io.Err, squashUsage)
		return &cmdline.ExitError{Code: 2, Err: err}
	}
	env := cmdline.EnvironmentOf(io)
	elements, err := findElements(strings.Fields(names), path, env)
	if err != nil {
		return err
	}
	// Whoever repairs lists wants to see everything that is wrong with them.
	var chosen []pkglist.Entry
	var wrong []error
	for _, e := range elements {
		entries, warnings, err := readLists(e, pkglist.Files...)
		for _, w := range warnings {
			warn(io, w.String())
		}
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		for _, en := range entries {
			ok, err := en.Selected(env)
			if err != nil {
				wrong = append(wrong, err)
			}
			if ok {
				chosen = append(chosen, en)
			}
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return err
	}
	result, warnings := pkglist.Merge(chosen)
	warn(io, warnings...)
	text, err := json.MarshalIndent(result, "", " ")
	if err != nil {
		return fmt.Errorf("internal error: package list: %w", err)
	}
	if err := os.WriteFile(operands[0], append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("cannot write package list: %w", err)
	}
	return nil
}

func warn(io command.IO, warnings ...string) {
	for _, w := range warnings {
		fmt.Fprintf(io.Err, "WARNING: %s\n", w)
	}
}
