package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/test/imagetree"
	"github.com/dib-builder/dib/test/lab"
)

// records reads the lines of the element recorder, in order.
func records(log string) []map[string]string {
	var list []map[string]string
	for _, m := range regexp.MustCompile(`(?m)^RECORD (.*)$`).FindAllStringSubmatch(log, -1) {
		r := map[string]string{}
		for _, word := range strings.Fields(m[1]) {
			k, v, _ := strings.Cut(word, "=")
			r[k] = v
		}
		list = append(list, r)
	}
	return list
}

func TestD19D20Phases(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		o := b.mustBuild(build{args: []string{"-n", "-o", "phases", "fake-os", "recorder"}})
		inside := map[string]bool{"pre-install": true, "install": true, "post-install": true, "finalise": true}
		withRoot := map[string]string{"root": "/.dib/build/mnt", "block-device": "/.dib/build/built", "cleanup": "/.dib/build/mnt"}
		var order []string
		for _, r := range records(o.Stdout) {
			phase := r["phase"]
			order = append(order, phase)
			want := map[string]string{
				"side": "outside", "pwd": b.out, "uid": "0", "home": b.actor.Home, "target_root": "unset",
				"hooks": "/.dib/build/hooks", "hooks_are": "writable", "host_paths": "yes",
				"recorder_variable": "from-the-element", "image_name": "phases", "lc_all": "C", "umask": "0022",
				"install_type": "source", "proc": "yes", "dev": "yes", "path_ok": "yes",
			}
			if inside[phase] {
				want["side"], want["pwd"], want["home"] = "inside", "/", "/root"
				want["hooks"], want["hooks_are"], want["host_paths"] = "/tmp/in_target.d", "read-only", "no"
			}
			if dir, ok := withRoot[phase]; ok {
				want["target_root"] = dir
			}
			for k, v := range want {
				if r[k] != v {
					t.Errorf("phase %s: %s is %q, want %q", phase, k, r[k], v)
				}
			}
			if has := strings.Split(r["elements"], ","); !slices.Contains(has, "fake-os") || !slices.Contains(has, "recorder") {
				t.Errorf("phase %s: IMAGE_ELEMENT is %q", phase, r["elements"])
			}
		}
		want := []string{"root", "extra-data", "pre-install", "install", "post-install", "post-root", "block-device", "pre-finalise", "finalise", "cleanup"}
		if !slices.Equal(order, want) {
			t.Errorf("phases ran as %v, want %v", order, want)
		}
		mustContain(t, "the log", o.Stdout, `^Building in /`, `^Running hooks from /.*/root\.d$`, `^Running hooks from /tmp/in_target\.d/install\.d$`, `^Building elements: `, `^Expanded element dependencies to: .*\brecorder\b`,
			`^dib-run-parts Running .*/root\.d/50-record$`, `^dib-run-parts .*/cleanup\.d/50-record completed$`,
			`Image file .*phases\.qcow2 created`, `^Build completed successfully$`)
		if got := b.outputs(); !slices.Equal(got, []string{"phases.qcow2"}) {
			t.Errorf("outputs: %v", got)
		}
		output(t, "qemu-img", "check", filepath.Join(b.out, "phases.qcow2"))
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(b.out, "phases.qcow2"), &st); err != nil || int(st.Uid) != b.actor.UID {
			t.Errorf("the image belongs to %d (%v), want %d", st.Uid, err, b.actor.UID)
		}
	})
}

func TestFailingHook(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		for _, phase := range []string{"root", "install", "pre-finalise", "finalise", "cleanup"} {
			o := b.run(build{args: []string{"-n", "-o", "never", "--logfile", "never.log", "fake-os", "recorder"},
				env: map[string]string{"RECORDER_FAIL": phase, "DIB_QUIET": "0"}})
			if o.Exit != 42 {
				t.Errorf("%s: exit status %d, want the hook's 42", phase, o.Exit)
			}
			mustContain(t, phase+": the log", o.Stdout,
				`hook `+phase+`\.d/50-record of element recorder failed: exit status 42`,
				`the first line before the failure`, `the last line before the failure`,
				`never\.log`, `break=after-error`)
			if got := b.outputs(); !slices.Equal(got, []string{"never.log"}) {
				t.Errorf("%s: outputs: %v", phase, got)
			}
			b.tmpIsEmpty()
		}
	})
}

