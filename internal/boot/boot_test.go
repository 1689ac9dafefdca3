package boot

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/image/qcow2"
)

func TestArguments(t *testing.T) {
	common := func(rest ...string) []string {
		return append([]string{"-nodefaults", "-no-user-config", "-nographic", "-no-reboot"}, rest...)
	}
	channels := []string{
		"-chardev", "socket,id=serial0,fd=3", "-serial", "chardev:serial0",
		"-chardev", "socket,id=qmp0,fd=4", "-mon", "chardev=qmp0,mode=control", "-device", "virtio-rng-pci",
	}
	for _, tc := range []struct {
		summary string
		o       Options
		want    [][]string
	}{{
		"defaults",
		Options{Image: "a.qcow2"},
		[][]string{
			{"qemu-system-x86_64"}, common(), {"-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "1024"}, channels,
			{"-drive", "if=none,id=disk0,format=qcow2,cache=unsafe,discard=unmap,file=/proc/self/fd/5", "-device", "virtio-blk-pci,drive=disk0,bootindex=0"},
		},
	}, {
		"everything",
		Options{
			Image: "a", Bus: "sata", Emulator: "/opt/qemu", Machine: "q35", Accel: "kvm", CPU: "host", CPUs: 4, Memory: 2048,
			Firmware: "/OVMF.fd", Kernel: "k", Initrd: "i", Append: "console=ttyS0", Network: true, Args: []string{"-s"},
			Drives: []Drive{{Path: "/x,y", Format: "qcow2"}, {Path: "/z", Writable: true}},
		},
		[][]string{
			{"/opt/qemu"}, common("-machine", "q35"), {"-accel", "kvm", "-cpu", "host", "-smp", "4", "-m", "2048"}, channels,
			{"-device", "ich9-ahci,id=ahci0"},
			{"-drive", "if=none,id=disk0,format=qcow2,cache=unsafe,discard=unmap,file=/proc/self/fd/5", "-device", "ide-hd,bus=ahci0.0,drive=disk0,bootindex=1"},
			{"-drive", "if=none,id=disk1,format=qcow2,snapshot=on,file=/x,,y", "-device", "ide-hd,bus=ahci0.1,drive=disk1,bootindex=2"},
			{"-drive", "if=none,id=disk2,format=raw,file=/z", "-device", "ide-hd,bus=ahci0.2,drive=disk2,bootindex=3"},
			{"-bios", "/OVMF.fd", "-kernel", "k", "-initrd", "i", "-append", "console=ttyS0"},
			{"-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile=", "-s"},
		},
	}} {
		got, err := arguments(tc.o.withDefaults())
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, part := range tc.want {
			want = append(want, part...)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.summary, diff)
		}
	}
	if _, err := arguments(Options{Bus: "mca"}); err == nil {
		t.Error("an unknown bus is accepted")
	}
}

func TestQMP(t *testing.T) {
	const greeting = `{"QMP":{"version":{},"capabilities":[]}}` + "\n"
	for _, tc := range []struct{ summary, script, want string }{
		{"works", greeting + `{"return":{}}` + "\n" + `{"event":"RESUME"}` + "\n" + `{"return":{}}` + "\n", ""},
		{"no greeting", `{"return":{}}` + "\n", "no greeting"},
		{"error", greeting + `{"error":{"class":"GenericError","desc":"no such thing"}}` + "\n", "no such thing"},
		{"nonsense", "hello\n", "QEMU ended"},
		{"end", greeting, "QEMU ended"},
	} {
		t.Run(tc.summary, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			go func() {
				defer far.Close()
				in := bufio.NewReader(far)
				for i, line := range strings.SplitAfter(tc.script, "\n") {
					if i > 0 && !strings.Contains(line, "event") {
						_, _ = in.ReadString('\n') // a command
					}
					_, _ = io.WriteString(far, line)
				}
			}()
			q, err := openQMP(context.Background(), near)
			if err == nil {
				err = q.execute(context.Background(), "quit")
			}
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want %q", err, tc.want)
			}
		})
	}
}

