package booted

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dib-builder/dib/test/commandtest"
)

// withUsers makes programs that look up and change users work on the tree.
func withUsers(m *machine, passwd string) {
	m.t.Helper()
	commandtest.Write(m.t, m.root, map[string]string{"etc/passwd": passwd})
	m.fake("getent", `grep -q "^$2:" "$ROOT/etc/passwd" || exit 2; grep "^$2:" "$ROOT/etc/passwd" | sed "s|:/home|:$ROOT/home|; s|:/srv|:$ROOT/srv|; s|:/root|:$ROOT/root|"`)
	m.fake("id", `echo staff`)
	// Owners are recorded, not given.
	m.fake("install", `for a; do shift; case $a in -o|-g) skip=1 ;; *) if [ -z "$skip" ]; then set -- "$@" "$a"; fi; skip= ;; esac; done; exec /usr/bin/install "$@"`)
	m.fake("useradd", `for user; do :; done; echo "$user:x:1000:1000::/home/$user:/bin/sh" >> "$ROOT/etc/passwd"; mkdir -p "$ROOT/home/$user"`)
	m.fake("chpasswd", `cat >> "$ROOT/passwords"`)
}

func TestDevuser(t *testing.T) {
	const keysHook, hook = "devuser/extra-data.d/50-devuser", "devuser/install.d/50-devuser"
	values := func(set map[string]string) []string {
		all := map[string]string{"DIB_DEV_USER_USERNAME": "dev", "DIB_DEV_USER_GROUPS": "", "DIB_DEV_USER_SHELL": "", "DIB_DEV_USER_PWDLESS_SUDO": "",
			"DIB_DEV_USER_AUTHORIZED_KEYS": "", "DIB_DEV_USER_PASSWORD": ""}
		maps.Copy(all, set)
		var env []string
		for _, name := range slices.Sorted(maps.Keys(all)) {
			env = append(env, name+"="+all[name])
		}
		return env
	}
	t.Run("M63 keys of today's types", func(t *testing.T) {
		for files, want := range map[string]string{
			"id_ed25519.pub":                  "id_ed25519.pub\n",
			"id_ecdsa.pub id_rsa.pub":         "id_ecdsa.pub\nid_rsa.pub\n",
			"id_ed25519 authorized_keys x":    "",
			"id_ed25519_sk.pub id_dsa.pub":    "id_ed25519_sk.pub\n",
			"id_rsa.pub id_ed25519.pub other": "id_ed25519.pub\nid_rsa.pub\n",
		} {
			m := newMachine(t, nil)
			for _, f := range strings.Fields(files) {
				commandtest.Write(t, m.root, map[string]string{"root/.ssh/" + f: f + "\n"})
			}
			m.env = append(values(nil), "TMP_HOOKS_PATH="+m.root)
			m.mustRun(keysHook)
			got := ""
			if m.exists("devuser-ssh-authorized-keys") {
				got = m.read("devuser-ssh-authorized-keys")
			}
			if got != want {
				t.Errorf("%s: %q, want %q", files, got, want)
			}
			m = newMachine(t, map[string]string{"root/.ssh/id_rsa.pub": "own\n", "given": "given\n"})
			m.env = append(values(map[string]string{"DIB_DEV_USER_AUTHORIZED_KEYS": "/dev/null"}), "TMP_HOOKS_PATH="+m.root)
			m.mustRun(keysHook)
			if m.exists("devuser-ssh-authorized-keys") {
				t.Error("/dev/null does not mean no key")
			}
			m.env = append(values(map[string]string{"DIB_DEV_USER_AUTHORIZED_KEYS": m.root + "/given"}), "TMP_HOOKS_PATH="+m.root)
			m.mustRun(keysHook)
			if got := m.read("devuser-ssh-authorized-keys"); got != "given\n" {
				t.Error(got)
			}
		}
	})
	t.Run("M63 permissions and owner, home from passwd", func(t *testing.T) {
		m := newMachine(t, map[string]string{"in_target.d/devuser-ssh-authorized-keys": "key\n"})
		withUsers(m, "dev:x:1:1::/srv/people/dev:/bin/sh\n")
		if err := os.MkdirAll(filepath.Join(m.root, "srv/people/dev"), 0o755); err != nil {
			t.Fatal(err)
		}
		m.env = values(map[string]string{"DIB_DEV_USER_GROUPS": "a,b"})
		m.mustRun(hook)
		if m.read("srv/people/dev/.ssh/authorized_keys") != "key\n" || m.mode("srv/people/dev/.ssh") != 0o700 || m.mode("srv/people/dev/.ssh/authorized_keys") != 0o600 {
			t.Error("keys are not as sshd wants them")
		}
		calls := m.called()
		for _, want := range []string{"usermod -a -G a,b dev\n", "install -d -m 0700 -o dev -g staff /srv/people/dev/.ssh\n", "install -m 0600 -o dev -g staff "} {
			if !strings.Contains(calls, want) {
				t.Errorf("no %q in\n%s", want, calls)
			}
		}
		if strings.Contains(calls, "useradd") {
			t.Error("a user who exists was added")
		}
	})
	t.Run("M63 the password is not traced, and tracing goes on", func(t *testing.T) {
		for password, want := range map[string]string{"correct horse": "chpasswd\n", "$6$salt$hash": "chpasswd -e\n"} {
			m := newMachine(t, nil)
			withUsers(m, "")
			m.env = append(values(map[string]string{"DIB_DEV_USER_PASSWORD": password, "DIB_DEV_USER_SHELL": "/bin/zsh"}), "DIB_DEBUG_TRACE=1")
			out := m.mustRun(hook)
			if strings.Contains(out, password) || !strings.Contains(out, "+ '[' -n '' ']'") {
				t.Errorf("trace:\n%s", out)
			}
			if got := m.read("passwords"); got != "dev:"+password+"\n" {
				t.Error(got)
			}
			if calls := m.called(); !strings.Contains(calls, want) || !strings.Contains(calls, "useradd -m -s /bin/zsh dev\n") {
				t.Error(calls)
			}
			m = newMachine(t, nil)
			withUsers(m, "")
			m.env = values(map[string]string{"DIB_DEV_USER_PASSWORD": password})
			if out := m.mustRun(hook); out != "" {
				t.Errorf("it is traced without being asked for:\n%s", out)
			}
		}
	})
	t.Run("sudo", func(t *testing.T) {
		m := newMachine(t, nil)
		withUsers(m, "")
		m.env = values(map[string]string{"DIB_DEV_USER_PWDLESS_SUDO": "yes"})
		m.mustRun(hook)
		if m.read("etc/sudoers.d/dev") != "dev ALL=(ALL) NOPASSWD:ALL\n" || m.mode("etc/sudoers.d/dev") != 0o440 || m.mode("etc/sudoers.d") != 0o750 {
			t.Error("the rule of sudo")
		}
		m.fake("visudo", "exit 1")
		if _, status := m.run(hook); status == 0 || m.exists("etc/sudoers.d/dev") {
			t.Error("a rule that is not valid stayed")
		}
	})
}

