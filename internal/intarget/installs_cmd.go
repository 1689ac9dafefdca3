package intarget

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/run"
)

// installsFiles are the names of an element's declarative package lists, in
// the order in which they are read.
var installsFiles = []string{"package-installs.json", "package-installs.yaml"}

// readInstalls reads those of the named files that exist in an element's directory.
func readInstalls(e element, names ...string) (entries []entry, warnings []string, err error) {
	for _, name := range names {
		file := filepath.Join(e.dir, name)
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("cannot read package list of element %s: %w", e.name, err)
		}
		more, warn, err := parseInstalls(file, e.name, data)
		if err != nil {
			return nil, nil, err
		}
		entries, warnings = append(entries, more...), append(warnings, warn...)
	}
	return entries, warnings, nil
}

const squashUsage = `usage: package-installs-squash --elements "NAME..." --path DIR:... OUTFILE

Write what the package-installs files of the elements ask for to OUTFILE, as
JSON for package-installs-v2.
`

// squashInstalls is the command package-installs-squash.
func squashInstalls(_ context.Context, io command.IO, args []string) error {
	var names, path string
	var help bool
	operands, err := options{"--elements": &names, "--path": &path, "--help": &help, "-h": &help}.parse(args, false)
	if help {
		fmt.Fprint(io.Out, squashUsage)
		return errHelp
	}
	if err == nil && len(operands) != 1 {
		err = errors.New("exactly one output file is needed")
	}
	if err != nil {
		fmt.Fprint(io.Err, squashUsage)
		return &ExitError{Code: 2, Err: err}
	}
	env := environmentOf(io)
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
	result, warnings := squash(chosen)
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

const runInstallsUsage = `usage: package-installs-v2 --phase PHASE [--uninstall] [--noop] FILE

Install or remove the packages that FILE lists for PHASE.
`

// runInstalls is the command package-installs-v2.
func runInstalls(ctx context.Context, io command.IO, args []string) error {
	var phase string
	var remove, noop, help bool
	operands, err := options{
		"--phase": &phase, "--uninstall": &remove, "--noop": &noop, "-n": &noop,
		"--help": &help, "-h": &help,
	}.parse(args, false)
	if help {
		fmt.Fprint(io.Out, runInstallsUsage)
		return errHelp
	}
	if err == nil && (phase == "" || len(operands) != 1) {
		err = errors.New("a phase and exactly one file are needed")
	}
	if err != nil {
		fmt.Fprint(io.Err, runInstallsUsage)
		return &ExitError{Code: 2, Err: err}
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
	var lists map[string]*phasePackages
	if err := json.Unmarshal(data, &lists); err != nil {
		return nil, jsonError(file, data, err)
	}
	p := lists[phase]
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
	env := environmentOf(io)
	own := ownsCommand(env, "pkg-map")
	var packages []string
	for _, element := range order {
		names := byElement[element]
		var mapped []string
		var err error
		if own {
			mapped, err = mapping{
				element: element, distro: env["DISTRO_NAME"], release: env["DIB_RELEASE"], missing: true,
			}.apply(names)
		} else {
			mapped, err = foreignPkgMap(ctx, io, env, element, names)
		}
		if err != nil {
			if !noop {
				return nil, fmt.Errorf("element %s: %w", element, err)
			}
			fmt.Fprintf(io.Err, "package-installs-v2: element %s: %v\n", element, err)
			mapped = names
		}
		if env.trace() > 1 {
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

// foreignPkgMap maps with the pkg-map command of an element that replaces the
// built-in one. Result lines start with the prefix "-", all else is log.
func foreignPkgMap(ctx context.Context, io command.IO, env environment, element string, names []string) ([]string, error) {
	argv := []string{"pkg-map", "--prefix", "-", "--missing-ok", "--element", element}
	if env.trace() > 1 {
		argv = append(argv, "--debug")
	}
	var mapped, log []string
	err := run.Cmd{Argv: append(argv, names...), Env: io.Environ(), Log: func(line []byte) {
		if name, ok := strings.CutPrefix(string(line), "-"); ok {
			mapped = append(mapped, name)
		} else {
			log = append(log, string(line))
		}
	}}.Run(ctx)
	if err != nil {
		for _, line := range log {
			fmt.Fprintln(io.Err, line)
		}
	}
	return mapped, err
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

// legacyInstalls is the command package-installs -d DIR.
func legacyInstalls(ctx context.Context, io command.IO, args []string) error {
	return legacy(ctx, io, "package-installs", args, false)
}

// legacyUninstalls is the command package-uninstalls -d DIR.
func legacyUninstalls(ctx context.Context, io command.IO, args []string) error {
	return legacy(ctx, io, "package-uninstalls", args, true)
}

// legacy handles the deprecated lists DIR/package-installs-ELEMENT: the
// packages of all lines are installed, those marked "-" are removed.
func legacy(ctx context.Context, io command.IO, name string, args []string, remove bool) error {
	var dir string
	var help bool
	operands, err := options{"-d": &dir, "-h": &help}.parse(args, false)
	if err != nil || help || dir == "" || len(operands) > 0 {
		fmt.Fprintf(io.Err, "usage: %s -d DIR\n", name)
		return &ExitError{Code: 1, Err: err}
	}
	files, err := filepath.Glob(filepath.Join(globQuote(dir), "package-installs-*"))
	if err != nil {
		return fmt.Errorf("cannot list %s: %w", dir, err)
	}
	env := environmentOf(io)
	var packages []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("cannot read package list: %w", err)
		}
		names := parseLegacy(data, remove)
		element := strings.TrimPrefix(filepath.Base(file), "package-installs-")
		mapped, err := mapping{
			element: element, distro: env["DISTRO_NAME"], release: env["DIB_RELEASE"], missing: true,
		}.apply(names)
		if err != nil {
			fmt.Fprintf(io.Err, "%s: element %s: %v; the names are used as they are\n", name, element, err)
			mapped = names
		}
		packages = append(packages, mapped...)
	}
	argv := []string{"install-packages"}
	if remove {
		argv = append(argv, "-e")
	}
	if len(packages) == 0 {
		return nil
	}
	return runInstallPackages(ctx, io, append(argv, packages...))
}

// parseLegacy returns the packages of a deprecated list: all of them, or those
// that are to be removed.
func parseLegacy(data []byte, removeOnly bool) []string {
	var names []string
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, len(data)+1)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, temporary := strings.CutPrefix(line, "-")
		if name != "" && (temporary || !removeOnly) {
			names = append(names, name)
		}
	}
	return names
}

// globQuote takes the meaning from pattern characters of a directory name.
func globQuote(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}
