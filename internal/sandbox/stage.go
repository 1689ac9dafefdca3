package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The parent-death signal and the seccomp filter belong to a thread. While
// packages are initialised the main goroutine is on the main thread, and stays
// there from here on.
func init() {
	if len(os.Args) > 1 && stages()[os.Args[1]] != nil {
		runtime.LockOSThread()
	}
}

func stages() map[string]func() {
	return map[string]func(){
		stageBoot:   bootMain,
		stageInit:   initMain,
		stageExec:   execMain,
		stageRemove: removeMain,
		stageView:   viewMain,
	}
}

// MaybeStage does not return when this process is a stage of a sandbox. main
// calls it before anything else.
func MaybeStage() {
	if len(os.Args) < 2 {
		return
	}
	f := stages()[os.Args[1]]
	if f == nil {
		return
	}
	f()
	os.Exit(0)
}

// bootMain waits until the ids of its user namespace are mapped, becomes 0 and
// goes on as the stage named by its arguments.
func bootMain() {
	if len(os.Args) < 3 {
		misused()
	}
	dieWithParent()
	switch b, err := readRequest(); {
	case err != nil || b != requestGo:
		os.Exit(128 + int(unix.SIGKILL)) // the supervisor is gone
	}
	if err := becomeRoot(); err != nil {
		fail(fmt.Errorf("cannot become id 0 of the user namespace: %w", err))
	}
	dieWithParent()
	err := unix.Exec("/proc/self/exe", append([]string{os.Args[0]}, os.Args[2:]...), os.Environ())
	fail(fmt.Errorf("cannot start the next stage: %w", err))
}

// becomeRoot changes the ids of this thread only: the exec that follows ends the
// others. Supplementary groups are kept, they may be what lets the caller read
// his files.
func becomeRoot() error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, 0, 0, 0); errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// dieWithParent asks for SIGKILL when the thread that started this process ends.
// A parent that ended before is noticed by the end of the control pipe.
func dieWithParent() {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		fail(fmt.Errorf("cannot tie this process to its parent: %w", err))
	}
}

// readRequest reads one byte of the control pipe. It makes the plain system
// call: the pipe must not become known to the runtime's poller, which would make
// it non-blocking for the stage that follows.
func readRequest() (byte, error) {
	var b [1]byte
	for {
		n, err := unix.Read(fdControl, b[:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, err
		case n == 0:
			return 0, os.ErrClosed
		}
		return b[0], nil
	}
}

// fail reports why the sandbox cannot be had, and ends the stage.
func fail(err error) {
	report(status{Failed: err.Error(), Errno: errnoOf(err)})
	os.Exit(exitSetup)
}

var reporting sync.Mutex

// report tells the supervisor something. Warnings go this way too: two writers
// of the engine's event pipe could tear each other's lines.
func report(s status) {
	reporting.Lock()
	defer reporting.Unlock()
	text, err := json.Marshal(s)
	if err == nil {
		_, err = unix.Write(fdStatus, append(text, '\n'))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "dib: cannot report to the supervisor: %v: %s\n", err, s.Failed)
	}
}

func errnoOf(err error) int {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return int(errno)
	}
	return 0
}

// misused ends a stage that was started by hand.
func misused() {
	fmt.Fprintf(os.Stderr, "dib: %s is internal: dib starts it by itself\n", os.Args[1])
	os.Exit(2)
}
