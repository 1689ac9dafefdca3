package hook

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/dib-builder/dib/internal/run"
)

// Surroundings are what environment files leave to the hooks of a phase. DIB
// runs hooks as children of the shell that sourced the files, so hooks inherit
// more than variables.
type Surroundings struct {
	Env []string
	// Dir is the working directory that a file changed to with cd; empty if none did.
	Dir string
	// Prelude are shell commands that set the file mode mask and the resource
	// limits that files changed; empty if they changed none.
	Prelude string
}

// Surround sources the named files of dir as Environment does.
func Surround(ctx context.Context, c run.Cmd, dir string, names []string) (Surroundings, error) {
	data, err := source(ctx, c, dir, names, false)
	if err != nil {
		return Surroundings{}, err
	}
	s := Surroundings{Env: parseEnvironment(data)}
	before, after := stateOf(data, stateBefore), stateOf(data, stateAfter)
	if after.dir != before.dir {
		s.Dir = after.dir
	}
	s.Prelude = prelude(before, after)
	return s, nil
}

// Apply makes a command of a hook start in these surroundings.
func (s Surroundings) Apply(c run.Cmd) run.Cmd {
	c.Env = s.Env
	if s.Dir != "" {
		c.Dir = s.Dir
	}
	if s.Prelude != "" {
		bash := "bash"
		if c.Root != "" {
			bash = "/bin/bash"
		}
		c.Argv = append([]string{bash, "-c", s.Prelude + `exec "$@"`, "bash"}, c.Argv...)
	}
	return c
}

// Marks of the records in which the script prints the state of its shell. No
// variable is called that: they begin with "=".
const (
	stateBefore = "=before\n"
	stateAfter  = "=after\n"
)

// stateScript prints the state of the shell to fd with built-in commands alone,
// because processes would cost more than the hooks of a small phase.
func stateScript(mark string, fd int) string {
	return fmt.Sprintf("{ builtin printf %%s $'%s'; builtin umask; builtin pwd -P; builtin ulimit -S -a; builtin echo hard; builtin ulimit -H -a; builtin printf '\\0'; } >&%d\n",
		strings.ReplaceAll(mark, "\n", `\n`), fd)
}

// shellState is the state of a shell that its children inherit.
type shellState struct {
	mask, dir  string
	soft, hard []limit
}

type limit struct{ option, value string }

// limitForm is a line of "ulimit -a": the option stands last in parentheses.
var limitForm = regexp.MustCompile(`\((?:[^()]*, )?-(\w)\)\s+(\S+)$`)

// stateOf reads one record that stateScript printed; it is empty when there is
// none, as when the directory is gone.
func stateOf(data []byte, mark string) shellState {
	var s shellState
	_, rest, found := strings.Cut("\x00"+string(data), "\x00"+mark)
	record, _, closed := strings.Cut(rest, "\x00")
	lines := strings.Split(record, "\n")
	if !found || !closed || len(lines) < 2 {
		return s
	}
	s.mask, s.dir = lines[0], lines[1]
	list := &s.soft
	for _, line := range lines[2:] {
		if line == "hard" {
			list = &s.hard
			continue
		}
		if m := limitForm.FindStringSubmatch(line); m != nil {
			*list = append(*list, limit{m[1], m[2]})
		}
	}
	return s
}

// prelude is how to come from one state to another, but for the directory. A
// soft limit goes first: it may not stay above the hard one.
func prelude(before, after shellState) string {
	var b strings.Builder
	if after.mask != before.mask {
		fmt.Fprintf(&b, "umask %s\n", run.Quote(after.mask))
	}
	for _, kind := range []struct {
		option      string
		before, now []limit
	}{{"-S", before.soft, after.soft}, {"-H", before.hard, after.hard}} {
		for i, l := range kind.now {
			if i < len(kind.before) && kind.before[i] != l {
				fmt.Fprintf(&b, "ulimit %s -%s %s\n", kind.option, l.option, run.Quote(l.value))
			}
		}
	}
	return b.String()
}
