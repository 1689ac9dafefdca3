// Package standin provides commands that hooks call by name and whose usual
// implementation cannot work in the sandbox.
package standin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/sandbox/account"
)

const usage = "usage: sudo [-EHSbkKnPv] [-u user] [-g group] [-D directory] [-p prompt] [--preserve-env[=list]] [-i | -s] [VAR=value] [--] [command [arg ...]]"

// sudoers are the accounts that sudo knows, as file contents.
type sudoers struct {
	passwd, group []byte
}

// request is a command line of sudo.
type request struct {
	User, Group string // empty: root; the user's group
	PreserveAll bool
	Preserve    []string // variables kept although the environment is reset
	Assign      []string // NAME=value given on the command line
	SetHome     bool
	Login       bool // -i
	Shell       bool // -s
	Background  bool
	KeepGroups  bool // -P
	Dir         string
	Command     []string
	NothingToDo bool // -k, -K, -v alone: there are no credentials to handle
	ShowVersion bool
	ShowUsage   bool
	ListAllowed bool
}

// short options by what they take.
const (
	sudoFlags  = "EHSbkKnPvisAVlBNh"
	sudoValues = "ugDpCrtTRU"
)

var longOptions = map[string]struct {
	short    byte
	argument bool
}{
	"user": {'u', true}, "group": {'g', true}, "set-home": {'H', false}, "stdin": {'S', false},
	"background": {'b', false}, "reset-timestamp": {'k', false}, "remove-timestamp": {'K', false},
	"non-interactive": {'n', false}, "preserve-groups": {'P', false}, "validate": {'v', false},
	"login": {'i', false}, "shell": {'s', false}, "askpass": {'A', false}, "version": {'V', false},
	"list": {'l', false}, "bell": {'B', false}, "no-update": {'N', false}, "help": {'h', false},
	"chdir": {'D', true}, "prompt": {'p', true}, "close-from": {'C', true}, "role": {'r', true},
	"type": {'t', true}, "command-timeout": {'T', true}, "other-user": {'U', true}, "host": {0, true},
}

// parseSudo reads the arguments of sudo. Options end at the first word that is
// neither an option nor an assignment.
func parseSudo(args []string) (request, error) {
	var r request
	var neutral bool // an option that makes sense without a command
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		switch {
		case word == "--":
			return finish(r, args, neutral)
		case strings.HasPrefix(word, "--"):
			rest, n, err := r.long(word[2:], args)
			if err != nil {
				return r, err
			}
			args, neutral = rest, neutral || n
		case len(word) > 1 && word[0] == '-':
			rest, n, err := r.cluster(word[1:], args)
			if err != nil {
				return r, err
			}
			args, neutral = rest, neutral || n
		case isAssignment(word):
			r.Assign = append(r.Assign, word)
		default:
			return finish(r, append([]string{word}, args...), neutral)
		}
	}
	return finish(r, nil, neutral)
}

func isAssignment(word string) bool {
	name, _, ok := strings.Cut(word, "=")
	return ok && name != "" && !strings.Contains(name, "/")
}

// finish takes what follows the options; after -- assignments may still come first.
func finish(r request, args []string, neutral bool) (request, error) {
	for len(args) > 0 && isAssignment(args[0]) {
		r.Assign = append(r.Assign, args[0])
		args = args[1:]
	}
	r.Command = args
	switch {
	case r.Login && r.Shell:
		return r, errors.New("options -i and -s exclude each other")
	case r.Login && r.PreserveAll:
		return r, errors.New("options -i and -E exclude each other")
	case len(args) == 0 && !r.Login && !r.Shell && !r.ShowVersion && !r.ShowUsage && !r.ListAllowed:
		if !neutral {
			return r, errors.New("no command given")
		}
		r.NothingToDo = true
	}
	return r, nil
}

