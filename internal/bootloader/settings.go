package bootloader

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// settings is what the environment of the hook asks for.
type settings struct {
	Arch        string // as Debian names it
	BlockDevice string // "mbr", "gpt" or "efi"; empty for no boot loader
	RootLabel   string
	RootDevice  string // of a root filesystem that the label alone does not lead to
	BootLabel   string // empty without a /boot filesystem
	EFIDir      string // below /boot/efi; empty for none

	Cmdline         string // what ends the kernel command line
	VirtualTerminal string // empty for no console there
	Serial          string // device[,speed]; empty for no serial console
	NoTimerCheck    bool
	SkipPackages    bool

	Timeout, TimeoutStyle string
}

// archNames gives one name to the names an architecture goes by.
var archNames = map[string]string{
	"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64el", "powerpc": "ppc64", "powerpc64": "ppc64", "i686": "i386",
}

// serialDefaults are the consoles of virtual machines that are not ttyS0.
var serialDefaults = map[string]string{"arm64": "ttyAMA0,115200", "ppc64": "hvc0", "ppc64el": "hvc0"}

// readSettings reads the environment and refuses what cannot work before
// anything is changed.
func readSettings(getenv func(string) string, environ []string) (settings, error) {
	or := func(name, def string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return def
	}
	s := settings{
		Arch: getenv("ARCH"), BlockDevice: getenv("DIB_BLOCK_DEVICE"),
		RootLabel: getenv("DIB_ROOT_LABEL"), BootLabel: getenv("DIB_BOOT_LABEL"),
		EFIDir:       strings.Trim(getenv("EFI_BOOT_DIR"), "/"),
		Cmdline:      or("DIB_BOOTLOADER_DEFAULT_CMDLINE", "nofb nomodeset gfxpayload=text"),
		NoTimerCheck: or("DIB_NO_TIMER_CHECK", "True") == "True",
		SkipPackages: or("DIB_SKIP_GRUB_PACKAGE_INSTALL", "False") != "False",
		Timeout:      or("DIB_GRUB_TIMEOUT", "5"), TimeoutStyle: or("DIB_GRUB_TIMEOUT_STYLE", "menu"),
	}
	if name, ok := archNames[s.Arch]; ok {
		s.Arch = name
	}
	// Given but empty means no console on the virtual terminal.
	s.VirtualTerminal = getenv("DIB_BOOTLOADER_VIRTUAL_TERMINAL")
	if s.VirtualTerminal == "" && !slices.ContainsFunc(environ, func(kv string) bool {
		return strings.HasPrefix(kv, "DIB_BOOTLOADER_VIRTUAL_TERMINAL=")
	}) {
		s.VirtualTerminal = "tty0"
	}
	if or("DIB_BOOTLOADER_USE_SERIAL_CONSOLE", "True") == "True" {
		s.Serial = serialDefaults[s.Arch]
		if s.Serial == "" {
			s.Serial = "ttyS0,115200"
		}
		s.Serial = or("DIB_BOOTLOADER_SERIAL_CONSOLE", s.Serial)
	}
	if v := or("DIB_EXTLINUX", "0"); v != "0" {
		return s, fmt.Errorf("cannot install extlinux: DIB_EXTLINUX=%s is no longer supported; unset it to get GRUB", v)
	}
	return s, s.check()
}

func (s settings) check() error {
	switch s.BlockDevice {
	case "":
	case "mbr", "gpt":
		if !s.x86() {
			return fmt.Errorf("cannot install a boot loader: DIB_BLOCK_DEVICE=%s is for x86, and the architecture is %q", s.BlockDevice, s.Arch)
		}
	case "efi":
		if _, ok := efiPlatforms[s.Arch]; !ok {
			return fmt.Errorf("cannot install a boot loader: DIB_BLOCK_DEVICE=efi is not supported for the architecture %q", s.Arch)
		}
	default:
		return fmt.Errorf("cannot install a boot loader: DIB_BLOCK_DEVICE=%s is unknown; want mbr, gpt or efi", s.BlockDevice)
	}
	return nil
}

func (s settings) x86() bool { return s.Arch == "amd64" || s.Arch == "i386" }

// packages are the virtual names that the element's package map resolves.
func (s settings) packages() []string {
	switch s.BlockDevice {
	case "mbr", "gpt":
		return []string{"grub-pc"}
	case "efi":
		return []string{"grub-efi", "grub-efi-" + s.Arch}
	}
	return []string{"grub-pc", "grub-efi", "grub-efi-" + s.Arch}
}

// kernelArgs is the kernel command line.
func (s settings) kernelArgs(fips bool) string {
	var words []string
	if s.VirtualTerminal != "" {
		words = append(words, "console="+s.VirtualTerminal)
	}
	if s.Serial != "" {
		words = append(words, "console="+s.Serial)
	}
	if s.NoTimerCheck {
		words = append(words, "no_timer_check")
	}
	if s.Cmdline != "" {
		words = append(words, s.Cmdline)
	}
	if s.BootLabel != "" {
		words = append(words, "boot=LABEL="+s.BootLabel)
	}
	if fips {
		words = append(words, "fips=1")
	}
	return strings.Join(words, " ")
}

// serialForm is a console as the kernel takes it (Documentation/admin-guide/
// serial-console.rst): device, then speed, parity and number of bits.
var serialForm = regexp.MustCompile(`^([A-Za-z]+)([0-9]+)?(?:,([0-9]+)([noe])?([5-8])?.*)?$`)

// serialCommand is GRUB's command for the same serial line as the kernel's.
func (s settings) serialCommand() string {
	unit, speed, parity, word := "0", "115200", "no", "8"
	if m := serialForm.FindStringSubmatch(s.Serial); m != nil {
		// Only the names of PC serial ports count units as GRUB does.
		if m[1] == "ttyS" && m[2] != "" {
			unit = m[2]
		}
		if m[3] != "" {
			speed = m[3]
		}
		if p, ok := map[string]string{"o": "odd", "e": "even"}[m[4]]; ok {
			parity = p
		}
		if m[5] != "" {
			word = m[5]
		}
	}
	return fmt.Sprintf("serial --speed=%s --unit=%s --word=%s --parity=%s --stop=1", speed, unit, word, parity)
}

// defaults are the assignments that belong into /etc/default/grub, in order.
func (s settings) defaults(fips bool) []assignment {
	terminal := "console"
	if s.Serial != "" {
		terminal = "serial console"
	}
	root := "LABEL=" + s.RootLabel
	if s.RootDevice != "" {
		root = s.RootDevice
	}
	set := []assignment{
		{"GRUB_DEVICE", root},
		{"GRUB_DISABLE_LINUX_UUID", "true"},
		{"GRUB_TIMEOUT", s.Timeout},
		{"GRUB_TIMEOUT_STYLE", s.TimeoutStyle},
		{"GRUB_TERMINAL", terminal},
		{"GRUB_GFXPAYLOAD_LINUX", "auto"},
		{"GRUB_CMDLINE_LINUX_DEFAULT", s.kernelArgs(fips)},
	}
	if s.Serial != "" {
		set = append(set, assignment{"GRUB_SERIAL_COMMAND", s.serialCommand()})
	}
	return set
}

// look finds a program on a PATH, empty if there is none.
func look(path, name string) string {
	for _, dir := range filepath.SplitList(path) {
		full := filepath.Join(dir, name)
		if st, err := os.Stat(full); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return full
		}
	}
	return ""
}
