package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/hook"
	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/run"
	"github.com/dib-builder/dib/internal/treepath"
)

// failure turns the error that ended a build into what the user is told: what
// failed, where, why, and what to do next.
func (b *builder) failure(err error) *event.Failure {
	f := &event.Failure{Message: err.Error(), Exit: 1}
	var re *run.Error
	if !errors.As(err, &re) {
		if errors.Is(err, unix.ENOSPC) {
			f.Hints = []string{spaceHint}
		}
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

// spaceHint is for builds that ran out of space, in memory or on disk.
const spaceHint = "there is no space left to build in: free memory, or build on disk with --no-tmpfs, where TMPDIR names a directory with more space"

func (b *builder) hints(re *run.Error) []string {
	again := "break=after-error " + b.commandLine()
	var hints []string
	if slices.ContainsFunc(re.Tail, func(line string) bool {
		return strings.Contains(line, unix.ENOSPC.Error()) || strings.Contains(line, "No space left on device")
	}) {
		hints = append(hints, spaceHint)
	}
	hints = append(hints, fmt.Sprintf("to get a shell where it failed: %s", again))
	if sideOf(re.Where.Phase) == "target" {
		hints = append(hints, "the shell is inside the image; break_outside_target=1 opens it on the host instead")
	}
	hints = append(hints, fmt.Sprintf("to stop before this phase: break=before-%s ...", re.Where.Phase))
	if b.plan.Recipe.Trace == 0 {
		hints = append(hints, "to trace every hook: -x")
	}
	if re.Exit == 127 || re.Exit == 126 {
		hints = append(hints, b.notStarted(re.Where))
	}
	return hints
}

// notStarted explains the statuses 126 and 127 of a hook.
func (b *builder) notStarted(at run.Where) string {
	if b.hooks != nil {
		file := path.Join(at.Phase+".d", at.Hook)
		content, err := b.hooks.ReadFile(file)
		words := strings.Fields(firstLine(content))
		if err == nil && len(words) > 0 && strings.HasPrefix(words[0], "#!/") {
			interpreter, root, where := strings.TrimPrefix(words[0], "#!"), "/", "on this machine"
			if sideOf(at.Phase) == "target" {
				root, where = place.TreeDir, "in the image"
			}
			if _, err := treepath.Resolve(root, interpreter); errors.Is(err, fs.ErrNotExist) {
				return fmt.Sprintf("its interpreter %s is not %s: install it in an earlier phase, or correct the first line of %s", interpreter, where, b.hooks.Source(file))
			}
		}
	}
	return "127 and 126 say that a command or the hook's interpreter is missing or not executable"
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(string(text), "\n")
	return line
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
