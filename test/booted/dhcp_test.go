package booted

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/test/commandtest"
)

const (
	dhcpInstall = "dhcp-all-interfaces/install.d/50-dhcp-all-interfaces"
	dhcpRemove  = "dhcp-all-interfaces/install.d/60-remove-cloud-image-interfaces"
	dhcpScript  = "dhcp-all-interfaces/dhcp-all-interfaces/dhcp-all-interfaces.sh"
	placed      = "usr/local/sbin/dhcp-all-interfaces.sh"
)

// image is a tree in which the element's install hook can run.
func dhcpImage(t *testing.T, files map[string]string, env ...string) *machine {
	t.Helper()
	m := newMachine(t, files)
	entries, err := os.ReadDir(elements + "dhcp-all-interfaces/dhcp-all-interfaces")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		commandtest.Write(t, m.root, map[string]string{"in_target.d/dhcp-all-interfaces/" + e.Name(): commandtest.Read(t, elements+"dhcp-all-interfaces/dhcp-all-interfaces/"+e.Name())})
	}
	m.env = append([]string{"DIB_DHCP_TIMEOUT=20", "DIB_DHCP_NETWORK_MANAGER_AUTO=false", "DIB_DHCP_CLIENT=", "DIB_INIT_SYSTEM=systemd", "DISTRO_NAME=debian", "DIB_RELEASE=bookworm"}, env...)
	return m
}

