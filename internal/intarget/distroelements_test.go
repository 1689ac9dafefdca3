package intarget

import (
	"os"
	"strings"
	"testing"

	"github.com/dib-builder/dib/test/commandtest"
)

func TestRpmDistro(t *testing.T) {
	target := hookTarget(t, "visudo")
	const tty, path, arch, zeroconf = "rpm-distro/pre-install.d/00-fix-requiretty", "rpm-distro/pre-install.d/00-usr-local-bin-secure-path", "rpm-distro/pre-install.d/01-override-yum-arch", "rpm-distro/post-install.d/06-network-config-nonzeroconf"
	for _, c := range []configCase{
		{name: "no sudo, tty", hook: tty},
		{name: "no sudo, path", hook: path},
		{name: "requiretty", hook: tty, before: map[string]string{"etc/sudoers": "# one\n# Disable \"ssh hostname sudo <cmd>\", because it will show the password in clear.\n#         You have to run \"ssh -t hostname sudo <cmd>\".\n#\nDefaults    requiretty\nDefaults !visiblepw\n"},
			after: map[string]string{"etc/sudoers": "# one\n#\nDefaults !visiblepw\n"}, calls: "visudo <-c>\n"},
		{name: "path", hook: path, before: map[string]string{"etc/sudoers": "Defaults    secure_path = /sbin:/bin\nDefaults x\n"}, after: map[string]string{"etc/sudoers": "Defaults    secure_path = /sbin:/bin:/usr/local/bin/\nDefaults x\n"}, calls: "visudo <-c>\n"},
		{name: "path, again", hook: path, after: map[string]string{"etc/sudoers": "Defaults    secure_path = /sbin:/bin:/usr/local/bin/\nDefaults x\n"}, calls: "visudo <-c>\n"},
		{name: "quoted path", hook: path, before: map[string]string{"etc/sudoers": "Defaults    secure_path=\"/sbin:/bin\"\n"}, after: map[string]string{"etc/sudoers": "Defaults    secure_path=\"/sbin:/bin:/usr/local/bin/\"\n"}, calls: "visudo <-c>\n"},
		{name: "amd64, dnf", hook: arch, env: "ARCH=amd64 YUM=dnf DISTRO_NAME=centos DIB_RELEASE=9-stream", after: map[string]string{"etc/dnf/vars/basearch": "x86_64\n", "etc/dnf/vars/arch": "x86_64\n", "etc/dnf/vars/contentdir": ""}},
		{name: "arm64, yum", hook: arch, env: "ARCH=arm64 YUM=yum DISTRO_NAME=centos DIB_RELEASE=7", after: map[string]string{"etc/yum/vars/basearch": "aarch64\n", "etc/yum/vars/contentdir": "altarch\n"}},
		{name: "ppc64le", hook: arch, env: "ARCH=ppc64le YUM=dnf5", after: map[string]string{"etc/dnf/vars/basearch": "ppc64le\n"}},
		{name: "part of a name", hook: arch, env: "ARCH=amd", fails: true, out: `ARCH is "amd"`},
		{name: "no architecture", hook: arch, env: "ARCH=", fails: true, out: `ARCH is ""`},
		{name: "zeroconf", hook: zeroconf, after: map[string]string{"etc/sysconfig/network": "NOZEROCONF=yes\n"}},
		{name: "zeroconf, set", hook: zeroconf, before: map[string]string{"etc/sysconfig/network": "NOZEROCONF=no\n"}, after: map[string]string{"etc/sysconfig/network": "NOZEROCONF=no\n"}},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, target) })
	}
}

func TestElrepo(t *testing.T) {
	target := hookTarget(t, "dnf")
	const repo = "[elrepo]\nenabled=1\n[elrepo-kernel]\nname=x\nenabled=0\n[elrepo-extras]\nenabled=0\n"
	before := map[string]string{"etc/yum.repos.d/elrepo.repo": repo}
	const install = "dnf <install> <-y> <elrepo-release.noarch>\n"
	for _, c := range []configCase{
		{name: "Rocky", env: "DISTRO_NAME=rocky", calls: install, after: before},
		{name: "kernel", env: "DISTRO_NAME=almalinux YUM=dnf DIB_ELREPO_KERNEL=1", calls: install, after: map[string]string{"etc/yum.repos.d/elrepo.repo": strings.Replace(repo, "enabled=0", "enabled=1", 1)}},
		{name: "RHEL", env: "DISTRO_NAME=rhel", fails: true, out: "no repository of RHEL"},
		{name: "Debian", env: "DISTRO_NAME=debian", fails: true, out: "it is not for debian"},
	} {
		c.hook, c.before = "elrepo/pre-install.d/01-elrepo", before
		t.Run(c.name, func(t *testing.T) { c.run(t, target) })
	}
	commandtest.Write(t, target, map[string]string{"etc/yum.repos.d/elrepo.repo": "[elrepo]\n"})
	configCase{hook: "elrepo/pre-install.d/01-elrepo", env: "DISTRO_NAME=rocky DIB_ELREPO_KERNEL=1", calls: install, fails: true, out: "no file in /etc/yum.repos.d describes it"}.run(t, target)
}

