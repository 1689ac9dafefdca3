package intercept

import (
	"encoding/binary"
	"fmt"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/sandbox/seccomp"
	"github.com/dib-builder/dib/internal/sidetable"
)

const recordedFlags = sidetable.FlagImmutable | sidetable.FlagAppend

// Flags of struct fsxattr, from linux/fs.h.
const (
	xflagImmutable = 0x8
	xflagAppend    = 0x10
	fsxattrSize    = 28
)

// xflags translates between the two ways of naming inode flags: XFLAG_* are half
// of the bits of *_FL.
func toXflags(flags uint32) uint32 {
	return (flags&sidetable.FlagImmutable)/sidetable.FlagImmutable*xflagImmutable |
		(flags&sidetable.FlagAppend)/sidetable.FlagAppend*xflagAppend
}

func fromXflags(x uint32) uint32 {
	return (x&xflagImmutable)/xflagImmutable*sidetable.FlagImmutable |
		(x&xflagAppend)/xflagAppend*sidetable.FlagAppend
}

// maxXattr is the kernel's limit of an attribute's value in bytes.
const maxXattr = 64 << 10

func (s *Server) ioctl(c *caller, fd int32, cmd uint32, arg uint64) syscall.Errno {
	own, err := c.reopen(fd)
	if err != nil {
		return proceed
	}
	defer unix.Close(own)
	id, err := sidetable.Identify(own, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return proceed
	}
	recorded := s.table.Fact(id).Flags
	switch cmd {
	case seccomp.GetFlags, seccomp.GetFlags32:
		return s.getFlags(c, own, arg, recorded)
	case seccomp.FsGetXattr:
		return s.fsGetXattr(c, own, arg, recorded)
	}
	if !c.has(capLinuxImmutable) {
		return proceed
	}
	switch cmd {
	case seccomp.SetFlags, seccomp.SetFlags32:
		word, errno := c.read(arg, 4)
		if errno != 0 {
			return errno
		}
		want := binary.LittleEndian.Uint32(word)
		return s.setFlags(id, recorded, want&recordedFlags, func() syscall.Errno {
			have, errno := getFlags(own)
			if errno == 0 && have == want&^recordedFlags {
				return 0
			}
			if errno == 0 {
				errno = ioctl(own, seccomp.SetFlags, unsafe.Pointer(&[2]uint32{want &^ recordedFlags}))
			}
			return tolerate(errno, want&^recordedFlags == 0)
		})
	case seccomp.FsSetXattr:
		buf, errno := c.read(arg, fsxattrSize)
		if errno != 0 {
			return errno
		}
		want := binary.LittleEndian.Uint32(buf)
		rest := want &^ (xflagImmutable | xflagAppend)
		return s.setFlags(id, recorded, fromXflags(want), func() syscall.Errno {
			binary.LittleEndian.PutUint32(buf, rest)
			return tolerate(ioctl(own, seccomp.FsSetXattr, unsafe.Pointer(&buf[0])), rest == 0)
		})
	}
	return proceed
}

// setFlags records the flags of which the kernel would refuse a change, and has
// the others applied by rest.
func (s *Server) setFlags(id sidetable.ID, recorded, want uint32, rest func() syscall.Errno) syscall.Errno {
	if want == 0 && recorded == 0 {
		return proceed
	}
	if errno := rest(); errno != 0 {
		return errno
	}
	if err := s.table.SetFlags(id, want); err != nil {
		s.warn(err.Error())
		return unix.EIO
	}
	return 0
}

// tolerate drops the error of a file system that has no flags, when none is
// wanted but those recorded: the image's file system will have them.
func tolerate(errno syscall.Errno, none bool) syscall.Errno {
	if none && (errno == unix.ENOTTY || errno == unix.EOPNOTSUPP) {
		return 0
	}
	return errno
}

