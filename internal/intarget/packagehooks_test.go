package intarget

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/test/commandtest"
)

// hookTarget is a tree of fake-os with recording programs, in which hooks of
// elements can run.
func hookTarget(t *testing.T, programs ...string) string {
	t.Helper()
	return packageTarget(t, "", programs...)
}

// targetHook runs a hook in a target with assignments as its environment and
// returns its output and the calls that it made.
func targetHook(t *testing.T, target, hook, env string) (out, made string, err error) {
	t.Helper()
	commandtest.Write(t, target, map[string]string{"hook!": commandtest.Read(t, "../../elements/"+hook)})
	return calls(t, target, env+" /hook")
}

// hookCalls is targetHook for a hook that has to succeed; it returns the calls.
func hookCalls(t *testing.T, target, hook, env string) string {
	t.Helper()
	out, made, err := targetHook(t, target, hook, env)
	if err != nil {
		t.Fatalf("%s: %v\n%s", hook, err, out)
	}
	return made
}

func TestYumHooks(t *testing.T) {
	target := hookTarget(t, "dnf", "yum")
	t.Run("configuration", func(t *testing.T) {
		for name, c := range map[string]struct{ env, file, before, during, after string }{
			"dnf": {
				"YUM=dnf", "etc/dnf/dnf.conf", "[main]\ngpgcheck=1\nkeepcache = 0\n",
				"[main]\nkeepcache=1\ncachedir=/tmp/yum\ngpgcheck=1\n#dib#keepcache = 0\n", "[main]\ngpgcheck=1\nkeepcache = 0\n",
			},
			"dnf5":        {"YUM=dnf5", "etc/dnf/dnf.conf", "[main]\n# x\n", "[main]\nkeepcache=1\ncachedir=/tmp/yum\n# x\n", "[main]\n# x\n"},
			"empty":       {"YUM=dnf", "etc/dnf/dnf.conf", "", "[main]\nkeepcache=1\ncachedir=/tmp/yum\n", "[main]\n"},
			"yum, no YUM": {"", "etc/yum.conf", "[main]\ncachedir=/var/cache/yum/x\n", "[main]\nkeepcache=1\ncachedir=/tmp/yum\n#dib#cachedir=/var/cache/yum/x\n", "[main]\ncachedir=/var/cache/yum/x\n"},
		} {
			t.Run(name, func(t *testing.T) {
				commandtest.Write(t, target, map[string]string{c.file: c.before})
				hookCalls(t, target, "yum/pre-install.d/00-01-yum-keepcache", c.env)
				if got := commandtest.Read(t, target+"/"+c.file); got != c.during {
					t.Errorf("during the build %q, want %q", got, c.during)
				}
				hookCalls(t, target, "yum/post-install.d/99-reset-yum-conf", c.env)
				if got := commandtest.Read(t, target+"/"+c.file); got != c.after {
					t.Errorf("afterwards %q, want %q", got, c.after)
				}
			})
		}
	})
	for _, c := range []struct{ hook, env, calls, fail string }{
		{"pre-install.d/00-install-repo-package", "YUM=dnf", "", ""},
		{"pre-install.d/00-install-repo-package", "YUM=dnf DIB_YUM_REPO_PACKAGE=epel-release", "dnf <-y> <install> <epel-release>\n", ""},
		{"pre-install.d/00-install-repo-package", "YUM=dnf DIB_YUM_REPO_PACKAGE=https://h/r.rpm", "dnf <-y> <install> <https://h/r.rpm>\n", ""},
		{"pre-install.d/00-install-repo-package", "DIB_YUM_REPO_PACKAGE=http://h/r.rpm", "yum <-y> <--setopt=localpkg_gpgcheck=1> <install> <http://h/r.rpm>\n", ""},
		{"pre-install.d/01-00-centos-python3", "YUM=dnf DISTRO_NAME=centos", "dnf <install> <-y> <python3> <python3-pyyaml>\n", ""},
		{"pre-install.d/01-00-centos-python3", "YUM=dnf DISTRO_NAME=rocky", "", ""},
		{"pre-install.d/01-module-configuration", "YUM=dnf DIB_DNF_MODULE_STREAMS='a:1 b:2'", "dnf <-y> <module> <disable> <a>\ndnf <-y> <module> <enable> <a:1>\ndnf <-y> <module> <disable> <b>\ndnf <-y> <module> <enable> <b:2>\n", ""},
		{"pre-install.d/01-module-configuration", "YUM=dnf", "", ""},
		{"pre-install.d/01-module-configuration", "YUM=yum DIB_DNF_MODULE_STREAMS=a:1", "", ""},
		{"pre-install.d/01-module-configuration", "YUM=dnf DIB_DNF_MODULE_STREAMS='a:1 b'", "", `"b" in DIB_DNF_MODULE_STREAMS is not MODULE:STREAM`},
	} {
		t.Run(strings.ReplaceAll(c.hook+" "+c.env, "/", "_"), func(t *testing.T) {
			out, made, err := targetHook(t, target, "yum/"+c.hook, c.env)
			if (err != nil) != (c.fail != "") || !strings.Contains(out, c.fail) || made != c.calls {
				t.Errorf("%v, calls %q, want %q; %s", err, made, c.calls, out)
			}
		})
	}
}

