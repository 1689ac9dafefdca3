package pkginstalls

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/intarget/pkglist"
	"github.com/dib-builder/dib/internal/run"
)

// LegacyInstall is the command package-installs -d DIR, of lists one line a
// package.
func LegacyInstall(ctx context.Context, io command.IO, args []string) error {
	return legacy(ctx, io, "package-installs", args, false)
}

// LegacyUninstall is the command package-uninstalls -d DIR.
func LegacyUninstall(ctx context.Context, io command.IO, args []string) error {
	return legacy(ctx, io, "package-uninstalls", args, true)
}

// legacy handles the deprecated lists DIR/package-installs-ELEMENT: the
// packages of all lines are installed, those marked "-" are removed. Removal
// calls install-packages even when nothing is listed. The exit status is that
// of install-packages.
func legacy(ctx context.Context, io command.IO, name string, args []string, remove bool) error {
	var dir string
	var help bool
	operands, err := cmdline.Options{"-d": &dir, "-h": &help}.Parse(args, false)
	if err != nil || help || dir == "" || len(operands) > 0 {
		fmt.Fprintf(io.Err, "usage: %s -d DIR\n", name)
		return &cmdline.ExitError{Code: 1, Err: err}
	}
	files, err := filepath.Glob(filepath.Join(globQuote(dir), pkglist.LegacyPrefix+"*"))
	if err != nil {
		return fmt.Errorf("cannot list %s: %w", dir, err)
	}
	m := newMapper(io)
	var packages []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("cannot read package list: %w", err)
		}
		var names []string
		for _, p := range pkglist.ParseLegacy(data) {
			if p.BuildOnly || !remove {
				names = append(names, p.Name)
			}
		}
		if len(names) == 0 {
			continue
		}
		element := strings.TrimPrefix(filepath.Base(file), pkglist.LegacyPrefix)
		mapped, err := m.names(ctx, element, names)
		if err != nil {
			fmt.Fprintf(io.Err, "%s: element %s: %v; the names are used as they are\n", name, element, err)
			mapped = names
		}
		packages = append(packages, mapped...)
	}
	argv := []string{"install-packages"}
	if remove {
		argv = append(argv, "-e")
	} else if len(packages) == 0 {
		return nil
	}
	err = runInstallPackages(ctx, io, append(argv, packages...))
	var failed *run.Error
	if errors.As(err, &failed) && failed.Exit > 0 {
		return &cmdline.ExitError{Code: failed.Exit, Err: err}
	}
	return err
}

// globQuote takes the meaning from pattern characters of a directory name.
func globQuote(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}
