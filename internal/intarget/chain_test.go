package intarget

import (
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/dib-builder/dib/elements"
	"github.com/dib-builder/dib/test/commandtest"
)

// merge copies what elements ship into one hooks tree, as a build does.
func merge(t *testing.T, hooks string, names ...string) {
	t.Helper()
	for _, name := range names {
		err := fs.WalkDir(elements.FS(), name, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := fs.ReadFile(elements.FS(), path)
			if err != nil {
				return err
			}
			to := filepath.Join(hooks, strings.TrimPrefix(path, name))
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
			return os.WriteFile(to, data, elements.Mode(data))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestChain takes the machinery elements through the phases of a build of
// fake-os, with its hooks run by hand: in the chroot of a real build nothing
// else is there either.
func TestChain(t *testing.T) {
	if testing.Short() {
		t.Skip("runs some forty processes")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{
		"fake-os", "base", "install-bin", "pkg-map", "package-installs", "install-static", "dib-init-system", "install-types",
		"growroot", "openssh-server", "runtime-ssh-host-keys", "modprobe", "sysprep", "cache-url", "cloud-init",
	}
	lib, err := filepath.Abs("../../elements")
	if err != nil {
		t.Fatal(err)
	}
	hooks, target := t.TempDir(), t.TempDir()
	merge(t, hooks, names...)
	commandtest.Write(t, hooks, map[string]string{"modprobe.d/x.conf": "options x\n"})
	array, resolved := "", ""
	for _, n := range names {
		array += "[" + n + "]=" + lib + "/" + n + " "
		resolved += n + ": " + lib + "/" + n + "\n"
	}
	env := []string{
		"DISTRO_NAME=fedora", "DIB_RELEASE=40", "DIB_INIT_SYSTEM=systemd", "ARCH=amd64", "DIB_DEBUG_TRACE=0",
		"DIB_AVOID_PACKAGES_UPDATE=0", "DIB_SKIP_BASE_PACKAGE_INSTALL=0", "DIB_OPENSSH_SERVER_HARDENING=1",
		"DIB_MODPROBE_BLACKLIST=a  b", "DIB_CLOUD_INIT_ALLOW_SSH_PWAUTH=1", "DIB_CLOUD_INIT_ETC_HOSTS=localhost",
		"IMAGE_ELEMENT=" + strings.Join(names, " "), "IMAGE_ELEMENT_YAML=" + resolved,
		"BASH_FUNC_get_image_element_array%%=() {  echo '" + array + "'\n}",
	}
	for _, hook := range []string{
		"fake-os/root.d/10-fake-os", "pkg-map/extra-data.d/10-create-pkg-map-dir", "modprobe/extra-data.d/50-modprobe-blacklist",
		"install-types/extra-data.d/99-enable-install-types", "package-installs/extra-data.d/99-squash-package-install",
	} {
		if out, err := hostHook(t, hook, hooks, target, env...); err != nil {
			t.Fatalf("%s: %v\n%s", hook, err, out)
		}
	}
	// The chroot has the binary, and stand-ins for programs that fake-os lacks.
	if _, errs, status := commandtest.Call(t, Commands()["copy-programs"], nil, target, self); status != 0 {
		t.Fatal(errs)
	}
	commandtest.Write(t, target, map[string]string{
		"dev/null":                 "", // a file will do
		"usr/local/bin/systemctl!": "#!/bin/bash\necho \"$*\" >> /systemctl.log\n",
		"etc/ssh/sshd_config":      "Port 22\nCiphers old\nmacs old\n",
		"etc/machine-id":           "0123\n",
		"etc/cloud/cloud.cfg":      "x: 1\n",
		"etc/ssh/ssh_host_rsa_key": "secret",
	})
	if err := os.CopyFS(target+"/tmp/in_target.d", os.DirFS(hooks)); err != nil {
		t.Fatal(err)
	}
	for _, phase := range []string{"pre-install", "install", "post-install", "finalise"} {
		entries, err := os.ReadDir(hooks + "/" + phase + ".d")
		if err != nil {
			t.Fatal(err)
		}
		sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
		for _, e := range entries {
			script := "export " + strings.Join(quoted(env[:len(env)-2]), " ") + "; exec /tmp/in_target.d/" + phase + ".d/" + e.Name()
			if out, err := commandtest.Chroot(t, target, "/bin/bash", "-c", script); err != nil {
				t.Fatalf("%s/%s: %v\n%s", phase, e.Name(), err, out)
			}
		}
	}
	if out, err := hostHook(t, "runtime-ssh-host-keys/cleanup.d/90-remove-ssh-host-keys", hooks, target, env...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, want := range map[string]string{
		"var/lib/fake-os/packages":                         "iscsi-initiator-utils\ncloud-utils-growpart\ne2fsprogs\nopenssh-server\nopenssh\ncloud-init\n",
		"systemctl.log":                                    "enable cloud-config.service cloud-final.service cloud-init-local.service cloud-init.service\nenable sshd.service\nenable growroot.service\n",
		"etc/machine-id":                                   "uninitialized\n",
		"etc/modprobe.d/blacklist.conf":                    "blacklist a\nblacklist b\n",
		"etc/modprobe.d/x.conf":                            "options x\n",
		"etc/cloud/cloud.cfg.d/10_etc_hosts.cfg":           "manage_etc_hosts: localhost\n",
		"etc/cloud/cloud.cfg.d/50_dib_ssh_pwauth.cfg":      "ssh_pwauth: true\n",
		"etc/cloud/cloud.cfg.d/50_dib_ssh_genkeytypes.cfg": "ssh_genkeytypes: [rsa, ecdsa, ed25519]\n",
		"usr/local/bin/dib-init-system":                    "#!/bin/sh\necho systemd\n",
		"usr/lib/systemd/system/growroot.service":          commandtest.Read(t, lib+"/growroot/init-scripts/systemd/growroot.service"),
		"usr/local/sbin/growroot":                          commandtest.Read(t, lib+"/growroot/static/usr/local/sbin/growroot"),
		"etc/ssh/sshd_config":                              hardened + "Port 22\n",
		"usr/share/pkg-map/growroot":                       commandtest.Read(t, lib+"/growroot/pkg-map"),
		"usr/local/sbin/runtime-ssh-host-keys.sh":          commandtest.Read(t, lib+"/runtime-ssh-host-keys/static/usr/local/sbin/runtime-ssh-host-keys.sh"),
		"usr/local/bin/pkg-map":                            commandtest.Read(t, lib+"/pkg-map/bin/pkg-map"),
	} {
		if data, err := os.ReadFile(filepath.Join(target, name)); err != nil || string(data) != want {
			t.Errorf("%s: %v\n%q\nwant\n%q", name, err, data, want)
		}
	}
	for _, gone := range []string{"etc/ssh/ssh_host_rsa_key", "usr/lib/systemd/system/ssh-keygen.service"} {
		if _, err := os.Stat(filepath.Join(target, gone)); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}
	// What is optional may be unset.
	for _, hook := range []string{"install.d/80-modprobe-blacklist", "install.d/10-cloud-init", "post-install.d/21-cloud-init-allow-password-auth"} {
		if out, err := commandtest.Chroot(t, target, "/bin/bash", "/tmp/in_target.d/"+hook); err != nil {
			t.Errorf("%s without its variables: %v\n%s", hook, err, out)
		}
	}
	// In the finished image the commands have nothing to hand over to.
	if err := os.RemoveAll(target + "/tmp/in_target.d"); err != nil {
		t.Fatal(err)
	}
	if out, err := commandtest.Chroot(t, target, "/bin/bash", "-c", "pkg-map a"); err == nil || !strings.Contains(out, "only while an image is being built") {
		t.Errorf("%v: %q", err, out)
	}
}

// hardened is the part of sshd_config that goes first where no OpenSSH can say
// what it supports.
const hardened = `MACs hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com,umac-128-etm@openssh.com,hmac-sha2-512,hmac-sha2-256,umac-128@openssh.com
Ciphers chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr
KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp521,ecdh-sha2-nistp384,ecdh-sha2-nistp256,diffie-hellman-group-exchange-sha256
`

func quoted(env []string) []string {
	words := make([]string, len(env))
	for i, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		words[i] = name + "='" + value + "'"
	}
	return words
}
