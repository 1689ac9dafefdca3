package intarget

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dib-builder/dib/test/commandtest"
)

// environment sources a file of environment.d and returns what it printed and
// the exported variables that the names say, one "NAME=value" each.
func environment(t *testing.T, file string, env []string, names ...string) (got []string, out string, err error) {
	t.Helper()
	cmd := exec.Command("/bin/bash", append([]string{"-c", `set -eu -o pipefail; source "$1" 2>&1; shift; for n; do env | grep "^$n=" || true; done`, "bash", "../../elements/" + file}, names...)...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin"}, env...)
	data, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if name, _, ok := strings.Cut(line, "="); ok && strings.Contains(strings.Join(names, " ")+" ", name+" ") {
			got = append(got, line)
		} else {
			out += line
		}
	}
	return got, out, err
}

func TestPipAndVirtualenv(t *testing.T) {
	const file, variable = "pip-and-virtualenv/environment.d/51-pip-and-virutalenv-default.bash", "DIB_INSTALLTYPE_pip_and_virtualenv"
	for _, c := range []struct{ name, env, want, out string }{
		{"M58 Debian", "DISTRO_NAME=debian DIB_RELEASE=trixie DIB_DEFAULT_INSTALLTYPE=source", "package", ""},
		{"M58 Ubuntu", "DISTRO_NAME=ubuntu DIB_RELEASE=noble", "package", ""},
		{"M58 source", "DISTRO_NAME=debian DIB_RELEASE=trixie " + variable + "=source", "source", ""},
		{"CentOS", "DISTRO_NAME=centos DIB_RELEASE=9-stream", "package", ""},
		{"CentOS, source", "DISTRO_NAME=centos DIB_RELEASE=9-stream " + variable + "=source", "", "cannot install pip from source on centos 9-stream: set " + variable + "=package"},
		{"Tumbleweed, source", "DISTRO_NAME=opensuse DIB_RELEASE=tumbleweed " + variable + "=source", "", "on opensuse tumbleweed"},
		{"Leap, source", "DISTRO_NAME=opensuse DIB_RELEASE=15.6 " + variable + "=source", "source", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, out, err := environment(t, file, strings.Fields(c.env), variable)
			if c.want == "" {
				if err == nil || !strings.Contains(out, c.out) {
					t.Errorf("%v: %s", err, out)
				}
			} else if want := variable + "=" + c.want; err != nil || strings.Join(got, " ") != want {
				t.Errorf("%v, %q, want %q", err, got, want)
			}
		})
	}

	target := hookTarget(t, "python3", "emerge")
	commandtest.Write(t, target, map[string]string{"env.bash": commandtest.Read(t, "../../elements/"+file)})
	if err := os.Symlink("/usr/bin/python3", target+"/usr/local/bin/dib-python"); err != nil {
		t.Fatal(err)
	}
	out, _, err := calls(t, target, `source /env.bash; echo "$DIB_PYTHON_PIP|$DIB_PYTHON_VIRTUALENV"; export DIB_PYTHON_VERSION=2; source /env.bash; echo "$DIB_PYTHON_VIRTUALENV"`)
	if err != nil || out != "/usr/bin/python3 -m pip|/usr/bin/python3 -m venv\n/usr/bin/python3 -m virtualenv\n" {
		t.Errorf("%v: %s", err, out)
	}

	const check = "pip-and-virtualenv/install.d/pip-and-virtualenv-package-install/04-check-pip"
	if made := hookCalls(t, target, check, ""); made != "dib-python <-m> <pip> <--help>\ndib-python <-m> <venv> <--help>\n" {
		t.Error(made)
	}
	commandtest.Write(t, target, map[string]string{"do.dib-python": "exit 1\n"})
	if out, _, err := targetHook(t, target, check, ""); err == nil || !strings.Contains(out, "no working pip for /usr/bin/python3") {
		t.Errorf("M59: %v: %s", err, out)
	}
	if err := os.Remove(target + "/do.dib-python"); err != nil {
		t.Fatal(err)
	}
	const source = "pip-and-virtualenv/install.d/pip-and-virtualenv-source-install/04-install-pip"
	if made := hookCalls(t, target, source, "SHOW=PIP_BREAK_SYSTEM_PACKAGES DISTRO_NAME=debian"); made != "dib-python </tmp/get-pip.py> <-U> <--force-reinstall> PIP_BREAK_SYSTEM_PACKAGES=1\n"+
		"dib-python <-m> <pip> <install> <-U> <--force-reinstall> <virtualenv> PIP_BREAK_SYSTEM_PACKAGES=1\n" {
		t.Error(made)
	}
	if made := hookCalls(t, target, source, "DISTRO_NAME=gentoo"); made != "emerge <-U> <dev-python/pip> <dev-python/virtualenv>\n" {
		t.Error(made)
	}
	const clean = "pip-and-virtualenv/post-install.d/89-clean-up-pip-cache"
	commandtest.Write(t, target, map[string]string{"root/.cache/pip/x": ""})
	hookCalls(t, target, clean, "HOME=/root DIB_DISABLE_PIP_CLEANUP=1")
	if _, err := os.Stat(target + "/root/.cache/pip/x"); err != nil {
		t.Errorf("the cache is gone: %v", err)
	}
	hookCalls(t, target, clean, "HOME=/root")
	if _, err := os.Stat(target + "/root/.cache/pip"); err == nil {
		t.Error("the cache is left")
	}
}