func TestFailureIsShownWhenQuiet(t *testing.T) {
	l := openLab(t)
	b := newWorkbench(t, l, ordinary(t))
	o := b.run(build{args: []string{"-n", "-o", "never", "--logfile", "q.log", "fake-os", "recorder"},
		env: map[string]string{"RECORDER_FAIL": "install"}})
	if o.Stdout != "Output logs going to: q.log\n" {
		t.Errorf("stdout of a quiet build: %q", o.Stdout)
	}
	mustContain(t, "stderr", o.Stderr, `hook install\.d/50-record of element recorder failed`)
	mustContain(t, "the log file", b.read("q.log"), `hook install\.d/50-record of element recorder failed`)
}

func TestBreakPoints(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		fake := []string{"-n", "-o", "broken", "fake-os", "recorder"}
		for _, c := range []struct {
			name  string
			env   map[string]string
			stdin string
			exit  int
			want  []string // patterns, in this order in the log
		}{
			{"command outside", map[string]string{"break": "before-extra-data", "break_cmd": `echo "tree:$TMP_MOUNT_PATH" | tr a-z A-Z`}, "", 0,
				[]string{`RECORD phase=root`, `TREE:/\.DIB/BUILD/MNT`, `RECORD phase=extra-data`}},
			{"command inside", map[string]string{"break": "before-install", "break_cmd": `. /etc/os-release; echo "here:$ID"`}, "", 0,
				[]string{`RECORD phase=pre-install`, `^here:fake`, `RECORD phase=install`}},
			{"shell inside", map[string]string{"break": "before-install"}, "echo shell in $PWD; ls -d /tmp/in_target.d\nexit\n", 0,
				[]string{`RECORD phase=pre-install`, `^shell in /$`, `^/tmp/in_target\.d$`, `RECORD phase=install`}},
			{"shell outside", map[string]string{"break": "after-root"}, "echo shell beside $TMP_HOOKS_PATH\n", 0,
				[]string{`RECORD phase=root`, `^shell beside /\.dib/build/hooks$`, `RECORD phase=extra-data`}},
			{"before the size", map[string]string{"break": "before-block-device-size", "break_cmd": `echo "size:${DIB_IMAGE_SIZE-none}"`}, "", 0,
				[]string{`RECORD phase=post-root`, `^size:none`, `RECORD phase=block-device`}},
			{"after an error inside", map[string]string{"break": "after-error", "RECORDER_FAIL": "install", "break_cmd": `. /etc/os-release; echo "wreck of $ID"`}, "", 42,
				[]string{`RECORD phase=install`, `^wreck of fake`}},
			{"after an error inside, looked at from outside", map[string]string{"break": "after-error", "RECORDER_FAIL": "install", "break_outside_target": "1",
				"break_cmd": `test -d "$TMP_MOUNT_PATH/etc" && echo "wreck seen" || echo "no wreck"`}, "", 42,
				[]string{`RECORD phase=install`, `^wreck seen`}},
			{"after an error outside", map[string]string{"break": "after-error", "RECORDER_FAIL": "extra-data", "break_cmd": `echo outside wreck`}, "", 42,
				[]string{`RECORD phase=extra-data`, `^outside wreck`}},
		} {
			t.Run(c.name, func(t *testing.T) {
				env := map[string]string{"OVERWRITE_OLD_IMAGE": "1"}
				for k, v := range c.env {
					env[k] = v
				}
				o := b.run(build{args: fake, env: env, stdin: c.stdin})
				if o.Exit != c.exit {
					t.Errorf("exit status %d, want %d\n%s%s", o.Exit, c.exit, tail(o.Stdout), o.Stderr)
				}
				rest := o.Stdout
				for _, p := range c.want {
					at := regexp.MustCompile("(?m)" + p).FindStringIndex(rest)
					if at == nil {
						t.Fatalf("no %s at its place in the log; missing in what follows:\n%s", p, tail(rest))
					}
					rest = rest[at[1]:]
				}
				b.tmpIsEmpty()
			})
		}
	})
}

