package pkginstalls

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/intarget/pkgmap"
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
// packages of all lines are installed, those marked "-" are removed.
func legacy(ctx context.Context, io command.IO, name string, args []string, remove bool) error {
	var dir string
	var help bool
	operands, err := cmdline.Options{"-d": &dir, "-h": &help}.Parse(args, false)
	if err != nil || help || dir == "" || len(operands) > 0 {
		fmt.Fprintf(io.Err, "usage: %s -d DIR\n", name)
		return &cmdline.ExitError{Code: 1, Err: err}
	}
	files, err := filepath.Glob(filepath.Join(globQuote(dir), "package-installs-*"))
	if err != nil {
		return fmt.Errorf("cannot list %s: %w", dir, err)
	}
	env := cmdline.EnvironmentOf(io)
	var packages []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("cannot read package list: %w", err)
		}
		names := parseLegacy(data, remove)
		element := strings.TrimPrefix(filepath.Base(file), "package-installs-")
		mapped, err := pkgmap.Mapping{
			Element: element, Distro: env["DISTRO_NAME"], Release: env["DIB_RELEASE"], MissingOK: true,
		}.Apply(names)
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
