package cmdline

import (
	"fmt"
	"strings"

	"github.com/dib-builder/dib/internal/command"
)

// Environment is a process environment by name.
type Environment map[string]string

// EnvironmentOf reads the environment of a command. Of a repeated name the
// last value counts, as for a shell.
func EnvironmentOf(io command.IO) Environment {
	env := Environment{}
	for _, kv := range io.Environ() {
		if name, value, ok := strings.Cut(kv, "="); ok {
			env[name] = value
		}
	}
	return env
}

// Trace is the debug level, DIB_DEBUG_TRACE; what is not a number counts as 0.
func (e Environment) Trace() int {
	n := 0
	if _, err := fmt.Sscanf(e["DIB_DEBUG_TRACE"], "%d", &n); err != nil {
		return 0
	}
	return n
}
