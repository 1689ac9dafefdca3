package seccomp

import (
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data. Arguments are 64 bits wide; on the little
// endian machines supported here the low half comes first.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

func load(off uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
}

func loadArg(n int) unix.SockFilter { return load(offArgs + 8*uint32(n)) }

func and(k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: k}
}

func jump(cond uint16, k uint32, yes, no int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | cond | unix.BPF_K, K: k, Jt: uint8(yes), Jf: uint8(no)}
}

func ret(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

const refuse = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)

// Program is the filter for the given conventions. Everything it does not know
// is allowed: it exists to help programs, not to confine them.
func Program(abis []ABI) []unix.SockFilter {
	prog := []unix.SockFilter{load(offArch)}
	for _, a := range abis {
		s := section(a)
		prog = append(prog, jump(unix.BPF_JEQ, a.Arch, 0, len(s)))
		prog = append(prog, s...)
	}
	return append(prog, ret(unix.SECCOMP_RET_ALLOW))
}

// section decides about the calls of one ABI; it always ends in a return.
func section(a ABI) []unix.SockFilter {
	s := []unix.SockFilter{load(offNr)}
	if a.Foreign != 0 {
		s = append(s, jump(unix.BPF_JGE, a.Foreign, 0, 1), ret(unix.SECCOMP_RET_ALLOW))
	}
	for _, c := range slices.Sorted(maps.Keys(a.Calls)) {
		b := block(c)
		s = append(s, jump(unix.BPF_JEQ, a.Calls[c], 0, len(b)))
		s = append(s, b...)
	}
	return append(s, ret(unix.SECCOMP_RET_ALLOW))
}

// block decides about one call by its arguments; it always ends in a return.
func block(c Call) []unix.SockFilter {
	switch c {
	case Mknod:
		return modeBlock(1)
	case Mknodat:
		return modeBlock(2)
	case Ioctl:
		b := []unix.SockFilter{loadArg(1)}
		for i, cmd := range ioctls {
			b = append(b, jump(unix.BPF_JEQ, cmd, len(ioctls)-i, 0))
		}
		return append(b, ret(unix.SECCOMP_RET_ALLOW), ret(unix.SECCOMP_RET_USER_NOTIF))
	case Fsopen:
		return []unix.SockFilter{ret(refuse)}
	case OpenTree:
		return []unix.SockFilter{
			loadArg(2), and(unix.OPEN_TREE_CLONE),
			jump(unix.BPF_JEQ, 0, 0, 1),
			ret(unix.SECCOMP_RET_ALLOW), ret(refuse),
		}
	}
	return []unix.SockFilter{ret(unix.SECCOMP_RET_USER_NOTIF)}
}

// modeBlock notifies when the mode in the given argument is that of a device.
func modeBlock(arg int) []unix.SockFilter {
	return []unix.SockFilter{
		loadArg(arg), and(unix.S_IFMT),
		jump(unix.BPF_JEQ, unix.S_IFCHR, 2, 0),
		jump(unix.BPF_JEQ, unix.S_IFBLK, 1, 0),
		ret(unix.SECCOMP_RET_ALLOW), ret(unix.SECCOMP_RET_USER_NOTIF),
	}
}
