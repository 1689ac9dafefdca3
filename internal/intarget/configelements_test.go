package intarget

import (
	"os"
	"strings"
	"testing"

	"github.com/dib-builder/dib/test/commandtest"
)

// configCase is one run of a hook in the target.
type configCase struct {
	name, hook, env string
	before, after   map[string]string // files; empty in after: must not be there
	calls, out      string            // out is part of the output
	fails           bool
}

func (c configCase) run(t *testing.T, target string) {
	t.Helper()
	commandtest.Write(t, target, c.before)
	out, made, err := targetHook(t, target, c.hook, c.env)
	if (err != nil) != c.fails || made != c.calls || !strings.Contains(out, c.out) {
		t.Errorf("%v, calls %q, want %q; output %q, want ...%q...", err, made, c.calls, out, c.out)
	}
	for name, want := range c.after {
		data, err := os.ReadFile(target + "/" + name)
		if want == "" && err == nil && len(data) > 0 || want != "" && string(data) != want {
			t.Errorf("%s is %q (%v), want %q", name, data, err, want)
		}
	}
}

// TestConfigElements runs hooks that write configuration, in a tree of fake-os
// that all cases change one after the other.
func TestConfigElements(t *testing.T) {
	target := hookTarget(t, "systemctl", "rc-update", "update-initramfs", "dracut", "grubby")
	const cfg = "etc/cloud/cloud.cfg.d/"
	const sources = "cloud-init-datasources/install.d/05-set-cloud-init-sources"
	const growpart = "cloud-init-growpart/post-install.d/55-growpart"
	const updates = "autoupdates/post-install.d/82-enable-autoupdate"
	grown := func(list string) map[string]string {
		return map[string]string{cfg + "55-growpart.cfg": "#cloud-config\ngrowpart:\n  mode: auto\n  devices: [" + list + "]\n  ignore_growroot_disabled: false\n"}
	}
	for _, c := range []configCase{
		{name: "growpart without cloud-init", hook: growpart, env: "DIB_CLOUD_INIT_GROWPART_DEVICES=/dev/sda1", fails: true, out: "the image has no cloud-init"},
		{name: "sources unset", hook: sources, fails: true, out: "DIB_CLOUD_INIT_DATASOURCES is not set"},
		{name: "sources", hook: sources, env: "DIB_CLOUD_INIT_DATASOURCES='ConfigDrive, Ec2,None'", after: map[string]string{
			cfg + "91-dib-cloud-init-datasources.cfg":                           "datasource_list: [ ConfigDrive, Ec2, None ]\n",
			cfg + "92-ec2-datasource.cfg":                                       "#cloud-config\ndatasource:\n  Ec2:\n    strict_id: false\n",
			cfg + "93-dib-cloud-init-disable-datasource-network-activation.cfg": "disable_network_activation: true\n",
		}},
		{name: "sources, whole names", hook: sources, env: "DIB_CLOUD_INIT_DATASOURCES=NotEc2,MyConfigDrive", before: map[string]string{cfg + "92-ec2-datasource.cfg": "", cfg + "93-dib-cloud-init-disable-datasource-network-activation.cfg": ""}, after: map[string]string{
			cfg + "91-dib-cloud-init-datasources.cfg": "datasource_list: [ NotEc2, MyConfigDrive, None ]\n",
			cfg + "92-ec2-datasource.cfg":             "", cfg + "93-dib-cloud-init-disable-datasource-network-activation.cfg": "",
		}},
		{name: "no source", hook: sources, env: "DIB_CLOUD_INIT_DATASOURCES=None", after: map[string]string{cfg + "91-dib-cloud-init-datasources.cfg": "datasource_list: [ None ]\n"}},
		{name: "seed", hook: "cloud-init-nocloud/install.d/05-inject-local-source-data", before: map[string]string{"var/lib/cloud/seed/nocloud/user-data": "x"},
			after: map[string]string{"var/lib/cloud/seed/nocloud/user-data": "", "var/lib/cloud/seed/nocloud/meta-data": ""}},
		{name: "resizefs", hook: "cloud-init-disable-resizefs/post-install.d/50-cloud-init-disable-resizefs", after: map[string]string{cfg + "50_dib_disable_resizefs.cfg": "resize_rootfs: false\n"}},
		{name: "no growpart", hook: "cloud-init-disable-resizefs/post-install.d/51-cloud-init-disable-growpart", after: map[string]string{cfg + "51_dib_disable_growpart.cfg": "growpart:\n  mode: \"off\"\n"}},
		{name: "growpart unset", hook: growpart, fails: true, out: "DIB_CLOUD_INIT_GROWPART_DEVICES is not set"},
		{name: "growpart, flow list", hook: growpart, env: "DIB_CLOUD_INIT_GROWPART_DEVICES='[/dev/sda1, /dev/vda3]'", after: grown("/dev/sda1, /dev/vda3")},
		{name: "growpart, words", hook: growpart, env: "DIB_CLOUD_INIT_GROWPART_DEVICES='/dev/sda1 /dev/vda3'", after: grown("/dev/sda1, /dev/vda3")},
		{name: "growpart, block list", hook: growpart, env: "DIB_CLOUD_INIT_GROWPART_DEVICES=$'\\n    - /dev/sda1\\n    - \"/dev/vda3\"'", after: grown("/dev/sda1, /dev/vda3")},
		{name: "interface names", hook: "stable-interface-names/install.d/02-stable-interface-names", before: map[string]string{"etc/udev/rules.d/80-net-name-slot.rules": "file\n"},
			after: map[string]string{"etc/udev/rules.d/80-net-name-slot.rules": "file\n"}},
		{name: "journal", hook: "journal-to-console/post-install.d/30-journal-to-console", after: map[string]string{"etc/systemd/journald.conf.d/log-to-console.conf": "[Journal]\nForwardToConsole=true\n"}},
		{name: "updates, Debian", hook: updates, env: "DIB_INIT_SYSTEM=systemd DISTRO_NAME=ubuntu", calls: "systemctl <enable> <unattended-upgrades.service>\n"},
		{name: "updates, Red Hat", hook: updates, env: "DIB_INIT_SYSTEM=systemd DISTRO_NAME=almalinux", calls: "systemctl <enable> <dnf-automatic.timer>\n"},
		{name: "updates, others", hook: updates, env: "DIB_INIT_SYSTEM=systemd DISTRO_NAME=gentoo", fails: true, out: "autoupdates is not for gentoo"},
		{name: "updates, other init systems", hook: updates, env: "DIB_INIT_SYSTEM=sysv DISTRO_NAME=debian"},
		{name: "fail2ban", hook: "fail2ban/post-install.d/80-enable-fail2ban-service", env: "DIB_INIT_SYSTEM=systemd", calls: "systemctl <enable> <fail2ban.service>\n", out: "DIB_FAIL2BAN_CONF is not set"},
		{name: "fail2ban, openrc", hook: "fail2ban/post-install.d/80-enable-fail2ban-service", env: "DIB_INIT_SYSTEM=openrc", calls: "rc-update <add> <fail2ban> <default>\n"},
		{name: "fail2ban, others", hook: "fail2ban/post-install.d/80-enable-fail2ban-service", env: "DIB_INIT_SYSTEM=sysv", fails: true, out: "init system sysv"},
		{name: "no SELinux", hook: "disable-selinux/post-install.d/15-disable-selinux", out: "nothing to disable"},
		{name: "SELinux, no configuration", hook: "selinux-permissive/pre-install.d/11-selinux-permissive", after: map[string]string{"etc/selinux/config": "SELINUX=permissive\nSELINUXTYPE=targeted\n"}},
		{name: "SELinux permissive", hook: "selinux-permissive/pre-install.d/11-selinux-permissive", before: map[string]string{"etc/selinux/config": "# x\nSELINUX=enforcing\nSELINUXTYPE=minimum\nX=1\n"},
			after: map[string]string{"etc/selinux/config": "# x\nSELINUX=permissive\nSELINUXTYPE=minimum\nX=1\n"}},
		{name: "SELinux disabled", hook: "disable-selinux/post-install.d/15-disable-selinux", before: map[string]string{
			"boot/loader/entries/a.conf": "", "etc/kernel/cmdline": "ro quiet\n", "etc/default/grub": "A=1\nGRUB_CMDLINE_LINUX=\"ro\"\n",
		}, after: map[string]string{
			"etc/selinux/config": "# x\nSELINUX=disabled\nSELINUXTYPE=minimum\nX=1\n", "etc/kernel/cmdline": "ro quiet selinux=0\n", "etc/default/grub": "A=1\nGRUB_CMDLINE_LINUX=\"selinux=0 ro\"\n",
		}, calls: "grubby <--update-kernel=ALL> <--args=selinux=0>\n"},
		{name: "nouveau", hook: "disable-nouveau/post-install.d/90-disable-nouveau-initrd", calls: "update-initramfs <-u> <-k> <all>\n"},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, target) })
	}
	if err := os.Remove(target + "/etc/udev/rules.d/80-net-name-slot.rules"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", target+"/etc/udev/rules.d/80-net-name-slot.rules"); err != nil {
		t.Fatal(err)
	}
	hookCalls(t, target, "stable-interface-names/install.d/02-stable-interface-names", "")
	if _, err := os.Lstat(target + "/etc/udev/rules.d/80-net-name-slot.rules"); err == nil {
		t.Error("the link that turns systemd's naming off is still there")
	}
}

