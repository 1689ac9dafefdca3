package lib

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryFunctionIsThere holds the names that elements call, by the file that
// they source. M16: copy_elements_lib, which needed a file that never was, is gone.
func TestEveryFunctionIsThere(t *testing.T) {
	for file, names := range map[string]string{
		"die": "die",
		"common-functions": "mount_dev_pts_options mount_proc_dev_sys unmount_dir run_d check_break check_element eval_run_d generate_hooks " +
			"mk_build_dir tmpfs_check cleanup_build_dir cleanup_image_dir kill_chroot_processes finish_image save_image " +
			"arg_to_elements create_base block_device_create_config_file publish_file",
		"img-functions": "select_boot_kernel_initrd run_in_target run_d_in_target unmount_image cleanup trap_cleanup finalise_base " +
			"compress_and_save_image do_extra_package_install",
		"ramdisk-functions": "find_kernel_version choose_kernel find_busybox ensure_binaries list_words populate_base populate_bin populate_modules " +
			"populate_busybox populate_init populate_udev finalise_image",
	} {
		t.Run(file, func(t *testing.T) {
			out, status := bash(t, []string{"NAMES=" + names}, `source "$_LIB/`+file+`"
				for name in $NAMES; do [ "$(type -t "$name")" = function ] || echo "no $name"; done
				[ -z "$(type -t copy_elements_lib)" ] || echo "M16 copy_elements_lib is there"`)
			if status != 0 || out != "" {
				t.Errorf("status %d:\n%s", status, out)
			}
		})
	}
}

