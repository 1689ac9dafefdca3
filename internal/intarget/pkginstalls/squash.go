package pkginstalls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
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
	var chosen []entry
	for _, e := range elements {
		entries, warnings, err := readInstalls(e, installsFiles...)
		if err != nil {
			return err
		}
		warn(io, warnings)
		for _, en := range entries {
			ok, err := en.selected(env)
			if err != nil {
				return err
			}
			if ok {
				chosen = append(chosen, en)
			}
		}
	}
	result, warnings := merge(chosen)
	warn(io, warnings)
	text, err := json.MarshalIndent(result, "", " ")
	if err != nil {
		return fmt.Errorf("internal error: package list: %w", err)
	}
	if err := os.WriteFile(operands[0], append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("cannot write package list: %w", err)
	}
	return nil
}

func warn(io command.IO, warnings []string) {
	for _, w := range warnings {
		fmt.Fprintf(io.Err, "WARNING: %s\n", w)
	}
}

// phasePackages is what one phase installs at its start and removes at its
// end, as pairs of package and element.
type phasePackages struct {
	Install   [][2]string `json:"install"`
	Uninstall [][2]string `json:"uninstall"`
}

// merge joins the selected entries of all elements, in their order. A package
// that any element installs for good is not removed in that phase. A removal in
// a later phase than the installation is done, with a warning.
func merge(entries []entry) (result map[string]*phasePackages, warnings []string) {
	type key struct{ phase, pkg string }
	wanted := map[key]bool{}
	wantedBy := map[string][]entry{}
	for _, e := range entries {
		if e.action == install {
			wanted[key{e.phase, e.pkg}] = true
			wantedBy[e.pkg] = append(wantedBy[e.pkg], e)
		}
	}
	result = map[string]*phasePackages{}
	for _, e := range entries {
		p := result[e.phase]
		if p == nil {
			p = &phasePackages{Install: [][2]string{}, Uninstall: [][2]string{}}
			result[e.phase] = p
		}
		record := [2]string{e.pkg, e.element}
		if e.action != uninstall {
			p.Install = append(p.Install, record)
		}
		if e.action == install || wanted[key{e.phase, e.pkg}] {
			continue
		}
		p.Uninstall = append(p.Uninstall, record)
		for _, w := range wantedBy[e.pkg] {
			if slices.Index(phases, w.phase) < slices.Index(phases, e.phase) {
				warnings = append(warnings, fmt.Sprintf("package %s, installed in %s by element %s (%s), is removed in %s by element %s (%s)",
					e.pkg, w.phase, w.element, w.at, e.phase, e.element, e.at))
			}
		}
	}
	return result, warnings
}