func TestSerialConsole(t *testing.T) {
	target := hookTarget(t, "systemctl")
	commandtest.Write(t, target, map[string]string{
		"serial-console/serial-console-udev.rules": "rules\n", "serial-console/ttySx.conf": "job\n", "sub/x": "",
		"etc/inittab": "a:x\n#s0:12345:respawn:/sbin/agetty 9600 ttyS0 vt100\n# s2:ttyS2\n",
	})
	// The hook looks for its data beside its directory, which here is the root.
	const hook = "enable-serial-console/install.d/20-stty"
	for _, c := range []configCase{
		{name: "systemd", env: "DIB_INIT_SYSTEM=systemd ARCH=amd64", calls: "systemctl <enable> <serial-getty@ttyS0.service>\n", after: map[string]string{"etc/udev/rules.d/99-serial-console.rules": "rules\n"}},
		{name: "arm64", env: "DIB_INIT_SYSTEM=systemd ARCH=arm64", calls: "systemctl <enable> <serial-getty@ttyAMA0.service>\n"},
		{name: "ppc64le", env: "DIB_INIT_SYSTEM=systemd ARCH=ppc64le", calls: "systemctl <enable> <serial-getty@hvc0.service>\n"},
		{name: "chosen", env: "DIB_INIT_SYSTEM=systemd ARCH=amd64 DIB_BOOTLOADER_SERIAL_CONSOLE=ttyS1,115200", calls: "systemctl <enable> <serial-getty@ttyS1.service>\n"},
		{name: "upstart", env: "DIB_INIT_SYSTEM=upstart", after: map[string]string{"etc/init/ttySx.conf": "job\n"}},
		{name: "openrc", env: "DIB_INIT_SYSTEM=openrc ARCH=arm64", after: map[string]string{
			"etc/inittab": "a:x\ns0:12345:respawn:/sbin/agetty 9600 ttyS0 vt100\n# s2:ttyS2\n# diskimage-builder serial console\ns0:12345:respawn:/sbin/agetty -L 115200 ttyAMA0 vt100\n",
		}},
		{name: "others", env: "DIB_INIT_SYSTEM=sysv"},
	} {
		c.hook = hook
		t.Run(c.name, func(t *testing.T) { c.run(t, target) })
	}
}

func TestDebianHook(t *testing.T) {
	target := hookTarget(t, "adduser", "getent", "dpkg-query", "dpkg", "install-packages")
	const hook = "debian/install.d/10-cloud-opinions"
	commandtest.Write(t, target, map[string]string{"do.getent": "exit 2\n", "etc/apt/preferences.d/x": ""})
	const query = "dpkg-query <-W> <-f> <${db:Status-Status}> <sysvinit>\n"
	for _, c := range []configCase{
		{name: "defaults", env: "DIB_DEBIAN_ALT_INIT_PACKAGE=systemd-sysv DIB_DEBIAN_CLOUD_INIT_HELPER=", calls: query + "install-packages <systemd-sysv>\n",
			after: map[string]string{"etc/apt/preferences.d/sysvinit": "Package: sysvinit\nPin: origin \"\"\nPin-Priority: -1\n", "etc/sudoers.d/debian-cloud-init": ""}},
		{name: "sysvinit is there", env: "DIB_DEBIAN_ALT_INIT_PACKAGE=systemd-sysv DIB_DEBIAN_CLOUD_INIT_HELPER=", before: map[string]string{"do.dpkg-query": "printf installed\n"},
			calls: query + "dpkg <--purge> <--force-remove-essential> <sysvinit>\ninstall-packages <systemd-sysv>\n"},
		{name: "sysvinit is wanted, and a user", env: "DIB_DEBIAN_ALT_INIT_PACKAGE=sysvinit DIB_DEBIAN_CLOUD_INIT_HELPER=true", calls: "getent <passwd> <debian>\nadduser <--disabled-password> <--gecos> <> <debian>\n",
			after: map[string]string{"etc/sudoers.d/debian-cloud-init": "debian ALL=(ALL) NOPASSWD:ALL\n"}},
	} {
		c.hook = hook
		t.Run(c.name, func(t *testing.T) { c.run(t, target) })
	}
	if st, err := os.Stat(target + "/etc/sudoers.d/debian-cloud-init"); err != nil || st.Mode().Perm() != 0o440 {
		t.Errorf("%v, %v", st, err)
	}
}

