package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/sandbox/idmap"
)

func errNoTool(tool string) *SetupError {
	return &SetupError{
		What: fmt.Sprintf("cannot build without root: the program %s is missing", tool),
		Cure: "install package uidmap (Debian, Ubuntu: sudo apt-get install uidmap) or shadow-utils (Fedora: sudo dnf install shadow-utils)",
	}
}

func errNoRange(user string, uids, gids int, free string) *SetupError {
	return &SetupError{
		What: fmt.Sprintf("cannot build without root: user %s has %d subordinate user ids and %d subordinate group ids, %d of each are needed", user, uids, gids, idmap.Subordinate),
		Cure: fmt.Sprintf("run: sudo usermod --add-subuids %s --add-subgids %s %s", free, free, user),
	}
}

func errMapping(name, path string, err error) *SetupError {
	e := &SetupError{
		What: fmt.Sprintf("cannot build without root: %s refused to map the subordinate ids", name),
		Cure: "check that /etc/subuid and /etc/subgid are plain files and name ranges of this user",
		Err:  err,
	}
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil && st.Mode&unix.S_ISUID == 0 && !hasFileCaps(path) {
		e.Cure = fmt.Sprintf("%s has neither the set-user-id bit nor file capabilities; run: sudo chmod u+s %s", path, path)
	}
	return e
}

func hasFileCaps(path string) bool {
	n, err := unix.Getxattr(path, "security.capability", nil)
	return err == nil && n > 0
}

func errNoSysAdmin() *SetupError {
	return &SetupError{
		What: "cannot build as this root: it lacks CAP_SYS_ADMIN, as root in a container does by default",
		Cure: "start the container with --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined (or with --privileged), or run dib as an ordinary user on the host",
	}
}

// sysctl is a kernel parameter that can forbid user namespaces.
type sysctl struct {
	name    string
	forbids func(int) bool
	cure    string // value that allows them
}

var sysctls = []sysctl{
	{"user.max_user_namespaces", func(v int) bool { return v == 0 }, "15000"},
	{"kernel.unprivileged_userns_clone", func(v int) bool { return v == 0 }, "1"},
	{"kernel.apparmor_restrict_unprivileged_userns", func(v int) bool { return v == 1 }, "0"},
}

// forbidding returns the parameter that forbids user namespaces, given a reader
// of parameters.
func forbidding(read func(name string) (int, bool)) (s sysctl, value int, found bool) {
	for _, s := range sysctls {
		if v, ok := read(s.name); ok && s.forbids(v) {
			return s, v, true
		}
	}
	return sysctl{}, 0, false
}

func readSysctl(name string) (int, bool) {
	text, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return 0, false
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return v, err == nil
}

// errNamespaces explains a refusal of namespaces to a caller.
func errNamespaces(err error, userNS bool, read func(string) (int, bool)) *SetupError {
	if !userNS {
		return &SetupError{
			What: "cannot make namespaces for the build although CAP_SYS_ADMIN is there",
			Cure: "in a container, add --security-opt seccomp=unconfined --security-opt apparmor=unconfined to the command that starts it, or use --privileged",
			Err:  err,
		}
	}
	e := &SetupError{What: "cannot build without root: the kernel refuses a user namespace", Err: err}
	if s, v, ok := forbidding(read); ok {
		e.What += fmt.Sprintf(" (%s is %d)", s.name, v)
		e.Cure = fmt.Sprintf("run: sudo sysctl -w %s=%s", s.name, s.cure)
		return e
	}
	e.Cure = "if this is a container, add --security-opt seccomp=unconfined --security-opt apparmor=unconfined to the command that starts it; if it is a chroot, run dib outside of it or as root"
	return e
}

// diagnoseStart explains why the first process could not be started.
func diagnoseStart(err error, who caller) error {
	for _, refusal := range []error{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EUSERS, unix.EINVAL, unix.ENOSYS} {
		if errors.Is(err, refusal) {
			return errNamespaces(err, who.userNS, readSysctl)
		}
	}
	return fmt.Errorf("cannot start the sandbox: %w", err)
}

// explain makes an error of what a stage reported.
func explain(st status, who caller) error {
	err := error(&stageError{st.Failed, syscall.Errno(st.Errno)})
	if st.Errno == int(unix.EPERM) || st.Errno == int(unix.EACCES) {
		// AppArmor lets a user namespace be made and takes its power away.
		return errNamespaces(err, who.userNS, readSysctl)
	}
	return fmt.Errorf("cannot set up the sandbox: %w", err)
}

// stageError is an error that crossed a process border.
type stageError struct {
	text  string
	errno syscall.Errno
}

func (e *stageError) Error() string { return e.text }

func (e *stageError) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}
