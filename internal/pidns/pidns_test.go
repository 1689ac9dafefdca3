package pidns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Getenv("PIDNS_TEST_INNER") != "" {
		if err := inner(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// inner runs as PID 1 of a namespace, with the /proc of the outer one.
func inner() error {
	if os.Getpid() != 1 {
		return fmt.Errorf("PID %d", os.Getpid())
	}
	self, err := os.Readlink("/proc/self")
	if err != nil || self == "1" {
		return fmt.Errorf("/proc/self is %q, %w", self, err)
	}
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		return err
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	processes, err := Processes()
	if err != nil {
		return err
	}
	var pids []int
	for _, p := range processes {
		pids = append(pids, p.PID)
		if p.PID == 1 && p.Dir != filepath.Join("/proc", self) {
			return fmt.Errorf("PID 1 is in %s, not in /proc/%s", p.Dir, self)
		}
	}
	slices.Sort(pids)
	if want := []int{1, child.Process.Pid}; !slices.Equal(pids, want) {
		return fmt.Errorf("processes %v, want %v", pids, want)
	}
	// A thread that is not the first has no pidfd before Linux 6.9.
	done := make(chan error)
	hold := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		go func() { // on another thread, while this one is held
			runtime.LockOSThread()
			done <- checkThread()
			<-hold
		}()
		<-hold
	}()
	err = <-done
	close(hold)
	return err
}

func checkThread() error {
	tid := unix.Gettid()
	want, err := os.Readlink("/proc/thread-self")
	if err != nil {
		return err
	}
	want = filepath.Base(want)
	for name, f := range map[string]func(int) (string, error){"Name": Name, "threadName": threadName} {
		if got, err := f(tid); err != nil || got != want {
			return fmt.Errorf("%s(%d) = %q, %w; want %s", name, tid, got, err, want)
		}
	}
	return nil
}

func TestOuterProc(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "PIDNS_TEST_INNER=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestOwnProc(t *testing.T) {
	processes, err := Processes()
	if err != nil {
		t.Fatal(err)
	}
	want := Process{PID: os.Getpid(), Dir: fmt.Sprintf("/proc/%d", os.Getpid())}
	if !slices.Contains(processes, want) {
		t.Errorf("%v is not among the processes", want)
	}
	if name, err := Name(os.Getpid()); err != nil || name != fmt.Sprint(os.Getpid()) {
		t.Errorf("Name = %s, %v", name, err)
	}
	if _, err := Name(1 << 30); err == nil {
		t.Error("a process that is not there has a name")
	}
}

func TestNSPIDs(t *testing.T) {
	for _, c := range []struct {
		status string
		want   []int
	}{
		{"Name:\tx\nNSpid:\t14\t10\n", []int{14, 10}},
		{"NSpid:\t14", []int{14}},
		{"NStgid:\t14\n", nil},
		{"NSpid:\tx\n", nil},
	} {
		if got := nsPIDs([]byte(c.status)); !slices.Equal(got, c.want) {
			t.Errorf("%q: %v", strings.TrimSpace(c.status), got)
		}
	}
}
