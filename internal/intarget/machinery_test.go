package intarget

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/elements"
	"github.com/dib-builder/dib/test/commandtest"
)

// fakeTree makes the root filesystem of fake-os with the given elements' merged
// content where the chroot sees it.
func fakeTree(t *testing.T, names ...string) (hooks, target string) {
	t.Helper()
	hooks, target = t.TempDir(), t.TempDir()
	if out, err := hostHook(t, "fake-os/root.d/10-fake-os", hooks, target); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	merge(t, hooks, names...)
	commandtest.Write(t, target, map[string]string{"dev/null": ""}) // a file will do
	show(t, hooks, target)
	return hooks, target
}

// show puts the hooks tree where the chroot sees it.
func show(t *testing.T, hooks, target string) {
	t.Helper()
	if err := os.RemoveAll(target + "/tmp/in_target.d"); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(target+"/tmp/in_target.d", os.DirFS(hooks)); err != nil {
		t.Fatal(err)
	}
}

// inTarget runs a script in the chroot.
func inTarget(t *testing.T, target, script string) (string, error) {
	t.Helper()
	return commandtest.Chroot(t, target, "/bin/bash", "-c", "set -eu; exec 2>&1; "+script)
}

func mustRun(t *testing.T, target, script string) string {
	t.Helper()
	out, err := inTarget(t, target, script)
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

func wantFailure(t *testing.T, out string, err error, says string) {
	t.Helper()
	if err == nil || !strings.Contains(out, says) {
		t.Errorf("%v, want a failure that says %q:\n%s", err, says, out)
	}
}

func mustHook(t *testing.T, hook, hooks, target string, env ...string) string {
	t.Helper()
	out, err := hostHook(t, hook, hooks, target, env...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", hook, err, out)
	}
	return out
}

func TestInstallBin(t *testing.T) {
	const hook = "/tmp/in_target.d/pre-install.d/01-install-bin"
	hooks, target := fakeTree(t, "install-bin")
	mustRun(t, target, hook) // no element has commands
	if err := os.RemoveAll(target + "/usr/local/bin"); err != nil {
		t.Fatal(err)
	}
	commandtest.Write(t, hooks, map[string]string{"bin/tool": "#!/bin/bash\necho $0", "bin/.hidden": "", "elsewhere": "#!/bin/bash\necho linked\n"})
	if err := os.Symlink("../elsewhere", hooks+"/bin/link"); err != nil {
		t.Fatal(err)
	}
	show(t, hooks, target)
	mustRun(t, target, hook)
	if got := mustRun(t, target, "tool; link; cd /usr/local/bin; stat -c '%n %F %a %u:%g' *; ls -A"); !strings.HasPrefix(got, "/usr/local/bin/tool\nlinked\n") ||
		!strings.HasSuffix(got, "link regular file 755 0:0\ntool regular file 755 0:0\nlink\ntool\n") {
		t.Errorf("installed:\n%s", got)
	}
	for _, bad := range []string{"directory", "dangling"} {
		name := hooks + "/bin/" + bad
		var err error
		if bad == "directory" {
			err = os.Mkdir(name, 0o755)
		} else {
			err = os.Symlink("/nowhere", name)
		}
		if err != nil {
			t.Fatal(err)
		}
		show(t, hooks, target)
		out, err := inTarget(t, target, hook)
		wantFailure(t, out, err, "bin/"+bad+": only files")
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCommandsDependOnInstallBin(t *testing.T) {
	t.Run("M18 every element with commands", func(t *testing.T) {
		for _, name := range []string{"pkg-map", "svc-map", "sysctl", "sysprep"} {
			needs, err := elements.FS().Open(name + "/element-deps")
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			needs.Close()
			if got := commandtest.Read(t, "../../elements/"+name+"/element-deps"); !strings.Contains("\n"+got, "\ninstall-bin\n") {
				t.Errorf("%s depends on %q", name, got)
			}
		}
	})
}

func TestRemoveBuildCommands(t *testing.T) {
	const hook = "install-bin/cleanup.d/95-remove-build-commands"
	fill := func(t *testing.T) (hooks, target string) {
		hooks, target = t.TempDir(), t.TempDir()
		commandtest.Write(t, hooks, map[string]string{"bin/pkg-map": "a", "bin/tool": "b"})
		commandtest.Write(t, target, map[string]string{
			"usr/local/bin/pkg-map": "a", "usr/local/bin/tool": "replaced", "usr/local/bin/other": "",
			"usr/share/pkg-map/x": "{}", "usr/share/svc-map/services": "{}",
		})
		return hooks, target
	}
	left := func(target string) (names string) {
		for _, name := range []string{"usr/local/bin/pkg-map", "usr/local/bin/tool", "usr/local/bin/other", "usr/share/pkg-map", "usr/share/svc-map"} {
			if _, err := os.Lstat(filepath.Join(target, name)); err == nil {
				names += filepath.Base(name) + " "
			}
		}
		return names
	}
	t.Run("M19 kept by default", func(t *testing.T) {
		hooks, target := fill(t)
		mustHook(t, hook, hooks, target)
		if got := left(target); got != "pkg-map tool other pkg-map svc-map " {
			t.Errorf("left: %s", got)
		}
	})
	t.Run("M19 removed on request", func(t *testing.T) {
		hooks, target := fill(t)
		mustHook(t, hook, hooks, target, "DIB_REMOVE_BUILD_COMMANDS=1")
		if got := left(target); got != "tool other " {
			t.Errorf("left: %s", got)
		}
	})
}

func TestSysctl(t *testing.T) {
	hooks, target := fakeTree(t, "sysctl", "install-bin")
	mustRun(t, target, "/tmp/in_target.d/pre-install.d/01-install-bin")
	_ = hooks
	const file = "/etc/sysctl.d/net.ipv4.ip_forward.conf"
	mustRun(t, target, "sysctl-write-value net.ipv4.ip_forward 1")
	if got := commandtest.Read(t, target+file); got != "# Written by diskimage-builder\nnet.ipv4.ip_forward = 1\n" {
		t.Errorf("written %q", got)
	}
	mustRun(t, target, "sysctl-write-value net.ipv4.ip_forward 1; sysctl-set-value net.ipv4.ip_forward ' 1'")
	t.Run("M62 settings are compared as they are", func(t *testing.T) {
		out, err := inTarget(t, target, "sysctl-write-value net.ipv4.ip_forward 10")
		wantFailure(t, out, err, `cannot set net.ipv4.ip_forward to "10": `+file+` exists and sets it to "1"`)
		commandtest.Write(t, target, map[string]string{
			"etc/sysctl.d/a.b.conf": "axb = 1\n# a.b = 1\na.b=2\n", "etc/sysctl.d/c.conf": "c = 2\nc = 1", "etc/sysctl.d/d.conf": "; d = 1\nd\n",
		})
		out, err = inTarget(t, target, "sysctl-write-value a.b 1")
		wantFailure(t, out, err, `sets it to "2"`)
		mustRun(t, target, "sysctl-write-value a.b 2; sysctl-write-value c 1")
		out, err = inTarget(t, target, "sysctl-write-value d 1")
		wantFailure(t, out, err, `sets it to ""`)
	})
	t.Run("M61 the running kernel is left alone", func(t *testing.T) {
		// No sysctl program is in the image, no /proc: a setting can only be written.
		mustRun(t, target, "sysctl-set-value kernel.panic '10 20' $'two\nlines'")
		if got := commandtest.Read(t, target+"/etc/sysctl.d/kernel.panic.conf"); got != "# two\n# lines\nkernel.panic = 10 20\n" {
			t.Errorf("written %q", got)
		}
	})
	for args, says := range map[string]string{"": "usage:", "a": "usage:", "a b c d": "usage:", "../a b": "not the name", "a $'x\ny'": "must be one line", "a ''": "must be one line"} {
		for _, command := range []string{"sysctl-write-value", "sysctl-set-value"} {
			out, err := inTarget(t, target, command+" "+args)
			wantFailure(t, out, err, says)
		}
	}
}

func TestDibPython(t *testing.T) {
	const hook = "/tmp/in_target.d/pre-install.d/01-dib-python"
	hooks, target := fakeTree(t, "dib-python")
	run := func(distro, version string) (string, error) {
		return inTarget(t, target, fmt.Sprintf("export DISTRO_NAME=%s; [ -z '%s' ] || export DIB_PYTHON_VERSION=%s; "+
			". /tmp/in_target.d/environment.d/50-dib-python-version; %s; readlink /usr/local/bin/dib-python", distro, version, version, hook))
	}
	out, err := run("fedora", "")
	wantFailure(t, out, err, "the image has no program python3")
	commandtest.Write(t, target, map[string]string{
		"usr/bin/apt-get!": "#!/bin/bash\necho \"apt $*\"\n: > /usr/bin/python3; chmod 0755 /usr/bin/python3\n",
		"usr/bin/python2!": "",
	})
	for _, tt := range []struct{ name, distro, version, out string }{
		{"M51 Debian has Python 3", "debian", "", "apt -y install python3\n/usr/bin/python3\n"},
		{"M51 also old releases", "ubuntu", "", "/usr/bin/python3\n"},
		{"version 2", "debian", "2", "/usr/bin/python2\n"},
		{"M52 without platform-python", "centos", "", "/usr/bin/python3\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if out, err := run(tt.distro, tt.version); err != nil || out != tt.out {
				t.Errorf("%v: %q, want %q", err, out, tt.out)
			}
		})
	}
	commandtest.Write(t, target, map[string]string{"usr/libexec/platform-python!": ""})
	if out, err := run("rhel", ""); err != nil || out != "/usr/libexec/platform-python\n" {
		t.Errorf("%v: %q", err, out)
	}
	for range 2 { // also when it is gone already
		mustHook(t, "dib-python/cleanup.d/50-dib-python", hooks, target)
	}
	if _, err := os.Lstat(target + "/usr/local/bin/dib-python"); err == nil {
		t.Error("the link is still there")
	}
}

func TestModprobeBlacklistAlias(t *testing.T) {
	t.Run("M08 usable where modprobe is", func(t *testing.T) {
		// What made both unusable together were equal names in one directory;
		// elements.TestHookNamesAreUnique holds that there are none.
		if got := commandtest.Read(t, "../../elements/modprobe-blacklist/element-deps"); got != "modprobe\n" {
			t.Errorf("depends on %q", got)
		}
		hooks, target := fakeTree(t, "modprobe", "modprobe-blacklist")
		const hook = "modprobe-blacklist/extra-data.d/49-modprobe-blacklist-variable"
		out, err := hostHook(t, hook, hooks, target)
		wantFailure(t, out, err, "DIB_MODPROBE_BLACKLIST names none")
		mustHook(t, hook, hooks, target, "DIB_MODPROBE_BLACKLIST=a b")
		mustHook(t, "modprobe/extra-data.d/50-modprobe-blacklist", hooks, target) // no modprobe.d anywhere
		mustRun(t, target, "DIB_MODPROBE_BLACKLIST='a  b' /tmp/in_target.d/install.d/80-modprobe-blacklist")
		if got := commandtest.Read(t, target+"/etc/modprobe.d/blacklist.conf"); got != "blacklist a\nblacklist b\n" {
			t.Errorf("written %q", got)
		}
	})
}

func TestDibRunParts(t *testing.T) {
	if out := mustHook(t, "dib-run-parts/extra-data.d/01-dib-run-parts", t.TempDir(), t.TempDir()); !strings.Contains(out, "WARNING: the element dib-run-parts does nothing") {
		t.Errorf("says %q", out)
	}
}

func TestElementManifest(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the hook gives files to root, which takes root")
	}
	const hook = "element-manifest/extra-data.d/75-inject-element-manifest"
	for env, file := range map[string]string{"": "etc/dib-manifests/dib-element-manifest", "DIB_ELEMENT_MANIFEST_PATH=/opt/some where/elements": "opt/some where/elements"} {
		target := t.TempDir()
		mustHook(t, hook, t.TempDir(), target, "DIB_MANIFEST_IMAGE_DIR=/etc/dib-manifests", "IMAGE_ELEMENT=zebra base apple", env)
		if got := commandtest.Read(t, filepath.Join(target, file)); got != "zebra\nbase\napple\n" {
			t.Errorf("%s: %q", file, got)
		}
	}
}