func TestPypi(t *testing.T) {
	target := hookTarget(t)
	const configure, restore = "pypi/pre-install.d/04-configure-pypi-mirror", "pypi/post-install.d/00-unconfigure-pypi-mirror"
	const head = "[global]\nlog = /root/pip.log\nindex-url = "
	const public = "extra-index-url =\n    https://pypi.org/simple\n"
	for _, c := range []struct{ name, env, want, out string }{
		{"M60 public index, no mirror", "HOME=/root", head + "file:///tmp/pypi\n" + public, "DIB_PYPI_MIRROR_URL is not set"},
		{"M60 no trust in a directory", "HOME=/root DIB_OFFLINE=1", head + "file:///tmp/pypi\n", ""},
		{"plain mirror", "HOME=/root DIB_PYPI_MIRROR_URL=http://u@m.example:8080/simple DIB_PIP_RETRIES=7", head + "http://u@m.example:8080/simple\ntrusted-host = m.example\nretries = 7\n" + public, ""},
		{"M60 a certificate is looked at", "HOME=/root DIB_PYPI_MIRROR_URL=https://m.example/simple DIB_NO_PYPI_PIP=1", head + "https://m.example/simple\n", ""},
		{"several, in the order of names", "HOME=/root DIB_NO_PYPI_PIP=1 DIB_PYPI_MIRROR_URL_2=https://2 DIB_PYPI_MIRROR_URL_10=https://10 DIB_PYPI_MIRROR_URL=https://0 PYPI_MIRROR_URL_3=https://3",
			head + "https://0\nextra-index-url =\n    https://10\n    https://2\n    https://3\n", "PYPI_MIRROR_URL_3 is deprecated: set DIB_PYPI_MIRROR_URL_3"},
		{"others alone do not count", "HOME=/root DIB_NO_PYPI_PIP=1 DIB_PYPI_MIRROR_URL_2=https://2", head + "file:///tmp/pypi\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			commandtest.Write(t, target, map[string]string{"root/.pip/pip.conf": "old pip\n", "root/.pydistutils.cfg": "old distutils\n", "root/pip.log": "log\n"})
			out, _, err := targetHook(t, target, configure, c.env)
			if got := commandtest.Read(t, target+"/root/.pip/pip.conf"); err != nil || got != c.want || !strings.Contains(out, c.out) {
				t.Errorf("%v, %q, want %q; output %q", err, got, c.want, out)
			}
			if _, err := os.Stat(target + "/root/.pydistutils.cfg"); err == nil {
				t.Error("the settings of distutils are still in force")
			}
			hookCalls(t, target, restore, "HOME=/root")
			if pip, dist := commandtest.Read(t, target+"/root/.pip/pip.conf"), commandtest.Read(t, target+"/root/.pydistutils.cfg"); pip != "old pip\n" || dist != "old distutils\n" {
				t.Errorf("M60: restored %q, %q", pip, dist)
			}
			for _, left := range []string{"pip.log", ".pip/pip.conf.orig", ".pydistutils.cfg.orig"} {
				if _, err := os.Stat(target + "/root/" + left); err == nil {
					t.Errorf("M60: %s is left", left)
				}
			}
		})
	}
	if err := os.RemoveAll(target + "/root/.pip"); err != nil {
		t.Fatal(err)
	}
	hookCalls(t, target, configure, "HOME=/root")
	hookCalls(t, target, restore, "HOME=/root")
	if _, err := os.Stat(target + "/root/.pip"); err == nil {
		t.Error("a directory that was not there before is left")
	}
}

