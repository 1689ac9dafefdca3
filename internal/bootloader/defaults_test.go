package bootloader

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEditDefaults(t *testing.T) {
	set := []assignment{{"GRUB_DEVICE", "LABEL=a/b&c"}, {"GRUB_TIMEOUT", "5"}, {"GRUB_CMDLINE_LINUX_DEFAULT", "console=tty0 quiet"}}
	tail := "GRUB_DEVICE=\"LABEL=a/b&c\"\nGRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT=\"console=tty0 quiet\"\n"
	for _, test := range []struct{ name, in, want string }{
		{"empty", "", tail},
		{"no newline at the end", "A=1", "A=1\n" + tail},
		{"in place", "# top\nGRUB_TIMEOUT=0\nB=2\n", "# top\nGRUB_TIMEOUT=5\nB=2\nGRUB_DEVICE=\"LABEL=a/b&c\"\nGRUB_CMDLINE_LINUX_DEFAULT=\"console=tty0 quiet\"\n"},
		{"repeated", "GRUB_TIMEOUT=0\nGRUB_TIMEOUT=1\nexport GRUB_TIMEOUT=2\n", "GRUB_TIMEOUT=5\nGRUB_DEVICE=\"LABEL=a/b&c\"\nGRUB_CMDLINE_LINUX_DEFAULT=\"console=tty0 quiet\"\n"},
		{"comments stay", "#GRUB_TIMEOUT=0 console=ttyS0 it's\n", "#GRUB_TIMEOUT=0 console=ttyS0 it's\n" + tail},
		{"consoles go", "GRUB_CMDLINE_LINUX=\"console=tty1 net.ifnames=0 console=ttyS1,9600n8\"  \n", "GRUB_CMDLINE_LINUX=\"net.ifnames=0\"  \n" + tail},
		{"console alone", "GRUB_CMDLINE_LINUX=console=tty1\n", "GRUB_CMDLINE_LINUX=\n" + tail},
		{"boot goes", "GRUB_CMDLINE_LINUX='boot=LABEL=x a boot=UUID=y'\n", "GRUB_CMDLINE_LINUX='a'\n" + tail},
		{"words that only look alike", "GRUB_CMDLINE_LINUX=\"netconsole=x reboot=warm vconsole=1\"\n", "GRUB_CMDLINE_LINUX=\"netconsole=x reboot=warm vconsole=1\"\n" + tail},
		{"other variables", "OTHER=\"console=tty1 boot=x\"\n", "OTHER=\"console=tty1 boot=x\"\n" + tail},
		{"quoted line break", "X=\"a\nGRUB_TIMEOUT=7\n\"\nGRUB_TIMEOUT=\"1 \\\n 2\"\n", "X=\"a\nGRUB_TIMEOUT=7\n\"\nGRUB_TIMEOUT=5\nGRUB_DEVICE=\"LABEL=a/b&c\"\nGRUB_CMDLINE_LINUX_DEFAULT=\"console=tty0 quiet\"\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := EditDefaults(test.in, set)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("text differs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(got, EditDefaults(got, set)); diff != "" {
				t.Errorf("a second edit changes it (-first +second):\n%s", diff)
			}
		})
	}
}

// TestProberKeepsConsoles holds a mistake that booted silent images: setting
// one more variable must not touch the command line set before.
func TestProberKeepsConsoles(t *testing.T) {
	first := EditDefaults("", []assignment{{"GRUB_CMDLINE_LINUX_DEFAULT", "console=ttyS0"}})
	if got := setVariables(first, []assignment{{osProber, "true"}}); !strings.HasPrefix(got, first) {
		t.Errorf("text became\n%s", got)
	}
}

// TestQuotingAgainstShell has a shell read values back.
func TestQuotingAgainstShell(t *testing.T) {
	for _, value := range []string{"plain", "two words", `back\slash "quotes" $HOME ` + "`id`", "it's", "a/b&c", "", "new\nline", "#hash"} {
		text := EditDefaults("", []assignment{{"V", value}})
		out, err := exec.Command("sh", "-c", text+`printf %s "$V"`).Output()
		if err != nil || string(out) != value {
			t.Errorf("%q is read back as %q, %v", value, out, err)
		}
	}
}

func FuzzEditDefaults(f *testing.F) {
	for _, seed := range []string{"", "GRUB_TIMEOUT=1\n", "X='a\n'\n", "GRUB_CMDLINE_LINUX=\"console=a\" # x\n", "a\\\nb", "GRUB_CMDLINE_X=a b console=1"} {
		f.Add(seed)
	}
	set := []assignment{{"GRUB_DEVICE", "x y"}, {"GRUB_TIMEOUT", "5"}}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Join(statements(text), "") != text {
			t.Error("cutting into statements loses text")
		}
		once := EditDefaults(text, set)
		if !strings.Contains(once, `GRUB_DEVICE="x y"`) {
			t.Errorf("variable is not set in %q", once)
		}
	})
}

func TestPlainConfig(t *testing.T) {
	in := "\tlinuxefi /boot/vmlinuz\n\tinitrdefi\t/boot/initrd\n# linuxefi\n\tlinux /boot/v\nlinux16 /boot/w\n"
	want := "\tlinux /boot/vmlinuz\n\tinitrd\t/boot/initrd\n# linuxefi\n\tlinux /boot/v\nlinux /boot/w\n"
	if diff := cmp.Diff(want, plainConfig(in)); diff != "" {
		t.Errorf("configuration differs (-want +got):\n%s", diff)
	}
}

func TestBootEntry(t *testing.T) {
	on, apart := "linux /boot/vmlinuz-1\ninitrd /boot/initramfs-1.img\n", "linux /vmlinuz-1\ninitrd /initramfs-1.img\n"
	for _, in := range []string{on, apart} {
		if got := bootEntry(in, true); got != apart {
			t.Errorf("with its own /boot %q becomes %q", in, got)
		}
		if got := bootEntry(in, false); got != on {
			t.Errorf("without its own /boot %q becomes %q", in, got)
		}
	}
}
