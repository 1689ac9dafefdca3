package sandbox

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/sandbox/workdir"
)

// same fails the test unless the lines of got are those wanted.
func same(t *testing.T, got string, want ...string) {
	t.Helper()
	if w := strings.Join(want, "\n") + "\n"; got != w {
		t.Errorf("output:\n%s\nwant:\n%s", got, w)
	}
}

func TestSurroundings(t *testing.T) {
	sides(t, func(t *testing.T, s side) {
		name := "root"
		if s == asUser {
			name, _ = ordinary()
		}
		host := mountinfo(t)
		for _, tmpfs := range []bool{false, true} {
			dir := parent(t)
			out := s.check(t, job{UseTmpfs: tmpfs, TmpfsSize: 64 << 20, TmpParent: dir, Script: `
				id -u; id -g; id -un; id -gn; hostname; umask; echo $$ | grep -c .
				stat -c '%a %u' /dev /.dib/build /.dib/image
				readlink /dev/ptmx; head -c 3 /dev/zero | od -An -tx1
				echo gone > /dev/null; test -c /dev/null
				script -qc 'echo a terminal' /dev/null < /dev/null | tr -d '\r'
				if mkdir /sys/kernel/x 2>/dev/null; then echo /sys is writable; fi
				test "$(ps -o pid= -p 1)" -eq 1
				echo ${container:-none}
				mv -T /.dib/build /.dib/image/moved && mv -T /.dib/image/moved /.dib/build
				ls -A /.dib | tr '\n' ' '
			`})
			container, own := "none", "bin build elements image lib "
			if s == asUser {
				container, own = "lxc", "bin build elements group image lib passwd side-table "
			}
			same(t, strings.TrimSuffix(out, "\n")+"\n", "0", "0", name, name, "localhost", "0022", "1",
				"755 0", "700 0", "700 0", "pts/ptmx", " 00 00 00", "a terminal", container, own)
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		}
		if d := mountinfo(t); d != host {
			t.Errorf("mounts of the host:\n%s\nbefore:\n%s", d, host)
		}
	})
}

// mountinfo lists the mounts of the host, but for those in scratch places,
// where tests of other packages mount things at the same time; the test's own
// scratch directory is looked at anyway.
func mountinfo(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		point := strings.Fields(line)[4]
		elsewhere := slices.ContainsFunc([]string{os.TempDir(), "/var/tmp", "/var/lib/containers", "/run"}, func(dir string) bool { return strings.HasPrefix(point, dir+"/") })
		if !elsewhere || strings.Contains(point, strings.ReplaceAll(t.Name(), "/", "")) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func TestTmpfsSize(t *testing.T) {
	sides(t, func(t *testing.T, s side) {
		same(t, s.check(t, job{UseTmpfs: true, TmpfsSize: 8 << 20, Script: `
			df --output=size -B1M /.dib/build | tail -n 1 | tr -d ' '
			if head -c 16M /dev/zero > /.dib/build/f 2>/dev/null; then echo unbounded; fi
		`}), "8")
	})
}

func TestOwners(t *testing.T) {
	sides(t, func(t *testing.T, s side) {
		same(t, s.check(t, job{Script: `
			mkdir $T; cd $T
			touch a b c; chown 1:1 a; chown 65534:65534 b; chown $USER: c; chmod 4755 b
			stat -c '%u:%g %a' a b c
			mkdir -m 0 d; touch d/e; chown -R 42:43 d
		`}), "1:1 644", "65534:65534 4755", "0:0 644")
	})
}

// What root of a user namespace may not do is done for him, also in a chroot and
// in the working directory of a process.
func TestInterception(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become an ordinary user")
	}
	if _, err := ordinary(); err != nil {
		t.Skip(err)
	}
	out := asUser.check(t, job{UseTmpfs: true, Script: `
		echo "$FACTS" | grep -q '"intercepted":true'
		mkdir -p $T/dev $T/sys $T/proc $T/usr/bin
		cd $T/dev
		mknod -m 666 null c 1 3
		(umask 077; mknod vda b 254 0)
		mv null zero; mkdir sub; mv zero sub/null
		mknod fifo p
		echo "mknod again: $(mknod vda b 1 1 2>&1)"
		stat -c '%n %F %a %s' sub/null vda fifo
		# in a chroot
		mkdir -p $T/bin; cp /.dib/bin/dib $T/bin/ ; for d in usr lib lib64; do mkdir -p $T/$d; mount --rbind /$d $T/$d 2>/dev/null || true; done
		chroot $T /usr/bin/mknod /dev/chrooted c 5 1
		test -e $T/dev/chrooted
		# flags
		cd $T; touch frozen log; chattr +i frozen; chattr +a log; lsattr frozen log | awk '{print $1 " " $2}' | tr -s -
		chattr -i frozen; lsattr frozen | grep -c i- || true
		chattr +i frozen
		echo still writable > frozen
		# labels
		python3 - <<'PY'
import os
os.setxattr('frozen', 'security.selinux', b'system_u:object_r:etc_t:s0\0')
os.setxattr('frozen', 'user.plain', b'1')
try:
    os.setxattr('frozen', 'security.selinux', b'x', os.XATTR_CREATE)
except FileExistsError:
    print('label exists')
os.setxattr('log', 'security.ima', b'1')
os.removexattr('log', 'security.ima')
PY
		# mounts
		mount -t sysfs sysfs $T/sys
		test -d $T/sys/kernel
		mount --bind /dev $T/dev
		test -c $T/dev/null
		echo x > $T/dev/null
		mount -t proc proc $T/proc
		mount -t devpts devpts $T/dev/pts
		umount $T/dev/pts $T/dev $T/sys $T/proc
		test ! -c $T/dev/null
		mount --rbind /sys $T/sys; mount --rbind /dev $T/dev; umount -R $T/sys; umount -R $T/dev; test ! -d $T/sys/kernel
		grep -c " $T/dev" /proc/self/mountinfo || true
		mount -t tmpfs none /mnt; umount /mnt
		unshare -m bash -c "mount -t sysfs sysfs $T/sys; test -d $T/sys/kernel"
		test ! -d $T/sys/kernel
		cat /.dib/side-table > /tmp/table.$$; cat /tmp/table.$$ | grep -c node; rm /tmp/table.$$
		echo resolve; TEST_RESOLVE=1 /.dib/bin/dib test-resolve $T
	`})
	same(t, out,
		"mknod again: mknod: vda: File exists",
		"sub/null regular empty file 666 0", "vda regular empty file 600 0", "fifo fifo 644 0",
		"-i- frozen", "-a- log", "0",
		"label exists", "0", "3",
		"resolve",
		"dev/chrooted c 644 5:1 0:0", "dev/sub/null c 666 1:3 0:0", "dev/vda b 600 254:0 0:0",
		"frozen flags 0x10 [security.selinux]", "log flags 0x20 []")
}