func TestDHCPInstall(t *testing.T) {
	const unit, rules = "usr/lib/systemd/system/dhcp-interface@.service", "etc/udev/rules.d/99-dhcp-all-interfaces.rules"
	t.Run("systemd with ifup", func(t *testing.T) {
		m := dhcpImage(t, map[string]string{"etc/network/interfaces": "", "etc/dhcp/dhclient.conf": "#timeout 60;\n  retry 60;\nrequest x;\n"})
		m.mustRun(dhcpInstall)
		for _, want := range []string{"ExecStartPre=/usr/local/sbin/dhcp-all-interfaces.sh %i\nExecStart=/sbin/ifup %i\n", "TimeoutStartSec=40\n", "ConditionPathExists=!/etc/sysconfig/network-scripts/ifcfg-%i\n"} {
			if text := m.read(unit); !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		if text := m.read(rules); !strings.Contains(text, `KERNEL!="lo", ACTION=="add|move"`) || !strings.Contains(text, "dhcp-interface@$name.service") {
			t.Error(text)
		}
		if text := m.read(placed); !strings.Contains(text, "\ntimeout=20\n") || strings.Contains(text, "@") && strings.Contains(text, "@TIMEOUT") || m.mode(placed) != 0o755 {
			t.Error(text)
		}
		if text, want := m.read("etc/dhcp/dhclient.conf"), "#timeout 60;\n# changed by the element dhcp-all-interfaces\n# retry 60;\nrequest x;\n# changed by the element dhcp-all-interfaces\ntimeout 20;\n"; text != want {
			t.Errorf("%s", text)
		}
		if calls := m.called(); calls != "" {
			t.Error(calls)
		}
	})
	t.Run("timeout of dhclient replaced", func(t *testing.T) {
		m := dhcpImage(t, map[string]string{"etc/dhcp/dhclient.conf": "timeout 300;\n"})
		m.mustRun(dhcpInstall)
		if text := m.read("etc/dhcp/dhclient.conf"); text != "# changed by the element dhcp-all-interfaces\ntimeout 20;\n" {
			t.Error(text)
		}
	})
	t.Run("NetworkManager alone", func(t *testing.T) {
		m := dhcpImage(t, map[string]string{"etc/NetworkManager/x": ""}, "DIB_DHCP_NETWORK_MANAGER_AUTO=true", "DIB_DHCP_CLIENT=dhclient")
		m.mustRun(dhcpInstall)
		want := "[main]\nignore-carrier=*\ndhcp=dhclient\n\n[connection]\nautoconnect-retries=-1\nipv4.dhcp-timeout=20\nipv6.dhcp-timeout=20\n"
		if text := m.read("etc/NetworkManager/conf.d/00-main.conf"); text != want || m.mode("etc/NetworkManager/conf.d/00-main.conf") != 0o644 {
			t.Error(text)
		}
		if m.exists(placed) || m.exists(unit) || m.called() != "" {
			t.Error("more than NetworkManager is set up")
		}
	})
	t.Run("M73 networkd where there is no ifup", func(t *testing.T) {
		m := dhcpImage(t, map[string]string{"usr/lib/systemd/systemd-networkd": "", "etc/network/if-up.d/openssh-server": ""})
		m.without("ifup")
		m.mustRun(dhcpInstall)
		if text := m.read(unit); !strings.Contains(text, "\nExecStart=/usr/local/sbin/dhcp-all-interfaces.sh --up %i\n") {
			t.Error(text)
		}
		if calls := m.called(); calls != "systemctl enable systemd-networkd.service\n" {
			t.Error(calls)
		}
	})
	t.Run("M73 NetworkManager where there is no ifup", func(t *testing.T) {
		m := dhcpImage(t, map[string]string{"etc/redhat-release": "", "etc/NetworkManager/x": "", "usr/lib/systemd/systemd-networkd": ""}, "DIB_RELEASE=10", "DISTRO_NAME=rocky")
		m.without("ifup")
		m.mustRun(dhcpInstall)
		if calls := m.called(); calls != "dnf -y install ndisc6\nsystemctl enable NetworkManager.service\n" {
			t.Error(calls)
		}
	})
	t.Run("M73 nothing to configure with", func(t *testing.T) {
		m := dhcpImage(t, nil)
		m.without("ifup")
		if out, status := m.run(dhcpInstall); status != 1 || !strings.Contains(out, "neither ifup, NetworkManager nor systemd-networkd") {
			t.Errorf("exit status %d: %s", status, out)
		}
	})
	for release, want := range map[string]string{"7": "dhclient", "8": "dhclient", "8-stream": "dhclient", "8.9": "dhclient", "9": "internal", "9-stream": "internal",
		"10": "dhcpcd", "10-stream": "dhcpcd", "": "internal", "41": "internal", "80": "internal", "18": "internal"} {
		t.Run("M73 release "+release, func(t *testing.T) {
			m := dhcpImage(t, map[string]string{"etc/redhat-release": "", "etc/NetworkManager/x": ""}, "DIB_DHCP_NETWORK_MANAGER_AUTO=true", "DIB_RELEASE="+release)
			m.mustRun(dhcpInstall)
			if text := m.read("etc/NetworkManager/conf.d/00-main.conf"); !strings.Contains(text, "\ndhcp="+want+"\n") {
				t.Error(text)
			}
		})
	}
	t.Run("upstart and sysv", func(t *testing.T) {
		m := dhcpImage(t, nil, "DIB_INIT_SYSTEM=upstart")
		m.mustRun(dhcpInstall)
		if text := m.read("etc/init/dhcp-all-interfaces.conf"); !strings.Contains(text, "start on starting network-interface") || m.called() != "" {
			t.Error(text)
		}
		m = dhcpImage(t, map[string]string{"etc/redhat-release": ""}, "DIB_INIT_SYSTEM=upstart", "DISTRO_NAME=centos")
		m.without("dnf")
		m.fake("yum", "exit 1")
		m.mustRun(dhcpInstall)
		if calls := m.called(); calls != "yum -y install ndisc6\nchkconfig dhcp-all-interfaces on\n" || m.mode("etc/init.d/dhcp-all-interfaces") != 0o755 {
			t.Error(calls)
		}
		m = dhcpImage(t, nil, "DIB_INIT_SYSTEM=sysv")
		m.mustRun(dhcpInstall)
		if calls := m.called(); calls != "update-rc.d dhcp-all-interfaces defaults\n" || !m.exists("etc/init.d/dhcp-all-interfaces") {
			t.Error(calls)
		}
	})
	t.Run("gentoo", func(t *testing.T) {
		m := dhcpImage(t, map[string]string{"etc/dhcpcd.conf": "slaac private\noption domain_name_servers, domain_name, domain_search\noption host_name\noption domain_name, domain_search, host_name\n"},
			"DIB_INIT_SYSTEM=openrc", "DISTRO_NAME=gentoo")
		m.mustRun(dhcpInstall)
		want := "# slaac private\noption domain_name_servers, domain_search\noption host_name\noption domain_search\n"
		if text := m.read("etc/dhcpcd.conf"); text != want || m.called() != "rc-update add dhcpcd default\n" || m.exists(placed) {
			t.Error(text)
		}
	})
	for _, env := range []string{"DIB_DHCP_TIMEOUT=soon", "DIB_DHCP_TIMEOUT=0", "DIB_INIT_SYSTEM=openrc"} {
		m := dhcpImage(t, nil, env)
		if out, status := m.run(dhcpInstall); status != 1 {
			t.Errorf("%s: exit status %d: %s", env, status, out)
		}
	}
}

func TestDHCPRemove(t *testing.T) {
	m := newMachine(t, map[string]string{
		"etc/sysconfig/network-scripts/ifcfg-lo": "", "etc/sysconfig/network-scripts/ifcfg-eth0": "", "etc/network/interfaces.d/50-cloud": "",
		"etc/conf.d/net": "", "etc/conf.d/net.eth0": "", "etc/conf.d/other": "", "etc/network/interfaces": "auto eth0\n",
	})
	m.mustRun(dhcpRemove)
	for name, want := range map[string]bool{"etc/sysconfig/network-scripts/ifcfg-lo": true, "etc/sysconfig/network-scripts/ifcfg-eth0": false,
		"etc/network/interfaces.d/50-cloud": false, "etc/conf.d/net": false, "etc/conf.d/net.eth0": false, "etc/conf.d/other": true} {
		if m.exists(name) != want {
			t.Errorf("%s: exists %v", name, !want)
		}
	}
	if text := m.read("etc/network/interfaces"); text != "auto lo\niface lo inet loopback\nsource /etc/network/interfaces.d/*\n" {
		t.Error(text)
	}
	m.env = []string{"DISTRO_NAME=ubuntu", "DIB_RELEASE=trusty"}
	m.mustRun(dhcpRemove)
	if text := m.read("etc/network/interfaces"); text != "auto lo\niface lo inet loopback\nsource-directory interfaces.d\n" {
		t.Error(text)
	}
	newMachine(t, nil).mustRun(dhcpRemove)
}

// booted is a machine with interfaces: name, addr_assign_type, type and carrier.
func bootedMachine(t *testing.T, files map[string]string, interfaces ...string) *machine {
	t.Helper()
	m := newMachine(t, files)
	for _, words := range interfaces {
		f := strings.Fields(words)
		for i, name := range []string{"addr_assign_type", "type", "carrier"} {
			commandtest.Write(t, m.root, map[string]string{"sys/class/net/" + f[0] + "/" + name: f[i+1] + "\n"})
		}
	}
	text := strings.ReplaceAll(commandtest.Read(t, elements+dhcpScript), "@TIMEOUT@", "3")
	commandtest.Write(t, m.root, map[string]string{"script!": absolute.ReplaceAllString(text, "${1}"+m.root+"/${2}")})
	return m
}

func (m *machine) dhcp(args ...string) string {
	m.t.Helper()
	out, status := m.runFile(filepath.Join(m.root, "script"), args...)
	if status != 0 {
		m.t.Fatalf("exit status %d\n%s", status, out)
	}
	return out
}

// advertise makes rdisc6 find a router.
func (m *machine) advertise(managed, other string) {
	m.t.Helper()
	m.fake("rdisc6", fmt.Sprintf("echo 'Stateful address conf.    : %10s'; echo 'Stateful other conf.      : %10s'", managed, other))
}

func TestDHCPInterfaces(t *testing.T) {
	eni := map[string]string{"etc/network/interfaces": "auto lo\n", "etc/machine-id": "0123456789abcdef0123456789abcdef\n"}
	redhat := map[string]string{"etc/sysconfig/network-scripts/ifcfg-lo": "", "etc/machine-id": "0123456789abcdef0123456789abcdef\n"}
	noRouter := func(m *machine) { m.fake("rdisc6", "exit 2") }
	for _, c := range []struct {
		name       string
		files      map[string]string
		interfaces string
		prepare    func(*machine)
		file, text string
	}{
		{"eni", eni, "eth0 0 1 1", noRouter, "etc/network/interfaces", "auto lo\n\nauto eth0\niface eth0 inet dhcp\n"},
		{"eni without rdisc6", eni, "eth0 0 1 1", func(m *machine) { m.without("rdisc6") }, "etc/network/interfaces", "auto lo\n\nauto eth0\niface eth0 inet dhcp\n"},
		{"eni managed", eni, "eth0 0 1 1", func(m *machine) { m.advertise("Yes", "Yes") }, "etc/network/interfaces", "auto lo\n\nauto eth0\niface eth0 inet dhcp\niface eth0 inet6 dhcp\n"},
		{"eni other", eni, "eth0 0 1 1", func(m *machine) { m.advertise("No", "Yes") }, "etc/network/interfaces", "auto lo\n\nauto eth0\niface eth0 inet dhcp\niface eth0 inet6 auto\n    dhcp 1\n"},
		{"eni auto", eni, "eth0 0 1 1", func(m *machine) { m.advertise("No", "No") }, "etc/network/interfaces", "auto lo\n\nauto eth0\niface eth0 inet dhcp\niface eth0 inet6 auto\n    dhcp 0\n"},
		{"configured already", eni, "eth0 0 1 1", func(m *machine) { m.fake("ifquery", "echo address: x") }, "etc/network/interfaces", "auto lo\n"},
		{"random address", eni, "eth0 1 1 1", noRouter, "etc/network/interfaces", "auto lo\n"},
		{"stolen address", eni, "br0 2 1 1\neth0 1 1 1", noRouter, "etc/network/interfaces", "auto lo\n"},
		{"no link", eni, "eth0 0 1 0", noRouter, "etc/network/interfaces", "auto lo\n"},
		{"loopback", eni, "lo 0 772 1", noRouter, "etc/network/interfaces", "auto lo\n"},
		{"vlan", eni, "eth0.5 2 1 1\neth0 0 1 0", noRouter, "etc/network/interfaces", "auto lo\n\nauto eth0.5\niface eth0.5 inet dhcp\n"},
		{"redhat", redhat, "eth0 0 1 1", noRouter, "etc/sysconfig/network-scripts/ifcfg-eth0", "DEVICE=\"eth0\"\nBOOTPROTO=\"dhcp\"\nONBOOT=\"yes\"\nTYPE=\"Ethernet\"\n"},
		{"redhat vlan", redhat, "eth0.5 2 1 1\neth0 0 1 0", noRouter, "etc/sysconfig/network-scripts/ifcfg-eth0.5", "DEVICE=\"eth0.5\"\nBOOTPROTO=\"dhcp\"\nONBOOT=\"yes\"\nVLAN=\"yes\"\n"},
		{"redhat infiniband", redhat, "ib0 0 32 1", noRouter, "etc/sysconfig/network-scripts/ifcfg-ib0", "DEVICE=\"ib0\"\nBOOTPROTO=\"dhcp\"\nONBOOT=\"yes\"\nTYPE=\"InfiniBand\"\n" +
			"CONNECTED_MODE=\"no\"\nDEFROUTE=\"yes\"\nPEERDNS=\"yes\"\nPEERROUTES=\"yes\"\nIPV4_FAILURE_FATAL=\"yes\"\nIPV6INIT=\"no\"\n"},
		{"redhat managed", redhat, "eth0 0 1 1", func(m *machine) { m.advertise("Yes", "No") }, "etc/sysconfig/network-scripts/ifcfg-eth0",
			"DEVICE=\"eth0\"\nBOOTPROTO=\"dhcp\"\nONBOOT=\"yes\"\nTYPE=\"Ethernet\"\nIPV6INIT=\"yes\"\nIPV6_FORCE_ACCEPT_RA=\"yes\"\nDHCPV6C=\"yes\"\n"},
		{"redhat other", redhat, "eth0 0 1 1", func(m *machine) { m.advertise("No", "Yes") }, "etc/sysconfig/network-scripts/ifcfg-eth0",
			"DEVICE=\"eth0\"\nBOOTPROTO=\"dhcp\"\nONBOOT=\"yes\"\nTYPE=\"Ethernet\"\nIPV6INIT=\"yes\"\nIPV6_AUTOCONF=\"yes\"\nDHCPV6C=\"yes\"\nDHCPV6C_OPTIONS=\"-S\"\n"},
		{"redhat auto", redhat, "eth0 0 1 1", func(m *machine) { m.advertise("No", "No") }, "etc/sysconfig/network-scripts/ifcfg-eth0",
			"DEVICE=\"eth0\"\nBOOTPROTO=\"dhcp\"\nONBOOT=\"yes\"\nTYPE=\"Ethernet\"\nIPV6INIT=\"yes\"\nIPV6_AUTOCONF=\"yes\"\n"},
		{"suse", map[string]string{"etc/sysconfig/network/config": ""}, "eth0 0 1 1", noRouter, "etc/sysconfig/network/ifcfg-eth0", "BOOTPROTO='dhcp'\nSTARTMODE='auto'\n"},
		{"M73 NetworkManager", map[string]string{"etc/NetworkManager/x": ""}, "eth0 0 1 1", func(m *machine) { m.without("ifup") }, "etc/NetworkManager/system-connections/eth0.nmconnection",
			"[connection]\nid=eth0\ntype=ethernet\ninterface-name=eth0\n\n[ipv4]\nmethod=auto\ndhcp-timeout=3\n\n[ipv6]\nmethod=auto\n"},
		{"M73 NetworkManager vlan", map[string]string{"etc/NetworkManager/x": ""}, "eth0.5 2 1 1\neth0 0 1 0", func(m *machine) { m.without("ifup") }, "etc/NetworkManager/system-connections/eth0.5.nmconnection",
			"[connection]\nid=eth0.5\ntype=vlan\ninterface-name=eth0.5\n\n[vlan]\nid=5\nparent=eth0\n\n[ipv4]\nmethod=auto\ndhcp-timeout=3\n\n[ipv6]\nmethod=auto\n"},
		{"M73 networkd", map[string]string{"lib/systemd/systemd-networkd": "", "etc/network/if-up.d/x": ""}, "eth0 0 1 1", func(m *machine) { m.without("ifup") },
			"etc/systemd/network/50-dhcp-eth0.network", "[Match]\nName=eth0\n\n[Network]\nDHCP=yes\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := bootedMachine(t, c.files, strings.Split(c.interfaces, "\n")...)
			c.prepare(m)
			out := m.dhcp()
			if text := m.read(c.file); text != c.text {
				t.Errorf("%s:\n%s\nwant\n%s\n%s", c.file, text, c.text, out)
			}
			if strings.Contains(c.file, "nmconnection") && m.mode(c.file) != 0o600 {
				t.Errorf("mode %o", m.mode(c.file))
			}
		})
	}
}

