package elements

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestInitFunctions runs the functions of a ramdisk's init against made-up
// files of the kernel.
func TestInitFunctions(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"proc/cmdline":    "BOOT_IMAGE=/vmlinuz ro BOOTIF=01-aa-bb ip=10.0.0.2:10.0.0.1:10.0.0.254:255.255.255.0 disk=vda,sda flag x=1 x=2 empty=\n",
		"proc/partitions": "major minor  #blocks  name\n\n   8        0   1024 sda\n   8        1   1023 sda1\n 259        1   1023 nvme0n1p1\n",
		"dev/sda":         "", "dev/nvme0n1": "",
		"sys/class/net/eth0/address": "52:54:00:12:34:56\n",
		"sys/class/net/ib0/address":  "80:00:00:48:fe:80:00:00:00:00:00:00:f4:52:14:03:00:ae:5c:a1\n",
		"sys/class/net/lo/address":   "00:00:00:00:00:00\n",
		"parameters.txt":             "deployment_id=from-media other=1",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ script, want string }{
		{`get_kernel_parameter BOOTIF`, "01-aa-bb\n"},
		{`get_kernel_parameter x`, "2\n"},
		{`get_kernel_parameter empty`, "\n"},
		{`get_kernel_parameter flag || echo none`, "none\n"},
		{`get_kernel_parameter OOTIF || echo none`, "none\n"},
		{`BOOT_METHOD=vmedia VMEDIA_PARAMETERS=$ROOT/parameters.txt; get_kernel_parameter deployment_id; get_kernel_parameter disk || echo none`, "from-media\nnone\n"},
		{`find_parameter_from_file other "$ROOT/parameters.txt"`, "1\n"},
		{`n=0; ok() { n=$((n + 1)); [ $n = 3 ]; }; wait_for 5 0 ok && echo $n`, "3\n"},
		{`n=0; never() { n=$((n + 1)); false; }; wait_for 4 0 never || echo $n`, "4\n"},
		{`err_msg one; err_msg two; echo "$FIRST_ERR_MSG"`, "ERROR: one\nERROR: two\none\n"},
		{`find_interface 52:54:00:12:34:56`, "eth0\n"},
		{`find_interface 52:54:00:AA:BB:CC || echo none`, "none\n"},
		{`find_interface F4:52:14:AE:5C:A1`, "ib0\n"},
		{`find_disk vda,sda,nvme0n1`, "/dev/sda\n"},
		{`find_disk /dev/nvme0n1`, "/dev/nvme0n1\n"},
		{`find_disk vda || echo none`, "none\n"},
		{`partition_exists sda1 && partition_exists /dev/nvme0n1p1 && echo yes; partition_exists sda2 || echo no`, "yes\nno\n"},
		{`partition_name sda 1; partition_name /dev/nvme0n1 2; partition_name mmcblk0 3; partition_name vda 1`, "sda1\nnvme0n1p2\nmmcblk0p3\nvda1\n"},
		{`for d in sda1 /dev/vda12 nvme0n1p1 nvme0n1 mmcblk0p2 cciss/c0d0p1 cciss/c0d0 sda; do whole_disk_name $d; done`,
			"sda\nvda\nnvme0n1\nnvme0n1\nmmcblk0\ncciss/c0d0\ncciss/c0d0\nsda\n"},
		{`safe_url_encode 'a b/c?d=ü~-_.'`, "a%20b%2Fc%3Fd%3D%C3%BC~-_.\n"},
		{`ip() { echo "ip $*"; }; set_mac eth0 1:2`, "ip link set dev eth0 down\nip link set dev eth0 address 1:2\nip link set dev eth0 up\n"},
		{`ip() { echo "ip $*"; }; swap_ifname eth0 eth0; swap_ifname eth0 eth1`, "ip link set dev eth0 down\nip link set dev eth0 name eth1\n"},
		{`ip() { echo "ip ${*//[0-9][0-9]*/N}"; }; swap_ifname eth0 ib0`,
			"ip link set dev eth0 down\nip link set dev ib0 down\nip link set dev ib0 name swapN\nip link set dev eth0 name ib0\nip link set dev swapN name eth0\n"},
		{`bash() { echo shell; }; TROUBLESHOOT=1; troubleshoot`, "a shell to look around; exit it to go on\nshell\n"},
		{`bash() { echo shell; }; troubleshoot <<< n; echo on`, "press t within 10 seconds for a shell\non\n"},
		{`bash() { echo shell; }; troubleshoot <<< t`, "press t within 10 seconds for a shell\na shell to look around; exit it to go on\nshell\n"},
		{`start_iscsi_target iqn /dev/sda ALL || echo failed; stop_iscsi_target && echo ok`, "ERROR: cannot export /dev/sda over iSCSI: no element of this ramdisk can\nfailed\nok\n"},
		{`udevadm() { echo "udevadm $*"; }; load_modules_by_udev`, "udevadm trigger --action=add\nudevadm settle\n"},
	} {
		t.Run(tt.script, func(t *testing.T) {
			cmd := exec.Command("/bin/bash", "-c", "source ramdisk-base/extra-data.d/scripts/d/init-func\n"+tt.script)
			cmd.Env = []string{"PATH=/usr/bin:/bin", "ROOT=" + root, "PROC=" + root + "/proc", "SYS=" + root + "/sys", "DEV=" + root + "/dev"}
			out, err := cmd.CombinedOutput()
			if err != nil || string(out) != tt.want {
				t.Errorf("%v, got %q, want %q", err, out, tt.want)
			}
		})
	}
}

// TestInitVariables sources the fragment that later fragments rely on.
func TestInitVariables(t *testing.T) {
	fragment, err := os.ReadFile("ramdisk-base/init.d/20-init-variables")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ cmdline, want string }{
		{"BOOTIF=01-52-54-00-ab-cd-ef ip=10.0.0.2:10.0.0.1:10.0.0.254:255.255.255.0 disk=vda deployment_id=5 deployment_key=k iscsi_target_iqn=iqn.x troubleshoot=1",
			"52:54:00:AB:CD:EF 10.0.0.2 10.0.0.1 10.0.0.254 255.255.255.0 vda 5 k iqn.x 1"},
		{"BOOTIF=20-f4-52-14-ae-5c-a1 boot_server=192.0.2.1 ip=dhcp", "F4:52:14:AE:5C:A1  192.0.2.1       "},
		{"quiet", "         "},
	} {
		script := "source ramdisk-base/extra-data.d/scripts/d/init-func\n" +
			strings.ReplaceAll(string(fragment), "/proc/cmdline", `"$PROC/cmdline"`) +
			`echo "$BOOT_MAC_ADDRESS $BOOT_IP_ADDRESS $BOOT_SERVER $BOOT_GATEWAY $BOOT_NETMASK $DISK $DEPLOYMENT_ID $DEPLOYMENT_KEY $ISCSI_TARGET_IQN $TROUBLESHOOT"`
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "cmdline"), []byte(tt.cmdline+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/bin/bash", "-c", script)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "PROC=" + dir}
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != tt.want+"\n" {
			t.Errorf("%s: %v, got %q, want %q", tt.cmdline, err, out, tt.want)
		}
	}
}