func TestStatus(t *testing.T) {
	sides(t, func(t *testing.T, s side) {
		for _, c := range []struct {
			script string
			code   int
		}{
			{"exit 0", 0}, {"exit 7", 7},
			{"sleep 1000 & (sleep 1000 & sleep 1000) & exit 3", 3}, // orphans do not delay the end
			{"kill -9 $PPID; sleep 1000", 128 + 9},
			{"kill -TERM $PPID; sleep 1000", 75},
			{"for i in $(seq 50); do (sleep 0 &); done; sleep 0.2; ps ax -o stat= | grep -c Z", 1}, // nothing but reaped orphans
		} {
			if r := s.build(t, job{Script: c.script}); r.code != c.code {
				t.Errorf("%q: status %d, want %d\n%s", c.script, r.code, c.code, r.events)
			}
		}
	})
}

// processes returns the processes whose environment has the mark.
func processes(t *testing.T, mark string) []int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, d := range dirs {
		env, err := os.ReadFile(d + "/environ")
		if err == nil && bytes.Contains(env, []byte(mark)) {
			pid, _ := strconv.Atoi(filepath.Base(d))
			out = append(out, pid)
		}
	}
	return out
}

// commandOf is what a process was started as: the first argument of the binary.
// Helpers that sweep, which are no part of a build, are told by what follows.
func commandOf(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	words := strings.Split(string(text), "\x00")
	if len(words) < 3 || words[2] == stageRemove {
		return string(text)
	}
	return words[1]
}

// eventually waits until f is true.
func eventually(f func() bool) bool {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if f() {
			return true
		}
	}
	return false
}

// Whatever is killed at whatever moment: no process and no mount is left, and
// the next build removes the work directory.
func TestSuddenDeath(t *testing.T) {
	if testing.Short() {
		t.Skip("kills dozens of builds")
	}
	rounds := 30
	sides(t, func(t *testing.T, s side) {
		dir := parent(t)
		for _, victim := range []string{"test-supervisor", stageBoot, stageInit, stageExec, "test-engine"} {
			t.Run(victim, func(t *testing.T) {
				hit := 0
				for i := range rounds {
					hit += murder(t, s, dir, victim, time.Duration(rand.IntN(60))*time.Millisecond, i)
				}
				t.Logf("killed %d of %d", hit, rounds)
			})
		}
		s.check(t, job{TmpParent: dir, Script: "true"})
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left after the next build: %v, %v", left, err)
		}
		for l := range strings.Lines(mountinfo(t)) {
			if strings.Contains(l, dir) || strings.Contains(l, "/.dib") {
				t.Errorf("mount left: %s", l)
			}
		}
	})
}

