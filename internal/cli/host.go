package cli

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/run"
)

// Process connects a command with the process it runs in.
func Process() command.IO {
	return command.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Environ: os.Environ}
}

// hostFacts looks at the machine and the caller.
func hostFacts(ctx context.Context, std command.IO) (Host, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return Host{}, fmt.Errorf("cannot find the current directory: %w", err)
	}
	host := Host{Env: environMap(std.Environ()), Cwd: cwd, Arch: hostArch(ctx, std)}
	host.Home = host.Env["HOME"]
	if host.Home == "" {
		if u, err := user.LookupId(strconv.Itoa(os.Getuid())); err == nil {
			host.Home = u.HomeDir
		}
	}
	return host, nil
}

// environMap turns KEY=VALUE words into a map; the last of equal keys wins, as
// in a shell.
func environMap(words []string) map[string]string {
	env := make(map[string]string, len(words))
	for _, word := range words {
		if key, value, ok := strings.Cut(word, "="); ok && key != "" {
			env[key] = value
		}
	}
	return env
}

// hostArch is the architecture of the machine's programs. Debian's package
// manager knows it best: the kernel may be of another kind than userland.
func hostArch(ctx context.Context, std command.IO) string {
	if _, err := os.Stat("/etc/debian_version"); err == nil {
		cmd := run.Cmd{Argv: []string{"dpkg", "--print-architecture"}, Env: std.Environ()}
		if out, err := cmd.Output(ctx); err == nil {
			if arch := strings.TrimSpace(string(out)); arch != "" {
				return arch
			}
		}
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return archOfMachine(unix.ByteSliceToString(name.Machine[:]))
}

// archOfMachine translates the kernel's name of an architecture into the one
// that elements expect. Only the names listed differ in DIB's contract.
func archOfMachine(machine string) string {
	switch {
	case machine == "x86_64":
		return "amd64"
	case machine == "aarch64":
		return "arm64"
	case strings.HasPrefix(machine, "armv"):
		return "armhf"
	}
	return machine
}
