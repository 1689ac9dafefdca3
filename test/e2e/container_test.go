package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/test/lab"
)

// dockerFilter refuses what the default filter of Docker refuses to a container
// without CAP_SYS_ADMIN: new namespaces and everything about mounts. Podman's
// default, which the other cases have, allows both.
const dockerFilter = `{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_AARCH64","SCMP_ARCH_ARM"],
"syscalls":[
{"names":["bpf","fsconfig","fsmount","fsopen","fspick","mount","mount_setattr","move_mount","open_tree","pivot_root","sethostname","setns","umount","umount2","unshare"],"action":"SCMP_ACT_ERRNO","errnoRet":1},
{"names":["clone"],"action":"SCMP_ACT_ERRNO","errnoRet":1,"args":[{"index":0,"value":268435456,"valueTwo":268435456,"op":"SCMP_CMP_MASKED_EQ"}]},
{"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}`

// noListener forbids the filter of dib itself and the calls by which its
// supervisor reads the memory of hooks.
const noListener = `{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_AARCH64","SCMP_ARCH_ARM"],
"syscalls":[{"names":["seccomp"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}`

// noVMRead is a filter without process_vm_readv, as older ones are.
const noVMRead = `{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_AARCH64","SCMP_ARCH_ARM"],
"syscalls":[{"names":["process_vm_readv","process_vm_writev"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}`

// confinedHooks is an element whose hooks do what needs root, in the chroot and
// under the /proc that the container allows.
var confinedHooks = map[string]string{
	"root.d/50-programs": `sudo -E "$TMP_HOOKS_PATH/.dib" copy-programs "$TARGET_ROOT" mknod chattr mount umount setsid sleep touch mkdir chown`,
	"install.d/50-root": `mknod /node b 7 1
chown 65534:1234 /node
touch /flagged
chattr +i /flagged
mkdir /point
for type in proc sysfs tmpfs; do
	mount -t $type none /point
	umount /point
done
if [[ $(</proc/1/comm) == bash ]]; then echo "proc-is bound"; else echo "proc-is fresh"; fi
setsid sleep 98765 </dev/null >/dev/null 2>&1 &`,
}

const containerBuild = `
/t/dib create -o /tmp/img -t tar --no-tmpfs fake-os confined 2>&1
status=$?
if pgrep -f "sleep 9876[5]"; then echo "a daemon is left"; fi
if ls -d /tmp/dib* 2>/dev/null; then echo "a work directory is left"; fi
if [ $status -eq 0 ]; then tar -tvf /tmp/img.tar ./node ./flagged 2>/dev/null; fi
exit $status
`

const containerKill = `
/t/dib create -o /tmp/img -t tar fake-os waits >/tmp/log 2>&1 &
pid=$!
for i in {1..300}; do
	if pgrep -f "sleep 8765[4]" >/dev/null; then break; fi
	sleep 0.05
done
pgrep -f "sleep 8765[4]" >/dev/null || { cat /tmp/log; exit 3; }
kill -KILL $pid
for i in {1..100}; do
	if ! pgrep -f "sleep 8765[4]|[s]andbox-" >/dev/null; then echo "all gone"; exit 0; fi
	sleep 0.05
done
ps -ef
exit 4
`

// containers runs scripts in containers that podman makes of the host's /usr.
type containers struct {
	t     *testing.T
	actor lab.Actor
	dir   string // shown as /t
	root  string // the root file system
	hide  []string
}

