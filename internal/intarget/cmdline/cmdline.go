// Package cmdline is what the commands inside the target share as programs:
// how they read options and the environment, and how they fail.
package cmdline

import (
	"context"
	"errors"
	"fmt"

	"github.com/dib-builder/dib/internal/command"
)

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

// Exitf makes an ExitError from an exit status and a format with its values, as
// of fmt.Errorf.
func Exitf(code int, format string, args ...any) error {
	return &ExitError{Code: code, Err: fmt.Errorf(format, args...)}
}

// ErrHelp ends a command after its usage text was printed on request; the exit
// status is 0.
var ErrHelp = errors.New("help requested")

// Func is what a command does with its arguments, without its name.
type Func func(ctx context.Context, io command.IO, args []string) error

// Command makes a command of what it does: an error goes to standard error
// behind the command's name and becomes the exit status, that of an ExitError
// or else 1.
func Command(name string, do Func) command.Func {
	return func(ctx context.Context, io command.IO, args []string) int {
		err := do(ctx, io, args)
		var exit *ExitError
		switch {
		case err == nil, errors.Is(err, ErrHelp):
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
