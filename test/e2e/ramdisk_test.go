package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/boot"
	"github.com/dib-builder/dib/test/lab"
)

// D07: nothing of a disk is made or needed. D72: not in memory by default. D73:
// the contract for ramdisk elements works, as the machine itself says. D74: old
// files are kept, checksums are written. D75 is a test of the library.
func TestD07D73D74RamdiskBoots(t *testing.T) {
	needProgram(t, "qemu-system-x86_64", "mke2fs")
	l := openLab(t)
	b, bd := debianWorkbench(t, lab.Root(), nil)
	if err := os.WriteFile(filepath.Join(b.out, "rd.kernel"), []byte("an old kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	bd.args = []string{"-o", "rd", "debian-minimal", "ramdisk-marker"}
	bd.env = map[string]string{"ELEMENTS_PATH": l.Elements(), "DIB_CHECKSUM": "1", "DIB_NO_TMPFS": "0"}
	bd.command = "ramdisk-image-create"
	o := b.mustBuild(bd)
	mustContain(t, "the log", o.Stdout, `^Image file rd\.initramfs created\.\.\.$`, `^Image file rd\.kernel created\.\.\.$`,
		`^Old image found\. Renaming it to .*rd-[0-9.]+-[0-9.]+\.kernel$`)
	if strings.Contains(o.Stdout, "writing the disk") {
		t.Error("a disk was written")
	}
	for _, name := range b.outputs() {
		if !regexp.MustCompile(`^rd(-[0-9.-]+)?\.(initramfs|kernel|d)(\.md5|\.sha256)?$`).MatchString(name) {
			t.Errorf("unexpected output %s", name)
		}
	}
	for _, name := range []string{"rd.kernel", "rd.initramfs"} {
		data := b.read(name)
		if got, want := b.read(name+".sha256"), fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(data)), name); got != want {
			t.Errorf("%s.sha256 is %q, want %q", name, got, want)
		}
	}

	console := bootRamdisk(t, filepath.Join(b.out, "rd"))
	mustContain(t, "the console", console,
		`MARKER kernel=\S+ init=1 shell=5 udevd=runs`,
		`MARKER mac=52:54:00:12:34:56 ip=10\.0\.2\.15 server=10\.0\.2\.2 gateway=10\.0\.2\.2 mask=255\.255\.255\.0 disk=vda id=7`,
		`MARKER interface=eth\d+ address=10\.0\.2\.15/24`,
		`MARKER module=loaded rule=there file=from in_target\.d`,
		`MARKER program=4\.0K disks=/dev/vda link=there`,
		`MARKER target=1`)
}

// TestD73DracutRamdiskBoots is left to long runs: dracut is slow in an
// emulated machine that traces what it does.
func TestD73DracutRamdiskBoots(t *testing.T) {
	if !full() {
		t.Skip("takes very long: DIB_TEST_FULL=1 runs it")
	}
	needProgram(t, "qemu-system-x86_64", "mke2fs")
	l := openLab(t)
	b, bd := debianWorkbench(t, lab.Root(), nil)
	bd.args = []string{"-o", "rd", "--ramdisk-element", "dracut-ramdisk", "debian-minimal", "ramdisk-marker"}
	bd.env = map[string]string{"ELEMENTS_PATH": l.Elements(), "DIB_NO_TMPFS": "0"}
	bd.command = "ramdisk-image-create"
	b.mustBuild(bd)
	mustContain(t, "the console", bootRamdisk(t, filepath.Join(b.out, "rd")),
		`MARKER mac=52:54:00:12:34:56 .*server=10\.0\.2\.2 .*disk=vda id=7`,
		`MARKER module= rule= file=from in_target\.d`, `MARKER program=4\.0K disks=/dev/vda link=there`,
		`ERROR: cannot export /dev/vda over iSCSI`)
}

// bootRamdisk boots name.kernel and name.initramfs to their end, and returns
// what the console showed.
func bootRamdisk(t *testing.T, name string) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(disk, make([]byte, 16<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	output(t, "mke2fs", "-q", "-t", "ext4", "-U", "11112222-3333-4444-5555-666677778888", disk)
	m, err := boot.Start(t.Context(), boot.Options{
		Kernel: name + ".kernel", Initrd: name + ".initramfs", Image: disk, Format: "raw", Memory: 1024, TempDir: "/var/tmp",
		Append: "console=ttyS0 panic=-1 quiet BOOTIF=01-52-54-00-12-34-56 disk=vda deployment_id=7 boot_server=10.0.2.2",
		Args:   []string{"-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile=,mac=52:54:00:12:34:56"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	if _, err := m.Expect(t.Context(), regexp.MustCompile(`MARKER end`), bootTimeout); err != nil {
		t.Fatalf("the ramdisk does not come to its end: %v\n%s", err, m.Text())
	}
	if err := m.WaitExit(t.Context(), commandTimeout); err != nil {
		t.Errorf("the machine does not switch itself off: %v", err)
	}
	return strings.ReplaceAll(m.Text(), "\r", "")
}
