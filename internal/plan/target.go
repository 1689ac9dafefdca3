package plan

import (
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/element"
	"github.com/dib-builder/dib/internal/place"
)

// TargetPath is the PATH of hooks in the image.
const TargetPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// stripped are variables that do not reach the image: what sudo always
// removes, because it can make programs run foreign code (sudo's
// plugins/sudoers/env.c has the list), and what only means something on the
// host. A final "*" stands for any ending.
var stripped = []string{
	"IFS", "CDPATH", "LOCALDOMAIN", "RES_OPTIONS", "HOSTALIASES", "NLSPATH", "PATH_LOCALE",
	"LD_*", "_RLD*", "TERMINFO", "TERMINFO_DIRS", "TERMPATH", "TERMCAP",
	"ENV", "BASH_ENV", "PS4", "GLOBIGNORE", "BASHOPTS", "SHELLOPTS",
	"JAVA_TOOL_OPTIONS", "PERLIO_DEBUG", "PERLLIB", "PERL5LIB", "PERL5OPT", "PERL5DB",
	"FPATH", "NULLCMD", "READNULLCMD", "ZDOTDIR", "TMPPREFIX",
	"PYTHONHOME", "PYTHONPATH", "PYTHONINSPECT", "PYTHONUSERBASE", "RUBYLIB", "RUBYOPT",

	"TMPDIR", "VIRTUAL_ENV", "TARGET_ROOT", "OLDPWD",
}

// inherited are the functions that hooks in the image have as well.
var inherited = []string{functionVariable("die"), functionVariable(element.ArrayFunction)}

// TargetEnv is the environment of target-side hooks, made of that of host-side
// ones, in byte order: what sudo would strip is gone, except the two functions
// that hooks rely on, and what sudo and chroot would set is set.
//
// Everything in the sandbox is user 0, so that is the user who called sudo.
func TargetEnv(env []string) []string {
	target := Env{}
	for _, kv := range env {
		name, value, ok := strings.Cut(kv, "=")
		if ok && reachesTarget(name, value) {
			target[name] = value
		}
	}
	caller := "root"
	for _, name := range []string{"USER", "LOGNAME", "SUDO_USER"} {
		if target[name] != "" {
			caller = target[name]
			break
		}
	}
	for name, value := range map[string]string{
		"HOME": "/root", "PATH": TargetPath, "PWD": "/", "USER": "root", "LOGNAME": "root",
		"SUDO_COMMAND": "/usr/sbin/chroot " + place.TreeDir, "SUDO_USER": caller, "SUDO_UID": "0", "SUDO_GID": "0",
	} {
		target[name] = value
	}
	return target.Environ()
}

func reachesTarget(name, value string) bool {
	if strings.HasPrefix(value, "()") {
		return slices.Contains(inherited, name)
	}
	return !slices.ContainsFunc(stripped, func(pattern string) bool {
		prefix, wildcard := strings.CutSuffix(pattern, "*")
		return name == pattern || wildcard && strings.HasPrefix(name, prefix)
	})
}