func TestEpel(t *testing.T) {
	target := hookTarget(t, "yum", "dnf")
	const hook = "epel/pre-install.d/05-rpm-epel-release"
	const repo = "[epel]\nname=EPEL\n#baseurl=https://download.example/pub/epel/9/Everything/\nmetalink=https://mirrors/?x&y\nenabled=1\n\n[epel-debuginfo]\nbaseurl=http://d/pub/epel/9/\nenabled=0\n"
	const other = "[epel-cisco]\nmetalink=https://codecs\n"
	reset := map[string]string{"etc/yum.repos.d/epel.repo": repo, "etc/yum.repos.d/epel-cisco.repo": other, "etc/yum.repos.d/base.repo": repo}
	for _, c := range []configCase{
		{name: "Debian", env: "DISTRO_NAME=debian", out: "EPEL is not for debian", after: reset},
		{name: "Rocky", env: "DISTRO_NAME=rocky YUM=dnf", calls: "dnf <install> <-y> <epel-release>\n", after: reset},
		{name: "no YUM", env: "DISTRO_NAME=centos", calls: "yum <install> <-y> <epel-release>\n", after: reset},
		{name: "RHEL", env: "DISTRO_NAME=rhel YUM=dnf DIB_RELEASE=9.4", calls: "dnf <install> <-y> <https://dl.fedoraproject.org/pub/epel/epel-release-latest-9.noarch.rpm>\n", after: reset},
		{name: "disabled", env: "DISTRO_NAME=almalinux DIB_EPEL_DISABLED=1", calls: "yum <install> <-y> <epel-release>\n", after: map[string]string{
			"etc/yum.repos.d/epel.repo":       "[epel]\nenabled=0\nname=EPEL\n#baseurl=https://download.example/pub/epel/9/Everything/\nmetalink=https://mirrors/?x&y\n\n[epel-debuginfo]\nenabled=0\nbaseurl=http://d/pub/epel/9/\n",
			"etc/yum.repos.d/epel-cisco.repo": "[epel-cisco]\nenabled=0\nmetalink=https://codecs\n", "etc/yum.repos.d/base.repo": repo,
		}},
		{name: "mirror", env: "DISTRO_NAME=centos DIB_EPEL_MIRROR='http://m/a&b|c'", calls: "yum <install> <-y> <epel-release>\n", out: "epel-cisco.repo is not on the mirror", after: map[string]string{
			"etc/yum.repos.d/epel.repo":       "[epel]\nname=EPEL\nbaseurl=http://m/a&b|c/9/Everything/\nenabled=1\n\n[epel-debuginfo]\nbaseurl=http://m/a&b|c/9/\nenabled=0\n",
			"etc/yum.repos.d/epel-cisco.repo": "[epel-cisco]\nenabled=0\nmetalink=https://codecs\n", "etc/yum.repos.d/base.repo": repo,
		}},
	} {
		c.hook, c.before = hook, reset
		t.Run(c.name, func(t *testing.T) { c.run(t, target) })
	}
}