// TestSelinuxLabels runs the hook with programs that stand for chroot and mount.
func TestSelinuxLabels(t *testing.T) {
	const hook = "selinux-fixfiles-restore/cleanup.d/99-selinux-fixfiles-restore"
	const contexts = "/etc/selinux/targeted/contexts/files/file_contexts"
	policy := map[string]string{contexts[1:]: "x", "usr/sbin/setfiles!": "#!/bin/sh\n"}
	for _, c := range []struct {
		name, env string
		files     map[string]string
		chroot    string // what chroot does
		calls     string // of chroot and mount, with the tree's path as TREE and the bare mount as BARE
		out       string
		fails     bool
		relabel   bool
	}{
		{"no policy", "X=", nil, "", "", "nothing to label", false, false},
		{"no program", "X=", map[string]string{contexts[1:]: "x"}, "", "", "it has the policy targeted, but no /usr/sbin/setfiles", true, false},
		{"root", "DIB_RELEASE=9-stream", policy, "exit 0", "chroot TREE /usr/sbin/setfiles -F -m " + contexts + " " + contexts + "\nmount --bind TREE TREEBARE\n" +
			"chroot TREE /usr/sbin/setfiles -F -m -r BARE " + contexts + " BARE\numount TREEBARE\numount TREEBARE\n", "", false, false},
		{"several mount points", "DIB_MOUNTPOINTS=/boot|/boot/efi|/dev|/tmp/in_target.d", policy, "exit 0", "chroot TREE /usr/sbin/setfiles -F " + contexts + " " + contexts + "\n" +
			"chroot TREE /usr/sbin/setfiles -F " + contexts + " /boot\numount TREEBARE\n", "", false, false},
		{"not permitted", "DISTRO_NAME=fedora", policy, "echo Operation not permitted >&2; exit 255", "chroot TREE /usr/sbin/setfiles -F -m " + contexts + " " + contexts + "\n", "the image will label itself", false, true},
		{"failure later", "X=", policy, "case $* in *-r*) exit 1 ;; esac", "chroot TREE /usr/sbin/setfiles -F " + contexts + " " + contexts + "\nmount --bind TREE TREEBARE\n" +
			"chroot TREE /usr/sbin/setfiles -F -r BARE " + contexts + " BARE\numount TREEBARE\n", "", true, false},
		{"other policy", "X=", map[string]string{"etc/selinux/config": "SELINUXTYPE=mls\n", contexts[1:]: "x"}, "", "", "nothing to label", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bin, target := t.TempDir(), t.TempDir()
			commandtest.Write(t, target, c.files)
			record := "#!/bin/bash\necho \"${0##*/} $*\" >> " + bin + "/calls\n"
			commandtest.Write(t, bin, map[string]string{
				"sudo!": "#!/bin/bash\nexec \"$@\"\n", "chroot!": record + c.chroot + "\n", "mount!": record, "umount!": record, "calls": "",
			})
			out, err := hostHook(t, hook, t.TempDir(), target, "PATH="+bin+":/usr/bin:/bin", c.env)
			if (err != nil) != c.fails || !strings.Contains(out, c.out) {
				t.Errorf("%v: %s", err, out)
			}
			made := strings.ReplaceAll(commandtest.Read(t, bin+"/calls"), target, "TREE")
			if _, after, ok := strings.Cut(made, "/.label-"); ok {
				made = strings.ReplaceAll(made, "/.label-"+strings.Fields(after)[0], "BARE")
			}
			if made != c.calls {
				t.Errorf("calls\n%s\nwant\n%s", made, c.calls)
			}
			if _, err := os.Stat(target + "/.autorelabel"); (err == nil) != c.relabel {
				t.Errorf("/.autorelabel: %v", err)
			}
			entries, err := os.ReadDir(target)
			for _, e := range entries {
				if err != nil || strings.HasPrefix(e.Name(), ".label") {
					t.Errorf("%v is left (%v)", e, err)
				}
			}
		})
	}
}