// commands makes a directory of programs that print how they are called, and
// returns it for PATH.
func commands(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		script := "#!/bin/bash\nprintf '%s' '" + name + "'; printf ' <%s>' \"$@\"; echo\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCommonFunctions(t *testing.T) {
	build := makeTree(t, map[string]string{"own/hooks/.dib": "", "own/keep": "", "image/staged/x": "", "block-device/config.yaml": "- local_loop:\n"})
	programs := commands(t, "mount", "umount", "chroot")
	load := `source "$_LIB/common-functions"; PATH=` + programs + `:$PATH; _dib_root() { "$@"; }; cd "$BUILD"; `
	for _, tt := range []struct {
		name, script string
		env          []string
		want         string // "*" at its end for any rest
		status       int
	}{
		{"DIB_RUN_PARTS", `echo "${DIB_RUN_PARTS##*/}"`, nil, "dib-run-parts\n", 0},
		{"check_element", `check_element && echo yes`, []string{"IMAGE_ELEMENT=vm"}, "yes\n", 0},
		{"check_break elsewhere", `check_break before-root echo stop`, []string{"break=before-roots,after-root"}, "", 0},
		{"check_break here", `check_break after-root echo stop`, []string{"break=before-root,after-root"},
			"Starting debug shell at after-root. Exit to resume.\nstop\nResuming\n", 0},
		{"run_d breaks without a phase", `TMP_HOOKS_PATH=$BUILD/none; bash() { echo shell; }; run_d root`, []string{"break=before-root,after-root"},
			"Starting debug shell at before-root. Exit to resume.\nshell\nResuming\nStarting debug shell at after-root. Exit to resume.\nshell\nResuming\n", 0},
		{"tmpfs_check switched off", `tmpfs_check echo || echo no`, []string{"DIB_NO_TMPFS=1"}, "no\n", 0},
		{"tmpfs_check without a need", `tmpfs_check echo && echo yes`, []string{"DIB_MIN_TMPFS=0"}, "yes\n", 0},
		{"tmpfs_check wants too much", `tmpfs_check echo || echo no`, []string{"DIB_MIN_TMPFS=1000000"}, "not using tmpfs: 2048000000 MiB of memory are wanted, *", 0},
		{"D73 mk_build_dir", `mk_build_dir; echo "${TMP_HOOKS_PATH#"$TMP_BUILD_DIR"} ${OUT_IMAGE_PATH#"$TMP_IMAGE_DIR"} $([ "$TMP_IMAGE_PATH" = "$OUT_IMAGE_PATH" ] && stat -c %a "$TMP_BUILD_DIR" "$TMP_IMAGE_DIR" | tr '\n' ' ')"
			cleanup_build_dir; cleanup_image_dir; for d in "$TMP_BUILD_DIR" "$TMP_IMAGE_DIR"; do [ ! -e "$d" ] || echo "$d is left"; done`, []string{"IMAGE_TYPE=raw"},
			"/hooks /image.raw 700 700 \n", 0},
		{"the build's own directories stay", `TMP_BUILD_DIR=$BUILD/own TMP_IMAGE_DIR=$BUILD/image; cleanup_build_dir 2>/dev/null || echo kept; cleanup_image_dir 2>/dev/null || echo kept; ls own`, nil,
			"kept\nkept\nhooks\nkeep\n", 0},
		{"mount_proc_dev_sys", `TMP_MOUNT_PATH=/t; mount_dev_pts_options() { echo "-o gid=5,mode=620"; }; mount_proc_dev_sys`, nil,
			"mount <-t> <proc> <proc> </t/proc>\nmount <--bind> </dev> </t/dev>\nmount <-t> <devpts> <-o> <gid=5,mode=620> <devpts> </t/dev/pts>\nmount <-t> <sysfs> <-o> <ro> <sysfs> </t/sys>\n", 0},
		{"mount_dev_pts_options", `[[ $(mount_dev_pts_options) =~ ^(-o\ [a-z=0-9,]+)?$ ]] && echo yes`, nil, "yes\n", 0},
		{"unmount_dir without the directory", `unmount_dir /no/such/dir`, nil, "nothing to unmount: no directory /no/such/dir\n", 0},
		{"block_device_create_config_file", `block_device_create_config_file copy; cat copy`, []string{"DIB_BLOCK_DEVICE_PARAMS_YAML=" + build + "/block-device/params.yaml"}, "- local_loop:\n", 0},
		{"create_base", `create_base`, nil, "create_base is a step of the build itself, which no hook can run: the image tree exists already, at $TMP_MOUNT_PATH\n", 1},
		{"arg_to_elements", `TMP_HOOKS_PATH=$BUILD/hooks; mkdir -p hooks; printf '#!/bin/bash\n[ "$*" = "element-info --env vm x" ] && echo "export IMAGE_ELEMENT=base:vm:x"' > hooks/.dib
			chmod +x hooks/.dib; arg_to_elements vm x; bash -c 'echo "$IMAGE_ELEMENT"'; rm -r hooks`, nil,
			"Building elements: vm x\nExpanded element dependencies to: base:vm:x\nbase:vm:x\n", 0},
		{"publish_file stages", `echo data > file; DIB_STAGED_OUTPUTS=$BUILD/st; publish_file file out/a.kernel; cat st/files/a.kernel st/files/a.kernel.dest; stat -c %a st/files/a.kernel; ls out 2>/dev/null || true`, nil,
			"data\nout/a.kernel\n644\n", 0},
		{"kill_chroot_processes of nothing", `kill_chroot_processes "$BUILD/own"; kill_chroot_processes /no/such/dir; echo done`, nil, "done\n", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, status := bash(t, append(tt.env, "BUILD="+build, "TMPDIR="+t.TempDir()), load+tt.script)
			want, any := strings.CutSuffix(tt.want, "*")
			if status != tt.status || out != want && !(any && strings.HasPrefix(out, want)) {
				t.Errorf("status %d, output:\n%s\nwant %d:\n%s", status, out, tt.status, tt.want)
			}
		})
	}
}

func TestGenerateHooks(t *testing.T) {
	els := makeTree(t, map[string]string{
		"a b/root.d/10-x": "x", "a b/bin/tool": "", "a b/tests/t": "", "a b/top": "", "a b/top.pyc": "", "c/root.d/20-y": "", "c/root.d/sub/z": "", "d/root.d/10-x": "",
	})
	array := `get_image_element_array() { printf '%s' "['a b']='$ELS/a b' [c]=$ELS/c ${MORE:-}"; }; `
	out, status := bash(t, []string{"ELS=" + els, "IMAGE_ELEMENT=a"}, array+`source "$_LIB/common-functions"
		TMP_HOOKS_PATH=$ELS/hooks; generate_hooks; cd "$TMP_HOOKS_PATH"; find . -type f | LC_ALL=C sort; cat root.d/10-x`)
	if want := "./bin/tool\n./root.d/10-x\n./root.d/20-y\n./root.d/sub/z\n./top\nx"; status != 0 || out != want {
		t.Errorf("status %d, output %q, want %q", status, out, want)
	}
	out, status = bash(t, []string{"ELS=" + els, "IMAGE_ELEMENT=a", "MORE=[d]=" + els + "/d"}, array+`source "$_LIB/common-functions"
		TMP_HOOKS_PATH=$ELS/other; generate_hooks`)
	if status != 1 || out != "cannot generate hooks: element d has a file root.d/10-x, and so has another element\n" {
		t.Errorf("M06 a duplicate: status %d, %q", status, out)
	}
	// Elements that make ramdisks clear the list, and get no hooks.
	out, status = bash(t, []string{"ELS=" + els, "IMAGE_ELEMENT="}, `source "$_LIB/common-functions"; TMP_HOOKS_PATH=$ELS/none; generate_hooks; ls "$TMP_HOOKS_PATH"`)
	if status != 0 || out != "" {
		t.Errorf("without elements: status %d, %q", status, out)
	}
}

