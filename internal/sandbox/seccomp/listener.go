package seccomp

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Install puts the filter on the calling thread, which must be locked, and
// returns the descriptor on which a Listener is notified. The filter survives
// exec. The caller needs CAP_SYS_ADMIN in its user namespace. The error is a
// syscall.Errno when the kernel cannot do it.
func Install() (fd int, err error) {
	abis := ABIs(runtime.GOARCH)
	if abis == nil {
		return -1, fmt.Errorf("system calls of %s are not known: %w", runtime.GOARCH, unix.ENOSYS)
	}
	prog := Program(abis)
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	// With WAIT_KILLABLE_RECV (Linux 5.19) a signal does not restart a call that
	// the supervisor is already answering, which would answer it twice.
	for _, flags := range []uintptr{unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER} {
		r, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog)))
		if errno == 0 {
			return int(r), nil
		}
		if err = errno; errno != unix.EINVAL {
			break
		}
	}
	runtime.KeepAlive(prog)
	return -1, err
}

// Notification is a call that waits for an answer.
type Notification struct {
	ID   uint64
	PID  int // of the calling thread, in the PID namespace of the listener; 0 if not visible there
	Call Call
	Wide bool // the caller's words are 64 bits wide
	Args [6]uint64
}

// notif and response are the kernel's struct seccomp_notif and seccomp_notif_resp.
type notif struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

type response struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// Listener receives notifications and sends answers.
type Listener struct {
	fd   int
	abis []ABI
}

// NewListener takes over the descriptor returned by Install.
func NewListener(fd int) *Listener { return &Listener{fd: fd, abis: ABIs(runtime.GOARCH)} }

// Close ends interception: every waiting and later call gets ENOSYS.
func (l *Listener) Close() error { return unix.Close(l.fd) }

// Receive waits for a notification. Any error but unix.ENOENT (the caller was
// killed meanwhile) is final.
func (l *Listener) Receive() (Notification, error) {
	for {
		// A kernel may have a larger structure than this program: leave room.
		var buf struct {
			notif
			spare [256]byte
		}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&buf)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return Notification{}, errno
		}
		n := buf.notif
		return Notification{
			ID: n.id, PID: int(n.pid), Call: lookup(l.abis, n.arch, n.nr), Args: n.args,
			Wide: n.arch == unix.AUDIT_ARCH_X86_64 || n.arch == unix.AUDIT_ARCH_AARCH64,
		}, nil
	}
}

// Valid tells whether the caller still waits, so that what was read about its
// PID before this moment is not of another process.
func (l *Listener) Valid(id uint64) bool {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.SECCOMP_IOCTL_NOTIF_ID_VALID, uintptr(unsafe.Pointer(&id)))
	return errno == 0
}

// Continue lets the kernel execute the call as if there were no filter.
func (l *Listener) Continue(id uint64) {
	l.send(response{id: id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE})
}

// Return makes the call return 0, or fail with errno.
func (l *Listener) Return(id uint64, errno syscall.Errno) {
	l.send(response{id: id, err: -int32(errno)})
}

func (l *Listener) send(r response) {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
	if errno == unix.EINVAL && r.flags != 0 {
		// Before Linux 5.5 there is no CONTINUE; what was asked is mostly what
		// the kernel would have refused.
		l.send(response{id: r.id, err: -int32(unix.EPERM)})
	}
	// ENOENT: the caller is gone and needs no answer.
}