func TestDibInitSystem(t *testing.T) {
	const hook = "/tmp/in_target.d/install.d/20-install-init-scripts"
	for system, dir := range map[string]string{"systemd": "usr/lib/systemd/system", "upstart": "etc/init", "openrc": "etc/init.d", "sysv": "etc/init.d"} {
		hooks, target := fakeTree(t, "dib-init-system")
		mustRun(t, target, "export DIB_INIT_SYSTEM="+system+"; "+hook) // no element has any
		commandtest.Write(t, hooks, map[string]string{"init-scripts/" + system + "/x": system, "init-scripts/" + system + "/sub.d/y": "", "init-scripts/other/z": ""})
		show(t, hooks, target)
		t.Run("M53 the directory is made for "+system, func(t *testing.T) {
			mustRun(t, target, "export DIB_INIT_SYSTEM="+system+"; "+hook)
			if got := commandtest.Read(t, filepath.Join(target, dir, "x")); got != system {
				t.Errorf("copied %q", got)
			}
			if _, err := os.Stat(filepath.Join(target, dir, "sub.d/y")); err != nil {
				t.Error(err)
			}
		})
		t.Run("M53 a failure ends the build for "+system, func(t *testing.T) {
			if err := os.RemoveAll(filepath.Join(target, dir)); err != nil {
				t.Fatal(err)
			}
			commandtest.Write(t, target, map[string]string{dir: "in the way"})
			if out, err := inTarget(t, target, "export DIB_INIT_SYSTEM="+system+"; "+hook); err == nil {
				t.Errorf("a file where the directory belongs: no error\n%s", out)
			}
		})
		var wrong string
		for _, value := range []string{"unset DIB_INIT_SYSTEM", "DIB_INIT_SYSTEM=launchd"} {
			out, err := inTarget(t, target, value+"; . /tmp/in_target.d/environment.d/99-dib-init-system; echo passed")
			wantFailure(t, out, err, "DIB_INIT_SYSTEM must be")
			wrong += out
		}
		if strings.Contains(wrong, "passed") {
			t.Errorf("an environment file let it pass: %s", wrong)
		}
	}
}

