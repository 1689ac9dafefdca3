package sandbox

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSetupErrors(t *testing.T) {
	parameters := func(values map[string]int) func(string) (int, bool) {
		return func(name string) (int, bool) {
			v, ok := values[name]
			return v, ok
		}
	}
	for _, c := range []struct {
		name string
		err  *SetupError
		want string
	}{
		{"no tool", errNoTool("newuidmap"),
			"cannot build without root: the program newuidmap is missing; install package uidmap (Debian, Ubuntu: sudo apt-get install uidmap) or shadow-utils (Fedora: sudo dnf install shadow-utils)"},
		{"no range", errNoRange("ann", 0, 10, "165536-231071"),
			"cannot build without root: user ann has 0 subordinate user ids and 10 subordinate group ids, 65535 of each are needed; run: sudo usermod --add-subuids 165536-231071 --add-subgids 165536-231071 ann"},
		{"limit is zero", errNamespaces(unix.ENOSPC, true, parameters(map[string]int{"user.max_user_namespaces": 0})),
			"cannot build without root: the kernel refuses a user namespace (user.max_user_namespaces is 0): no space left on device; run: sudo sysctl -w user.max_user_namespaces=15000"},
		{"old Debian", errNamespaces(unix.EPERM, true, parameters(map[string]int{"user.max_user_namespaces": 100, "kernel.unprivileged_userns_clone": 0})),
			"cannot build without root: the kernel refuses a user namespace (kernel.unprivileged_userns_clone is 0): operation not permitted; run: sudo sysctl -w kernel.unprivileged_userns_clone=1"},
		{"AppArmor", errNamespaces(unix.EACCES, true, parameters(map[string]int{"kernel.unprivileged_userns_clone": 1, "kernel.apparmor_restrict_unprivileged_userns": 1})),
			"cannot build without root: the kernel refuses a user namespace (kernel.apparmor_restrict_unprivileged_userns is 1): permission denied; run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
		{"container", errNamespaces(unix.EPERM, true, parameters(nil)),
			"cannot build without root: the kernel refuses a user namespace: operation not permitted; if this is a container, add --security-opt seccomp=unconfined --security-opt apparmor=unconfined to the command that starts it; if it is a chroot, run dib outside of it or as root"},
		{"root in a container", errNoSysAdmin(),
			"cannot build as this root: it lacks CAP_SYS_ADMIN, as root in a container does by default; start the container with --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined (or with --privileged), or run dib as an ordinary user on the host"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("%s:\n%s\nwant:\n%s", c.name, got, c.want)
		}
	}
}

// What a stage reports becomes an error that still can be compared.
func TestExplain(t *testing.T) {
	var se *SetupError
	err := explain(status{Failed: "cannot mount x: operation not permitted", Errno: int(unix.EPERM)}, caller{userNS: true})
	if !errors.As(err, &se) || !errors.Is(err, unix.EPERM) {
		t.Errorf("refused: %v", err)
	}
	err = explain(status{Failed: "cannot mount x: no space left on device", Errno: int(unix.ENOSPC)}, caller{})
	if errors.As(err, &se) || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("out of space: %v", err)
	}
}
