package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/run"
	"github.com/dib-builder/dib/internal/secret"
)

// EnvironmentScript is the bash text that sources the named files of a
// directory, in the given order, and then prints the exported environment,
// functions included, to the file descriptor fd, each entry ended by a NUL
// byte (see ParseEnv0). The name of each file goes to fd before it is sourced,
// so that an unfinished output tells where it ended.
//
// The files run under errexit, nounset and pipefail, at the top level of one
// shell, because they are arbitrary bash: they may declare, return, or exit.
// Their commands are traced on request only, since values may be secret.
func EnvironmentScript(dir string, names []string, fd int, trace bool) string {
	return environmentScript(dir, names, fd, trace, false)
}

// environmentScript can also print the environment before each file.
func environmentScript(dir string, names []string, fd int, trace, each bool) string {
	var b strings.Builder
	// A file may change PATH, so env is looked up first.
	b.WriteString("set -eu -o pipefail\n__dib_env=$(type -P env) || __dib_env=/usr/bin/env\n")
	b.WriteString(stateScript(stateBefore, fd))
	for _, name := range names {
		file := path.Join(dir, name)
		if !strings.Contains(file, "/") {
			file = "./" + file // or source would search PATH
		}
		file = run.Quote(file)
		if each {
			fmt.Fprintf(&b, "\"$__dib_env\" -0 >&%d\n", fd)
		}
		fmt.Fprintf(&b, "printf '%%s\\0' %s >&%d\n", run.Quote(name), fd)
		fmt.Fprintf(&b, "printf '%sSourcing environment file %%s\\n' %s >&2\n", LogPrefix, file)
		if trace {
			fmt.Fprintf(&b, "set -x\nsource %s\n{ set +x; } 2>/dev/null\n", file)
		} else {
			fmt.Fprintf(&b, "source %s\n", file)
		}
	}
	b.WriteString(stateScript(stateAfter, fd))
	fmt.Fprintf(&b, "exec \"$__dib_env\" -0 >&%d\n", fd)
	return b.String()
}

// ParseEnv0 reads NUL-terminated NAME=VALUE entries, as `env -0` or
// EnvironmentScript print them: values may have many lines, names may be those
// of exported bash functions (BASH_FUNC_name%%). Entries without a name are
// dropped, and so is one that is not terminated. The result is in byte order.
func ParseEnv0(data []byte) []string {
	var env []string
	for {
		end := slices.Index(data, 0)
		if end < 0 {
			break
		}
		entry := string(data[:end])
		data = data[end+1:]
		if strings.IndexByte(entry, '=') > 0 {
			env = append(env, entry)
		}
	}
	slices.Sort(env)
	return env
}

// EnvironmentError is the failure of an environment file.
type EnvironmentError struct {
	File string // path as bash saw it; empty when not even the first was reached
	Err  error
}

func (e *EnvironmentError) Error() string {
	if e.File == "" {
		return fmt.Sprintf("cannot prepare environment of hooks: %v", e.Err)
	}
	return fmt.Sprintf("cannot source environment file %s: %s", e.File, e.cause())
}

// cause says why without the script, which nobody wrote: how it ended and what
// the file printed last.
func (e *EnvironmentError) cause() string {
	var failed *run.Error
	if !errors.As(e.Err, &failed) {
		return e.Err.Error()
	}
	text := fmt.Sprintf("exit status %d", failed.Exit)
	for _, line := range slices.Backward(failed.Tail) {
		if !strings.HasPrefix(line, LogPrefix) {
			return text + ": " + line
		}
	}
	return text
}

func (e *EnvironmentError) Unwrap() error { return e.Err }

// errEnded is why a file that called exit 0 fails: hooks cannot run without it.
var errEnded = fmt.Errorf("it ended the shell with exit status 0")

// Environment returns the environment in which the hooks of a phase run: that
// of c, changed by the named files of dir. c also says where and how bash
// runs; its Argv and ExtraFiles are not used. The error is an
// *EnvironmentError, around a *run.Error when bash failed.
func Environment(ctx context.Context, c run.Cmd, dir string, names []string) ([]string, error) {
	s, err := Surround(ctx, c, dir, names)
	return s.Env, err
}

// Effect is what one environment file did.
type Effect struct {
	File string   // its name
	Env  []string // the environment after it
}

// Effects is like Environment, and tells what each file of dir contributed: the
// environment in which the first one was sourced, and that after each.
func Effects(ctx context.Context, c run.Cmd, dir string, names []string) (before []string, effects []Effect, err error) {
	data, err := source(ctx, c, dir, names, true)
	if err != nil {
		return nil, nil, err
	}
	for i, name := range names {
		// The printed environments are apart from each other by the name of a
		// file, which is the only entry without "=".
		end := recordOf(data, name)
		env := parseEnvironment(data[:end])
		data = data[end+len(name)+1:]
		if i == 0 {
			before = env
		} else {
			effects[i-1].Env = env
		}
		effects = append(effects, Effect{File: name})
	}
	if len(effects) == 0 {
		return parseEnvironment(data), nil, nil
	}
	effects[len(effects)-1].Env = parseEnvironment(data)
	return before, effects, nil
}

// recordOf finds the entry that is a name alone.
func recordOf(data []byte, name string) int {
	entry := []byte(name + "\x00")
	if bytes.HasPrefix(data, entry) {
		return 0
	}
	return bytes.Index(data, append([]byte{0}, entry...)) + 1
}

// parseEnvironment leaves out "_", which is the path of env itself.
func parseEnvironment(data []byte) []string {
	return slices.DeleteFunc(ParseEnv0(data), func(kv string) bool { return strings.HasPrefix(kv, "_=") })
}

// source runs the script and returns what it printed.
func source(ctx context.Context, c run.Cmd, dir string, names []string, each bool) ([]byte, error) {
	// A memory file rather than a pipe: a daemon left by an environment file
	// would keep a pipe open for ever.
	fd, err := unix.MemfdCreate("environment", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, &EnvironmentError{Err: fmt.Errorf("cannot create memory file: %w", err)}
	}
	out := os.NewFile(uintptr(fd), "environment")
	defer out.Close()

	trace := Tracing(c.Env)
	bash := "bash"
	if c.Root != "" {
		bash = "/bin/bash"
	}
	c.Argv = []string{bash, "-c", environmentScript(dir, names, 3, trace, each), "dib-run-parts"}
	c.ExtraFiles = []*os.File{out}
	if log := c.Log; trace && log != nil {
		known := secret.NewRedactor(environMap(c.Env))
		c.Log = func(line []byte) { log([]byte(secret.MaskAssignments(known.String(string(line))))) }
	}
	runErr := c.Run(ctx)
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return nil, &EnvironmentError{Err: err}
	}
	data, err := io.ReadAll(out)
	if err != nil {
		return nil, &EnvironmentError{Err: err}
	}
	if runErr == nil && !finished(data) {
		runErr = errEnded
	}
	if runErr != nil {
		return nil, &EnvironmentError{File: lastFile(dir, data), Err: runErr}
	}
	return data, nil
}

// finished says whether the output ends with an environment.
func finished(data []byte) bool { return strings.Contains(lastRecord(data), "=") }

func lastRecord(data []byte) string {
	records := strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
	return records[len(records)-1]
}

// lastFile names the file that was being sourced when the output ended.
func lastFile(dir string, data []byte) string {
	last := lastRecord(data)
	if last == "" || strings.Contains(last, "=") {
		return ""
	}
	return path.Join(dir, last)
}

func environMap(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	return env
}