func TestLog(t *testing.T) {
	b := newWorkbench(t, openLab(t), ordinary(t))
	stamped := regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \| `)
	fake := []string{"-n", "-o", "log", "fake-os"}
	all := func(text string) (with, without int) {
		for line := range strings.Lines(text) {
			if stamped.MatchString(line) {
				with++
			} else {
				without++
			}
		}
		return with, without
	}
	for _, c := range []struct {
		name             string
		logfile          bool
		env              map[string]string
		stdout           bool // expected at all
		stdoutTimestamps bool
	}{
		{"plain", false, map[string]string{"DIB_NO_TIMESTAMP": ""}, true, true},
		{"without timestamps", false, map[string]string{"DIB_NO_TIMESTAMP": "1"}, true, false},
		{"log file", true, map[string]string{"DIB_NO_TIMESTAMP": ""}, false, false},
		{"log file and loud", true, map[string]string{"DIB_QUIET": "0", "DIB_NO_TIMESTAMP": "1"}, true, false},
		{"quiet", false, map[string]string{"DIB_QUIET": "1"}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := fake
			if c.logfile {
				args = append([]string{"--logfile", "the.log"}, fake...)
			}
			c.env["OVERWRITE_OLD_IMAGE"] = "1"
			o := b.mustBuild(build{args: args, env: c.env})
			with, without := all(strings.Replace(o.Stdout, "Output logs going to: the.log\n", "", 1))
			if c.stdout != (with+without > 0) {
				t.Errorf("stdout has %d lines: %s", with+without, tail(o.Stdout))
			}
			if c.stdoutTimestamps && without > 0 || !c.stdoutTimestamps && with > 0 {
				t.Errorf("stdout has %d lines with a timestamp and %d without", with, without)
			}
			if o.Stderr != "" {
				t.Errorf("stderr: %q", o.Stderr)
			}
			if !c.logfile {
				return
			}
			before := b.read("the.log")
			if with, without := all(before); with == 0 || without > 0 {
				t.Errorf("the log file has %d lines with a timestamp and %d without", with, without)
			}
			b.mustBuild(build{args: args, env: c.env})
			if after := b.read("the.log"); !strings.HasPrefix(after, before) || len(after) == len(before) {
				t.Error("a second build does not append to the log file")
			}
			if err := os.Remove(filepath.Join(b.out, "the.log")); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestOutputNames(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		b.mustBuild(build{args: []string{"-n", "-o", "a.qcow2", "fake-os"}})
		if got := b.outputs(); !slices.Equal(got, []string{"a.qcow2"}) {
			t.Fatalf("-o a.qcow2: outputs are %v", got)
		}
		first := b.read("a.qcow2")
		o := b.mustBuild(build{args: []string{"-n", "-o", "a.qcow2", "fake-os", "recorder"}})
		mustContain(t, "the log", o.Stdout, `^Old image found\. Renaming it to .*a-\d{4}\.\d\d\.\d\d-\d\d\.\d\d\.\d\d\.qcow2`)
		got := b.outputs()
		if len(got) != 2 || got[1] != "a.qcow2" || !regexp.MustCompile(`^a-\d{4}\.\d\d\.\d\d-\d\d\.\d\d\.\d\d\.qcow2$`).MatchString(got[0]) {
			t.Fatalf("after a second build: outputs are %v", got)
		}
		if b.read(got[0]) != first {
			t.Error("the renamed image is not the old one")
		}
		dir := b.dir("elsewhere")
		name := filepath.Join(dir, "with blank")
		b.mustBuild(build{args: []string{"-n", "-t", "qcow2,raw", "-u", "-o", name, "fake-os"}})
		output(t, "qemu-img", "compare", name+".qcow2", name+".raw")
		if info := output(t, "qemu-img", "check", name+".qcow2"); !strings.Contains(info, ", 0.00% compressed") {
			t.Errorf("-u, but: %s", info)
		}
		output(t, "e2fsck", "-fn", name+".raw")
		b.mustBuild(build{args: []string{"-n", "-o", "c", "fake-os"}})
		if info := output(t, "qemu-img", "check", filepath.Join(b.out, "c.qcow2")); strings.Contains(info, ", 0.00% compressed") {
			t.Errorf("a usual image is not compressed: %s", info)
		}
	})
}

// mounted is the root filesystem of a raw image, mounted for the length of a test.
func mounted(t *testing.T, image string) string {
	t.Helper()
	dir := t.TempDir()
	unmount, err := imagetree.Mount(image, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unmount(); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// immutable is FS_IMMUTABLE_FL as the inode on disk holds it.
const immutable = 0x10

func TestKernelFavours(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		b.mustBuild(build{args: []string{"-n", "-t", "raw", "-o", "favours", "fake-os", "kernel-favours"}})
		image := filepath.Join(b.out, "favours.raw")
		output(t, "e2fsck", "-fn", image)
		tree, err := imagetree.Read(mounted(t, image))
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]imagetree.Entry{
			"srv/char":  {Mode: unix.S_IFCHR | 0o640, Device: unix.Mkdev(1, 3)},
			"srv/block": {Mode: unix.S_IFBLK | 0o644, Device: unix.Mkdev(7, 9)},
			"srv/fifo":  {Mode: unix.S_IFIFO | 0o644},
			"srv/mine":  {Mode: unix.S_IFREG | 0o644},
			"srv/other": {Mode: unix.S_IFREG | 0o644, UID: 1234, GID: 2345},
		} {
			e, ok := tree[path]
			if !ok {
				t.Errorf("%s is missing", path)
			} else if e.Mode != want.Mode || e.UID != want.UID || e.GID != want.GID || e.Device != want.Device {
				t.Errorf("%s: mode %o, owner %d:%d, device %x; want %o, %d:%d, %x", path, e.Mode, e.UID, e.GID, e.Device, want.Mode, want.UID, want.GID, want.Device)
			}
		}
		inode := output(t, "debugfs", "-R", "stat /srv/immutable", image)
		m := regexp.MustCompile(`Flags: 0x([0-9a-f]+)`).FindStringSubmatch(inode)
		if m == nil {
			t.Fatalf("debugfs shows no flags:\n%s", inode)
		}
		if flags, err := strconv.ParseUint(m[1], 16, 32); err != nil || flags&immutable == 0 {
			t.Errorf("srv/immutable has the flags %#x, not the immutable one", flags)
		}
	})
}

func TestPackagesOption(t *testing.T) {
	b := newWorkbench(t, openLab(t), ordinary(t))
	b.mustBuild(build{args: []string{"-n", "-t", "raw", "-o", "p", "-p", "vim,less", "-p", "jq", "fake-os"}})
	text, err := os.ReadFile(filepath.Join(mounted(t, filepath.Join(b.out, "p.raw")), "var/lib/fake-os/packages"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(string(text)); !slices.Equal(got, []string{"vim", "less", "jq"}) {
		t.Errorf("install-packages was asked for %v", got)
	}
	t.Run("D39 with the variables of environment.d", func(t *testing.T) {
		b := newWorkbench(t, openLab(t), ordinary(t))
		b.mustBuild(build{args: []string{"-n", "-t", "raw", "-o", "p", "-p", "vim,less", "fake-os", "yum-witness"}})
		text, err := os.ReadFile(filepath.Join(mounted(t, filepath.Join(b.out, "p.raw")), "var/lib/fake-os/packages"))
		if want := "YUM=dnf vim less\n"; err != nil || string(text) != want {
			t.Errorf("%q, %v; want %q", text, err, want)
		}
	})
}

func TestRefusals(t *testing.T) {
	b := newWorkbench(t, openLab(t), ordinary(t))
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"twin hooks", []string{"-n", "-o", "x", "fake-os", "twin-a", "twin-b"}, []string{`twin-a`, `twin-b`, `install\.d/50-twin`}},
		{"misspelt element", []string{"-n", "-o", "x", "fake-os", "recordr"}, []string{`recordr`, `did you mean .*recorder`}},
		{"no operating system", []string{"-n", "-o", "x", "recorder"}, []string{`operating.system`, `fake-os`}},
		{"unknown type", []string{"-n", "-o", "x", "-t", "qcow3", "fake-os"}, []string{`qcow3`, `qcow2`}},
		{"missing directory", []string{"-n", "-o", "no/such/x", "fake-os"}, []string{`no/such`}},
		{"no elements", []string{"-o", "x"}, []string{`element`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := b.run(build{args: c.args})
			if o.Exit != 1 {
				t.Errorf("exit status %d, want 1", o.Exit)
			}
			mustContain(t, "the output", o.Stdout+o.Stderr, c.want...)
			if got := b.outputs(); len(got) > 0 {
				t.Errorf("outputs: %v", got)
			}
			b.tmpIsEmpty()
		})
	}
}

// whenLogged calls f once the log file of a build has the text.
func whenLogged(path, text string, f func(*lab.Running)) func(*lab.Running) {
	return func(r *lab.Running) {
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if log, err := os.ReadFile(path); err == nil && strings.Contains(string(log), text) {
				f(r)
				return
			}
		}
	}
}

func TestInterrupt(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		for sig, want := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
			log := filepath.Join(b.out, sig.String()+".log")
			o := b.run(build{args: []string{"-n", "-o", "x", "--logfile", log, "fake-os", "slow"},
				started: whenLogged(log, "SLOW has started", func(r *lab.Running) {
					if pid := r.Command(); pid > 0 {
						_ = syscall.Kill(pid, sig)
					}
				})})
			if o.Exit != want {
				t.Errorf("%v: exit status %d, want %d", sig, o.Exit, want)
			}
			if err := os.Remove(log); err != nil {
				t.Fatal(err)
			}
			if got := b.outputs(); len(got) > 0 {
				t.Errorf("%v: outputs: %v", sig, got)
			}
			b.tmpIsEmpty()
		}
	})
}

func TestStaleWorkDirectoryIsSwept(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		log := filepath.Join(b.out, "slow.log")
		o := b.run(build{args: []string{"-n", "-o", "x", "--no-tmpfs", "--logfile", log, "fake-os", "slow"},
			started: whenLogged(log, "SLOW has started", func(r *lab.Running) {
				if pid := r.Command(); pid > 0 {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			})})
		if o.Exit != 128+9 {
			t.Fatalf("exit status %d, want that of SIGKILL", o.Exit)
		}
		if entries, err := os.ReadDir(b.tmp); err != nil || len(entries) == 0 {
			t.Fatalf("a killed build on disk has no work directory in TMPDIR (%v): nothing to sweep", err)
		}
		b.mustBuild(build{args: []string{"-n", "-o", "x", "fake-os"}})
	})
}

func TestSideBySide(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		var wait sync.WaitGroup
		outcomes, errs := make([]lab.Outcome, 2), make([]error, 2)
		for i, name := range []string{"left", "right"} {
			wait.Go(func() {
				outcomes[i], errs[i] = b.try(build{args: []string{"-n", "-o", name, "fake-os", "recorder"}})
			})
		}
		wait.Wait()
		for i, o := range outcomes {
			if o.Exit != 0 || errs[i] != nil {
				t.Errorf("build %d: exit status %d, %v\n%s%s", i, o.Exit, errs[i], tail(o.Stdout), o.Stderr)
			}
		}
		if got := b.outputs(); !slices.Equal(got, []string{"left.qcow2", "right.qcow2"}) {
			t.Errorf("outputs: %v", got)
		}
		b.tmpIsEmpty()
	})
}

// TestOwnOutputs is about elements that write their results beside the image
// that is not made, as those of ironic-python-agent-builder do.
func TestOwnOutputs(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		if err := os.Mkdir(filepath.Join(b.out, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := lab.ChownTree(filepath.Join(b.out, "sub"), b.actor); err != nil {
			t.Fatal(err)
		}
		o := b.mustBuild(build{args: []string{"-n", "-o", "sub/agent", "--checksum", "fake-os", "own-outputs"}})
		if strings.Contains(o.Stdout, "writing") {
			t.Errorf("a disk image was made:\n%s", tail(o.Stdout))
		}
		if got := b.read("sub/agent.kernel"); got != "kernel of sub/agent\n" {
			t.Errorf("the kernel is %q", got)
		}
		names, err := filepath.Glob(filepath.Join(b.out, "sub/*"))
		if err != nil || len(names) != 4 {
			t.Errorf("outputs: %v, %v", names, err)
		}
		for _, name := range names {
			var st unix.Stat_t
			if err := unix.Stat(name, &st); err != nil || int(st.Uid) != b.actor.UID {
				t.Errorf("%s belongs to %d (%v), want %d", name, st.Uid, err, b.actor.UID)
			}
		}
		list := output(t, "tar", "-tzf", filepath.Join(b.out, "sub/agent.initramfs"))
		mustContain(t, "the archive", list, `^\./etc/os-release$`, `^\./boot/vmlinuz-6\.1\.0-9-amd64$`)
		if strings.Contains(list, "./proc/1") || strings.Contains(list, "resolv.conf.ORIG") {
			t.Errorf("the archive has what is not of the image:\n%s", list)
		}
		output(t, "sh", "-c", "cd '"+b.out+"' && sha256sum -c --quiet sub/agent.kernel.sha256 sub/agent.initramfs.sha256")
	})
}

// TestD24D39PackagesOfTheCommandLine: -p installs with what environment.d
// exports, and its words are arguments, not text for a shell.
func TestD24D39PackagesOfTheCommandLine(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		o := b.mustBuild(build{args: []string{"-n", "-o", "packages", "-p", "one,$(touch /pwned)", "-p", "two;three*", "fake-os", "installer"}})
		mustContain(t, "the log", o.Stdout, `^INSTALLER variable=from-the-element <one> <\$\(touch> </pwned\)> <two;three\*>$`)
	})
}

// TestD32D46StateOfTheBuild: work directories are the build's alone, and options
// with quotes reach both the file of parameters and the filesystem.
func TestD32D46StateOfTheBuild(t *testing.T) {
	needProgram(t, "dumpe2fs")
	asEach(t, func(t *testing.T, b *workbench) {
		o := b.mustBuild(build{args: []string{"-n", "-t", "raw", "-o", "state", "--mkfs-options", `-m 0 -M "/it's a"`, "fake-os"},
			env: map[string]string{"break": "before-pre-finalise", "break_cmd": `stat -c 'MODE %a' "$TMP_BUILD_DIR" "$TMP_IMAGE_DIR"; cat "$DIB_BLOCK_DEVICE_PARAMS_YAML"`}})
		if strings.Count(o.Stdout, "MODE 700\n") != 2 {
			t.Errorf("modes of the work directories:\n%s", tail(o.Stdout))
		}
		mustContain(t, "the parameters", o.Stdout, `^root-fs-opts: '?.*-m 0 -M "/it'{1,2}s a"'?$`)
		mustContain(t, "the superblock", output(t, "dumpe2fs", "-h", filepath.Join(b.out, "state.raw")), `^Last mounted on: +/it's a$`)
	})
}
