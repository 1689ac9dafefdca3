// Package seccomp asks the kernel to hand chosen system calls of a process, and
// of all its descendants, to a supervisor that answers them.
//
// It holds the filter program and the notification protocol of seccomp(2) and
// seccomp_unotify(2); what the answers are is decided elsewhere.
package seccomp

import "golang.org/x/sys/unix"

// Call is a system call that the filter knows.
type Call int

// The calls of which the filter notifies the supervisor, and those it refuses.
const (
	None Call = iota
	Mknod
	Mknodat
	Mount
	Umount
	Ioctl
	Setxattr
	Lsetxattr
	Fsetxattr
	Removexattr
	Lremovexattr
	Fremovexattr
	// Fsopen and OpenTree (as a clone) get ENOSYS: programs then use mount(2),
	// which the supervisor can answer.
	Fsopen
	OpenTree
)

// Commands of ioctl(2) that are notified, from linux/fs.h. They are spelled out
// since they differ with the width of long: FS_IOC_* carry the size of a long
// although an int is passed.
const (
	GetFlags   = 0x80086601
	SetFlags   = 0x40086602
	GetFlags32 = 0x80046601
	SetFlags32 = 0x40046602
	FsGetXattr = 0x801c581f
	FsSetXattr = 0x401c5820
)

var ioctls = []uint32{GetFlags, SetFlags, GetFlags32, SetFlags32, FsGetXattr, FsSetXattr}

// ABI is one calling convention of the kernel: AUDIT_ARCH_* and its call numbers.
type ABI struct {
	Arch  uint32
	Calls map[Call]uint32
	// Foreign is the bit that marks numbers of another ABI under the same Arch
	// (x32 on amd64); 0 for none.
	Foreign uint32
}

var (
	abiAMD64 = ABI{Arch: unix.AUDIT_ARCH_X86_64, Foreign: 0x40000000, Calls: map[Call]uint32{
		Mknod: 133, Mknodat: 259, Mount: 165, Umount: 166, Ioctl: 16,
		Setxattr: 188, Lsetxattr: 189, Fsetxattr: 190, Removexattr: 197, Lremovexattr: 198, Fremovexattr: 199,
		OpenTree: 428, Fsopen: 430,
	}}
	abi386 = ABI{Arch: unix.AUDIT_ARCH_I386, Calls: map[Call]uint32{
		Mknod: 14, Mknodat: 297, Mount: 21, Umount: 52, Ioctl: 54,
		Setxattr: 226, Lsetxattr: 227, Fsetxattr: 228, Removexattr: 235, Lremovexattr: 236, Fremovexattr: 237,
		OpenTree: 428, Fsopen: 430,
	}}
	abiARM64 = ABI{Arch: unix.AUDIT_ARCH_AARCH64, Calls: map[Call]uint32{
		Mknodat: 33, Mount: 40, Umount: 39, Ioctl: 29,
		Setxattr: 5, Lsetxattr: 6, Fsetxattr: 7, Removexattr: 14, Lremovexattr: 15, Fremovexattr: 16,
		OpenTree: 428, Fsopen: 430,
	}}
	abiARM = ABI{Arch: unix.AUDIT_ARCH_ARM, Calls: map[Call]uint32{
		Mknod: 14, Mknodat: 324, Mount: 21, Umount: 52, Ioctl: 54,
		Setxattr: 226, Lsetxattr: 227, Fsetxattr: 228, Removexattr: 235, Lremovexattr: 236, Fremovexattr: 237,
		OpenTree: 428, Fsopen: 430,
	}}
)

// ABIs returns the conventions that programs on a machine of the given GOARCH
// use, 32-bit programs included; none where interception is not supported.
func ABIs(goarch string) []ABI {
	switch goarch {
	case "amd64":
		return []ABI{abiAMD64, abi386}
	case "arm64":
		return []ABI{abiARM64, abiARM}
	}
	return nil
}

// lookup names the call behind a notification.
func lookup(abis []ABI, arch uint32, nr int32) Call {
	for _, a := range abis {
		if a.Arch != arch {
			continue
		}
		for c, n := range a.Calls {
			if n == uint32(nr) {
				return c
			}
		}
	}
	return None
}