func (r *request) long(word string, args []string) (rest []string, neutral bool, err error) {
	name, value, hasValue := strings.Cut(word, "=")
	if name == "preserve-env" {
		if hasValue {
			r.Preserve = append(r.Preserve, strings.Split(value, ",")...)
		} else {
			r.PreserveAll = true
		}
		return args, false, nil
	}
	o, ok := longOptions[name]
	if !ok {
		return nil, false, fmt.Errorf("unknown option --%s", name)
	}
	if !o.argument {
		if hasValue {
			return nil, false, fmt.Errorf("option --%s takes no argument", name)
		}
		neutral, err = r.flag(o.short)
		return args, neutral, err
	}
	if !hasValue {
		if len(args) == 0 {
			return nil, false, fmt.Errorf("option --%s needs an argument", name)
		}
		value, args = args[0], args[1:]
	}
	return args, false, r.value(o.short, value)
}

func (r *request) cluster(word string, args []string) (rest []string, neutral bool, err error) {
	for i := 0; i < len(word); i++ {
		c := word[i]
		switch {
		case strings.IndexByte(sudoFlags, c) >= 0:
			n, err := r.flag(c)
			if err != nil {
				return nil, false, err
			}
			neutral = neutral || n
		case strings.IndexByte(sudoValues, c) >= 0:
			value := word[i+1:]
			if value == "" {
				if len(args) == 0 {
					return nil, false, fmt.Errorf("option -%c needs an argument", c)
				}
				value, args = args[0], args[1:]
			}
			return args, neutral, r.value(c, value)
		default:
			return nil, false, fmt.Errorf("unknown option -%c", c)
		}
	}
	return args, neutral, nil
}

func (r *request) flag(c byte) (neutral bool, err error) {
	switch c {
	case 'E':
		r.PreserveAll = true
	case 'H':
		r.SetHome = true
	case 'i':
		r.Login = true
	case 's':
		r.Shell = true
	case 'b':
		r.Background = true
	case 'P':
		r.KeepGroups = true
	case 'V':
		r.ShowVersion = true
	case 'h':
		r.ShowUsage = true
	case 'l':
		r.ListAllowed = true
	case 'k', 'K', 'v':
		return true, nil
	}
	return false, nil // no password is ever asked for: -n -S -A -B -N change nothing
}

func (r *request) value(c byte, v string) error {
	switch c {
	case 'u':
		r.User = v
	case 'g':
		r.Group = v
	case 'D':
		r.Dir = v
	case 'R', 'r', 't', 'T':
		return fmt.Errorf("option -%c is not supported in a build", c)
	}
	return nil
}

// identity is who the command runs as.
type identity struct {
	user   account.User
	groups []int
}

// resolve finds the target user in the accounts.
func (r request) resolve(db sudoers) (identity, error) {
	who := r.User
	if who == "" {
		who = "root"
	}
	u, ok := account.Lookup(db.passwd, who)
	if !ok || isDigits(who) && u.Name != who {
		id, err := strconv.Atoi(strings.TrimPrefix(who, "#"))
		switch {
		case strings.HasPrefix(who, "#") && err == nil && id >= 0:
			u = account.User{Name: who, UID: id, GID: id, Home: "/", Shell: "/bin/sh"}
		case r.User == "":
			u = account.User{Name: "root", Home: "/root", Shell: "/bin/sh"}
		default:
			return identity{}, fmt.Errorf("unknown user %s", who)
		}
	}
	out := identity{user: u, groups: []int{u.GID}}
	groups := account.Groups(db.group)
	for _, g := range groups {
		if slices.Contains(g.Members, u.Name) && !slices.Contains(out.groups, g.GID) {
			out.groups = append(out.groups, g.GID)
		}
	}
	if r.Group == "" {
		return out, nil
	}
	for _, g := range groups {
		if g.Name == r.Group || "#"+strconv.Itoa(g.GID) == r.Group {
			out.user.GID = g.GID
			return out, nil
		}
	}
	if id, err := strconv.Atoi(strings.TrimPrefix(r.Group, "#")); err == nil && strings.HasPrefix(r.Group, "#") && id >= 0 {
		out.user.GID = id
		return out, nil
	}
	return identity{}, fmt.Errorf("unknown group %s", r.Group)
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// neverKept are variables that steer the loader, shells and interpreters; they do
// not pass even with -E. A trailing * stands for any ending.
var neverKept = []string{
	"IFS", "CDPATH", "ENV", "BASH_ENV", "GLOBIGNORE", "BASHOPTS", "SHELLOPTS", "PS4", "FPATH", "NULLCMD", "READNULLCMD", "ZDOTDIR", "TMPPREFIX",
	"LOCALDOMAIN", "RES_OPTIONS", "HOSTALIASES", "NLSPATH", "PATH_LOCALE", "LD_*", "_RLD*", "TERMINFO", "TERMINFO_DIRS", "TERMPATH", "TERMCAP",
	"JAVA_TOOL_OPTIONS", "PERLIO_DEBUG", "PERLLIB", "PERL5LIB", "PERL5OPT", "PERL5DB", "PYTHONHOME", "PYTHONPATH", "PYTHONINSPECT", "PYTHONUSERBASE", "RUBYLIB", "RUBYOPT",
	"BASH_FUNC_*", "SUDO_*",
}

// keptByDefault are variables that pass even when the environment is reset.
var keptByDefault = []string{
	"TERM", "COLORTERM", "LANG", "LANGUAGE", "LC_*", "COLORS", "DISPLAY", "HOSTNAME", "LS_COLORS", "KRB5CCNAME", "XAUTHORITY", "XAUTHORIZATION", "TZ", "container",
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, wild := strings.CutSuffix(p, "*")
		return p == name || wild && strings.HasPrefix(name, prefix)
	})
}

var standardPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// environment is what the command sees: with -E the caller's, otherwise a new
// one. PATH is the caller's with what root expects appended: a user's own often
// lacks sbin.
func (r request) environment(environ []string, id identity, shell string) []string {
	vars := map[string]string{}
	old := map[string]string{}
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if !ok {
			continue
		}
		old[name] = value
		explicit := slices.Contains(r.Preserve, name)
		if strings.HasPrefix(value, "()") || matches(neverKept, name) && !explicit {
			continue
		}
		if r.PreserveAll || explicit || matches(keptByDefault, name) {
			vars[name] = value
		}
	}
	path := filepath.SplitList(old["PATH"])
	if r.Login {
		path = nil
		if slices.Contains(filepath.SplitList(old["PATH"]), place.StandInDir) {
			path = []string{place.StandInDir}
		}
	}
	for _, dir := range standardPath {
		if !slices.Contains(path, dir) {
			path = append(path, dir)
		}
	}
	vars["PATH"] = strings.Join(path, ":")
	u := id.user
	vars["USER"], vars["LOGNAME"] = u.Name, u.Name
	if _, kept := vars["HOME"]; !kept || r.SetHome || r.Login {
		vars["HOME"] = u.Home
	}
	if _, kept := vars["SHELL"]; !kept || r.Login {
		vars["SHELL"] = shell
	}
	if _, kept := vars["MAIL"]; !kept {
		vars["MAIL"] = "/var/mail/" + u.Name
	}
	caller := old["USER"]
	if caller == "" {
		caller = "root"
	}
	vars["SUDO_USER"], vars["SUDO_UID"], vars["SUDO_GID"] = caller, "0", "0"
	vars["SUDO_COMMAND"] = strings.Join(r.Command, " ")
	for _, kv := range r.Assign {
		name, value, _ := strings.Cut(kv, "=")
		vars[name] = value
	}
	out := make([]string, 0, len(vars))
	for name, value := range vars {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return out
}

// argv is what is executed: the command, or a shell for -i and -s.
func (r request) argv(shell string) []string {
	if !r.Login && !r.Shell {
		return r.Command
	}
	argv := []string{shell}
	if r.Login {
		argv[0] = "-" + filepath.Base(shell)
	}
	if len(r.Command) > 0 {
		words := make([]string, len(r.Command))
		for i, w := range r.Command {
			words[i] = escape(w)
		}
		argv = append(argv, "-c", strings.Join(words, " "))
	}
	return argv
}

