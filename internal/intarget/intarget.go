// Package intarget holds the commands that elements call while an image is
// being built: on the host through $TMP_HOOKS_PATH/bin and inside the chroot
// through /usr/local/bin. Names, options and exit statuses are those of the
// elements that own the commands; other elements rely on them.
package intarget

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dib-builder/dib/internal/command"
)

// Commands returns every command of the package by name.
func Commands() map[string]command.Func {
	return map[string]command.Func{
		"cache-url":               adapt("cache-url", cacheURL),
		"copy-programs":           adapt("copy-programs", copyPrograms),
		"early-packages":          adapt("early-packages", earlyPackages),
		"install-static":          adapt("install-static", installStatic),
		"package-installs":        adapt("package-installs", legacyInstalls),
		"package-installs-squash": adapt("package-installs-squash", squashInstalls),
		"package-installs-v2":     adapt("package-installs-v2", runInstalls),
		"package-uninstalls":      adapt("package-uninstalls", legacyUninstalls),
		"pkg-map":                 adapt("pkg-map", pkgMap),
		"pkg-map-check":           adapt("pkg-map-check", pkgMapCheck),
	}
}

// ExitError is a failure whose exit status callers of the command decide on.
type ExitError struct {
	Code int   // exit status, 1 to 255
	Err  error // nil when the command has already said what is wrong
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// exitWith makes an ExitError from a format and its values.
func exitWith(code int, format string, args ...any) error {
	return &ExitError{Code: code, Err: fmt.Errorf(format, args...)}
}

// errHelp ends a command after its usage text was printed on request.
var errHelp = errors.New("help requested")

// adapt turns a function that returns an error into a command: the error goes
// to standard error behind the command's name, and becomes the exit status.
func adapt(name string, f func(context.Context, command.IO, []string) error) command.Func {
	return func(ctx context.Context, io command.IO, args []string) int {
		err := f(ctx, io, args)
		var exit *ExitError
		switch {
		case err == nil, errors.Is(err, errHelp):
			return 0
		case errors.As(err, &exit):
			if exit.Err != nil {
				fmt.Fprintf(io.Err, "%s: %v\n", name, exit.Err)
			}
			return exit.Code
		}
		fmt.Fprintf(io.Err, "%s: %v\n", name, err)
		return 1
	}
}

// options maps the spelling of an option ("--phase", "-n") to where its value
// goes: a *string takes an argument, a *bool does not.
type options map[string]any

// unknownOption is returned by parse for an option that is not in the table.
type unknownOption string

func (o unknownOption) Error() string { return fmt.Sprintf("unknown option %q", string(o)) }

// parse reads options anywhere among args, as "--name value" or
// "--name=value", and returns the operands. After "--" all are operands. When
// keepUnknown is set, an option that is not in the table is an operand too.
func (o options) parse(args []string, keepUnknown bool) ([]string, error) {
	var operands []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return append(operands, args[i+1:]...), nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			operands = append(operands, arg)
			continue
		}
		name, value, attached := strings.Cut(arg, "=")
		switch target := o[name].(type) {
		case *bool:
			if attached {
				return nil, fmt.Errorf("option %s takes no value", name)
			}
			*target = true
		case *string:
			if !attached {
				i++
				if i == len(args) {
					return nil, fmt.Errorf("option %s needs a value", name)
				}
				value = args[i]
			}
			*target = value
		default:
			if !keepUnknown {
				return nil, unknownOption(arg)
			}
			operands = append(operands, arg)
		}
	}
	return operands, nil
}

// environment is a process environment by name.
type environment map[string]string

// environmentOf reads the environment of a command. Of a repeated name the
// last value counts, as for a shell.
func environmentOf(io command.IO) environment {
	env := environment{}
	for _, kv := range io.Environ() {
		if name, value, ok := strings.Cut(kv, "="); ok {
			env[name] = value
		}
	}
	return env
}

// trace is the debug level, DIB_DEBUG_TRACE; what is not a number counts as 0.
func (e environment) trace() int {
	n := 0
	if _, err := fmt.Sscanf(e["DIB_DEBUG_TRACE"], "%d", &n); err != nil {
		return 0
	}
	return n
}
