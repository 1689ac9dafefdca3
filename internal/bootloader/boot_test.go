package bootloader

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/disk"
	"github.com/dib-builder/dib/internal/place"
)

// stageVar makes the test binary run Main in the chroot it names.
const stageVar = "DIB_TEST_CHROOT"

func TestMain(m *testing.M) {
	io := command.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Environ: os.Environ}
	switch filepath.Base(os.Args[0]) {
	case "grub-probe":
		os.Exit(Probe(context.Background(), io, os.Args[1:]))
	case "grub-mkrelpath":
		os.Exit(Mkrelpath(context.Background(), io, os.Args[1:]))
	}
	if tree := os.Getenv(stageVar); tree != "" {
		if err := enter(tree, os.Getenv("DIB_TEST_HOOKS")); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(125)
		}
		os.Exit(Main(context.Background(), io, nil))
	}
	os.Exit(m.Run())
}

// enter makes the chroot that the target side of a build has. The caller has
// put this process into its own mount namespace.
func enter(tree, hooks string) error {
	in := filepath.Join(tree, place.InTarget)
	if err := os.MkdirAll(in, 0o755); err != nil {
		return err
	}
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
	}{
		{"none", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", filepath.Join(tree, "proc"), "proc", 0},
		{"/dev", filepath.Join(tree, "dev"), "", unix.MS_BIND},
		{hooks, in, "", unix.MS_BIND},
	} {
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, ""); err != nil {
			return &os.PathError{Op: "mount", Path: m.target, Err: err}
		}
	}
	if err := unix.Chroot(tree); err != nil {
		return err
	}
	return os.Chdir("/")
}

const mbrConfig = `
- local_loop:
    name: image0
    partitioning:
      label: mbr
      partitions:
        - name: root
          flags: [boot, primary]
          size: 100%
          mkfs:
            name: mkfs_root
            mount:
              mount_point: /
              fstab: {options: defaults, fsck-passno: 1}
`

func layout(t testing.TB, text string, sizeMiB int64) *blockdev.Layout {
	t.Helper()
	c, err := blockdev.Check("test.yaml", []byte(text), blockdev.Params{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.Layout(blockdev.LayoutInput{SizeKiB: sizeMiB << 10, Seed: []byte("seed")})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestBoot installs GRUB into a real Debian tree, writes the disk and boots it
// to the login prompt. DIB_TEST_TREE names the tree, which has grub-pc, a
// kernel and an init; it gets changed.
func TestBoot(t *testing.T) {
	tree := os.Getenv("DIB_TEST_TREE")
	switch {
	case tree == "":
		t.Skip("DIB_TEST_TREE names no tree to boot")
	case os.Geteuid() != 0:
		t.Skip("a chroot needs root")
	}
	l := layout(t, mbrConfig, 2048)
	hooks := t.TempDir()
	text, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(hooks, place.LayoutFile), text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "etc/fstab"), []byte(l.FSTab), 0o644); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(hooks, place.Binary), self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", stageVar + "=" + tree, "DIB_TEST_HOOKS=" + hooks,
		"ARCH=amd64", "DIB_BLOCK_DEVICE=mbr", "DIB_ROOT_LABEL=cloudimg-rootfs", "DIB_BOOT_LABEL=",
		"DIB_SKIP_GRUB_PACKAGE_INSTALL=True", "DIB_GRUB_TIMEOUT=1",
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	t.Logf("bootloader:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
	images, err := disk.Write(context.Background(), disk.Options{
		Layout: l, Tree: tree, Dir: t.TempDir(), Env: append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000"),
		Log: func(line []byte) { t.Logf("%s", line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	bootToLogin(t, images[0].Path)
}

func bootToLogin(t *testing.T, image string) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	console := &watcher{want: []byte("login:"), found: cancel}
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-nographic",
		"-no-reboot", "-nic", "none", "-drive", "file="+image+",format=raw")
	qemu.Stdout, qemu.Stderr = console, console
	_ = qemu.Run() // it ends by being killed, whatever happens
	text := console.text.String()
	if !strings.Contains(text, "login:") {
		t.Errorf("no login prompt; the console said:\n%s", text)
	}
	if want := "console=tty0 console=ttyS0,115200 no_timer_check nofb nomodeset gfxpayload=text"; !strings.Contains(text, want) {
		t.Errorf("kernel command line lacks %q:\n%s", want, text)
	}
}

type watcher struct {
	text  bytes.Buffer
	want  []byte
	found func()
}

func (w *watcher) Write(p []byte) (int, error) {
	w.text.Write(p)
	if bytes.Contains(w.text.Bytes(), w.want) {
		w.found()
	}
	return len(p), nil
}