func murder(t *testing.T, s side, dir, victim string, after time.Duration, round int) (hit int) {
	mark := marked()
	cmd := s.supervisor(t, job{TmpParent: dir, UseTmpfs: round%2 == 0, Script: `
		mkdir $T; touch $T/f; chown 7:7 $T/f; setsid sleep 1000 & mount -t tmpfs none $T; sleep 1000`}, mark)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second // a process that is left would hold the output open
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Stages live for moments: look for the victim at once, then wait.
	deadline := time.Now().Add(2 * time.Second)
	if victim != stageBoot && victim != stageExec {
		time.Sleep(after)
	}
	for hit == 0 && time.Now().Before(deadline) {
		for _, pid := range processes(t, mark) {
			if commandOf(pid) == victim && unix.Kill(pid, unix.SIGKILL) == nil {
				hit = 1
			}
		}
		if victim == stageBoot || victim == stageExec {
			if time.Since(deadline.Add(-2*time.Second)) > 300*time.Millisecond {
				break // missed it
			}
		}
	}
	if hit == 0 {
		_ = cmd.Process.Kill()
	}
	// A build that goes on without its victim would not end by itself.
	late := time.AfterFunc(20*time.Second, func() {
		t.Errorf("round %d: the build outlived its %s", round, victim)
		_ = cmd.Process.Kill()
	})
	_ = cmd.Wait()
	late.Stop()
	if !eventually(func() bool { return len(processes(t, mark)) == 0 }) {
		for _, pid := range processes(t, mark) {
			t.Errorf("process %d is left: %s", pid, commandOf(pid))
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	return hit
}

func TestCancel(t *testing.T) {
	sides(t, func(t *testing.T, s side) {
		for _, c := range []struct {
			name, script string
			code         int
		}{
			{"obedient", "echo ready; sleep 1000", 75},
			{"stubborn", "trap '' TERM; echo ready; while true; do sleep 1000; done", 128 + 9},
		} {
			t.Run(c.name, func(t *testing.T) {
				dir, mark := parent(t), marked()
				script := c.script
				if c.name == "stubborn" {
					script = "kill -STOP $PPID; " + script // an engine that cannot react
				}
				cmd := s.supervisor(t, job{TmpParent: dir, Script: script, Grace: 200 * time.Millisecond}, mark)
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				if _, err := out.Read(make([]byte, 16)); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Process.Signal(unix.SIGTERM)
				_ = cmd.Wait()
				if code := cmd.ProcessState.ExitCode(); code != c.code {
					t.Errorf("status %d, want %d", code, c.code)
				}
				if left := processes(t, mark); len(left) != 0 {
					t.Errorf("processes left: %v", left)
				}
				if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
					t.Errorf("left behind: %v, %v", left, err)
				}
			})
		}
	})
}

// A build sweeps what others left, but not what is in use.
func TestSweep(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := parent(t)
	used, err := workdir.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	stale, err := workdir.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	stale.Lock.Close()
	who, err := identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := sweep(dir, who); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(used.Path); err != nil {
		t.Errorf("the directory in use: %v", err)
	}
	if _, err := os.Stat(stale.Path); !os.IsNotExist(err) {
		t.Errorf("the stale directory: %v", err)
	}
}

// The binary may be replaced or deleted while a build starts.
func TestDeletedBinary(t *testing.T) {
	sides(t, func(t *testing.T, s side) {
		h, err := home()
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(h, "binary"))
		if err != nil {
			t.Fatal(err)
		}
		own := filepath.Join(parent(t), "binary")
		if err := os.WriteFile(own, text, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := s.supervisor(t, job{TmpParent: parent(t), Script: "sudo -u root echo fine"}, marked())
		for i, a := range cmd.Args {
			if a == filepath.Join(h, "binary") {
				// The shell deletes the file and only then becomes the supervisor.
				cmd.Args = append(append(cmd.Args[:i:i], "bash", "-c", `exec 9< "$0"; rm -f "$0"; exec /proc/self/fd/9 "$@"`, own), cmd.Args[i+1:]...)
				break
			}
		}
		if s == asRoot {
			cmd.Path, _ = exec.LookPath("bash")
		}
		cmd.Dir = filepath.Dir(own)
		if err := os.Chmod(cmd.Dir, 0o777); err != nil {
			t.Fatal(err)
		}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.HasSuffix(string(out), "fine\n") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

func TestSudoStandIn(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become an ordinary user")
	}
	name, err := ordinary()
	if err != nil {
		t.Skip(err)
	}
	out := asUser.check(t, job{Script: `
		export FOO=1 LD_PRELOAD2=x; f() { :; }; export -f f
		sudo id -u
		sudo -u daemon id -un
		sudo -u daemon -g bin id -gn
		sudo -u '#7' id -u
		sudo -u $USER id -u
		sudo sh -c 'echo ${FOO:-unset} $HOME $USER'
		sudo -E sh -c 'echo ${FOO:-unset} $HOME'
		sudo -EH sh -c 'echo $HOME'
		sudo -n FOO=2 BAR=3 sh -c 'echo $FOO $BAR'
		sudo --preserve-env=FOO -- sh -c 'echo $FOO'
		sudo -E bash -c 'declare -F f || echo no functions'
		sudo -i sh -c 'pwd'
		sudo -s echo 'a  b' '$((1+1))'
		sudo -E sudo -u daemon whoami
		sudo -k; sudo false || echo $?
		sudo no-such-command 2>&1 || echo $?
		/usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin:/.dib/bin sudo id -u
	`})
	same(t, out, "0", "daemon", "bin", "7", "0", "unset /root root", "1 /home/"+name, "/root", "2 3", "1",
		"no functions", "/root", "a  b $((1+1))", "daemon", "1", "sudo: no-such-command: command not found", "1", "0")
}