func TestLocalConfigKeys(t *testing.T) {
	const stage, hook = "local-config/extra-data.d/62-ssh-key", "local-config/install.d/62-ssh-key"
	m := newMachine(t, map[string]string{"root/.ssh/authorized_keys": "mine\n"})
	m.env = []string{"TMP_HOOKS_PATH=" + m.root}
	m.mustRun(stage)
	if got := m.read("ssh-authorized-keys"); got != "mine\n" {
		t.Error(got)
	}
	m = newMachine(t, nil)
	m.env = []string{"TMP_HOOKS_PATH=" + m.root, "DIB_LOCAL_CONFIG_USERNAME=root"}
	m.mustRun(stage)
	m.mustRun(hook)
	if m.exists("ssh-authorized-keys") || m.exists("root/.ssh") {
		t.Error("keys were made of nothing")
	}
	for user, home := range map[string]string{"root": "root", "dev": "srv/dev"} {
		t.Run("M64 keys belong to "+user, func(t *testing.T) {
			m := newMachine(t, map[string]string{"in_target.d/ssh-authorized-keys": "mine\n", home + "/.ssh/authorized_keys": "old\n"})
			withUsers(m, "root:x:0:0::/root:/bin/sh\ndev:x:1000:1000::/srv/dev:/bin/sh\n")
			m.env = []string{"DIB_LOCAL_CONFIG_USERNAME=" + user}
			m.mustRun(hook)
			if got := m.read(home + "/.ssh/authorized_keys"); got != "old\nmine\n" || m.mode(home+"/.ssh/authorized_keys") != 0o600 || m.mode(home+"/.ssh") != 0o700 {
				t.Errorf("%q", got)
			}
			calls := m.called()
			for _, want := range []string{"install -d -m 0700 -o " + user + " -g staff /" + home + "/.ssh\n", "chown " + user + ":staff /" + home + "/.ssh/authorized_keys\n"} {
				if !strings.Contains(calls, want) {
					t.Errorf("no %q in\n%s", want, calls)
				}
			}
		})
	}
	m = newMachine(t, map[string]string{"in_target.d/ssh-authorized-keys": "mine\n"})
	withUsers(m, "")
	m.env = []string{"DIB_LOCAL_CONFIG_USERNAME=nobody-here"}
	if out, status := m.run(hook); status != 1 || !strings.Contains(out, "the image has no such user") {
		t.Errorf("exit status %d: %s", status, out)
	}
}

