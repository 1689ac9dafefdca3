package build

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/run"
)

// breakPoint opens a shell if the user asked for one at this point. root is
// the chroot for a shell in the image, empty for one outside.
func (b *builder) breakPoint(ctx context.Context, name, dir, root string, env []string) error {
	if !b.breaks[name] {
		return nil
	}
	return b.shell(ctx, name, b.env["break_cmd"], root, env)
}

// afterError opens the after-error shell, if asked for, and returns cause, or
// the shell's own failure, whose status then becomes the exit status.
func (b *builder) afterError(ctx context.Context, phase, root string, env []string, cause error) error {
	if !b.breaks["after-error"] || ctx.Err() != nil {
		return cause
	}
	if b.env["break_outside_target"] != "" {
		root, env = "", b.hostEnv(nil)
	}
	if err := b.shell(ctx, "after-error", b.env["break_cmd"], root, env); err != nil {
		return fmt.Errorf("%w (after %v)", err, cause)
	}
	return cause
}

// shell runs an interactive bash, or command through bash -c (D65), on the
// controlling terminal when there is one (D64).
func (b *builder) shell(ctx context.Context, name, command, root string, env []string) error {
	b.logf("Starting debug shell. Exit to resume building. At stage %s", name)
	bash := "bash"
	if root != "" {
		bash = "/bin/bash"
	}
	c := run.Cmd{Argv: []string{bash}, Root: root, Env: env, Log: b.log, Stdin: b.stdin}
	if root == "" {
		c.Dir = b.cwd
	}
	if command != "" {
		c.Argv = []string{bash, "-c", command}
	}
	if tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0); err == nil {
		defer tty.Close()
		c.Attach = tty
	}
	b.sink.Emit(event.Event{Kind: event.BreakStart, Step: name})
	err := c.Run(ctx)
	b.sink.Emit(event.Event{Kind: event.BreakEnd, Step: name})
	b.logf("Resuming")
	if command == "" && ctx.Err() == nil {
		return nil // the status of an interactive shell says nothing about the build
	}
	if err != nil {
		return fmt.Errorf("break point %s: %w", name, err)
	}
	return nil
}