func (s *Server) getFlags(c *caller, own int, arg uint64, recorded uint32) syscall.Errno {
	have, errno := getFlags(own)
	if recorded == 0 && (errno == 0 || !regularOrDir(own)) {
		return proceed
	}
	if errno != 0 {
		have = 0 // a file system without flags answers as one where none is set
	}
	return c.write(arg, binary.LittleEndian.AppendUint32(nil, have|recorded))
}

func (s *Server) fsGetXattr(c *caller, own int, arg uint64, recorded uint32) syscall.Errno {
	if recorded == 0 {
		return proceed
	}
	buf := make([]byte, fsxattrSize)
	if errno := ioctl(own, seccomp.FsGetXattr, unsafe.Pointer(&buf[0])); errno != 0 && errno != unix.ENOTTY && errno != unix.EOPNOTSUPP {
		return errno
	}
	binary.LittleEndian.PutUint32(buf, binary.LittleEndian.Uint32(buf)|toXflags(recorded))
	return c.write(arg, buf)
}

func getFlags(fd int) (uint32, syscall.Errno) {
	var flags [2]uint32 // the kernel writes an int; the command says long
	errno := ioctl(fd, seccomp.GetFlags, unsafe.Pointer(&flags))
	return flags[0], errno
}

func ioctl(fd int, cmd uintptr, arg unsafe.Pointer) syscall.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), cmd, uintptr(arg))
	return errno
}

func regularOrDir(fd int) bool {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return false
	}
	return st.Mode&unix.S_IFMT == unix.S_IFREG || st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// isRecorded tells which attributes go to the side table: those of security
// modules, which only root of the initial user namespace may set. File
// capabilities have a form of their own for user namespaces.
func isRecorded(name string) bool {
	return strings.HasPrefix(name, "security.") && name != "security.capability"
}

func (s *Server) xattr(c *caller, n seccomp.Notification) syscall.Errno {
	name, errno := c.path(n.Args[1])
	if errno != 0 || !isRecorded(name) || !c.has(capSysAdmin) {
		return proceed
	}
	var id sidetable.ID
	identify := func(fd int, path string, flags int) (errno syscall.Errno) {
		var err error
		id, err = sidetable.Identify(fd, path, flags)
		return asErrno(err)
	}
	switch n.Call {
	case seccomp.Fsetxattr, seccomp.Fremovexattr:
		own, err := c.openFD(int32(n.Args[0]))
		if err != nil {
			return proceed
		}
		errno = identify(own, "", unix.AT_EMPTY_PATH)
		unix.Close(own)
	default:
		flags := 0
		if n.Call == seccomp.Lsetxattr || n.Call == seccomp.Lremovexattr {
			flags = unix.AT_SYMLINK_NOFOLLOW
		}
		path, perr := c.path(n.Args[0])
		if perr != 0 {
			return perr
		}
		errno = c.do(unix.AT_FDCWD, func() syscall.Errno { return identify(unix.AT_FDCWD, path, flags) })
	}
	if errno != 0 {
		return errno
	}
	_, known := s.table.Fact(id).Xattrs[name]
	var err error
	switch n.Call {
	case seccomp.Removexattr, seccomp.Lremovexattr, seccomp.Fremovexattr:
		if !known {
			return proceed
		}
		err = s.table.RemoveXattr(id, name)
	default:
		size, how := n.Args[3], uint32(n.Args[4])
		switch {
		case size > maxXattr:
			return unix.E2BIG
		case how&unix.XATTR_CREATE != 0 && known:
			return unix.EEXIST
		case how&unix.XATTR_REPLACE != 0 && !known:
			return unix.ENODATA
		}
		value, errno := c.read(n.Args[2], int(size))
		if errno != 0 {
			return errno
		}
		err = s.table.SetXattr(id, name, value)
	}
	if err != nil {
		s.warn(fmt.Sprintf("cannot record attribute %s: %v", name, err))
		return unix.EIO
	}
	return 0
}