func TestSvcMapHooks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the hook gives files to root, which takes root")
	}
	hooks, target, lib := t.TempDir(), t.TempDir(), t.TempDir()
	commandtest.Write(t, lib, map[string]string{"one/svc-map": "web: {default: apache2, redhat: httpd}\n"})
	mustHook(t, "svc-map/extra-data.d/10-merge-svc-map-files", hooks, target, "DISTRO_NAME=rocky", "IMAGE_ELEMENT_YAML=one: "+lib+"/one\ntwo: "+lib+"/two")
	mustHook(t, "svc-map/extra-data.d/11-copy-svc-map-file", hooks, target)
	if got := commandtest.Read(t, target+"/usr/share/svc-map/services"); got != "web: httpd\n" {
		t.Errorf("services: %q", got)
	}
	if st, err := os.Stat(target + "/usr/share/svc-map/services"); err != nil || st.Mode() != 0o644 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	commandtest.Write(t, lib, map[string]string{"two/svc-map": "web: {}\n"})
	out, err := hostHook(t, "svc-map/extra-data.d/10-merge-svc-map-files", hooks, target, "DISTRO_NAME=rocky", "IMAGE_ELEMENT_YAML=one: "+lib+"/one\ntwo: "+lib+"/two")
	wantFailure(t, out, err, `element "two"`)
}