func TestSimpleInit(t *testing.T) {
	const file, nm, glean = "simple-init/environment.d/50-simple-init", "DIB_SIMPLE_INIT_NETWORKMANAGER", "DIB_INSTALLTYPE_glean"
	for _, c := range []struct{ name, env, nm, glean, out string }{
		{"M74 source fetches no repository", "DISTRO_NAME=debian", "0", "package", ""},
		{"M74 repo fetches it", "DISTRO_NAME=debian DIB_INSTALLTYPE_simple_init=repo", "0", "source", ""},
		{"M74 repo fetches it whatever the default is", "DISTRO_NAME=rocky DIB_RELEASE=9 DIB_DEFAULT_INSTALLTYPE=package DIB_INSTALLTYPE_simple_init=repo", "1", "source", ""},
		{"M74 package", "DISTRO_NAME=fedora DIB_RELEASE=42 DIB_DEFAULT_INSTALLTYPE=package", "1", "package", ""},
		{"the user decides", "DISTRO_NAME=debian DIB_INSTALLTYPE_glean=source " + nm + "=1", "1", "source", ""},
		{"CentOS without", "DISTRO_NAME=centos DIB_RELEASE=10-stream " + nm + "=0", "0", "package", ""},
		{"Rocky 7 without", "DISTRO_NAME=rocky DIB_RELEASE=7 " + nm + "=0", "0", "package", ""},
		{"Rocky 8 without", "DISTRO_NAME=rocky DIB_RELEASE=8 " + nm + "=0", "", "", nm + "=0 cannot be used on rocky 8"},
		{"M74 Rocky 10 without", "DISTRO_NAME=rocky DIB_RELEASE=10 " + nm + "=0", "", "", "cannot be used on rocky 10"},
		{"M74 AlmaLinux 10.1 without", "DISTRO_NAME=almalinux DIB_RELEASE=10.1 " + nm + "=0", "", "", "cannot be used on almalinux 10.1"},
		{"Fedora without", "DISTRO_NAME=fedora DIB_RELEASE=rawhide " + nm + "=0", "", "", "cannot be used on fedora rawhide"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, out, err := environment(t, file, strings.Fields(c.env), nm, glean)
			if c.out != "" {
				if out = strings.Join(got, " ") + out; err == nil || !strings.Contains(out, c.out) {
					t.Errorf("%v: %s", err, out)
				}
			} else if want := nm + "=" + c.nm + " " + glean + "=" + c.glean; err != nil || strings.Join(got, " ") != want {
				t.Errorf("%v, %q, want %q; %s", err, got, want, out)
			}
		})
	}

	target := hookTarget(t, "python3", "glean-install", "systemctl")
	commandtest.Write(t, target, map[string]string{"usr/glean/bin/pip!": recorder})
	const defaults = nm + "=0 DIB_SIMPLE_INIT_NO_DHCP_FALLBACK=0 "
	for _, c := range []configCase{
		{name: "M74 source has a version", hook: "simple-init/install.d/simple-init-source-install/40-glean", env: "DIB_SIMPLE_INIT_GLEAN_VERSION=1.2", calls: "python3 <-m> <venv> </usr/glean>\npip <install> <pbr==7.1.3>\npip <install> <glean==1.2>\n"},
		{name: "repository", hook: "simple-init/install.d/simple-init-repo-install/40-glean", calls: "python3 <-m> <venv> </usr/glean>\npip <install> <pbr==7.1.3>\npip <install> </tmp/glean.git>\n"},
		{name: "M74 Debian", hook: "simple-init/install.d/50-simple-init", env: defaults, before: map[string]string{"etc/modules": "# x\n"}, after: map[string]string{"etc/modules": "# x\n8021q\n"}, calls: "glean-install\n"},
		{name: "once", hook: "simple-init/install.d/50-simple-init", env: nm + "=1 DIB_SIMPLE_INIT_NO_DHCP_FALLBACK=1", after: map[string]string{"etc/modules": "# x\n8021q\n"}, calls: "glean-install <--use-nm> <--no-dhcp-fallback>\n"},
		{name: "interfaces", hook: "simple-init/install.d/60-simple-init-remove-interfaces", before: map[string]string{
			"etc/sysconfig/network-scripts/ifcfg-eth0": "x", "etc/sysconfig/network-scripts/ifcfg-lo": "x", "etc/sysconfig/network/ifcfg-ens3": "x",
			"etc/network/interfaces.d/eth0": "x", "etc/network/interfaces.d/other": "x", "etc/conf.d/net.eth0": "x", "etc/network/interfaces": "old",
		}, after: map[string]string{
			"etc/sysconfig/network-scripts/ifcfg-eth0": "", "etc/sysconfig/network-scripts/ifcfg-lo": "x", "etc/sysconfig/network/ifcfg-ens3": "",
			"etc/network/interfaces.d/eth0": "", "etc/network/interfaces.d/other": "x", "etc/conf.d/net.eth0": "",
			"etc/network/interfaces": "auto lo\niface lo inet loopback\nsource /etc/network/interfaces.d/*\n",
		}},
		{name: "openSUSE", hook: "simple-init/post-install.d/80-simple-init", env: "DIB_INIT_SYSTEM=systemd DISTRO_NAME=opensuse", calls: "systemctl <enable> <wicked.service>\n"},
		{name: "others", hook: "simple-init/post-install.d/80-simple-init", env: "DIB_INIT_SYSTEM=systemd DISTRO_NAME=debian"},
		{name: "sysv", hook: "simple-init/post-install.d/80-simple-init", env: "DIB_INIT_SYSTEM=sysv DISTRO_NAME=debian"},
		{name: "unknown init system", hook: "simple-init/post-install.d/80-simple-init", env: "DIB_INIT_SYSTEM=runit DISTRO_NAME=debian", fails: true, out: "does not know the init system runit"},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, target) })
	}
	for _, program := range []string{"glean", "glean.sh", "glean-install"} {
		if to, err := os.Readlink(target + "/usr/local/bin/" + program); err != nil || to != "/usr/glean/bin/"+program {
			t.Errorf("%s leads to %q, %v", program, to, err)
		}
	}
	if err := os.Remove(target + "/etc/modules"); err != nil {
		t.Fatal(err)
	}
	commandtest.Write(t, target, map[string]string{"usr/glean/bin/glean-install!": recorder})
	hookCalls(t, target, "simple-init/install.d/50-simple-init", defaults)
	if got := commandtest.Read(t, target+"/etc/modules-load.d/8021q.conf"); got != "8021q\n" {
		t.Errorf("M74: modules %q", got)
	}
}
