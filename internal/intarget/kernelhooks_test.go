package intarget

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dib-builder/dib/test/commandtest"
)

// boot is a Debian or Red Hat tree with files in /boot.
func boot(t *testing.T, release string, names ...string) string {
	t.Helper()
	target := t.TempDir()
	files := map[string]string{"etc/" + release: "", "boot/grub/grub.cfg": ""}
	for _, n := range names {
		files["boot/"+n] = "content of " + n
	}
	commandtest.Write(t, target, files)
	return target
}

func bootFiles(t *testing.T, target string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(target, "boot"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestCleanupKernelInitrdHook(t *testing.T) {
	library, err := filepath.Abs("../../lib")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, release string
		files, want   []string
	}{
		{"M69 a version that begins with another", "debian_version",
			[]string{"vmlinuz-6.1.0-1", "initrd.img-6.1.0-1", "config-6.1.0-1", "vmlinuz-6.1.0-10", "initrd.img-6.1.0-10", "config-6.1.0-10", "System.map-6.1.0-10"},
			[]string{"System.map-6.1.0-10", "config-6.1.0-10", "initrd.img-6.1.0-10", "vmlinuz-6.1.0-10"}},
		{"M69 the kept one begins another", "debian_version",
			[]string{"vmlinuz-6.1", "initrd.img-6.1", "vmlinuz-6.1-rt"}, []string{"initrd.img-6.1", "vmlinuz-6.1"}},
		{"red hat, debug and rescue", "redhat-release",
			[]string{"vmlinuz-5.1", "initramfs-5.1.img", "vmlinuz-5.2", "initramfs-5.2.img", "vmlinuz-5.3.debug", "initramfs-5.3.debug.img", "vmlinuz-0-rescue-x", "initramfs-0-rescue-x.img"},
			[]string{"initramfs-5.2.img", "initramfs-5.3.debug.img", "vmlinuz-5.2", "vmlinuz-5.3.debug"}},
		{"another distribution", "os-release", []string{"vmlinuz-1", "vmlinuz-2"}, []string{"vmlinuz-1", "vmlinuz-2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			target := boot(t, tt.release, tt.files...)
			if out, err := hostHook(t, "cleanup-kernel-initrd/cleanup.d/99-cleanup-kernel-initrd", t.TempDir(), target, "_LIB="+library); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if got := bootFiles(t, target); !slices.Equal(got, tt.want) {
				t.Errorf("left are %v, want %v", got, tt.want)
			}
		})
	}
}

func TestBaremetalHook(t *testing.T) {
	library, err := filepath.Abs("../../lib")
	if err != nil {
		t.Fatal(err)
	}
	const hook = "baremetal/cleanup.d/99-extract-kernel-and-ramdisk"
	target := boot(t, "debian_version", "vmlinuz-5.1-generic", "initrd.img-5.1-generic", "vmlinuz-5.2-generic", "initrd.img-5.2-generic",
		"vmlinuz-5.10-generic", "initrd.img-5.10-generic", "vmlinuz-6-generic")
	commandtest.Write(t, target, map[string]string{"dib-signed-kernel-version": ""})
	staged, out := t.TempDir(), t.TempDir()
	env := []string{"_LIB=" + library, "IMAGE_NAME=" + out + "/metal", "DIB_STAGED_OUTPUTS=" + staged}
	if log, err := hostHook(t, hook, t.TempDir(), target, env...); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	for name, content := range map[string]string{
		"metal.vmlinuz": "content of vmlinuz-5.10-generic", "metal.vmlinuz.dest": out + "/metal.vmlinuz\n",
		"metal.initrd": "content of initrd.img-5.10-generic", "metal.initrd.dest": out + "/metal.initrd\n",
	} {
		if got := commandtest.Read(t, filepath.Join(staged, "files", name)); got != content {
			t.Errorf("M68 %s: %q, want %q", name, got, content)
		}
	}
	if _, err := os.Stat(filepath.Join(target, "dib-signed-kernel-version")); err == nil {
		t.Error("dib-signed-kernel-version stays in the image")
	}
	env = append(env[:2], "DIB_BAREMETAL_KERNEL_PATTERN=vmlinuz-5.2*", "DIB_BAREMETAL_INITRD_PATTERN=initrd*5.1-*")
	if log, err := hostHook(t, hook, t.TempDir(), target, env...); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if got := commandtest.Read(t, out+"/metal.vmlinuz") + commandtest.Read(t, out+"/metal.initrd"); got != "content of vmlinuz-5.2-genericcontent of initrd.img-5.1-generic" {
		t.Errorf("by patterns, without a staging directory: %q", got)
	}
	if log, err := hostHook(t, hook, t.TempDir(), boot(t, "debian_version", "vmlinuz-1"), env[:2]...); err == nil || !strings.Contains(log, "cannot select a kernel") {
		t.Errorf("a kernel without initrd: %v, %s", err, log)
	}
}

// TestSelectBootKernelInitrd runs the command with the file that the element's
// own hook left in the image, and the hook that takes it back.
func TestSelectBootKernelInitrd(t *testing.T) {
	hooks, target := t.TempDir(), t.TempDir()
	library, err := filepath.Abs("../../lib")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := hostHook(t, "fake-os/root.d/10-fake-os", hooks, target); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := hostHook(t, "select-boot-kernel-initrd/extra-data.d/99-copy-dib-img-functions", hooks, target, "_LIB="+library); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	commandtest.Write(t, target, map[string]string{
		"usr/local/bin/select-boot-kernel-initrd!": commandtest.Read(t, "../../elements/select-boot-kernel-initrd/bin/select-boot-kernel-initrd"),
		"etc/debian_version":                       "", "boot/vmlinuz-6.1": "", "boot/initrd.img-6.1": "", "boot/vmlinuz-6.2": "",
	})
	if out, err := commandtest.Chroot(t, target, "/bin/bash", "-c", "select-boot-kernel-initrd"); err != nil || out != "vmlinuz-6.1:initrd.img-6.1\n" {
		t.Errorf("%v, %q", err, out)
	}
	if out, err := commandtest.Chroot(t, target, "/bin/bash", "-c", "rm /boot/initrd*; select-boot-kernel-initrd"); err == nil || !strings.Contains(out, "cannot select a kernel") {
		t.Errorf("without an initrd: %v, %q", err, out)
	}
	commandtest.Write(t, target, map[string]string{"lib/diskimage-builder/other": ""})
	for range 2 {
		if out, err := hostHook(t, "select-boot-kernel-initrd/cleanup.d/99-remove-dib-img-functions", hooks, target); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if err := os.Remove(filepath.Join(target, "lib/diskimage-builder/other")); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(target, "lib/diskimage-builder")); err == nil {
		t.Error("the directory of the library stays in the image")
	}
}
