package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/dib-builder/dib/internal/boot"
	"github.com/dib-builder/dib/test/lab"
)

// Firmware of Debian's package ovmf.
const (
	ovmf           = "/usr/share/ovmf/OVMF.fd"
	ovmfSecure     = "/usr/share/OVMF/OVMF_CODE_4M.ms.fd"
	ovmfSecureVars = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd" // Microsoft's keys are enrolled
)

var efiImage = onceImage(func(t *testing.T) *debian {
	b, bd := debianWorkbench(t, ordinary(t), lab.Mke2fs)
	bd.args = []string{"-t", "raw", "-o", "debian", "vm", "block-device-efi", "debian-minimal", "devuser"}
	return b.debian(bd)
})

// bootDisk boots an image on a machine that the options describe and waits for
// the login prompt.
func bootDisk(t *testing.T, o boot.Options) *guest {
	t.Helper()
	needProgram(t, "qemu-system-x86_64")
	transcript, err := os.Create(filepath.Join(t.TempDir(), "console"))
	if err != nil {
		t.Fatal(err)
	}
	o.Transcript, o.TempDir = transcript, "/var/tmp"
	m, err := boot.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Close()
		transcript.Close()
	})
	began := time.Now()
	if err := boot.WaitLogin(t.Context(), m, bootTimeout); err != nil {
		t.Fatalf("%s does not boot: %v", filepath.Base(o.Image), err)
	}
	t.Logf("login prompt after %v", time.Since(began).Round(time.Second))
	return &guest{t, t.Context(), m}
}

// TestBootEFI boots, on an EFI machine, what an ordinary user built on a host
// without any maker of filesystems.
func TestBootEFI(t *testing.T) {
	needProgram(t, "sgdisk", "fsck.vfat")
	image := efiImage(t).path(".raw")
	mustContain(t, "sgdisk -v", output(t, "sgdisk", "-v", image), `No problems found`)
	table := output(t, "sgdisk", "-p", image)
	m := regexp.MustCompile(`(?m)^ +1 +(\d+) +(\d+) .* EF00 +ESP$`).FindStringSubmatch(table)
	if m == nil {
		t.Fatalf("no EFI system partition in\n%s", table)
	}
	esp := filepath.Join(t.TempDir(), "esp")
	output(t, "dd", "if="+image, "of="+esp, "bs=512", "skip="+m[1], fmt.Sprintf("count=%d", 550<<11), "conv=sparse", "status=none")
	output(t, "fsck.vfat", "-n", esp)
	g := bootDisk(t, boot.Options{Image: image, Firmware: ovmf})
	g.login()
	g.run("test -d /sys/firmware/efi")
	g.run("findmnt --noheadings --types vfat /boot/efi")
}

// TestBootEFIElsewhere boots the same image through a BIOS, and under Secure
// Boot.
func TestBootEFIElsewhere(t *testing.T) {
	if !full() {
		t.Skip("takes long: DIB_TEST_FULL=1")
	}
	image := efiImage(t).path(".raw")
	t.Run("BIOS", func(t *testing.T) {
		g := bootDisk(t, boot.Options{Image: image})
		g.login()
		g.run("test ! -d /sys/firmware/efi")
	})
	t.Run("Secure Boot", func(t *testing.T) {
		vars := filepath.Join(t.TempDir(), "vars")
		output(t, "cp", ovmfSecureVars, vars)
		g := bootDisk(t, boot.Options{Image: image, Machine: "q35,smm=on", Args: []string{
			"-global", "driver=cfi.pflash01,property=secure,value=on",
			"-drive", "if=pflash,format=raw,readonly=on,file=" + ovmfSecure,
			"-drive", "if=pflash,format=raw,file=" + vars,
		}})
		g.login()
		if got := g.run("od --address-radix=n --format=u1 --skip-bytes=4 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"); got != "1" {
			t.Errorf("Secure Boot is %q, want 1", got)
		}
	})
}

// TestBootGPT boots an image with a GUID table through a BIOS.
func TestBootGPT(t *testing.T) {
	if !full() {
		t.Skip("takes long: DIB_TEST_FULL=1")
	}
	b, bd := debianWorkbench(t, ordinary(t), lab.Mke2fs)
	bd.args = []string{"-t", "raw", "-o", "debian", "vm", "block-device-gpt", "debian-minimal"}
	image := b.debian(bd).path(".raw")
	mustContain(t, "sgdisk -v", output(t, "sgdisk", "-v", image), `No problems found`)
	bootDisk(t, boot.Options{Image: image})
}