func TestYumRepoConf(t *testing.T) {
	hooks, target, dir := t.TempDir(), t.TempDir(), t.TempDir()
	commandtest.Write(t, dir, map[string]string{"a.repo": "mine\n", "b.repo": "b\n"})
	commandtest.Write(t, target, map[string]string{"etc/yum.repos.d/a.repo": "original\n"})
	if os.Geteuid() != 0 {
		t.Skip("the hook gives files to root, which takes root")
	}
	const add, remove = "yum/extra-data.d/99-yum-repo-conf", "yum/cleanup.d/99-remove-yum-repo-conf"
	env := "DIB_YUM_REPO_CONF=" + dir + "/a.repo " + dir + "/b.repo"
	if out, err := hostHook(t, add, hooks, target, env+" "+dir+"/none"); err == nil || !strings.Contains(out, "/none, which is no file") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(target + "/etc/yum.repos.d/b.repo"); err == nil {
		t.Error("files were copied before the mistake was found")
	}
	for _, hook := range []string{add, add} { // a repetition must not take the copy for the original
		if out, err := hostHook(t, hook, hooks, target, env); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if got := commandtest.Read(t, target+"/etc/yum.repos.d/a.repo"); got != "mine\n" {
		t.Errorf("a.repo is %q", got)
	}
	if out, err := hostHook(t, remove, hooks, target, env); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	entries, err := os.ReadDir(target + "/etc/yum.repos.d")
	if err != nil || len(entries) != 1 || commandtest.Read(t, target+"/etc/yum.repos.d/a.repo") != "original\n" {
		t.Errorf("%v, %v", entries, err)
	}
	for _, hook := range []string{add, remove} {
		if out, err := hostHook(t, hook, hooks, target); err != nil {
			t.Errorf("without the variable: %v: %s", err, out)
		}
	}
}

// withMount makes a mount that does what the arguments say with ordinary files:
// an overlay or a bind becomes a link to the writable directory.
func withMount(t *testing.T, fail string) string {
	t.Helper()
	bin := t.TempDir()
	commandtest.Write(t, bin, map[string]string{
		"sudo!": "#!/bin/bash\nif [ \"$1\" = -E ]; then shift; fi\nexec \"$@\"\n",
		"mount!": "#!/bin/bash\necho \"mount $*\" >> " + bin + "/calls\ncase $* in " + fail + ") exit 32 ;; esac\n" +
			"all=$*; upper=${all#*upperdir=}; upper=${upper%%,*}; case $1 in --bind) upper=$2 ;; esac\nrmdir \"${*: -1}\" && ln -s \"$upper\" \"${*: -1}\"\n",
	})
	return bin
}

func TestPackageCaches(t *testing.T) {
	for _, c := range []struct{ element, seen string }{{"yum", "tmp/yum"}, {"zypper", "var/cache/zypp/packages"}} {
		for name, fail := range map[string]string{"overlay": "none", "old kernel": "*index=off*|*:work|*overlay*", "user's overlay": "*work\\ overlay*"} {
			t.Run(c.element+" "+name, func(t *testing.T) {
				bin, target, cache, build := withMount(t, fail), t.TempDir(), t.TempDir(), t.TempDir()
				env := []string{"PATH=" + bin + ":/usr/bin:/bin", "DIB_IMAGE_CACHE=" + cache, "TMP_BUILD_DIR=" + build}
				commandtest.Write(t, cache, map[string]string{c.element + "/repo/old.rpm": "old"})
				if out, err := hostHook(t, c.element+"/root.d/50-"+c.element+"-cache", t.TempDir(), target, env...); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				commandtest.Write(t, target+"/"+c.seen, map[string]string{"repo/old.rpm": "changed", "repo/x/new.rpm": "new", "repo/list.xml": "list"})
				if out, err := hostHook(t, c.element+"/post-root.d/50-harvest-"+c.element+"-cache", t.TempDir(), target, env...); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				var found []string
				err := filepath.WalkDir(cache, func(path string, d os.DirEntry, err error) error {
					if err == nil && !d.IsDir() {
						found = append(found, strings.TrimPrefix(path, cache+"/"+c.element+"/")+"="+commandtest.Read(t, path))
					}
					return err
				})
				if want := "repo/old.rpm=old repo/x/new.rpm=new"; err != nil || strings.Join(found, " ") != want {
					t.Errorf("the cache has %v (%v), want %s", found, err, want)
				}
			})
		}
	}
}

// manifest is the form of package manifests of every family.
type manifest struct {
	Packages []struct{ Package, Arch, Version, Status string }
}

// TestManifestsOfEveryFamily reads what the hooks write about packages.
func TestManifestsOfEveryFamily(t *testing.T) {
	target := hookTarget(t, "rpm", "dpkg-query")
	// The program prints its format once per package, with what it stands for.
	commandtest.Write(t, target, map[string]string{
		"do.rpm": `format=${3/\%|EPOCH?\{\%\{EPOCH\}:\}:\{\}|/@EPOCH@}
for p in 'zlib x86_64 1.2 3.el9' 'bash x86_64 5.1 9.el9 4:' 'gpg-pubkey (none) 8483c65d 5ccc5b19' 'tzdata noarch 2024a 1'; do
    set -- $p
    line=${format//%\{NAME\}/$1}; line=${line//%\{ARCH\}/$2}; line=${line//@EPOCH@/${5:-}}; line=${line//%\{VERSION\}/$3}; line=${line//%\{RELEASE\}/$4}
    printf "$line"
done
`,
		"do.dpkg-query": `line=${3//\$\{binary:Package\}/tar}; line=${line//\$\{Architecture\}/amd64}; line=${line//\$\{Version\}/1:1.34}; line=${line//\$\{db:Status-Abbrev\}/ii }
printf "$line"
`,
		"var/db/pkg/app-shells/bash-5.2_p26-r3/PF": "", "var/db/pkg/sys-libs/zlib-1.3/PF": "", "var/db/pkg/dev-libs/a-2b-1/PF": "", "var/db/pkg/world": "",
	})
	for _, c := range []struct{ hook, file, want string }{
		{"dpkg/finalise.d/99-write-dpkg-manifest", "dpkg", "[{tar amd64 1:1.34 ii }]"},
		{"yum/finalise.d/99-write-rpm-manifest", "rpm", "[{bash x86_64 4:5.1-9.el9 ii } {tzdata noarch 2024a-1 ii } {zlib x86_64 1.2-3.el9 ii }]"},
		{"zypper/finalise.d/99-write-rpm-manifest", "rpm", "[{bash x86_64 4:5.1-9.el9 ii } {tzdata noarch 2024a-1 ii } {zlib x86_64 1.2-3.el9 ii }]"},
		{"gentoo/finalise.d/99-write-portage-manifest", "portage", "[{app-shells/bash amd64 5.2_p26-r3 ii } {dev-libs/a-2b amd64 1 ii } {sys-libs/zlib amd64 1.3 ii }]"},
	} {
		t.Run("M55 "+strings.ReplaceAll(c.hook, "/", "_"), func(t *testing.T) {
			dir := fmt.Sprintf("/etc/m-%s", strings.ReplaceAll(c.hook, "/", "_"))
			hookCalls(t, target, c.hook, "DIB_MANIFEST_IMAGE_DIR="+dir+" IMAGE_NAME=/out/my-image ARCH=amd64")
			var m manifest
			if err := json.Unmarshal([]byte(commandtest.Read(t, target+dir+"/dib-manifest-"+c.file+"-my-image")), &m); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(m.Packages); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestRedHatCommonHook(t *testing.T) {
	target := hookTarget(t, "dnf", "install-packages", "package-cleanup")
	const hook = "redhat-common/finalise.d/01-clean-old-kernels"
	const query = "dnf <repoquery> <--installonly> <--latest-limit=-1> <-q>\n"
	for _, c := range []struct{ name, env, do, calls string }{
		{"none", "YUM=dnf DIB_DISABLE_KERNEL_CLEANUP=0", "", query},
		{"two", "YUM=dnf DIB_DISABLE_KERNEL_CLEANUP=0", "[ $1 != repoquery ] || printf 'kernel-1\\nkernel-core-1\\n'\n",
			query + "dnf <remove> <-y> <--setopt=protect_running_kernel=False> <kernel-1> <kernel-core-1>\n"},
		{"yum", "YUM=yum DIB_DISABLE_KERNEL_CLEANUP=0", "", "install-packages <yum-utils>\npackage-cleanup <--oldkernels> <-y> <--count=1>\n"},
		{"disabled", "YUM=dnf DIB_DISABLE_KERNEL_CLEANUP=1", "", ""},
		{"disabled, in a word", "YUM=dnf DIB_DISABLE_KERNEL_CLEANUP=true", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			commandtest.Write(t, target, map[string]string{"do.dnf": c.do})
			if made := hookCalls(t, target, hook, c.env); made != c.calls {
				t.Errorf("calls %q, want %q", made, c.calls)
			}
		})
	}
}

func TestZypperHooks(t *testing.T) {
	target := hookTarget(t, "zypper", "dracut", "mkinitrd")
	if made := hookCalls(t, target, "zypper/pre-install.d/01-zypper-keep-packages", ""); made != "zypper <modifyrepo> <--all> <--keep-packages>\n" {
		t.Error(made)
	}
	if made := hookCalls(t, target, "zypper/post-install.d/99-zypper-no-keep-packages", ""); made != "zypper <modifyrepo> <--all> <--no-keep-packages>\n" {
		t.Error(made)
	}
	// The cache of the host stays as it is.
	const clean = "zypper/post-install.d/98-zypper-clean-cache"
	if made := hookCalls(t, target, clean, ""); made != "zypper <clean> <--all>\n" {
		t.Error(made)
	}
	commandtest.Write(t, target, map[string]string{"proc/self/mounts": "overlay /var/cache/zypp/packages overlay rw 0 0\n"})
	if made := hookCalls(t, target, clean, ""); made != "zypper <clean> <--metadata>\n" {
		t.Error(made)
	}

	const logins = "zypper/install.d/01-login-defs"
	hookCalls(t, target, logins, "") // with neither file
	for _, file := range []string{"usr/etc/login.defs", "etc/login.defs"} {
		for before, after := range map[string]string{
			"A 1\n#USERGROUPS_ENAB no\nB\n": "A 1\nUSERGROUPS_ENAB yes\nB\n", "USERGROUPS_ENAB\tno\n": "USERGROUPS_ENAB yes\n", "A 1\n": "A 1\nUSERGROUPS_ENAB yes\n",
		} {
			commandtest.Write(t, target, map[string]string{file: before})
			hookCalls(t, target, logins, "")
			if got := commandtest.Read(t, target+"/"+file); got != after {
				t.Errorf("%s: %q, want %q", file, got, after)
			}
		}
	}

	const initrd = "zypper/post-install.d/10-mkinitrd"
	if made := hookCalls(t, target, initrd, "DIB_ROOT_FSTYPE=xfs"); made != "" {
		t.Errorf("without a kernel: %s", made)
	}
	commandtest.Write(t, target, map[string]string{"lib/modules/6.4/modules.dep": "", "etc/sysconfig/x": ""})
	if made := hookCalls(t, target, initrd, "DIB_ROOT_FSTYPE=xfs"); made != "dracut <--force> <--no-hostonly> <--regenerate-all> <--add-drivers> <xfs>\n" {
		t.Error(made)
	}
	if err := os.Remove(target + "/usr/bin/dracut"); err != nil {
		t.Fatal(err)
	}
	commandtest.Write(t, target, map[string]string{"do.mkinitrd": "cat /etc/sysconfig/initrd > /seen\n"})
	if made := hookCalls(t, target, initrd, "DIB_ROOT_FSTYPE=xfs"); made != "mkinitrd <-A> <-B>\n" || commandtest.Read(t, target+"/seen") != "rootfstype=xfs\n" {
		t.Error(made)
	}
	if _, err := os.Stat(target + "/etc/sysconfig/initrd"); err == nil {
		t.Error("the settings of the initrd are left")
	}
	if err := os.Remove(target + "/usr/bin/mkinitrd"); err != nil {
		t.Fatal(err)
	}
	if out, _, err := targetHook(t, target, initrd, ""); err == nil || !strings.Contains(out, "neither dracut nor mkinitrd") {
		t.Errorf("%v: %s", err, out)
	}
}
