// Package command is the shape of everything the dib binary can be called as.
package command

import (
	"context"
	"io"
)

// IO is what a command may touch of the process it runs in.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Environ  func() []string
}

// Func runs a command with its arguments (without its name) and returns the
// exit status of the process.
type Func func(ctx context.Context, io IO, args []string) int
