package sandbox

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/sandbox/account"
	"github.com/dib-builder/dib/internal/sandbox/idmap"
)

func TestSetupErrors(t *testing.T) {
	parameters := func(values map[string]int) func(string) (int, bool) {
		return func(name string) (int, bool) {
			v, ok := values[name]
			return v, ok
		}
	}
	user, root := caller{userNS: true}, caller{userNS: true, direct: true}
	for _, c := range []struct {
		name string
		err  *SetupError
		want string
	}{
		{"no tool", errNoTool("newuidmap"),
			"cannot build without root: the program newuidmap is missing; install package uidmap (Debian, Ubuntu: sudo apt-get install uidmap) or shadow-utils (Fedora: sudo dnf install shadow-utils)"},
		{"no range", errNoRange(account.User{Name: "ann", UID: 1000}, 0, 10, idmap.Range{Start: 165536, Count: 65536}, func(uint32) bool { return true }),
			"cannot build without root: user ann has 0 subordinate user ids and 10 subordinate group ids, 65534 of each are needed; run: sudo usermod --add-subuids 165536-231071 --add-subgids 165536-231071 ann"},
		{"no range in a container", errNoRange(account.User{Name: "ann", UID: 1000}, 0, 0, idmap.Range{Start: 100000, Count: 65536}, func(id uint32) bool { return id < 65537 }),
			"cannot build without root: user ann has 0 subordinate user ids and 0 subordinate group ids, 65534 of each are needed; run dib as root of the container, or write into its /etc/subuid and /etc/subgid the lines ann:1:999 and ann:1001:64535"},
		{"limit is zero", errNamespaces(unix.ENOSPC, user, parameters(map[string]int{"user.max_user_namespaces": 0}), confinement{}),
			"cannot build without root: the kernel refuses a user namespace (user.max_user_namespaces is 0): no space left on device; run: sudo sysctl -w user.max_user_namespaces=15000"},
		{"old Debian", errNamespaces(unix.EPERM, user, parameters(map[string]int{"user.max_user_namespaces": 100, "kernel.unprivileged_userns_clone": 0}), confinement{}),
			"cannot build without root: the kernel refuses a user namespace (kernel.unprivileged_userns_clone is 0): operation not permitted; run: sudo sysctl -w kernel.unprivileged_userns_clone=1"},
		{"AppArmor", errNamespaces(unix.EACCES, user, parameters(map[string]int{"kernel.unprivileged_userns_clone": 1, "kernel.apparmor_restrict_unprivileged_userns": 1}), confinement{}),
			"cannot build without root: the kernel refuses a user namespace (kernel.apparmor_restrict_unprivileged_userns is 1): permission denied; run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
		{"perhaps a container", errNamespaces(unix.EPERM, user, parameters(nil), confinement{}),
			"cannot build without root: the kernel refuses a user namespace: operation not permitted; if this is a container, start the container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined (or with --privileged); if it is a chroot, run dib outside of it or as root"},
		{"user in a container of docker", errNamespaces(unix.EPERM, user, parameters(nil), confinement{seccomp: true, profile: "docker-default (enforce)"}),
			"cannot build without root: the kernel refuses a user namespace: the seccomp filter or the AppArmor profile docker-default (enforce) forbids it: operation not permitted; start the container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined (or with --privileged)"},
		{"root in a container of docker", errNamespaces(unix.EPERM, root, parameters(nil), confinement{seccomp: true}),
			"cannot build as this root: it lacks capabilities, as root in a container does by default, and cannot use a user namespace instead: the seccomp filter forbids it: operation not permitted; start the container with --security-opt seccomp=unconfined (or with --privileged)"},
		{"root in a pod", errNamespaces(unix.EPERM, root, parameters(nil), confinement{seccomp: true, profile: "cri-containerd.apparmor.d (enforce)", kubernetes: true}),
			"cannot build as this root: it lacks capabilities, as root in a container does by default, and cannot use a user namespace instead: the seccomp filter or the AppArmor profile cri-containerd.apparmor.d (enforce) forbids it: operation not permitted; set seccompProfile: {type: Unconfined} and appArmorProfile: {type: Unconfined} in the securityContext of the container (or privileged: true)"},
		{"SELinux", errNamespaces(unix.EACCES, caller{}, parameters(nil), confinement{profile: "system_u:system_r:container_t:s0:c1,c2"}),
			"cannot make namespaces for the build although CAP_SYS_ADMIN is there: the SELinux context system_u:system_r:container_t:s0:c1,c2 forbids it: permission denied; start the container with --security-opt label=disable (or with --privileged)"},
		{"dropped capabilities", errWeakRoot([]string{"SETUID", "SETFCAP"}, confinement{}),
			"cannot build as this root: it lacks the capabilities SETUID, SETFCAP, with which it could use a user namespace; start the container with --cap-add SETUID --cap-add SETFCAP"},
		{"dropped capabilities in a pod", errWeakRoot([]string{"SETUID", "SETFCAP"}, confinement{kubernetes: true}),
			"cannot build as this root: it lacks the capabilities SETUID, SETFCAP, with which it could use a user namespace; set capabilities: {add: [SETUID, SETFCAP]} in the securityContext of the container"},
		{"one id", errFewIDs(1),
			"cannot build as this root: its user namespace has 1 ids, 65535 are needed; give the user who starts the container 65536 subordinate ids (sudo usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST USER; then, for podman: podman system migrate), or run dib outside of the user namespace"},
		{"ids of the host", errForeignRange(account.User{Name: "ann", UID: 1000}, "/etc/subuid", 100000, 165534),
			"cannot build without root: /etc/subuid gives user ann the ids 100000 to 165534, which this user namespace does not have; run dib as root of the container, or write into its /etc/subuid and /etc/subgid the lines ann:1:999 and ann:1001:64535"},
		{"no new privileges", errNoNewPrivs(confinement{noNewPrivs: true}),
			"cannot build without root: this process may not gain privileges (no_new_privs is set), which newuidmap needs to map subordinate ids; start the container without --security-opt no-new-privileges, or run dib as its root (--user 0)"},
		{"no privilege escalation in a pod", errNoNewPrivs(confinement{noNewPrivs: true, kubernetes: true}),
			"cannot build without root: this process may not gain privileges (no_new_privs is set), which newuidmap needs to map subordinate ids; set allowPrivilegeEscalation: true in the securityContext of the container, or run dib as its root (runAsUser: 0)"},
		{"newuidmap of a distribution in a container", errMapping("newuidmap", "/dev/null", confinement{bounding: 0x800405fb}, unix.EPERM),
			"cannot build without root: newuidmap refused to map the subordinate ids: it is set-user-id root, which is not enough where CAP_SYS_ADMIN is dropped: operation not permitted; run dib as root of the container, or build its image with: RUN chmod u-s /usr/bin/newuidmap /usr/bin/newgidmap && setcap cap_setuid+ep /usr/bin/newuidmap && setcap cap_setgid+ep /usr/bin/newgidmap"},
		{"newuidmap without power", errMapping("newuidmap", "/dev/null", confinement{}, unix.EPERM),
			"cannot build without root: newuidmap refused to map the subordinate ids: the capabilities that it needs are dropped: operation not permitted; start the container with --cap-add SETUID --cap-add SETGID"},
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

func TestConfinement(t *testing.T) {
	const status = "Name:\tdib\nCapBnd:\t00000000800405fb\nNoNewPrivs:\t%d\nSeccomp:\t%d\nSeccomp_filters:\t1\n"
	for _, c := range []struct {
		name, status, label string
		want                confinement
		known               bool
	}{
		{"docker", fmt.Sprintf(status, 0, 2), "docker-default (enforce)\n", confinement{seccomp: true, profile: "docker-default (enforce)", bounding: 0x800405fb}, true},
		{"no AppArmor", fmt.Sprintf(status, 1, 2), "", confinement{seccomp: true, noNewPrivs: true, bounding: 0x800405fb}, true},
		{"unconfined", fmt.Sprintf(status, 0, 0), "unconfined\n", confinement{bounding: 0x800405fb}, false},
		{"a profile that allows everything", fmt.Sprintf(status, 0, 0), "dib (unconfined)\n", confinement{bounding: 0x800405fb}, false},
		{"podman of Fedora", fmt.Sprintf(status, 0, 2), "system_u:system_r:container_t:s0:c1,c2\x00", confinement{seccomp: true, profile: "system_u:system_r:container_t:s0:c1,c2", bounding: 0x800405fb}, true},
		{"shell of Fedora", "", "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\x00", confinement{bounding: ^uint64(0)}, false},
		{"nothing to read", "", "", confinement{bounding: ^uint64(0)}, false},
	} {
		if got := parseConfinement([]byte(c.status), c.label, false); got != c.want || got.known() != c.known {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestNotIntercepted(t *testing.T) {
	const refused = "system calls that need root are not answered: x: %v; hooks that make device nodes, set inode flags or mount sysfs will fail"
	for _, c := range []struct {
		err  error
		c    confinement
		want string
	}{
		{unix.ENOSYS, confinement{}, refused},
		{unix.EPERM, confinement{seccomp: true}, refused + "; start the container with --security-opt seccomp=unconfined (or with --privileged)"},
		{unix.EBUSY, confinement{kubernetes: true}, refused + "; the container has such a filter itself: set seccompProfile: {type: Unconfined} in the securityContext of the container (or privileged: true)"},
	} {
		if got, want := notIntercepted(fmt.Errorf("x: %w", c.err), c.c), fmt.Sprintf(c.want, c.err); got != want {
			t.Errorf("%s\nwant: %s", got, want)
		}
	}
}

// Root with all that building takes uses no user namespace; root with less does.
func TestIsFullRoot(t *testing.T) {
	all := func(int) bool { return true }
	without := func(capability int) func(int) bool { return func(n int) bool { return n != capability } }
	if !isFullRoot(all) || !isFullRoot(without(unix.CAP_SYS_RESOURCE)) {
		t.Error("full root is not recognised")
	}
	for _, n := range rootCapabilities {
		if isFullRoot(without(n)) {
			t.Errorf("root without capability %d passes", n)
		}
	}
}