func TestOpenStackMirrors(t *testing.T) {
	const file = "openstack-ci-mirrors/environment.d/11-dib-distribution-mirror.bash"
	target := hookTarget(t)
	commandtest.Write(t, target, map[string]string{"env.bash": commandtest.Read(t, "../../elements/"+file), "repos/x": "", "usr/local/bin/show!": "#!/bin/bash\n" +
		`for n in DIB_DISTRIBUTION_MIRROR DIB_EPEL_MIRROR DIB_YUM_MINIMAL_BOOTSTRAP_REPOS DIB_DISTRIBUTION_MIRROR_UBUNTU_INSECURE; do [ -z "${!n-}" ] || echo "$n=${!n}"; done` + "\n"})
	for _, c := range []struct{ env, want string }{
		{"DISTRO_NAME=debian DIB_DISTRIBUTION_MIRROR=http://mine", "DIB_DISTRIBUTION_MIRROR=http://mine\n"}, // not on the CI
		{"DISTRO_NAME=debian", "DIB_DISTRIBUTION_MIRROR=http://m/debian\nDIB_DISTRIBUTION_MIRROR_UBUNTU_INSECURE=1\n"},
		{"DISTRO_NAME=ubuntu ARCH=arm64", "DIB_DISTRIBUTION_MIRROR=http://m/ports\nDIB_DISTRIBUTION_MIRROR_UBUNTU_INSECURE=1\n"},
		{"DISTRO_NAME=centos DIB_RELEASE=9-stream DIB_OS_CI_YUM_REPOS=/repos", "DIB_DISTRIBUTION_MIRROR=http://m/centos\nDIB_EPEL_MIRROR=http://m/epel\n" +
			"DIB_YUM_MINIMAL_BOOTSTRAP_REPOS=/repos/centos-minimal/9-stream/yum.repos.d\nDIB_DISTRIBUTION_MIRROR_UBUNTU_INSECURE=1\n"},
		{"DISTRO_NAME=centos DIB_RELEASE=10-stream", "DIB_DISTRIBUTION_MIRROR_UBUNTU_INSECURE=1\n"},
		{"DISTRO_NAME=rocky", "DIB_DISTRIBUTION_MIRROR=http://dl.rockylinux.org/\\$contentdir\nDIB_DISTRIBUTION_MIRROR_UBUNTU_INSECURE=1\n"},
	} {
		out, _, err := calls(t, target, "export "+c.env+"; set -eu; source /env.bash; show")
		if err != nil || out != c.want {
			t.Errorf("%s: %v, %q, want %q", c.env, err, out, c.want)
		}
		commandtest.Write(t, target, map[string]string{"tmp/in_target.d/mirror_info.sh": "NODEPOOL_DEBIAN_MIRROR=http://m/debian\nNODEPOOL_UBUNTU_PORTS_MIRROR=http://m/ports\nNODEPOOL_CENTOS_MIRROR=http://m/centos\nNODEPOOL_EPEL_MIRROR=http://m/epel\n"})
	}
	// On a host that is not the CI's, apt goes on checking signatures.
	host := t.TempDir()
	commandtest.Write(t, host, map[string]string{"etc/apt/apt.conf.d/x": ""})
	for _, hook := range []string{"root.d/10-apt-disable-gpg", "extra-data.d/75-copy-mirror-info"} {
		if out, err := hostHook(t, "openstack-ci-mirrors/"+hook, t.TempDir(), host); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	unsigned := host + "/etc/apt/apt.conf.d/99unauthenticated"
	if _, err := os.Stat(unsigned); err == nil {
		t.Error("apt does not check signatures any more")
	}
	commandtest.Write(t, host, map[string]string{"etc/apt/apt.conf.d/99unauthenticated": "x"})
	if out, err := hostHook(t, "openstack-ci-mirrors/cleanup.d/90-apt-enable-gpg", t.TempDir(), host); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(unsigned); err == nil {
		t.Error("the image does not check signatures")
	}
}

// TestBaselineTools holds that a release decides for itself which of the
// packages it still has, whatever its name is.
func TestBaselineTools(t *testing.T) {
	target := hookTarget(t, "dpkg-query", "apt-cache", "apt-get", "install-packages")
	const query = "dpkg-query <-W> <-f> <${db:Status-Status} ${Package}, ${Provides},\\n>\n"
	const show = "apt-cache <show> <--no-all-versions> "
	all := query + query + "apt-get <-o> <Acquire::Retries=3> <-y> <update>\n" + show + "<apt-transport-https>\n" + show + "<software-properties-common>\n"
	for _, c := range []configCase{
		{name: "M75 both", env: "DISTRO_NAME=ubuntu", calls: all + "install-packages <apt-transport-https> <software-properties-common>\n"},
		{name: "M75 one was dropped", env: "DISTRO_NAME=debian DIB_RELEASE=forky", before: map[string]string{"do.apt-cache": "[ \"$3\" != software-properties-common ]\n"}, calls: all + "install-packages <apt-transport-https>\n"},
		{name: "M75 neither is left", env: "DISTRO_NAME=debian DIB_RELEASE=14", before: map[string]string{"do.apt-cache": "exit 100\n"}, calls: all},
		{name: "M75 provided by apt", env: "DISTRO_NAME=debian", before: map[string]string{
			"do.dpkg-query": "echo 'installed apt, apt-transport-https (= 3.0),'\necho 'installed software-properties-common, ,'\n",
		}, calls: query + query},
		{name: "others", env: "DISTRO_NAME=fedora"},
	} {
		c.hook = "base/pre-install.d/03-baseline-tools"
		t.Run(c.name, func(t *testing.T) { c.run(t, target) })
	}
}