func TestImgFunctions(t *testing.T) {
	programs := commands(t, "mount", "umount", "chroot", "mkdir", "rmdir", "detach")
	hooks := makeTree(t, map[string]string{"install.d/x": ""})
	load := `source "$_LIB/common-functions"; source "$_LIB/img-functions"; _img_root() { "$@"; }; PATH=` + programs + `:$PATH; TMP_MOUNT_PATH=/t; TMP_BUILD_DIR=/b; TMP_HOOKS_PATH=` + hooks + `; `
	const inTarget = "chroot </t> <env> <-u> <TMPDIR> <-u> <VIRTUAL_ENV> <HOME=/root> <PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin> <sh> <-c> "
	for _, tt := range []struct {
		name, script, want string
		env                []string
		status             int
	}{
		{"D22 run_in_target", `run_in_target rpm --initdb`, inTarget + "<rpm --initdb>\n", nil, 0},
		{"run_in_target is shell text", `run_in_target "ls | wc"`, inTarget + "<ls | wc>\n", nil, 0},
		{"D25 root needs no sudo", `unset -f _img_root; source "$_LIB/img-functions"; EUID_IS=$EUID; if [ "$EUID" -eq 0 ]; then run_in_target true; else echo '` + inTarget + `<true>'; fi`, inTarget + "<true>\n", nil, 0},
		{"run_d_in_target", `run_d_in_target install`, "mkdir </t/tmp/in_target.d>\nmount <--bind> <" + hooks + "> </t/tmp/in_target.d>\nmount <-o> <remount,bind,ro> </t/tmp/in_target.d>\n" +
			inTarget + "</tmp/in_target.d/.dib dib-run-parts /tmp/in_target.d/install.d>\numount </t/tmp/in_target.d>\nrmdir </t/tmp/in_target.d>\n", nil, 0},
		{"run_d_in_target without the phase", `run_d_in_target finalise; echo nothing`, "nothing\n", nil, 0},
		{"do_extra_package_install", `do_extra_package_install`, inTarget + "<install-packages vim less>\n", []string{"INSTALL_PACKAGES=vim,less"}, 0},
		{"do_extra_package_install of nothing", `do_extra_package_install`, "", nil, 0},
		{"unmount_image", `unmount_dir() { echo "unmount_dir $1"; }; sync() { echo sync; }; unmount_image`, "sync\nunmount_dir /b/mnt\ndetach <a>\ndetach <b>\n", []string{"EXTRA_DETACH=detach a", "EXTRA_UNMOUNT=detach b"}, 0},
		{"finalise_base", `finalise_base`, "finalise_base is a step of the build itself, which no hook can run: finalise.d runs when the disk's layout is known\n", nil, 1},
		{"compress_and_save_image", `compress_and_save_image a.qcow2 || echo failed`,
			"compress_and_save_image is a step of the build itself, which no hook can run: a.qcow2 is written after cleanup.d; use -t to choose its format\nfailed\n", nil, 0},
		{"trap_cleanup keeps the status", `unmount_dir() { :; }; mk_build_dir; echo "$TMP_BUILD_DIR" > ` + hooks + `/dir; trap trap_cleanup EXIT; exit 7`, "", nil, 7},
		{"D60 trap_cleanup did clean up", `PATH=/usr/bin:/bin; [ ! -e "$(cat ` + hooks + `/dir)" ] && echo gone`, "gone\n", nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, status := bash(t, append(tt.env, "TMPDIR="+t.TempDir()), load+tt.script)
			if status != tt.status || out != tt.want {
				t.Errorf("status %d, output:\n%s\nwant %d:\n%s", status, out, tt.status, tt.want)
			}
		})
	}
}