// guestCode is a boot sector: it prints its text on the serial port, then
// echoes what it gets, and resets the machine on "q".
func guestCode(text string) []byte {
	code := []byte{
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0xfc,             // cld
		0xbe, 0x3b, 0x7c, // mov si, text
		0xac,       // next: lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x05, // jz echo
		0xe8, 0x1c, 0x00, // call put
		0xeb, 0xf6, // jmp next
		0xba, 0xfd, 0x03, // echo: mov dx, line status
		0xec,       // in al, dx
		0xa8, 0x01, // test al, data ready
		0x74, 0xf8, // jz echo
		0xba, 0xf8, 0x03, // mov dx, data
		0xec,             // in al, dx
		0xe8, 0x0b, 0x00, // call put
		0x3c, 'q', // cmp al, 'q'
		0x75, 0xed, // jne echo
		0xb0, 0xfe, // mov al, pulse reset
		0xe6, 0x64, // out keyboard controller, al
		0xf4,       // hlt
		0xeb, 0xfd, // jmp back to hlt
		0x50,             // put: push ax
		0xba, 0xfd, 0x03, // wait: mov dx, line status
		0xec,       // in al, dx
		0xa8, 0x20, // test al, transmitter empty
		0x74, 0xf8, // jz wait
		0x58,             // pop ax
		0xba, 0xf8, 0x03, // mov dx, data
		0xee, // out dx, al
		0xc3, // ret
	}
	sector := make([]byte, 512)
	copy(sector, code)
	copy(sector[len(code):], text)
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}

func needQEMU(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a virtual machine")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("qemu-system-x86_64 is not installed")
	}
}