func TestLocalConfigProxies(t *testing.T) {
	const hook = "local-config/pre-install.d/02-proxy-settings"
	all := []string{"http_proxy=http://h:1", "https_proxy=http://s:2", "no_proxy=localhost,.example.org,fe80::1"}
	const apt = "etc/apt/apt.conf.d/02-"
	for _, c := range []struct {
		name  string
		files map[string]string
		env   []string
		want  map[string]string // "-" for none
	}{
		{"apt", map[string]string{"etc/apt/x": ""}, all, map[string]string{apt + "use-http-proxy": "Acquire::http::Proxy \"http://h:1\";\n", apt + "use-https-proxy": "Acquire::https::Proxy \"http://s:2\";\n",
			apt + "no-proxy": "Acquire::http::Proxy::localhost \"DIRECT\";\nAcquire::http::Proxy::.example.org \"DIRECT\";\nAcquire::http::Proxy::192.0.2.1 \"DIRECT\";\n"}},
		{"apt appended", map[string]string{"etc/apt/apt.conf.d/02-no-proxy": "old\n"}, all[:1], map[string]string{apt + "no-proxy": "old\nAcquire::http::Proxy::192.0.2.1 \"DIRECT\";\n", apt + "use-https-proxy": "-"}},
		{"nothing configured", map[string]string{"etc/apt/x": "", "etc/zypp/x": "", "etc/dnf/dnf.conf": "[main]\n"}, nil,
			map[string]string{apt + "no-proxy": "-", "etc/sysconfig/proxy": "-", "etc/dnf/dnf.conf": "[main]\n"}},
		{"yum", map[string]string{"etc/yum.conf": "[main]\ngpgcheck=1\nproxy=old\n"}, all, map[string]string{"etc/yum.conf": "[main]\nproxy=http://h:1\ngpgcheck=1\n"}},
		{"M64 dnf", map[string]string{"etc/dnf/dnf.conf": "# x\n[main]\ngpgcheck=1\n", "etc/yum.conf": "[main]\n"}, all,
			map[string]string{"etc/dnf/dnf.conf": "# x\n[main]\nproxy=http://h:1\ngpgcheck=1\n", "etc/yum.conf": "[main]\n"}},
		{"M64 dnf over https alone", map[string]string{"etc/dnf/dnf.conf": ""}, all[1:], map[string]string{"etc/dnf/dnf.conf": "[main]\nproxy=http://s:2\n"}},
		{"no proxy for dnf", map[string]string{"etc/dnf/dnf.conf": "[main]\n"}, all[2:], map[string]string{"etc/dnf/dnf.conf": "[main]\n"}},
		{"zypper", map[string]string{"etc/zypp/x": "", "etc/sysconfig/proxy": "PROXY_ENABLED=\"no\"\nHTTP_PROXY=\"\"\nNO_PROXY=\"localhost, 127.0.0.1\"\n"}, all,
			map[string]string{"etc/sysconfig/proxy": "HTTP_PROXY=\"http://h:1\"\nHTTPS_PROXY=\"http://s:2\"\nNO_PROXY=\"localhost, 127.0.0.1,localhost,.example.org,fe80::1,192.0.2.1\"\nPROXY_ENABLED=\"yes\"\n"}},
		{"zypper from nothing", map[string]string{"etc/zypp/x": ""}, all[:1], map[string]string{"etc/sysconfig/proxy": "HTTP_PROXY=\"http://h:1\"\nNO_PROXY=\"192.0.2.1\"\nPROXY_ENABLED=\"yes\"\n"}},
		{"stack", map[string]string{"home/stack/.profile": "old\n"}, all,
			map[string]string{"home/stack/.profile": "old\nexport http_proxy=http://h:1\nexport https_proxy=http://s:2\nexport no_proxy=localhost\\,.example.org\\,fe80::1\\,192.0.2.1\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, c.files)
			withUsers(m, "stack:x:1:1::/home/stack:/bin/sh\n")
			m.env = c.env
			out := m.mustRun(hook)
			for name, want := range c.want {
				got := "-"
				if m.exists(name) {
					got = m.read(name)
				}
				if got != want {
					t.Errorf("%s:\n%s\nwant\n%s\n%s", name, got, want, out)
				}
			}
		})
	}
	t.Run("M64 the link of yum.conf stays", func(t *testing.T) {
		m := newMachine(t, map[string]string{"etc/real.conf": "[main]\n"})
		withUsers(m, "")
		if err := os.Symlink("real.conf", filepath.Join(m.root, "etc/yum.conf")); err != nil {
			t.Fatal(err)
		}
		m.env = all
		m.mustRun(hook)
		if st, err := os.Lstat(filepath.Join(m.root, "etc/yum.conf")); err != nil || st.Mode()&os.ModeSymlink == 0 || m.read("etc/real.conf") != "[main]\nproxy=http://h:1\n" {
			t.Errorf("%v, %v: %s", st, err, m.read("etc/real.conf"))
		}
	})
	m := newMachine(t, map[string]string{"etc/apt/x": ""})
	withUsers(m, "")
	m.env = []string{`http_proxy=http://h";x`}
	if out, status := m.run(hook); status != 1 || m.exists("etc/apt/apt.conf.d") {
		t.Errorf("exit status %d: %s", status, out)
	}
}