func TestDHCPWaits(t *testing.T) {
	m := bootedMachine(t, map[string]string{"etc/network/interfaces": ""}, "eth0 0 1 0")
	// The link comes up while somebody sleeps, and the router after that.
	m.fake("sleep", `if [ "$(cat "$ROOT/sys/class/net/eth0/carrier")" = 1 ]; then touch "$ROOT/router"; fi; echo 1 > "$ROOT/sys/class/net/eth0/carrier"`)
	m.fake("rdisc6", `[ -e "$ROOT/router" ] || exit 1; echo 'Stateful address conf.    :          Yes'`)
	m.dhcp("eth0")
	if text := m.read("etc/network/interfaces"); !strings.Contains(text, "iface eth0 inet6 dhcp\n") {
		t.Error(text)
	}
	want := "ifquery eth0\nip link set dev eth0 up\nsleep 1\nrdisc6 --retry 3 --single eth0\nsleep 1\nrdisc6 --retry 3 --single eth0\n"
	if calls := m.called(); calls != want {
		t.Errorf("%s", calls)
	}
	m.fake("sleep", "")
	m.fake("rdisc6", "exit 1")
	m.dhcp("eth0")
	if calls := m.called(); strings.Count(calls, "rdisc6") != 3 {
		t.Errorf("rounds of the timeout:\n%s", calls)
	}
}