// TestHostConfig runs hooks on the host that bring files into the image.
func TestHostConfig(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the hooks give files to root, which takes root")
	}
	dir := t.TempDir()
	commandtest.Write(t, dir, map[string]string{
		"a file": "content\n", "empty": "", "deb822": "Types: deb\nURIs: http://m\n",
		"manifest": `{"packages": [{"package": "a", "version": "1", "status": "ii "}]}`, "nothing": `{"packages": []}`,
	})
	const conf, sources = "apt-conf/extra-data.d/99-override-default-apt-conf", "apt-sources/extra-data.d/99-override-default-apt-sources"
	const pins, updates = "apt-preferences/extra-data.d/99-set-apt-package-pins", "autoupdates/root.d/61-create-update-config"
	apt := map[string]string{
		"etc/apt/sources.list": "old\n", "etc/apt/sources.list.d/a.list": "old\n", "etc/apt/sources.list.d/b.sources": "old\n", "etc/apt/sources.list.d/README": "x\n",
	}
	for _, c := range []struct {
		name, hook, env string
		before, after   map[string]string
		out             string
		fails           bool
	}{
		{"apt.conf unset", conf, "X=", nil, nil, "is not set", false},
		{"apt.conf missing", conf, "DIB_APT_CONF=" + dir + "/none", apt, nil, "names " + dir + "/none, which is no file", true},
		{"apt.conf without apt", conf, "DIB_APT_CONF=" + dir + "/a file", nil, nil, "the image has no /etc/apt", true},
		{"apt.conf", conf, "DIB_APT_CONF=" + dir + "/a file", apt, map[string]string{"etc/apt/apt.conf": "content\n"}, "", false},
		{"sources unset", sources, "X=", apt, apt, "is not set", false},
		{"sources empty", sources, "DIB_APT_SOURCES=" + dir + "/empty", apt, apt, "is no file or is empty", true},
		{"sources without apt", sources, "DIB_APT_SOURCES=" + dir + "/a file", nil, nil, "the image has no /etc/apt", true},
		{"sources", sources, "DIB_APT_SOURCES=" + dir + "/a file", apt, map[string]string{
			"etc/apt/sources.list": "content\n", "etc/apt/sources.list.d/a.list": "", "etc/apt/sources.list.d/b.sources": "", "etc/apt/sources.list.d/README": "x\n",
		}, "taking away /etc/apt/sources.list.d/a.list", false},
		{"sources, none before", sources, "DIB_APT_SOURCES=" + dir + "/a file", map[string]string{"etc/apt/x": ""}, map[string]string{"etc/apt/sources.list": "content\n"}, "", false},
		{"sources, deb822", sources, "DIB_APT_SOURCES=" + dir + "/deb822", apt, map[string]string{
			"etc/apt/sources.list": "", "etc/apt/sources.list.d/a.list": "", "etc/apt/sources.list.d/dib.sources": "Types: deb\nURIs: http://m\n",
		}, "", false},
		{"pins unset", pins, "X=", apt, nil, "is not set", false},
		{"pins empty", pins, "DIB_DPKG_MANIFEST=" + dir + "/empty", apt, nil, "is no file or is empty", true},
		{"pins", pins, "DIB_DPKG_MANIFEST=" + dir + "/manifest", apt, map[string]string{"etc/apt/preferences": "Package: a\nPin: version 1\nPin-Priority: 1001\n\n"}, "", false},
		{"no pins", pins, "DIB_DPKG_MANIFEST=" + dir + "/nothing", apt, map[string]string{"etc/apt/preferences": ""}, "", false},
		{"pins unreadable", pins, "DIB_DPKG_MANIFEST=" + dir + "/a file", apt, nil, "cannot pin versions: " + dir + "/a file:1:1", true},
		{"updates unset", updates, "X=", nil, nil, "the distribution decides", false},
		{"updates missing", updates, "DIB_DEB_UPDATES_CONF=" + dir + "/none", nil, nil, "DIB_DEB_UPDATES_CONF names " + dir + "/none, which is no file", true},
		{"updates of Debian", updates, "DIB_DEB_UPDATES_CONF=" + dir + "/a file", nil, map[string]string{"etc/apt/apt.conf.d/50unattended-upgrades": "content\n"}, "", false},
		{"updates of Red Hat", updates, "DIB_YUM_UPDATES_CONF=" + dir + "/a file", nil, map[string]string{"etc/dnf/automatic.conf": "content\n"}, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := t.TempDir()
			commandtest.Write(t, target, c.before)
			out, err := hostHook(t, c.hook, t.TempDir(), target, c.env)
			if (err != nil) != c.fails || !strings.Contains(out, c.out) {
				t.Errorf("%v: %q, want %q", err, out, c.out)
			}
			for name, want := range c.after {
				st, err := os.Stat(target + "/" + name)
				if want == "" {
					if err == nil {
						t.Errorf("%s is there", name)
					}
				} else if err != nil || commandtest.Read(t, target+"/"+name) != want || st.Mode().Perm() != 0o644 {
					t.Errorf("%s: %v, want %q", name, err, want)
				}
			}
		})
	}
	if out, err := hostHook(t, updates, t.TempDir(), t.TempDir(), "DIB_DEB_UPDATES_CONF=x", "DIB_YUM_UPDATES_CONF=y"); err == nil || !strings.Contains(out, "are both set") {
		t.Errorf("%v: %s", err, out)
	}
	// The jail waits in the hooks tree, which the target sees.
	hooks := t.TempDir()
	if out, err := hostHook(t, "fail2ban/root.d/60-copy-fail2ban-config", hooks, t.TempDir(), "DIB_FAIL2BAN_CONF="+dir+"/a file"); err != nil || commandtest.Read(t, hooks+"/fail2ban-jail.local") != "content\n" {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := hostHook(t, "fail2ban/root.d/60-copy-fail2ban-config", hooks, t.TempDir(), "DIB_FAIL2BAN_CONF="+dir+"/none"); err == nil || !strings.Contains(out, "which is no file") {
		t.Errorf("%v: %s", err, out)
	}
	// Caches of pip.
	bin, cache, target := withMount(t, "none"), t.TempDir(), t.TempDir()
	env := []string{"PATH=" + bin + ":/usr/bin:/bin", "DIB_IMAGE_CACHE=" + cache}
	for hook, want := range map[string]string{
		"pip-cache/root.d/11-pip-cache":          "mount --bind " + cache + "/pip " + target + "/tmp/pip\n",
		"pypi/extra-data.d/00-mount-pypi-mirror": "",
	} {
		if out, err := hostHook(t, hook, hooks, target, env...); err != nil {
			t.Errorf("%s: %v: %s", hook, err, out)
		}
		made, err := os.ReadFile(bin + "/calls")
		if string(made) != want {
			t.Errorf("M60 %s: %q (%v), want %q", hook, made, err, want)
		}
		_ = os.Remove(bin + "/calls")
	}
	commandtest.Write(t, cache, map[string]string{"pypi/mirror/x": ""})
	if out, err := hostHook(t, "pypi/extra-data.d/00-mount-pypi-mirror", hooks, target, env...); err != nil || commandtest.Read(t, bin+"/calls") != "mount --bind "+cache+"/pypi/mirror "+target+"/tmp/pypi\n" {
		t.Errorf("%v: %s", err, out)
	}
}
