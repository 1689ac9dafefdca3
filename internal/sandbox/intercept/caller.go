package intercept

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/pidns"
	"github.com/dib-builder/dib/internal/sandbox/seccomp"
)

// caller is the thread whose call is answered: what it sees and what it may do.
type caller struct {
	pid   int
	dir   int // descriptor of its directory in /proc
	root  int // its root and working directory, O_PATH
	cwd   int
	mnt   int // its mount namespace, -1 when that is the server's
	umask int
	fsuid int
	fsgid int
	caps  uint64 // effective
}

var errOtherUserNamespace = errors.New("caller is in another user namespace")

// openCaller opens everything that is needed of the caller's process and then
// makes sure that it was the caller's: a PID may have changed hands before.
func (s *Server) openCaller(n seccomp.Notification) (_ *caller, err error) {
	c := &caller{pid: n.PID, dir: -1, root: -1, cwd: -1, mnt: -1}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if n.PID == 0 {
		return nil, unix.ESRCH
	}
	name, err := s.procName(n.PID)
	if err != nil {
		return nil, err
	}
	if c.dir, err = unix.Openat(s.proc, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	if c.root, err = unix.Openat(c.dir, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	if c.cwd, err = unix.Openat(c.dir, "cwd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	// Ids and capabilities in another user namespace mean something else.
	if ns, err := inode(c.dir, "ns/user"); err != nil || ns != s.userNS {
		return nil, errOtherUserNamespace
	}
	ns, err := inode(c.dir, "ns/mnt")
	if err != nil {
		return nil, err
	}
	if ns != s.mntNS {
		if c.mnt, err = unix.Openat(c.dir, "ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return nil, err
		}
	}
	if err := c.readStatus(); err != nil {
		return nil, err
	}
	if !s.listener.Valid(n.ID) {
		return nil, unix.ESRCH
	}
	return c, nil
}

// procName is the caller's directory in /proc. With a procfs of an outer PID
// namespace the name there is another than the PID known here.
func (s *Server) procName(pid int) (string, error) {
	if !s.fixedProc {
		return strconv.Itoa(pid), nil
	}
	return pidns.Name(pid)
}

func (c *caller) close() {
	for _, fd := range []int{c.dir, c.root, c.cwd, c.mnt} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func (c *caller) readStatus() error {
	text, err := readFileAt(c.dir, "status")
	if err != nil {
		return err
	}
	return c.parseStatus(text)
}

// parseStatus takes what do needs from proc_pid_status(5).
func (c *caller) parseStatus(text []byte) error {
	number := func(key string, field, base int) (uint64, error) {
		f := strings.Fields(field1(text, key))
		if field >= len(f) {
			return 0, fmt.Errorf("no field %s in the status of process %d", key, c.pid)
		}
		return strconv.ParseUint(f[field], base, 64)
	}
	var uid, gid, mask uint64
	for _, f := range []struct {
		to          *uint64
		key         string
		field, base int
	}{{&uid, "Uid", 3, 10}, {&gid, "Gid", 3, 10}, {&mask, "Umask", 0, 8}, {&c.caps, "CapEff", 0, 16}} {
		v, err := number(f.key, f.field, f.base)
		if err != nil {
			return err
		}
		*f.to = v
	}
	c.fsuid, c.fsgid, c.umask = int(uid), int(gid), int(mask)
	return nil
}

func field1(status []byte, key string) string {
	for l := range bytes.Lines(status) {
		if v, ok := strings.CutPrefix(string(l), key+":"); ok {
			return v
		}
	}
	return ""
}

func (c *caller) has(capability int) bool { return c.caps>>capability&1 == 1 }

// read copies n bytes from the caller's memory.
func (c *caller) read(addr uint64, n int) ([]byte, syscall.Errno) {
	buf := make([]byte, n)
	for done := 0; done < n; {
		got, err := transfer(unix.ProcessVMReadv, c.pid, addr+uint64(done), buf[done:])
		if refused(err) {
			got, err = c.memory(unix.O_RDONLY, unix.Pread, addr+uint64(done), buf[done:])
		}
		if err != nil || got == 0 {
			return nil, unix.EFAULT
		}
		done += got
	}
	return buf, 0
}

func (c *caller) write(addr uint64, data []byte) syscall.Errno {
	n, err := transfer(unix.ProcessVMWritev, c.pid, addr, data)
	if refused(err) {
		n, err = c.memory(unix.O_WRONLY, unix.Pwrite, addr, data)
	}
	if err != nil || n != len(data) {
		return unix.EFAULT
	}
	return 0
}

// refused tells whether a container's system call filter forbids a call.
func refused(err error) bool { return errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) }

// memory moves bytes through the caller's mem file.
func (c *caller) memory(mode int, f func(int, []byte, int64) (int, error), addr uint64, buf []byte) (int, error) {
	fd, err := unix.Openat(c.dir, "mem", mode|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return f(fd, buf, int64(addr))
}

func transfer(f func(int, []unix.Iovec, []unix.RemoteIovec, uint) (int, error), pid int, addr uint64, buf []byte) (int, error) {
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	n, err := f(pid, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(buf)}}, 0)
	if err == nil && n == 0 {
		err = unix.EFAULT
	}
	return n, err
}

// path reads a string that the kernel bounds by PATH_MAX from the caller's
// memory. It reads page by page: the string may end just before unmapped memory.
func (c *caller) path(addr uint64) (string, syscall.Errno) {
	if addr == 0 {
		return "", unix.EFAULT
	}
	const page = 4096
	var text []byte
	for len(text) < unix.PathMax {
		n := page - int(addr%page)
		chunk, errno := c.read(addr, n)
		if errno != 0 {
			return "", errno
		}
		if i := bytes.IndexByte(chunk, 0); i >= 0 {
			if text = append(text, chunk[:i]...); len(text) >= unix.PathMax {
				break
			}
			return string(text), 0
		}
		text = append(text, chunk...)
		addr += uint64(n)
	}
	return "", unix.ENAMETOOLONG
}

// openFD returns a reference to an open file of the caller.
func (c *caller) openFD(fd int32) (int, error) {
	return unix.Openat(c.dir, fmt.Sprintf("fd/%d", fd), unix.O_PATH|unix.O_CLOEXEC, 0)
}

// reopen opens a regular file or directory that the caller has open, for ioctl.
func (c *caller) reopen(fd int32) (int, error) {
	ref, err := c.openFD(fd)
	if err != nil {
		return -1, err
	}
	defer unix.Close(ref)
	if !regularOrDir(ref) {
		return -1, unix.ENOTTY // opening a device or FIFO would have effects
	}
	return unix.Openat(c.dir, fmt.Sprintf("fd/%d", fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
}

// do runs f with the caller's root, mount namespace, umask and file system ids,
// and with dirfd as working directory, on a thread that ends with it.
func (c *caller) do(dirfd int32, f func() syscall.Errno) syscall.Errno {
	wd := c.cwd
	if dirfd != unix.AT_FDCWD {
		fd, err := unix.Openat(c.dir, fmt.Sprintf("fd/%d", dirfd), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		switch {
		case err == nil:
			defer unix.Close(fd)
			wd = fd
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
			// Of no consequence when the path is absolute; the kernel knows.
			return proceed
		default:
			return asErrno(err)
		}
	}
	result := make(chan syscall.Errno, 1)
	go func() {
		answer := syscall.Errno(unix.EIO)
		defer func() {
			_ = recover()
			result <- answer
		}()
		// Never unlocked: the thread cannot be used for anything else afterwards
		// and the runtime ends it together with this goroutine.
		runtime.LockOSThread()
		if err := c.become(wd); err != nil {
			answer = asErrno(err)
			return
		}
		answer = f()
	}()
	return <-result
}

func (c *caller) become(wd int) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if c.mnt >= 0 {
		if err := unix.Setns(c.mnt, unix.CLONE_NEWNS); err != nil {
			return err
		}
	}
	if err := unix.Fchdir(c.root); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := unix.Fchdir(wd); err != nil {
		return err
	}
	unix.Umask(c.umask)
	// These calls act on one thread; the uid comes last, it takes capabilities away.
	if c.fsgid != 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_SETFSGID, uintptr(c.fsgid), 0, 0)
	}
	if c.fsuid != 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, uintptr(c.fsuid), 0, 0)
	}
	return nil
}

func inode(dir int, path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, path, &st, 0); err != nil {
		return 0, err
	}
	return st.Ino, nil
}

func readlinkat(dir int, path string) string {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, path, buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

func readFileAt(dir int, path string) ([]byte, error) {
	fd, err := unix.Openat(dir, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var out []byte
	for {
		buf := make([]byte, 4096)
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return out, nil
		}
		out = append(out, buf[:n]...)
	}
}
