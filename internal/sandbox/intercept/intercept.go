// Package intercept answers system calls that the kernel refuses to a builder
// without root, in the way root would see them answered.
//
// A device node becomes a placeholder and inode flags and security labels become
// facts in the side table; sysfs is bound instead of mounted, and binds of the
// sandbox's own /dev, /proc and /sys carry along what is mounted below them.
// Every other call goes to the kernel unchanged.
package intercept

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/sandbox/seccomp"
	"github.com/dib-builder/dib/internal/sidetable"
)

// concurrency bounds the calls answered at the same time; each may need a thread.
const concurrency = 16

// Capabilities that a caller needs, from linux/capability.h.
const (
	capLinuxImmutable = 9
	capSysAdmin       = 21
	capMknod          = 27
)

// proceed is the answer "let the kernel do it".
const proceed = syscall.Errno(0xffff)

// Server answers the calls of one build.
type Server struct {
	listener *seccomp.Listener
	table    *sidetable.Recorder
	warn     func(string)

	proc      int    // descriptor of /proc, so that no later mount can change it
	fixedProc bool   // a fresh procfs could not be mounted: bind the one there is
	mntNS     uint64 // inode number of this process's mount namespace
	userNS    uint64
	special   map[uint64]bool // st_dev of the sandbox's /dev and /sys, and of a /proc that is bound
}

// Options configure a Server.
type Options struct {
	Listener *seccomp.Listener
	Table    *sidetable.Recorder
	Warn     func(line string)
	// BindProc makes mounts of procfs binds of /proc.
	BindProc bool
}

// New prepares a server in the process that will run it, after its root file
// system is complete.
func New(o Options) (*Server, error) {
	s := &Server{listener: o.Listener, table: o.Table, warn: o.Warn, fixedProc: o.BindProc, special: map[uint64]bool{}}
	var err error
	if s.proc, err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("cannot open /proc: %w", err)
	}
	if s.mntNS, err = inode(s.proc, "self/ns/mnt"); err != nil {
		return nil, fmt.Errorf("cannot identify the mount namespace: %w", err)
	}
	if s.userNS, err = inode(s.proc, "self/ns/user"); err != nil {
		return nil, fmt.Errorf("cannot identify the user namespace: %w", err)
	}
	dirs := []string{"/dev", "/sys"}
	if o.BindProc {
		dirs = append(dirs, "/proc") // has mounts below it that are locked to it
	}
	for _, dir := range dirs {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return nil, fmt.Errorf("cannot look at %s: %w", dir, err)
		}
		s.special[uint64(st.Dev)] = true
	}
	return s, nil
}

// Serve answers calls until the listener fails, then closes it, so that no
// caller is left waiting.
func (s *Server) Serve() {
	slots := make(chan struct{}, concurrency)
	var running sync.WaitGroup
	for {
		n, err := s.listener.Receive()
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			running.Wait()
			s.listener.Close()
			return
		}
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			s.respond(n)
		})
	}
}

func (s *Server) respond(n seccomp.Notification) {
	answer := unix.EIO
	defer func() {
		if r := recover(); r != nil {
			s.warn(fmt.Sprintf("internal error: answering system call %d: %v\n%s", n.Call, r, debug.Stack()))
		}
		if answer == proceed {
			s.listener.Continue(n.ID)
		} else {
			s.listener.Return(n.ID, answer)
		}
	}()
	answer = s.answer(n)
}

func (s *Server) answer(n seccomp.Notification) syscall.Errno {
	c, err := s.openCaller(n)
	if err != nil {
		return proceed // nothing can be said about the caller: the kernel decides
	}
	defer c.close()
	switch n.Call {
	case seccomp.Mknod:
		return s.mknod(c, unix.AT_FDCWD, n.Args[0], uint32(n.Args[1]), n.Args[2])
	case seccomp.Mknodat:
		return s.mknod(c, int32(n.Args[0]), n.Args[1], uint32(n.Args[2]), n.Args[3])
	case seccomp.Mount:
		return s.mount(c, n.Args)
	case seccomp.Umount:
		return s.umount(c, n.Args[0], int(int32(n.Args[1])))
	case seccomp.Ioctl:
		return s.ioctl(c, int32(n.Args[0]), uint32(n.Args[1]), n.Args[2])
	case seccomp.Setxattr, seccomp.Lsetxattr, seccomp.Fsetxattr,
		seccomp.Removexattr, seccomp.Lremovexattr, seccomp.Fremovexattr:
		return s.xattr(c, n)
	}
	return proceed
}