func TestHostKeys(t *testing.T) {
	const script = "runtime-ssh-host-keys/static/usr/local/sbin/runtime-ssh-host-keys.sh"
	t.Run("M65 no DSA, and a type that fails stops no other", func(t *testing.T) {
		m := newMachine(t, map[string]string{"etc/ssh/ssh_host_rsa_key": "mine"})
		m.fake("ssh-keygen", `case $* in *" ecdsa "*) exit 1 ;; esac; for file; do :; done; echo new > "$file"`)
		m.mustRun(script)
		if calls, want := m.called(), "ssh-keygen -q -N  -t ecdsa -f /etc/ssh/ssh_host_ecdsa_key\nssh-keygen -q -N  -t ed25519 -f /etc/ssh/ssh_host_ed25519_key\n"; calls != want {
			t.Errorf("%s", calls)
		}
		if m.read("etc/ssh/ssh_host_rsa_key") != "mine" || m.exists("etc/ssh/ssh_host_dsa_key") {
			t.Error("a key that was there was overwritten, or one of DSA made")
		}
	})
	m := newMachine(t, nil)
	m.fake("ssh-keygen", "exit 1")
	if _, status := m.run(script); status != 1 {
		t.Errorf("no key at all: exit status %d", status)
	}
	for env, want := range map[string]string{
		"systemd debian": "systemctl enable ssh-keygen.service\n", "systemd ubuntu": "systemctl enable ssh-keygen.service\n",
		"systemd fedora": "", "upstart ubuntu": "", "openrc gentoo": "", "sysv debian": "",
	} {
		initSystem, distro, _ := strings.Cut(env, " ")
		m := newMachine(t, map[string]string{"usr/lib/systemd/system/ssh-keygen.service": ""})
		m.env = []string{"DIB_INIT_SYSTEM=" + initSystem, "DISTRO_NAME=" + distro}
		m.mustRun("runtime-ssh-host-keys/post-install.d/80-ssh-keygen")
		if calls := m.called(); calls != want || m.exists("usr/lib/systemd/system/ssh-keygen.service") != (env != "systemd fedora") {
			t.Errorf("%s: %s", env, calls)
		}
	}
}

