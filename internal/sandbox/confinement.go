package sandbox

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// confinement is what is around this process, most often a container, beside
// user ids: what its makers can loosen by an option.
type confinement struct {
	seccomp    bool   // a system call filter
	noNewPrivs bool   // set-user-id programs and file capabilities have no effect
	profile    string // AppArmor profile or SELinux context that confines
	bounding   uint64 // capabilities that can be gained
	kubernetes bool   // the cure is a field of a pod, not an option of a command
}

func readConfinement() confinement {
	status, _ := os.ReadFile("/proc/self/status")
	label, _ := os.ReadFile("/proc/self/attr/current")
	return parseConfinement(status, string(label), os.Getenv("KUBERNETES_SERVICE_HOST") != "")
}

// parseConfinement takes proc_pid_status(5) and the label of the security module.
func parseConfinement(status []byte, label string, kubernetes bool) confinement {
	c := confinement{bounding: ^uint64(0), kubernetes: kubernetes}
	for l := range bytes.Lines(status) {
		key, v, _ := strings.Cut(string(l), ":")
		v = strings.TrimSpace(v)
		switch key {
		case "Seccomp":
			c.seccomp = v == "2"
		case "NoNewPrivs":
			c.noNewPrivs = v == "1"
		case "CapBnd":
			if n, err := strconv.ParseUint(v, 16, 64); err == nil {
				c.bounding = n
			}
		}
	}
	label = strings.TrimSpace(strings.TrimRight(label, "\x00\n"))
	// Everything on a host with SELinux has a context; those of containers confine.
	switch {
	case label == "" || label == "unconfined" || strings.HasSuffix(label, "(unconfined)"):
	case strings.Count(label, ":") < 2 || strings.Contains(label, ":container_t:"):
		c.profile = label
	}
	return c
}

// selinux tells whether the profile is of SELinux.
func (c confinement) selinux() bool { return strings.Contains(c.profile, ":container_t:") }

// known tells whether anything that an option loosens is there.
func (c confinement) known() bool { return c.seccomp || c.profile != "" }

// names names what confines, for a sentence.
func (c confinement) names() string {
	var out []string
	if c.seccomp {
		out = append(out, "the seccomp filter")
	}
	if c.profile != "" {
		module := "AppArmor profile "
		if c.selinux() {
			module = "SELinux context "
		}
		out = append(out, "the "+module+c.profile)
	}
	return strings.Join(out, " or ")
}

// loosen says how to get rid of it.
func (c confinement) loosen() string {
	var options, fields []string
	if c.seccomp || !c.known() {
		options = append(options, "--security-opt seccomp=unconfined")
		fields = append(fields, "seccompProfile: {type: Unconfined}")
	}
	switch {
	case c.selinux():
		options = append(options, "--security-opt label=disable")
		fields = append(fields, "seLinuxOptions: {type: spc_t}")
	case c.profile != "" || !c.known():
		options = append(options, "--security-opt apparmor=unconfined")
		fields = append(fields, "appArmorProfile: {type: Unconfined}")
	}
	if c.kubernetes {
		return "set " + strings.Join(fields, " and ") + " in the securityContext of the container (or privileged: true)"
	}
	return "start the container with " + strings.Join(options, " ") + " (or with --privileged)"
}

// allow says how to let the container have capabilities.
func (c confinement) allow(names ...string) string {
	if c.kubernetes {
		return "set capabilities: {add: [" + strings.Join(names, ", ") + "]} in the securityContext of the container"
	}
	return "start the container with --cap-add " + strings.Join(names, " --cap-add ")
}

// lacks tells whether a capability cannot be gained.
func (c confinement) lacks(capability int) bool { return c.bounding>>capability&1 == 0 }

// mappingCapabilities are those that root needs to make a user namespace of his own
// and map the ids of the container into it.
var mappingCapabilities = []struct {
	number int
	name   string
}{{unix.CAP_SETUID, "SETUID"}, {unix.CAP_SETGID, "SETGID"}, {unix.CAP_SETFCAP, "SETFCAP"}}

// rootCapabilities are those by which root builds without a user namespace: what
// owners, modes, device nodes, flags, mounts and chroot take.
var rootCapabilities = []int{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID,
	unix.CAP_SETFCAP, unix.CAP_LINUX_IMMUTABLE, unix.CAP_SYS_CHROOT, unix.CAP_SYS_ADMIN, unix.CAP_MKNOD,
}

func isFullRoot(has func(int) bool) bool {
	for _, n := range rootCapabilities {
		if !has(n) {
			return false
		}
	}
	return true
}