func bootDisk(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk, with comma.raw")
	if err := os.WriteFile(path, append(guestCode(text), make([]byte, 1<<20-512)...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMachine(t *testing.T) {
	needQEMU(t)
	ctx := context.Background()
	path := bootDisk(t, "\r\nhost login: ")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var transcript syncBuffer
	m, err := Start(ctx, Options{Image: path, Resize: 64 << 20, Memory: 64, Transcript: &transcript, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := WaitLogin(ctx, m, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := m.Send("abc"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Expect(ctx, regexp.MustCompile("abc"), time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := m.Send("q"); err != nil {
		t.Fatal(err)
	}
	if err := m.WaitExit(ctx, time.Minute); err != nil {
		t.Errorf("a guest that resets: %v", err)
	}
	if _, err := m.Expect(ctx, regexp.MustCompile("never"), time.Minute); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || sha256.Sum256(before) != sha256.Sum256(after) {
		t.Errorf("the image was changed: %v", err)
	}
	if !strings.Contains(transcript.String(), "host login: abc") {
		t.Errorf("transcript is %q", transcript.String())
	}
}

func TestMachineQuitAndPowerButton(t *testing.T) {
	needQEMU(t)
	ctx := context.Background()
	m, err := Start(ctx, Options{Image: bootDisk(t, "host login: "), Memory: 64, Bus: "ide"})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.WaitLogin(ctx, time.Minute); err != nil {
		t.Error(err)
	}
	if err := m.Shutdown(ctx, 100*time.Millisecond); !errors.Is(err, ErrTimeout) {
		t.Errorf("a guest that ignores the power button: %v", err)
	}
	m.Close()

	if m, err = Start(ctx, Options{Image: bootDisk(t, "host login: "), Memory: 64}); err != nil {
		t.Fatal(err)
	}
	if err := m.Quit(ctx); err != nil {
		t.Error(err)
	}
}

func TestNothingToBoot(t *testing.T) {
	needQEMU(t)
	m, err := Start(context.Background(), Options{Memory: 64})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var death *Death
	if err := m.WaitLogin(context.Background(), time.Minute); !errors.As(err, &death) {
		t.Errorf("error is %v", err)
	}
}

func TestCancelEndsTheMachine(t *testing.T) {
	needQEMU(t)
	ctx, cancel := context.WithCancel(context.Background())
	m, err := Start(ctx, Options{Image: bootDisk(t, "hello"), Memory: 64})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	cancel()
	select {
	case <-m.Done():
	case <-time.After(time.Minute):
		t.Error("QEMU lives on")
	}
}

func TestStartErrors(t *testing.T) {
	ctx := context.Background()
	raw := bootDisk(t, "x")
	for _, tc := range []struct {
		summary string
		o       Options
		want    string
	}{
		{"no image", Options{Image: "/nonexistent/disk"}, `cannot read image "/nonexistent/disk"`},
		{"too small", Options{Image: raw, Resize: 512}, "1048576"},
		{"wrong format", Options{Image: raw, Format: "qcow2"}, "not a qcow2 image"},
		{"unknown format", Options{Image: raw, Format: "floppy"}, "not a qcow2 image"},
		{"no emulator", Options{Image: raw, Emulator: "no-such-emulator"}, "no-such-emulator"},
	} {
		_, err := Start(ctx, tc.o)
		if err == nil || !strings.HasPrefix(err.Error(), "cannot start a virtual machine: ") || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.summary, err)
		}
	}
}

func TestEmulatorThatFailsIsQuoted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho 'qemu: no such accelerator' >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Start(context.Background(), Options{Emulator: path})
	if err == nil || !strings.Contains(err.Error(), "no such accelerator") {
		t.Errorf("error is %v", err)
	}
}

func TestInspect(t *testing.T) {
	raw := bootDisk(t, "x")
	q := filepath.Join(t.TempDir(), "disk.qcow2")
	f, err := os.Create(q)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := qcow2.CreateOverlay(f, raw, "raw", 5<<20); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path, format, want string
		size               int64
	}{
		{raw, "", "raw", 1 << 20},
		{q, "", "qcow2", 5 << 20},
		{q, "qcow2", "qcow2", 5 << 20},
	} {
		format, size, err := inspect(tc.path, tc.format)
		if err != nil || format != tc.want || size != tc.size {
			t.Errorf("%s as %q: %s, %d, %v", filepath.Base(tc.path), tc.format, format, size, err)
		}
	}
	if format, _, err := inspect(q, "raw"); err != nil || format != "raw" {
		t.Errorf("a qcow2 file taken for raw: %s, %v", format, err)
	}
}

// TestMain lets the test binary be the parent that gets killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("BOOT_TEST_PARENT"); path != "" {
		vm, err := Start(context.Background(), Options{Image: path, Memory: 64})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		err = vm.WaitLogin(context.Background(), time.Minute)
		fmt.Println("up", err)
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// TestKilledParent shows that QEMU dies with a parent that could not tell it.
func TestKilledParent(t *testing.T) {
	needQEMU(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BOOT_TEST_PARENT="+bootDisk(t, "host login: "))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
	if err == nil && len(bytes.Fields(children)) == 0 {
		children = allChildren(cmd.Process.Pid)
	}
	pids := bytes.Fields(children)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if line != "up <nil>\n" {
		t.Fatalf("the parent says %q", line)
	}
	if len(pids) != 1 {
		t.Skipf("cannot tell which process is QEMU (%q)", children)
	}
	var pid int
	fmt.Sscan(string(pids[0]), &pid)
	waitGone(t, pid)
}

// allChildren lists the children of every thread of a process.
func allChildren(pid int) []byte {
	var out []byte
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		data, _ := os.ReadFile(f)
		out = append(out, data...)
	}
	return out
}

// waitGone waits until a process that is not our child has ended.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Skipf("cannot watch process %d: %v", pid, err)
	}
	defer unix.Close(fd)
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, 60_000)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n != 1 {
			t.Errorf("process %d lives on (%v)", pid, err)
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		return
	}
}