func TestHardening(t *testing.T) {
	const hook = "openssh-server/post-install.d/99-harden-sshd-config"
	const dropIn = "etc/ssh/sshd_config.d/00-dib-hardening.conf"
	build := func(files map[string]string) *machine {
		m := newMachine(t, files)
		m.fake("ssh", "exit 1")
		m.env = []string{"DIB_OPENSSH_SERVER_HARDENING=1"}
		return m
	}
	const macs = "MACs hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com,umac-128-etm@openssh.com,hmac-sha2-512,hmac-sha2-256,umac-128@openssh.com\n"
	const ciphers = "Ciphers chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr\n"
	const kex = "KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp521,ecdh-sha2-nistp384,ecdh-sha2-nistp256,diffie-hellman-group-exchange-sha256\n"
	t.Run("M66 without the comment", func(t *testing.T) {
		m := build(map[string]string{"etc/ssh/sshd_config": "Port 22\nciphers 3des\n  MACs md5\nMatch User x\n"})
		m.mustRun(hook)
		if got := m.read("etc/ssh/sshd_config"); got != macs+ciphers+kex+"Port 22\nMatch User x\n" {
			t.Error(got)
		}
		m.mustRun(hook) // twice is as once
		if got := m.read("etc/ssh/sshd_config"); got != macs+ciphers+kex+"Port 22\nMatch User x\n" {
			t.Error(got)
		}
	})
	t.Run("M66 a configuration that reads others", func(t *testing.T) {
		m := build(map[string]string{"etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\nPort 22\n"})
		// The hook looks for the path as sshd knows it.
		commandtest.Write(t, m.root, map[string]string{"etc/ssh/sshd_config": "Include " + m.root + "/etc/ssh/sshd_config.d/*.conf\nPort 22\n"})
		m.mustRun(hook)
		if got := m.read(dropIn); got != macs+ciphers+kex || m.mode(dropIn) != 0o600 || m.read("etc/ssh/sshd_config") != "Include /etc/ssh/sshd_config.d/*.conf\nPort 22\n" {
			t.Error(got)
		}
	})
	t.Run("M66 no configuration", func(t *testing.T) {
		m := build(nil)
		m.mustRun(hook)
		if got := m.read(dropIn); got != macs+ciphers+kex {
			t.Error(got)
		}
	})
	t.Run("vendor's configuration", func(t *testing.T) {
		m := build(map[string]string{"usr/etc/ssh/sshd_config": "Port 22\n"})
		m.mustRun(hook)
		if got := m.read("usr/etc/ssh/sshd_config"); got != macs+ciphers+kex+"Port 22\n" {
			t.Error(got)
		}
	})
	t.Run("what OpenSSH knows", func(t *testing.T) {
		m := build(map[string]string{"etc/ssh/sshd_config": ""})
		m.fake("ssh", `case $2 in kex) printf '%s\n' mlkem768x25519-sha256 curve25519-sha256 ;; cipher) echo aes256-ctr ;; mac) echo hmac-sha2-512 ;; esac`)
		m.mustRun(hook)
		if got := m.read("etc/ssh/sshd_config"); !strings.HasPrefix(got, "MACs hmac-sha2-512\nCiphers aes256-ctr\nKexAlgorithms mlkem768x25519-sha256,curve25519-sha256\n") {
			t.Error(got)
		}
	})
	m := build(map[string]string{"etc/ssh/sshd_config": "Port 22\n"})
	m.env = []string{"DIB_OPENSSH_SERVER_HARDENING=0"}
	m.mustRun(hook)
	if got := m.read("etc/ssh/sshd_config"); got != "Port 22\n" {
		t.Error(got)
	}
}