func newContainers(t *testing.T, l *lab.Lab, a lab.Actor) *containers {
	t.Helper()
	b := newWorkbench(t, l, a)
	c := &containers{t: t, actor: a, dir: b.dir("container"), root: b.dir("rootfs")}
	for _, d := range []string{"usr", "etc/alternatives", "proc", "sys", "dev", "run", "tmp", "var/tmp", "root", "home/builder", "t"} {
		c.check(os.MkdirAll(filepath.Join(c.root, d), 0o755))
	}
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		if _, err := os.Stat("/usr/" + d); err == nil {
			c.check(os.Symlink("usr/"+d, filepath.Join(c.root, d)))
		}
	}
	c.write(c.root, "etc/passwd", "root:x:0:0:root:/root:/bin/bash\nbuilder:x:1000:1000::/home/builder:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n", 0o644)
	c.write(c.root, "etc/group", "root:x:0:\ntty:x:5:\nbuilder:x:1000:\n", 0o644)
	c.write(c.root, "etc/subuid", "", 0o644)
	c.write(c.root, "etc/subgid", "", 0o644)
	c.write(c.dir, "docker.json", dockerFilter, 0o644)
	c.write(c.dir, "nolistener.json", noListener, 0o644)
	c.write(c.dir, "novmread.json", noVMRead, 0o644)
	c.write(c.dir, "subid", "builder:1:999\nbuilder:1001:64535\n", 0o644)
	for name, text := range confinedHooks {
		c.write(c.dir, "elements/confined/"+name, "#!/bin/bash\nset -eu -o pipefail\n"+text+"\n", 0o755)
	}
	c.write(c.dir, "elements/waits/root.d/90-wait", "#!/bin/bash\nsetsid sleep 87654 </dev/null >/dev/null 2>&1 &\nsleep 87654\n", 0o755)
	binary, err := os.ReadFile(l.Dib)
	c.check(err)
	c.write(c.dir, "dib", string(binary), 0o755)
	for _, d := range []string{c.dir, c.root} {
		c.check(lab.ChownTree(d, a))
	}
	// As images that build images have them: capabilities instead of the set-user-id bit.
	for name, capability := range map[string]int{"newuidmap": unix.CAP_SETUID, "newgidmap": unix.CAP_SETGID} {
		path, err := exec.LookPath(name)
		c.check(err)
		text, err := os.ReadFile(path)
		c.check(err)
		c.write(c.dir, name, string(text), 0o755)
		value := binaryCapability(capability)
		c.check(unix.Setxattr(filepath.Join(c.dir, name), "security.capability", value, 0))
	}
	// The host's sudo knows nobody in the container.
	if path, err := exec.LookPath("sudo"); err == nil {
		c.hide = []string{path}
	}
	return c
}

// binaryCapability is the attribute of a file with one capability, permitted and
// effective.
func binaryCapability(n int) []byte {
	var out []byte
	for _, word := range []uint32{0x02000001, 1 << n, 0, 0, 0} {
		out = binary.LittleEndian.AppendUint32(out, word)
	}
	return out
}

func (c *containers) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *containers) write(dir, name, text string, mode os.FileMode) {
	c.t.Helper()
	path := filepath.Join(dir, name)
	c.check(os.MkdirAll(filepath.Dir(path), 0o755))
	c.check(os.WriteFile(path, []byte(text), mode))
	c.check(os.Chmod(path, mode))
}

// run returns what a script printed in a container and its exit status.
func (c *containers) run(script string, options ...string) (string, int) {
	c.t.Helper()
	// Podman takes no long path here.
	state, err := os.MkdirTemp("/tmp", "pod.")
	c.check(err)
	c.check(lab.ChownTree(state, c.actor))
	defer os.RemoveAll(state)
	// Whatever podman leaves running ends with the PID namespace around it.
	argv := []string{"unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", oneCgroup + `exec "$@"`, "bash"}
	if c.actor.UID != 0 {
		argv = append(argv, "setpriv", "--reuid", c.actor.Name, "--regid", c.actor.Name, "--init-groups")
	}
	argv = append(argv, "podman", "--root", state+"/root", "--runroot", state+"/run", "--tmpdir", state+"/tmp", "--storage-driver", "vfs",
		"--cgroup-manager", "cgroupfs", "--runtime", "crun", "run", "--rm", "--cgroups", "disabled", "--network", "none", "--log-driver", "none",
		"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--tmpfs", "/tmp",
		"--volume", "/usr:/usr:ro", "--volume", "/etc/alternatives:/etc/alternatives:ro", "--volume", c.dir+":/t:ro",
		"--env", "ELEMENTS_PATH=/t/elements", "--env", "TMPDIR=/tmp", "--env", "DIB_IMAGE_CACHE=/tmp/.cache", "--env", "DIB_LOCKFILES=/tmp/.locks")
	for _, path := range c.hide {
		argv = append(argv, "--volume", "/dev/null:"+path)
	}
	argv = append(append(argv, options...), "--rootfs", c.root, "bash", "-c", script)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = "/tmp"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + state, "USER=" + c.actor.Name, "LANG=C.UTF-8", "XDG_RUNTIME_DIR=" + state}
	out, err := cmd.CombinedOutput()
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		c.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// oneCgroup gives podman a hierarchy that it knows where the host mixes two.
const oneCgroup = `if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
	umount -l /sys/fs/cgroup
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
`

