package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/sandbox/account"
	"github.com/dib-builder/dib/internal/sandbox/idmap"
)

func errNoTool(tool string) *SetupError {
	return &SetupError{
		What: fmt.Sprintf("cannot build without root: the program %s is missing", tool),
		Cure: "install package uidmap (Debian, Ubuntu: sudo apt-get install uidmap) or shadow-utils (Fedora: sudo dnf install shadow-utils)",
	}
}

func errNoRange(u account.User, uids, gids int, free idmap.Range, exists func(id uint32) bool) *SetupError {
	e := &SetupError{
		What: fmt.Sprintf("cannot build without root: user %s has %d subordinate user ids and %d subordinate group ids, %d of each are needed", u.Name, uids, gids, idmap.Needed),
		Cure: fmt.Sprintf("run: sudo usermod --add-subuids %s --add-subgids %s %s", free, free, u.Name),
	}
	if !exists(free.Last()) {
		e.Cure = rangesInContainer(u)
	}
	return e
}

// errForeignRange is for subordinate ids that the host has and a container not.
func errForeignRange(u account.User, list string, first, last uint32) *SetupError {
	return &SetupError{
		What: fmt.Sprintf("cannot build without root: %s gives user %s the ids %d to %d, which this user namespace does not have", list, u.Name, first, last),
		Cure: rangesInContainer(u),
	}
}

// rangesInContainer says what a user is given in a container that has not many
// more ids than he needs.
func rangesInContainer(u account.User) string {
	return fmt.Sprintf("run dib as root of the container, or write into its /etc/subuid and /etc/subgid the lines %s:1:%d and %s:%d:%d",
		u.Name, u.UID-1, u.Name, u.UID+1, idmap.Needed-u.UID+1)
}

// errFewIDs is for user namespaces made for one program instead of a system.
func errFewIDs(n int) *SetupError {
	return &SetupError{
		What: fmt.Sprintf("cannot build as this root: its user namespace has %d ids, %d are needed", n, idmap.Needed+1),
		Cure: "give the user who starts the container 65536 subordinate ids (sudo usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST USER; then, for podman: podman system migrate), or run dib outside of the user namespace",
	}
}

// errNoNewPrivs is for processes for which newuidmap would have no power.
func errNoNewPrivs(c confinement) *SetupError {
	e := &SetupError{
		What: "cannot build without root: this process may not gain privileges (no_new_privs is set), which newuidmap needs to map subordinate ids",
		Cure: "start the container without --security-opt no-new-privileges, or run dib as its root (--user 0)",
	}
	if c.kubernetes {
		e.Cure = "set allowPrivilegeEscalation: true in the securityContext of the container, or run dib as its root (runAsUser: 0)"
	}
	return e
}

func errMapping(name, path string, c confinement, err error) *SetupError {
	e := &SetupError{
		What: fmt.Sprintf("cannot build without root: %s refused to map the subordinate ids", name),
		Cure: "check that /etc/subuid and /etc/subgid are plain files and name ranges of this user",
		Err:  err,
	}
	var st unix.Stat_t
	var fs unix.Statfs_t
	switch {
	case c.lacks(unix.CAP_SETUID) || c.lacks(unix.CAP_SETGID):
		e.What += ": the capabilities that it needs are dropped"
		e.Cure = c.allow("SETUID", "SETGID")
	case c.lacks(unix.CAP_SYS_ADMIN) && !hasFileCaps(path):
		// Set-user-id, it is not the owner of the namespace and must be more than that.
		e.What += ": it is set-user-id root, which is not enough where CAP_SYS_ADMIN is dropped"
		e.Cure = "run dib as root of the container, or build its image with: RUN chmod u-s /usr/bin/newuidmap /usr/bin/newgidmap && setcap cap_setuid+ep /usr/bin/newuidmap && setcap cap_setgid+ep /usr/bin/newgidmap"
	case unix.Stat(path, &st) == nil && st.Mode&unix.S_ISUID == 0 && !hasFileCaps(path):
		e.Cure = fmt.Sprintf("%s has neither the set-user-id bit nor file capabilities; run: sudo chmod u+s %s", path, path)
	case unix.Statfs(path, &fs) == nil && fs.Flags&unix.ST_NOSUID != 0:
		e.Cure = fmt.Sprintf("%s is on a file system that is mounted nosuid; mount it without, or run dib as root of the container", path)
	}
	return e
}

func errOwnMapping(c confinement, err error) *SetupError {
	return &SetupError{
		What: "cannot build as this root: the kernel refuses to map the ids of the container into a user namespace",
		Cure: c.loosen(),
		Err:  err,
	}
}

func hasFileCaps(path string) bool {
	n, err := unix.Getxattr(path, "security.capability", nil)
	return err == nil && n > 0
}

// errWeakRoot is for the root of a container from which capabilities were taken.
func errWeakRoot(missing []string, c confinement) *SetupError {
	return &SetupError{
		What: "cannot build as this root: it lacks the capabilities " + strings.Join(missing, ", ") + ", with which it could use a user namespace",
		Cure: c.allow(missing...),
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

// errNamespaces explains a refusal of namespaces, or of what is done in them, to
// a caller.
func errNamespaces(err error, who caller, read func(string) (int, bool), c confinement) *SetupError {
	e := &SetupError{What: "cannot build without root: the kernel refuses a user namespace", Err: err}
	switch {
	case !who.userNS:
		e.What = "cannot make namespaces for the build although CAP_SYS_ADMIN is there"
	case who.direct:
		e.What = "cannot build as this root: it lacks capabilities, as root in a container does by default, and cannot use a user namespace instead"
	}
	if s, v, ok := forbidding(read); ok && who.userNS {
		e.What += fmt.Sprintf(" (%s is %d)", s.name, v)
		e.Cure = fmt.Sprintf("run: sudo sysctl -w %s=%s", s.name, s.cure)
		return e
	}
	switch {
	case c.known():
		e.What += ": " + c.names() + " forbids it"
		e.Cure = c.loosen()
	case who.userNS && !who.direct:
		e.Cure = "if this is a container, " + c.loosen() + "; if it is a chroot, run dib outside of it or as root"
	default:
		e.Cure = "in a container: " + c.loosen()
	}
	return e
}

// notIntercepted explains a refusal of the system call filter of dib itself.
func notIntercepted(err error, c confinement) string {
	text := fmt.Sprintf("system calls that need root are not answered: %v; hooks that make device nodes, set inode flags or mount sysfs will fail", err)
	switch {
	case errors.Is(err, unix.EBUSY):
		text += "; the container has such a filter itself: " + confinement{seccomp: true, kubernetes: c.kubernetes}.loosen()
	case c.seccomp:
		text += "; " + confinement{seccomp: true, kubernetes: c.kubernetes}.loosen()
	}
	return text
}

// diagnoseStart explains why the first process could not be started.
func diagnoseStart(err error, who caller) error {
	for _, refusal := range []error{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EUSERS, unix.EINVAL, unix.ENOSYS} {
		if errors.Is(err, refusal) {
			return errNamespaces(err, who, readSysctl, readConfinement())
		}
	}
	return fmt.Errorf("cannot start the sandbox: %w", err)
}

// explain makes an error of what a stage reported.
func explain(st status, who caller) error {
	err := error(&stageError{st.Failed, syscall.Errno(st.Errno)})
	switch syscall.Errno(st.Errno) {
	case unix.EPERM, unix.EACCES, unix.ENOSYS:
		// AppArmor lets a user namespace be made and takes its power away; filters
		// of system calls differ in how they refuse.
		return errNamespaces(err, who, readSysctl, readConfinement())
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