func TestGrowroot(t *testing.T) {
	const script = "growroot/static/usr/local/sbin/growroot"
	boot := func(fstype string) *machine {
		m := newMachine(t, map[string]string{"sys/devices/pci/block/nvme0n1/nvme0n1p3/partition": "3\n", "sys/devices/pci/block/nvme0n1/nvme0n1p3/uevent": "MAJOR=259\nDEVNAME=nvme0n1p3\n",
			"sys/class/block/x": "", "sys/dev/block/x": ""})
		for _, link := range []string{"sys/class/block/nvme0n1p3", "sys/dev/block/259:3"} {
			if err := os.Symlink("../../devices/pci/block/nvme0n1/nvme0n1p3", filepath.Join(m.root, link)); err != nil {
				t.Fatal(err)
			}
		}
		m.fake("findmnt", `case $* in *SOURCE*) echo /dev/root ;; *FSTYPE*) echo `+fstype+` ;; *MAJ:MIN*) echo 259:3 ;; esac`)
		return m
	}
	for fstype, want := range map[string]string{
		"ext4": "resize2fs /dev/nvme0n1p3\n", "ext2": "resize2fs /dev/nvme0n1p3\n", "M70 xfs": "xfs_growfs /\n", "M70 btrfs": "btrfs filesystem resize max /\n", "f2fs": "",
	} {
		t.Run(fstype, func(t *testing.T) {
			for _, status := range []string{"0", "1"} { // 1: it has its full size already
				m := boot(strings.TrimPrefix(fstype, "M70 "))
				m.fake("growpart", "exit "+status)
				m.mustRun(script)
				_, calls, _ := strings.Cut(m.called(), "growpart ")
				if calls != "/dev/nvme0n1 3\n"+want {
					t.Errorf("%s", calls)
				}
			}
		})
	}
	t.Run("M70 a failure is one", func(t *testing.T) {
		m := boot("ext4")
		m.fake("growpart", "exit 2")
		if out, status := m.run(script); status != 2 || strings.Contains(m.called(), "resize2fs") {
			t.Errorf("exit status %d: %s", status, out)
		}
	})
	t.Run("M70 no partition", func(t *testing.T) {
		m := boot("ext4")
		if err := os.Remove(filepath.Join(m.root, "sys/devices/pci/block/nvme0n1/nvme0n1p3/partition")); err != nil {
			t.Fatal(err)
		}
		if out := m.mustRun(script); !strings.Contains(out, "is not a partition") || strings.Contains(m.called(), "growpart") {
			t.Error(out)
		}
	})
	t.Run("M70 no settling of udev", func(t *testing.T) {
		if text := commandtest.Read(t, elements+"growroot/init-scripts/systemd/growroot.service"); strings.Contains(text, "settle") {
			t.Error(text)
		}
	})
	for initSystem, want := range map[string]string{"systemd": "systemctl enable growroot.service\n", "sysv": "update-rc.d growroot defaults\n", "upstart": "", "openrc": ""} {
		m := newMachine(t, nil)
		m.env = []string{"DIB_INIT_SYSTEM=" + initSystem}
		m.mustRun("growroot/post-install.d/80-growroot")
		if calls := m.called(); calls != want {
			t.Errorf("%s: %s", initSystem, calls)
		}
	}
}

func TestBaseHooks(t *testing.T) {
	m := newMachine(t, nil)
	m.env = []string{"DIB_CLOUD_INIT_ETC_HOSTS=localhost"}
	m.mustRun("base/install.d/10-cloud-init")
	if got := m.read("etc/cloud/cloud.cfg.d/10_etc_hosts.cfg"); got != "manage_etc_hosts: localhost\n" {
		t.Error(got)
	}
	t.Run("M75 unset writes nothing, as the README says", func(t *testing.T) {
		m := newMachine(t, nil)
		m.mustRun("base/install.d/10-cloud-init")
		if m.exists("etc/cloud/cloud.cfg.d/10_etc_hosts.cfg") {
			t.Error("a file was written")
		}
		if text := strings.Join(strings.Fields(commandtest.Read(t, elements+"base/README.rst")), " "); !strings.Contains(text, "nothing is written when it is unset or empty") {
			t.Error("the README says something else")
		}
	})
	t.Run("M75 a package that a release dropped is left out", func(t *testing.T) {
		m := newMachine(t, map[string]string{"var/lib/apt/lists/x_Packages": ""})
		m.fake("dpkg-query", "echo 'installed apt, apt-transport-https (= 2.9),'")
		m.fake("apt-cache", "exit 100")
		m.env = []string{"DISTRO_NAME=debian", "DIB_RELEASE=duke"}
		m.mustRun("base/pre-install.d/03-baseline-tools")
		if calls := m.called(); strings.Contains(calls, "install-packages") || !strings.Contains(calls, "software-properties-common") {
			t.Error(calls)
		}
		m.fake("apt-cache", "")
		m.mustRun("base/pre-install.d/03-baseline-tools")
		if calls := m.called(); !strings.Contains(calls, "install-packages software-properties-common\n") {
			t.Error(calls)
		}
		m.env[0] = "DISTRO_NAME=fedora"
		m.mustRun("base/pre-install.d/03-baseline-tools")
		if calls := m.called(); calls != "" {
			t.Error(calls)
		}
	})
}
