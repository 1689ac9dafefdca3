package bootloader

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func read(env map[string]string) (settings, error) {
	var environ []string
	for k, v := range env {
		environ = append(environ, k+"="+v)
	}
	return readSettings(func(k string) string { return env[k] }, environ)
}

func TestDefaultsOfAMD64(t *testing.T) {
	s, err := read(map[string]string{"ARCH": "amd64", "DIB_BLOCK_DEVICE": "mbr", "DIB_ROOT_LABEL": "cloudimg-rootfs"})
	if err != nil {
		t.Fatal(err)
	}
	want := `GRUB_DEVICE=LABEL=cloudimg-rootfs
GRUB_DISABLE_LINUX_UUID=true
GRUB_TIMEOUT=5
GRUB_TIMEOUT_STYLE=menu
GRUB_TERMINAL="serial console"
GRUB_GFXPAYLOAD_LINUX=auto
GRUB_CMDLINE_LINUX_DEFAULT="console=tty0 console=ttyS0,115200 no_timer_check nofb nomodeset gfxpayload=text"
GRUB_SERIAL_COMMAND="serial --speed=115200 --unit=0 --word=8 --parity=no --stop=1"
`
	if diff := cmp.Diff(want, EditDefaults("", s.defaults(false))); diff != "" {
		t.Errorf("settings differ (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"grub-pc"}, s.packages()); diff != "" {
		t.Errorf("packages differ (-want +got):\n%s", diff)
	}
}

func TestKernelArgs(t *testing.T) {
	for _, test := range []struct {
		name string
		env  map[string]string
		fips bool
		want string
	}{
		{"everything", map[string]string{"DIB_BOOT_LABEL": "b", "DIB_BOOTLOADER_VIRTUAL_TERMINAL": "tty1", "DIB_BOOTLOADER_SERIAL_CONSOLE": "ttyS1,9600", "DIB_BOOTLOADER_DEFAULT_CMDLINE": "quiet"}, true, "console=tty1 console=ttyS1,9600 no_timer_check quiet boot=LABEL=b fips=1"},
		{"no consoles", map[string]string{"DIB_BOOTLOADER_VIRTUAL_TERMINAL": "", "DIB_BOOTLOADER_USE_SERIAL_CONSOLE": "true", "DIB_NO_TIMER_CHECK": "False"}, false, "nofb nomodeset gfxpayload=text"},
		{"aarch64", map[string]string{"ARCH": "aarch64"}, false, "console=tty0 console=ttyAMA0,115200 no_timer_check nofb nomodeset gfxpayload=text"},
		{"ppc64le", map[string]string{"ARCH": "ppc64le"}, false, "console=tty0 console=hvc0 no_timer_check nofb nomodeset gfxpayload=text"},
	} {
		s, err := read(test.env)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else if got := s.kernelArgs(test.fips); got != test.want {
			t.Errorf("%s: %q; want %q", test.name, got, test.want)
		}
	}
}

func TestSerialCommand(t *testing.T) {
	for device, want := range map[string]string{
		"ttyS0,115200":    "--speed=115200 --unit=0 --word=8 --parity=no",
		"ttyS1,9600":      "--speed=9600 --unit=1 --word=8 --parity=no",
		"ttyS2,57600e7":   "--speed=57600 --unit=2 --word=7 --parity=even",
		"ttyS0,19200n8r":  "--speed=19200 --unit=0 --word=8 --parity=no",
		"ttyAMA3,38400o8": "--speed=38400 --unit=0 --word=8 --parity=odd",
		"hvc0":            "--speed=115200 --unit=0 --word=8 --parity=no",
		"?":               "--speed=115200 --unit=0 --word=8 --parity=no",
	} {
		if got := (settings{Serial: device}).serialCommand(); got != "serial "+want+" --stop=1" {
			t.Errorf("%s gives %q", device, got)
		}
	}
}

func TestSettingsRefused(t *testing.T) {
	for _, test := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"DIB_EXTLINUX": "1"}, "no longer supported"},
		{map[string]string{"DIB_BLOCK_DEVICE": "efi", "ARCH": "s390x"}, `DIB_BLOCK_DEVICE=efi is not supported for the architecture "s390x"`},
		{map[string]string{"DIB_BLOCK_DEVICE": "gpt", "ARCH": "arm64"}, "DIB_BLOCK_DEVICE=gpt is for x86"},
		{map[string]string{"DIB_BLOCK_DEVICE": "/usr/bin/dib-block-device"}, "is unknown"},
		{map[string]string{"DIB_BLOCK_DEVICE": "mbr", "ARCH": "ppc64el"}, `the architecture is "ppc64el"`},
		{map[string]string{"DIB_BLOCK_DEVICE": "mbr", "ARCH": "aarch64"}, `the architecture is "arm64"`},
	} {
		if _, err := read(test.env); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: got %v; want %q", test.env, err, test.want)
		}
	}
}

func TestPackages(t *testing.T) {
	for kind, want := range map[string][]string{
		"": {"grub-pc", "grub-efi", "grub-efi-amd64"}, "mbr": {"grub-pc"}, "gpt": {"grub-pc"}, "efi": {"grub-efi", "grub-efi-amd64"},
	} {
		s, err := read(map[string]string{"ARCH": "x86_64", "DIB_BLOCK_DEVICE": kind})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, s.packages()); diff != "" {
			t.Errorf("packages of %q differ (-want +got):\n%s", kind, diff)
		}
	}
}
