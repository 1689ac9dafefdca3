package lib

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// bash runs a script under the options that hooks use, with the library as
// $_LIB, and returns what it printed and its exit status.
func bash(t *testing.T, env []string, script string) (string, int) {
	t.Helper()
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/bash", "-c", "set -eu -o pipefail\n"+script)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "LC_ALL=C", "_LIB=" + dir}, env...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// makeTree makes files, or links for values starting with "->", below a new directory.
func makeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "->"); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestSourcingIsSilentAndRepeatable(t *testing.T) {
	entries, err := fs.ReadDir(FS(), ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "dib-run-parts" || isPython(e.Name()) {
			continue
		}
		t.Run(e.Name(), func(t *testing.T) {
			before := `source "$_LIB/` + e.Name() + `"; first=$(export -p; declare -f)`
			after := `source "$_LIB/` + e.Name() + `"; [ "$first" = "$(export -p; declare -f)" ]`
			if out, status := bash(t, nil, before+"\n"+after); status != 0 || out != "" {
				t.Errorf("status %d, output %q", status, out)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	for _, tt := range []struct {
		name, file, print string
		env               []string
		want              string
	}{
		{"path extended", "common-defaults", "$PATH", nil, "/usr/bin:/bin:/sbin:/usr/sbin:/usr/local/sbin"},
		{"given architecture stays", "common-defaults", "$ARCH", []string{"ARCH=x86_64"}, "x86_64"},
		{"checksum", "common-defaults", "$DIB_CHECKSUM,$DIB_OFFLINE,$DIB_NO_TMPFS,$DIB_MIN_TMPFS", nil, "0,,0,2"},
		{"image", "img-defaults", "$FS_TYPE,$IMAGE_TYPE,$IMAGE_NAME", nil, "ext4,qcow2,image"},
		{"image given", "img-defaults", "$FS_TYPE,$IMAGE_NAME", []string{"FS_TYPE=xfs", "IMAGE_NAME=a b"}, "xfs,a b"},
		{"D72 ramdisk", "ramdisk-defaults", "$RAMDISK_ELEMENT,$DIB_NO_TMPFS,$DIB_MIN_TMPFS,$FS_TYPE", nil, "ramdisk,1,1,ext4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, status := bash(t, tt.env, `source "$_LIB/`+tt.file+`"; printf %s "`+tt.print+`"`)
			if status != 0 || out != tt.want {
				t.Errorf("got %q (status %d), want %q", out, status, tt.want)
			}
		})
	}
}

func TestD30M17DieNeverSucceeds(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		status       int
	}{
		{"after success", `if true; then die no luck; fi`, 1},
		{"after failure", `(exit 7) || die no luck`, 7},
		{"in a child", `bash -c 'die no luck'`, 1},
		{"while tracing", `set -x 2>/dev/null; exec 2>/dev/null; die no luck`, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, status := bash(t, nil, "source $_LIB/die\n"+tt.script)
			if status != tt.status || !strings.Contains(out, "no luck\n") {
				t.Errorf("status %d, output %q; want status %d", status, out, tt.status)
			}
		})
	}
}

func TestSelectBootKernelInitrd(t *testing.T) {
	debian := func(more map[string]string) map[string]string {
		m := map[string]string{"etc/debian_version": "12\n"}
		for k, v := range more {
			m["boot/"+k] = v
		}
		return m
	}
	for _, tt := range []struct {
		name  string
		files map[string]string
		env   []string
		want  string // KERNEL RAMDISK, or empty for a failure
	}{
		{"debian", debian(map[string]string{"vmlinuz-6.1.0-9-amd64": "", "initrd.img-6.1.0-9-amd64": ""}), nil,
			"vmlinuz-6.1.0-9-amd64 initrd.img-6.1.0-9-amd64"},
		{"newest by version, not by text", debian(map[string]string{
			"vmlinuz-6.1.0-9-amd64": "", "initrd.img-6.1.0-9-amd64": "",
			"vmlinuz-6.1.0-10-amd64": "", "initrd.img-6.1.0-10-amd64": ""}), nil,
			"vmlinuz-6.1.0-10-amd64 initrd.img-6.1.0-10-amd64"},
		{"M68 newest kernel without initrd", debian(map[string]string{
			"vmlinuz-1": "", "initrd.img-1": "", "vmlinuz-2": ""}), nil, "vmlinuz-1 initrd.img-1"},
		{"D31 M68 three generic kernels", debian(map[string]string{
			"vmlinuz-5.1-generic": "", "vmlinuz-5.2-generic": "", "vmlinuz-5.10-generic": "", "vmlinuz-6.0-lowlatency": "",
			"initrd.img-5.1-generic": "", "initrd.img-5.2-generic": "", "initrd.img-5.10-generic": "", "initrd.img-6.0-lowlatency": ""}), nil,
			"vmlinuz-5.10-generic initrd.img-5.10-generic"},
		{"link is not a kernel of its own", debian(map[string]string{
			"vmlinuz-1": "", "initrd.img-1": "", "vmlinuz": "->vmlinuz-1", "initrd.img": "->initrd.img-1"}), nil, "vmlinuz-1 initrd.img-1"},
		{"signed", map[string]string{
			"etc/debian_version": "", "dib-signed-kernel-version": "DIB_SIGNED_KERNEL_VERSION=1\n",
			"boot/vmlinuz-1-generic.efi.signed": "", "boot/vmlinuz-1-generic": "", "boot/initrd.img-1-generic": ""}, nil,
			"vmlinuz-1-generic.efi.signed initrd.img-1-generic"},
		{"no kernel", debian(nil), nil, ""},
		{"redhat", map[string]string{
			"etc/redhat-release": "", "boot/vmlinuz-5.14.0-70.el9": "", "boot/initramfs-5.14.0-70.el9.img": "",
			"boot/vmlinuz-5.14.0-284.el9": "", "boot/initramfs-5.14.0-284.el9.img": "",
			"boot/vmlinuz-5.14.0-300.el9.debug": "", "boot/initramfs-5.14.0-300.el9.debug.img": "",
			"boot/vmlinuz-0-rescue-abc": ""}, nil,
			"vmlinuz-5.14.0-284.el9 initramfs-5.14.0-284.el9.img"},
		{"redhat PAE", map[string]string{
			"etc/redhat-release": "", "boot/vmlinuz-2": "", "boot/initramfs-2.img": "",
			"boot/vmlinuz-1.PAE": "", "boot/initramfs-1.PAE.img": ""}, nil, "vmlinuz-1.PAE initramfs-1.PAE.img"},
		{"redhat without initramfs", map[string]string{"etc/redhat-release": "", "boot/vmlinuz-1": ""}, nil, ""},
		{"opensuse", map[string]string{
			"boot/vmlinuz": "->vmlinuz-1-default", "boot/initrd": "->initrd-1-default"}, []string{"DISTRO_NAME=opensuse"},
			"vmlinuz-1-default initrd-1-default"},
		{"gentoo", map[string]string{
			"etc/gentoo-release": "", "boot/vmlinuz-6.1-gentoo": "", "boot/initramfs-6.1-gentoo": ""}, nil,
			"vmlinuz-6.1-gentoo initramfs-6.1-gentoo"},
		{"D31 unknown rpm distribution", map[string]string{
			"boot/vmlinuz-5.10": "", "boot/initramfs-5.10.img": ""}, []string{"DISTRO_NAME=openeuler"},
			"vmlinuz-5.10 initramfs-5.10.img"},
		{"patterns", debian(map[string]string{"custom-2": "", "custom-10": "", "rd-1": ""}),
			[]string{"DIB_BAREMETAL_KERNEL_PATTERN=custom-*", "DIB_BAREMETAL_INITRD_PATTERN=rd-*"}, "custom-10 rd-1"},
		{"pattern is no code", debian(map[string]string{"rd-1": ""}),
			[]string{"DIB_BAREMETAL_KERNEL_PATTERN=$(touch /pwned)*", "DIB_BAREMETAL_INITRD_PATTERN=rd-*"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := makeTree(t, tt.files)
			if err := os.MkdirAll(root+"/boot", 0o755); err != nil {
				t.Fatal(err)
			}
			out, status := bash(t, append(tt.env, "ROOT="+root),
				`source "$_LIB/img-functions"; select_boot_kernel_initrd "$ROOT"; [ "$BOOTDIR" = "$ROOT/boot" ]; printf %s "$KERNEL $RAMDISK"`)
			if tt.want == "" {
				if status == 0 || !strings.Contains(out, "cannot select a kernel") {
					t.Errorf("status %d, output %q; want a failure that says why", status, out)
				}
				return
			}
			if status != 0 || out != tt.want {
				t.Errorf("got %q (status %d), want %q", out, status, tt.want)
			}
		})
	}
}

func TestSaveImage(t *testing.T) {
	dir := makeTree(t, map[string]string{"new.raw": "new", "out/a.qcow2": "old", "out/a.qcow2.md5": "abc  a.qcow2\n"})
	out, status := bash(t, []string{"DIR=" + dir, "DIB_CHECKSUM=1"}, `
		source "$_LIB/common-functions"
		cd "$DIR/out"
		touch -d '2020-02-03 04:05:06' a.qcow2
		OUT_IMAGE_PATH=$DIR/new.raw
		finish_image a.qcow2
		sha256sum --quiet -c a.qcow2.sha256; md5sum --quiet -c a.qcow2.md5
		cat a-2020.02.03-04.05.06.qcow2.md5 a-2020.02.03-04.05.06.qcow2 a.qcow2`)
	want := "abc  a-2020.02.03-04.05.06.qcow2\noldnew"
	if status != 0 || !strings.HasSuffix(out, want) {
		t.Errorf("status %d, output:\n%s\nwant it to end with:\n%s", status, out, want)
	}
}

func TestRunPhase(t *testing.T) {
	hooks := makeTree(t, map[string]string{"root.d/keep": ""})
	runner := filepath.Join(hooks, "runner")
	if err := os.WriteFile(runner, []byte("#!/bin/bash\necho \"ran ${1##*/} IMAGE_BLOCK_DEVICE=/dev/x y\"; echo \"IMAGE_BLOCK_DEVICE=/dev/x y\"; exit ${FAIL:-0}\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	env := []string{"TMP_HOOKS_PATH=" + hooks, "RUNNER=" + runner}
	load := `source "$_LIB/common-functions"; DIB_RUN_PARTS=$RUNNER; `
	for _, tt := range []struct {
		name, script string
		env          []string
		want         string
		status       int
	}{
		{"no such phase", "run_d install; echo after", nil, "after\n", 0},
		{"failure with outfile", `run_d root "$TMP_HOOKS_PATH/out" >/dev/null || echo failed`, []string{"FAIL=3"}, "failed\n", 0},
		{"failure", "run_d root >/dev/null", []string{"FAIL=3"}, "", 3},
		{"values are taken literally", `eval_run_d root IMAGE_BLOCK_DEVICE >/dev/null; echo "$IMAGE_BLOCK_DEVICE"`, nil, "/dev/x y\n", 0},
		{"no element", "check_element >/dev/null || echo none", nil, "none\n", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, status := bash(t, append(tt.env, env...), load+tt.script)
			if status != tt.status || out != tt.want {
				t.Errorf("status %d, output %q; want %d, %q", status, out, tt.status, tt.want)
			}
		})
	}
}

func TestD75RamdiskFunctions(t *testing.T) {
	dir := makeTree(t, map[string]string{
		"boot/vmlinuz-9": "", "boot/vmlinuz-10": "", "s/init": "A\n", "s/init-end": "Z\n", "f/10-b": "B\n", "f/20-c": "C\n",
		"deps/x": "sh  cat\nls", "bad/x": "sh no-such-program",
	})
	out, status := bash(t, []string{"DIR=" + dir}, `
		source "$_LIB/ramdisk-functions"
		find_kernel_version "$DIR/boot"
		ensure_binaries "$DIR/deps"
		ensure_binaries "$DIR/bad" || true
		populate_init "$DIR/s" "$DIR/f" "$DIR/init"
		cat "$DIR/init"`)
	want := "10\ncannot make a ramdisk: missing programs: no-such-program; elements that name them in binary-deps.d must install them\nA\n\n# 10-b\nB\n\n# 20-c\nC\nZ\n"
	if status != 0 || out != want {
		t.Errorf("status %d, output %q, want %q", status, out, want)
	}
}

func TestShellcheck(t *testing.T) {
	program, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("shellcheck is not installed")
	}
	entries, err := fs.ReadDir(FS(), ".")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{}
	for _, e := range entries {
		if !isPython(e.Name()) {
			args = append(args, e.Name())
		}
	}
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// isPython tells names apart that hooks run with Python or as a program.
func isPython(name string) bool { return strings.HasSuffix(name, ".py") }

// TestPythonNames runs the commands that DIB has as Python programs in both ways.
func TestPythonNames(t *testing.T) {
	hooks := t.TempDir()
	if err := os.WriteFile(filepath.Join(hooks, ".dib"), []byte("#!/bin/bash\nprintf '<%s>' \"$@\"\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	interpreters := []string{"/bin/bash"}
	if python, err := exec.LookPath("python3"); err == nil {
		interpreters = append(interpreters, python)
	}
	for name, command := range map[string]string{"dib-block-device.py": "dib-block-device", "element-info.py": "element-info"} {
		for _, interpreter := range interpreters {
			for _, c := range []struct {
				hooks, out string
				status     int
			}{{hooks, "<" + command + "><a b><$c>", 3}, {t.TempDir(), name + ": this copy works only while an image is being built\n", 1}} {
				cmd := exec.Command(interpreter, name, "a b", "$c")
				cmd.Env = []string{"TMP_HOOKS_PATH=" + c.hooks, "PATH=/usr/bin:/bin"}
				out, _ := cmd.CombinedOutput()
				if string(out) != c.out || cmd.ProcessState.ExitCode() != c.status {
					t.Errorf("%s %s: status %d, %q; want %d, %q", interpreter, name, cmd.ProcessState.ExitCode(), out, c.status, c.out)
				}
			}
		}
	}
}