// mknod makes an empty file that stands for a device node.
func (s *Server) mknod(c *caller, dirfd int32, pathAddr uint64, mode uint32, dev uint64) syscall.Errno {
	if mode&unix.S_IFMT == unix.S_IFCHR && dev == 0 {
		return proceed // an overlayfs whiteout: everybody may make those
	}
	if !c.has(capMknod) {
		return proceed
	}
	path, errno := c.path(pathAddr)
	if errno != 0 {
		return errno
	}
	if strings.HasPrefix(path, "/") {
		dirfd = unix.AT_FDCWD // ignored by the kernel, and maybe no descriptor at all
	}
	// The kernel's encoding for user space has 12 bits of major, 20 of minor.
	node := sidetable.Node{
		Mode:  mode & (unix.S_IFMT | 0o7777),
		Major: uint32(dev>>8) & 0xfff,
		Minor: uint32(dev)&0xff | uint32(dev>>12)&0xfff00,
	}
	return c.do(dirfd, func() syscall.Errno {
		if err := unix.Mknod(path, unix.S_IFREG|mode&0o7777, 0); err != nil {
			return asErrno(err)
		}
		id, err := sidetable.Identify(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil {
			err = s.table.SetNode(id, node)
		}
		if err != nil {
			s.warn(fmt.Sprintf("cannot record the device node %q: %v", path, err))
			_ = unix.Unlink(path)
			return unix.EIO
		}
		return 0
	})
}

const mountChange = unix.MS_REMOUNT | unix.MS_MOVE | unix.MS_SHARED | unix.MS_PRIVATE | unix.MS_SLAVE | unix.MS_UNBINDABLE

// mount turns mounts that need a namespace of the kernel's own, and binds that
// would lose the mounts below them, into recursive binds.
func (s *Server) mount(c *caller, args [6]uint64) syscall.Errno {
	flags := uint32(args[3])
	if flags&mountChange != 0 || !c.has(capSysAdmin) {
		return proceed
	}
	if flags&unix.MS_BIND != 0 {
		if flags&unix.MS_REC != 0 {
			return proceed
		}
		return s.bind(c, args)
	}
	fstype, errno := c.path(args[2])
	if errno != 0 {
		return proceed
	}
	source := ""
	switch {
	case fstype == "sysfs":
		source = "/sys"
	case fstype == "devtmpfs":
		source = "/dev"
	case fstype == "proc" && s.fixedProc:
		source = "/proc"
	default:
		return proceed
	}
	target, errno := c.path(args[1])
	if errno != 0 {
		return errno
	}
	// Taken here, in the sandbox's own view: the caller may be in a chroot.
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return asErrno(err)
	}
	defer unix.Close(tree)
	return c.do(unix.AT_FDCWD, func() syscall.Errno { return attach(tree, target) })
}

func (s *Server) bind(c *caller, args [6]uint64) syscall.Errno {
	source, errno := c.path(args[0])
	if errno != 0 {
		return proceed
	}
	target, errno := c.path(args[1])
	if errno != 0 {
		return proceed
	}
	fd := -1
	errno = c.do(unix.AT_FDCWD, func() syscall.Errno {
		var err error
		fd, err = unix.Open(source, unix.O_PATH|unix.O_CLOEXEC, 0)
		return asErrno(err)
	})
	if errno != 0 {
		return proceed
	}
	defer unix.Close(fd)
	if !s.isSpecial(fd) {
		return proceed
	}
	return c.do(unix.AT_FDCWD, func() syscall.Errno {
		tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
		if err != nil {
			return asErrno(err)
		}
		defer unix.Close(tree)
		return attach(tree, target)
	})
}

func attach(tree int, target string) syscall.Errno {
	return asErrno(unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS|unix.MOVE_MOUNT_T_AUTOMOUNTS))
}

// isSpecial tells whether fd is in the sandbox's /dev, /proc or /sys, or in a
// bind of the first and last.
func (s *Server) isSpecial(fd int) bool {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return false
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false // a file has no mounts below it
	}
	if s.special[uint64(st.Dev)] {
		return true
	}
	path := readlinkat(s.proc, fmt.Sprintf("self/fd/%d", fd))
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			return true
		}
	}
	return false
}

// umount takes the mounts below a recursive bind away with it: the caller asked
// for a bind without them and does not know that they are there.
func (s *Server) umount(c *caller, pathAddr uint64, flags int) syscall.Errno {
	if flags&unix.MNT_DETACH != 0 || !c.has(capSysAdmin) {
		return proceed
	}
	target, errno := c.path(pathAddr)
	if errno != 0 {
		return proceed
	}
	open := unix.O_PATH | unix.O_CLOEXEC
	if flags&unix.UMOUNT_NOFOLLOW != 0 {
		open |= unix.O_NOFOLLOW
	}
	return c.do(unix.AT_FDCWD, func() syscall.Errno {
		fd, err := unix.Open(target, open, 0)
		if err != nil {
			return proceed
		}
		var stx unix.Statx_t
		err = unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &stx)
		below := err == nil && s.belowSpecial(fd)
		unix.Close(fd) // an open reference would keep the mount busy
		switch {
		case err != nil || stx.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 || stx.Mode&unix.S_IFMT != unix.S_IFDIR:
			return proceed
		case s.special[unix.Mkdev(stx.Dev_major, stx.Dev_minor)]:
			return asErrno(unix.Unmount(target, flags|unix.MNT_DETACH))
		case !below:
			return proceed
		}
		// What came along with a recursive bind of /sys is locked to it; it goes
		// when the bind does, which is what the caller is about to ask for.
		if errno := asErrno(unix.Unmount(target, flags)); errno != unix.EINVAL {
			return errno
		}
		return 0
	})
}

// belowSpecial tells whether a directory is below a bind of the sandbox's /dev or
// /sys, in the view of the calling thread.
func (s *Server) belowSpecial(fd int) bool {
	const deepest = 64
	var last unix.Stat_t
	if unix.Fstat(fd, &last) != nil {
		return false
	}
	for up, i := "..", 0; i < deepest; up, i = up+"/..", i+1 {
		var st unix.Stat_t
		if unix.Fstatat(fd, up, &st, 0) != nil || st.Dev == last.Dev && st.Ino == last.Ino {
			return false // the root
		}
		if s.special[uint64(st.Dev)] {
			return true
		}
		last = st
	}
	return false
}

// asErrno is the number behind an error of package unix.
func asErrno(err error) syscall.Errno {
	var errno syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &errno):
		return errno
	}
	return unix.EIO
}