// escape protects a word from the shell of -i and -s, except for $, which sudo
// leaves to that shell.
func escape(word string) string {
	var b strings.Builder
	for _, c := range []byte(word) {
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '$' || c >= 0x80
		if !plain {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

// Sudo runs a command as another user the way sudo(8) does for somebody who is
// allowed everything without a password. It replaces the process: it returns
// only when it fails. The names come from /etc/passwd and /etc/group.
func Sudo(ctx context.Context, io command.IO, args []string) int {
	complain := func(err error) int {
		fmt.Fprintf(io.Err, "sudo: %v\n", err)
		return 1
	}
	r, err := parseSudo(args)
	if err != nil {
		complain(err)
		fmt.Fprintln(io.Err, usage)
		return 1
	}
	switch {
	case r.ShowVersion:
		fmt.Fprintln(io.Out, "Sudo version 1.9 (stand-in of dib)")
		return 0
	case r.ShowUsage:
		fmt.Fprintln(io.Out, usage)
		return 0
	case r.ListAllowed, r.NothingToDo:
		return 0
	}
	var db sudoers
	db.passwd, _ = os.ReadFile("/etc/passwd") // without it only root is known
	db.group, _ = os.ReadFile("/etc/group")
	id, err := r.resolve(db)
	if err != nil {
		return complain(err)
	}
	shell := id.user.Shell
	if s := io.Getenv("SHELL"); r.Shell && s != "" {
		shell = s
	}
	if shell == "" {
		shell = "/bin/sh"
	}
	env := r.environment(io.Environ(), id, shell)
	argv := r.argv(shell)
	program := shell
	if !r.Login && !r.Shell {
		if program, err = find(argv[0], env); err != nil {
			return complain(err)
		}
	}
	if r.Background {
		return r.background(ctx, io, id, program, argv, env)
	}
	if err := r.enter(id); err != nil {
		return complain(err)
	}
	err = unix.Exec(program, argv, env)
	complain(fmt.Errorf("cannot run %s: %w", argv[0], err))
	if errors.Is(err, unix.ENOENT) {
		return 127
	}
	return 126
}

// enter takes on the identity, and the directory asked for.
func (r request) enter(id identity) error {
	if !r.KeepGroups {
		// Without this right (EPERM) groups cannot be gained either.
		if err := syscall.Setgroups(id.groups); err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("cannot set groups: %w", err)
		}
	}
	if err := syscall.Setresgid(id.user.GID, id.user.GID, id.user.GID); err != nil {
		return fmt.Errorf("cannot become group %d: %w", id.user.GID, err)
	}
	if err := syscall.Setresuid(id.user.UID, id.user.UID, id.user.UID); err != nil {
		return fmt.Errorf("cannot become user %s: %w", id.user.Name, err)
	}
	dir := r.Dir
	if dir == "" && r.Login {
		dir = id.user.Home
	}
	if dir == "" {
		return nil
	}
	if err := os.Chdir(dir); err != nil && r.Dir != "" {
		return fmt.Errorf("cannot change to directory: %w", err)
	}
	return nil
}

// background starts the command and leaves it.
func (r request) background(_ context.Context, io command.IO, id identity, program string, argv, env []string) int {
	cmd := exec.Cmd{Path: program, Args: argv, Env: env, Dir: r.Dir, Stdin: io.In, Stdout: io.Out, Stderr: io.Err}
	cred := &syscall.Credential{Uid: uint32(id.user.UID), Gid: uint32(id.user.GID), NoSetGroups: r.KeepGroups}
	for _, g := range id.groups {
		cred.Groups = append(cred.Groups, uint32(g))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Setpgid: true}
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(io.Err, "sudo: cannot run %s: %v\n", argv[0], err)
		return 1
	}
	return 0
}

// find looks a command up on the PATH of env.
func find(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, kv := range env {
		path, ok := strings.CutPrefix(kv, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(path) {
			full := filepath.Join(dir, name)
			if st, err := os.Stat(full); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				return full, nil
			}
		}
	}
	return "", fmt.Errorf("%s: command not found", name)
}
