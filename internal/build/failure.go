package build

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/hook"
	"github.com/dib-builder/dib/internal/run"
)

// failure turns the error that ended a build into what the user is told: what
// failed, where, why, and what to do next.
func (b *builder) failure(err error) *event.Failure {
	f := &event.Failure{Message: err.Error(), Exit: 1}
	var re *run.Error
	if !errors.As(err, &re) {
		return f
	}
	f.Exit = re.Exit
	if f.Exit <= 0 {
		f.Exit = 1
	}
	f.Tail = re.Tail
	if re.Where.Phase == "" || re.Where.Hook == "" {
		return f // a program of the core: the error names it
	}
	f.Element, f.Phase, f.Hook, f.Side = re.Where.Element, re.Where.Phase, re.Where.Hook, sideOf(re.Where.Phase)
	f.Hints = b.hints(re)
	var ee *hook.EnvironmentError
	switch {
	case errors.As(err, &ee) && ee.File != "":
		f.Hook = path.Join(hook.EnvironmentDir, path.Base(ee.File))
		if b.hooks != nil && b.hooks.Owner(f.Hook) != "" {
			f.Element = b.hooks.Owner(f.Hook)
		}
	case ee == nil:
		f.Message = fmt.Sprintf("hook %s.d/%s of element %s failed: %s", f.Phase, f.Hook, f.Element, exitText(re.Exit))
	}
	return f
}

func (b *builder) hints(re *run.Error) []string {
	again := "break=after-error " + b.commandLine()
	hints := []string{fmt.Sprintf("to get a shell where it failed: %s", again)}
	if sideOf(re.Where.Phase) == "target" {
		hints = append(hints, "the shell is inside the image; break_outside_target=1 opens it on the host instead")
	}
	hints = append(hints, fmt.Sprintf("to stop before this phase: break=before-%s ...", re.Where.Phase))
	if b.plan.Recipe.Trace == 0 {
		hints = append(hints, "to trace every hook: -x")
	}
	if re.Exit == 127 || re.Exit == 126 {
		hints = append(hints, "127 and 126 say that a command or the hook's interpreter is missing or not executable")
	}
	return hints
}

func (b *builder) commandLine() string {
	name := "disk-image-create"
	if b.plan.Recipe.Ramdisk {
		name = "ramdisk-image-create"
	}
	return strings.TrimSpace(name + " " + run.QuoteArgv(b.plan.Recipe.Args))
}

func sideOf(phase string) string {
	switch phase {
	case "pre-install", "install", "post-install", "finalise":
		return "target"
	}
	return "host"
}

func exitText(status int) string {
	if status > 128 {
		return fmt.Sprintf("ended by signal %d (exit status %d)", status-128, status)
	}
	return fmt.Sprintf("exit status %d", status)
}

// interrupted reports whether the build ended because it was told to.
func interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.Canceled)
}