func TestChooseKernel(t *testing.T) {
	root := makeTree(t, map[string]string{
		"boot/vmlinuz-6.1.0-9-amd64": "", "boot/vmlinuz-6.1.0-10-amd64": "", "boot/vmlinuz-5.4-generic": "", "boot/vmlinuz-5.4-generic.efi.signed": "",
		"lib/modules/6.1.0-10-amd64/x": "", "lib/modules/5.4-generic/x": "", "lib/modules/6.1.0-9-amd64/x": "",
	})
	for _, tt := range []struct {
		name   string
		env    []string
		signed string
		want   string
	}{
		{"D75 newest by version", nil, "", "6.1.0-10-amd64 vmlinuz-6.1.0-10-amd64 6.1.0-10-amd64"},
		{"given", []string{"DIB_KERNEL_VERSION=6.1.0-9-amd64"}, "", "6.1.0-9-amd64 vmlinuz-6.1.0-9-amd64 6.1.0-9-amd64"},
		{"signed", nil, "DIB_SIGNED_KERNEL_VERSION=1\n", "5.4-generic.efi.signed vmlinuz-5.4-generic.efi.signed 5.4-generic"},
		{"no such kernel", []string{"DIB_KERNEL_VERSION=7"}, "", "cannot make a ramdisk: there is no kernel " + root + "/boot/vmlinuz-7"},
		{"no modules", []string{"DIB_KERNEL_VERSION=5.4-generic", "DIB_MODULE_ROOT=/nowhere"}, "", "cannot make a ramdisk: there are no modules for the kernel: /nowhere/lib/modules/5.4-generic is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(root, "dib-signed-kernel-version")
			if tt.signed != "" {
				if err := os.WriteFile(file, []byte(tt.signed), 0o644); err != nil {
					t.Fatal(err)
				}
				defer os.Remove(file)
			}
			out, _ := bash(t, append(tt.env, "ROOT="+root), `source "$_LIB/ramdisk-functions"; choose_kernel "$ROOT" && echo "$KERNEL_VERSION ${KERNEL_FILE##*/} ${MODULE_DIR##*/}"`)
			if out != tt.want+"\n" {
				t.Errorf("got %q, want %q", out, tt.want)
			}
		})
	}
}

// TestPopulate puts a tree together from programs of this machine and a made-up
// busybox, and runs what is in it.
func TestPopulate(t *testing.T) {
	if _, err := exec.LookPath("udevadm"); err != nil {
		t.Log("no udev here: the base is left out")
	}
	dir := makeTree(t, map[string]string{
		"busybox": "#!/bin/bash\nif [ \"$1\" = --list ]; then printf '%s\\n' ls cat reboot; fi\n", "udev/rules.d/80-drivers.rules": "rule\n",
		"script": "#!/bin/bash\necho a script\n", "rules/99-x.rules": "x\n",
	})
	if err := os.Chmod(filepath.Join(dir, "busybox"), 0o755); err != nil {
		t.Fatal(err)
	}
	out, status := bash(t, []string{"DIR=" + dir, "BUSYBOX=" + dir + "/busybox", "LIB_UDEV=" + dir + "/udev"}, `
		source "$_LIB/ramdisk-functions"
		find_udevd() { echo /bin/true; }
		lsmod() { :; }
		root=$DIR/root
		mkdir "$root"
		populate_base "$root"
		PATH=$DIR/path:$PATH; mkdir "$DIR/path"
		for name in lsmod modprobe udevadm; do cp "$DIR/script" "$DIR/path/$name"; chmod +x "$DIR/path/$name"; done
		populate_bin "$root" sort ls
		populate_busybox "$root"
		populate_udev "$DIR/rules" "$root"
		readlink "$root/sbin" "$root/bin/ls" "$root/bin/cat"
		test -L "$root/bin/sort" || echo "sort is real"
		head -n 3 "$root/bin/poweroff" | tail -n 1
		cat "$root/lib/udev/rules.d"/*
		(populate_bin "$root" no-such-program 2>&1) || echo failed
		for library in $(ldd /bin/bash | grep -o '/[^ ]*'); do
			test -f "$root/lib/${library##*/}" || echo "missing $library"
			test "$(readlink "$root$library")" = "/lib/${library##*/}" || echo "no link $library"
		done
		if [ "$EUID" -eq 0 ]; then /usr/sbin/chroot "$root" /bin/bash -c 'echo b a | /bin/sort; /bin/modprobe'; else printf 'b a\na script\n'; fi`)
	want := "bin\nbusybox\nbusybox\nsort is real\nsync\nrule\nx\ncannot make a ramdisk: program no-such-program is missing in the image\nfailed\nb a\na script\n"
	if status != 0 || out != want {
		t.Errorf("status %d, output:\n%s\nwant:\n%s", status, out, want)
	}
}