func TestDHCPIdentity(t *testing.T) {
	const want = `default-duid "\000\004\001\043\105\147\211\253\315\357\001\043\105\147\211\253\315\357";` + "\n"
	id := "0123456789abcdef0123456789abcdef\n"
	m := bootedMachine(t, map[string]string{"etc/network/interfaces": "", "etc/machine-id": id}, "eth0 0 1 1")
	m.advertise("Yes", "No")
	m.dhcp("eth0")
	m.dhcp("eth0") // the identity stays as it is
	if text := m.read("var/lib/dhcp/dhclient6.eth0.leases"); text != want {
		t.Error(text)
	}
	m = bootedMachine(t, map[string]string{"etc/sysconfig/network-scripts/x": "", "etc/machine-id": id}, "eth0 0 1 1")
	m.advertise("No", "No")
	m.dhcp("eth0")
	if text := m.read("var/lib/dhclient/dhclient6-eth0.leases"); text != want {
		t.Error(text)
	}
	m = bootedMachine(t, map[string]string{"etc/network/interfaces": "", "etc/machine-id": "uninitialized\n"}, "eth0 0 1 1")
	m.advertise("No", "No")
	m.dhcp("eth0")
	if m.exists("var/lib/dhcp/dhclient6.eth0.leases") {
		t.Error("an identity was made of no id")
	}
}

func TestDHCPUp(t *testing.T) {
	for _, c := range []struct {
		files map[string]string
		want  string
	}{
		{map[string]string{"etc/NetworkManager/system-connections/eth0.nmconnection": ""}, "nmcli connection reload\nnmcli connection up eth0\n"},
		{map[string]string{"etc/NetworkManager/x": ""}, ""},
		{map[string]string{"usr/lib/systemd/systemd-networkd": "", "etc/systemd/network/50-dhcp-eth0.network": ""}, "networkctl reload\nnetworkctl reconfigure eth0\n"},
		{map[string]string{"usr/lib/systemd/systemd-networkd": ""}, ""},
	} {
		m := bootedMachine(t, c.files, "eth0 0 1 1")
		m.without("ifup")
		m.dhcp("--up", "eth0")
		if calls := m.called(); calls != c.want {
			t.Errorf("%v: %s", c.files, calls)
		}
	}
	m := bootedMachine(t, nil, "eth0 0 1 1")
	if out, status := m.runFile(filepath.Join(m.root, "script"), "eth0"); status != 1 || !strings.Contains(out, "nothing to configure interfaces with") {
		t.Errorf("exit status %d: %s", status, out)
	}
}
