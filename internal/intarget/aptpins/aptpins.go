// Package aptpins makes apt keep to the versions that a package manifest of an
// earlier build names.
package aptpins

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/intarget/jsonpos"
)

// installed is the status, as dpkg abbreviates it, of a package that is there.
const installed = "ii"

// Pins returns the content of an apt preferences file that pins every package
// which a manifest, read from the named file, lists as installed. Without a
// status a package counts as installed.
func Pins(file string, data []byte) (string, error) {
	var manifest struct {
		Packages []struct {
			Package, Version string
			Status           *string
		}
	}
	if err := json.Unmarshal(data, &manifest); err != nil {
		return "", jsonpos.Error(file, data, err)
	}
	var b strings.Builder
	for i, p := range manifest.Packages {
		if p.Status != nil && strings.TrimSpace(*p.Status) != installed {
			continue
		}
		for what, value := range map[string]string{"name": p.Package, "version": p.Version} {
			if value == "" || strings.ContainsAny(value, " \t\r\n") {
				return "", fmt.Errorf("%s: package %d of the list has the unusable %s %q", file, i+1, what, value)
			}
		}
		fmt.Fprintf(&b, "Package: %s\nPin: version %s\nPin-Priority: 1001\n\n", p.Package, p.Version)
	}
	return b.String(), nil
}

// Run is the command apt-pins MANIFEST: it prints what Pins makes of the file.
func Run(_ context.Context, io command.IO, args []string) error {
	if len(args) != 1 {
		return cmdline.Exitf(2, "exactly one manifest is needed")
	}
	data, err := os.ReadFile(args[0])
	if err != nil {
		return fmt.Errorf("cannot read package manifest: %w", err)
	}
	pins, err := Pins(args[0], data)
	if err != nil {
		return fmt.Errorf("cannot pin versions: %w", err)
	}
	fmt.Fprint(io.Out, pins)
	return nil
}