// In a container a build works, or ends at once with an error that names the
// option that is missing. "root" is rootful podman, the ordinary user's rootless.
func TestContainers(t *testing.T) {
	l := openLab(t)
	needProgram(t, "podman", "crun", "newuidmap", "pgrep", "setpriv")
	const (
		node    = `brw-r--r-- 65534/1234 +7,1 `
		bound   = `proc-is bound`
		fresh   = `proc-is fresh`
		success = `Build completed successfully`
	)
	asBuilder := []string{"--user", "1000", "--volume", "DIR/subid:/etc/subuid:ro", "--volume", "DIR/subid:/etc/subgid:ro"}
	for _, a := range []lab.Actor{lab.Root(), ordinary(t)} {
		t.Run(a.Name, func(t *testing.T) {
			c := newContainers(t, l, a)
			for _, k := range []struct {
				name    string
				options []string
				rootful bool // differs from rootless in nothing but time: tried as one of them
				want    []string
				fails   bool
			}{
				{name: "default", rootful: true, want: []string{success, node, bound}},
				{name: "privileged", options: []string{"--privileged"}, rootful: true, want: []string{success, node, fresh}},
				{name: "SYS_ADMIN", options: []string{"--cap-add", "SYS_ADMIN"}, rootful: true, want: []string{success, node, bound}},
				{name: "unmasked", options: []string{"--security-opt", "unmask=ALL", "--security-opt", "seccomp=unconfined"},
					want: []string{success, node, fresh}},
				{name: "filter without process_vm_readv", options: []string{"--security-opt", "seccomp=DIR/novmread.json"},
					want: []string{success, node, bound}},
				{name: "filter without listeners", options: []string{"--security-opt", "seccomp=DIR/nolistener.json"}, fails: true,
					want: []string{`system calls that need root are not answered: cannot install the system call filter: operation not permitted;.*--security-opt seccomp=unconfined`}},
				{name: "filter of docker", options: []string{"--security-opt", "seccomp=DIR/docker.json"}, rootful: true, fails: true,
					want: []string{`lacks capabilities, .* the seccomp filter forbids it`, `hint: start the container with --security-opt seccomp=unconfined \(or`}},
				{name: "no capabilities", options: []string{"--cap-drop", "ALL"}, fails: true,
					want: []string{`lacks the capabilities SETUID, SETGID, SETFCAP`, `hint: start the container with --cap-add SETUID --cap-add SETGID --cap-add SETFCAP`}},
				{name: "user with newuidmap", rootful: true, want: []string{success, node, bound},
					options: append([]string{"--volume", "DIR/newuidmap:/usr/bin/newuidmap:ro", "--volume", "DIR/newgidmap:/usr/bin/newgidmap:ro"}, asBuilder...)},
				{name: "user without ids", options: []string{"--user", "1000"}, fails: true,
					want: []string{`user builder has 0 subordinate user ids`, `the lines builder:1:999 and builder:1001:64535`}},
				{name: "pod without privilege escalation", fails: true, rootful: true,
					options: append([]string{"--security-opt", "no-new-privileges", "--env", "KUBERNETES_SERVICE_HOST=10.0.0.1"}, asBuilder...),
					want:    []string{`no_new_privs is set`, `hint: set allowPrivilegeEscalation: true`}},
			} {
				if a.UID == 0 && !k.rootful {
					continue
				}
				t.Run(k.name, func(t *testing.T) {
					c.t = t
					var options []string
					for _, o := range k.options {
						options = append(options, strings.ReplaceAll(o, "DIR", c.dir))
					}
					out, status := c.run(containerBuild, options...)
					if (status != 0) != k.fails || strings.Contains(out, " is left") {
						t.Errorf("status %d", status)
					}
					for _, w := range k.want {
						if !regexp.MustCompile(w).MatchString(out) {
							t.Errorf("no %q", w)
						}
					}
					if !k.fails && strings.Contains(out, "WARNING") {
						t.Error("warnings")
					}
					if t.Failed() {
						t.Log(fmt.Sprint(k.options), "\n", tail(out))
					}
				})
			}
			t.Run("killed", func(t *testing.T) {
				c.t = t
				if out, status := c.run(containerKill); status != 0 || !strings.Contains(out, "all gone") {
					t.Errorf("status %d\n%s", status, out)
				}
			})
		})
	}
}
