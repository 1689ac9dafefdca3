package seccomp

import (
	"testing"

	"golang.org/x/sys/unix"
)

// eval runs a filter program the way the kernel does, for the instructions used here.
func eval(t *testing.T, prog []unix.SockFilter, arch, nr uint32, args [6]uint64) uint32 {
	t.Helper()
	word := func(off uint32) uint32 {
		switch {
		case off == 0:
			return nr
		case off == 4:
			return arch
		case off >= 16 && off < 64 && (off-16)%8 == 0:
			return uint32(args[(off-16)/8])
		}
		t.Fatalf("load from offset %d", off)
		return 0
	}
	var acc uint32
	for pc := 0; pc < len(prog); pc++ {
		i := prog[pc]
		branch := func(yes bool) {
			if yes {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
		}
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = word(i.K)
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= i.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			branch(acc == i.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			branch(acc >= i.K)
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		default:
			t.Fatalf("instruction %d: code %#x", pc, i.Code)
		}
	}
	t.Fatal("program ran off its end")
	return 0
}

func TestProgram(t *testing.T) {
	const (
		allow  = unix.SECCOMP_RET_ALLOW
		notify = unix.SECCOMP_RET_USER_NOTIF
		chr    = unix.S_IFCHR | 0o666
		blk    = unix.S_IFBLK | 0o660
		fifo   = unix.S_IFIFO | 0o644
		high   = 1 << 40 // garbage that the kernel ignores in a 32-bit argument
	)
	amd, x86, a64 := uint32(unix.AUDIT_ARCH_X86_64), uint32(unix.AUDIT_ARCH_I386), uint32(unix.AUDIT_ARCH_AARCH64)
	for _, c := range []struct {
		name     string
		goarch   string
		arch, nr uint32
		args     [6]uint64
		want     uint32
	}{
		{"read", "amd64", amd, 0, [6]uint64{}, allow},
		{"mknod char", "amd64", amd, 133, [6]uint64{1, chr}, notify},
		{"mknod char, high bits", "amd64", amd, 133, [6]uint64{1, high | chr}, notify},
		{"mknod block", "amd64", amd, 133, [6]uint64{1, blk}, notify},
		{"mknod fifo", "amd64", amd, 133, [6]uint64{1, fifo}, allow},
		{"mknod regular", "amd64", amd, 133, [6]uint64{1, 0o644}, allow},
		{"mknodat char", "amd64", amd, 259, [6]uint64{1, 2, chr}, notify},
		{"mknodat regular", "amd64", amd, 259, [6]uint64{1, chr, 0}, allow},
		{"x32 mknod", "amd64", amd, 0x40000000 | 133, [6]uint64{1, chr}, allow},
		{"mount", "amd64", amd, 165, [6]uint64{}, notify},
		{"umount2", "amd64", amd, 166, [6]uint64{}, notify},
		{"ioctl SETFLAGS", "amd64", amd, 16, [6]uint64{3, SetFlags}, notify},
		{"ioctl FSSETXATTR", "amd64", amd, 16, [6]uint64{3, FsSetXattr}, notify},
		{"ioctl TCGETS", "amd64", amd, 16, [6]uint64{3, 0x5401}, allow},
		{"lsetxattr", "amd64", amd, 189, [6]uint64{}, notify},
		{"getxattr", "amd64", amd, 191, [6]uint64{}, allow},
		{"fsopen", "amd64", amd, 430, [6]uint64{}, unix.SECCOMP_RET_ERRNO | 38},
		{"open_tree", "amd64", amd, 428, [6]uint64{0, 0, unix.OPEN_TREE_CLOEXEC}, allow},
		{"open_tree clone", "amd64", amd, 428, [6]uint64{0, 0, unix.OPEN_TREE_CLONE}, unix.SECCOMP_RET_ERRNO | 38},
		{"i386 mknod", "amd64", x86, 14, [6]uint64{1, chr}, notify},
		{"i386 number of another call", "amd64", x86, 133, [6]uint64{1, chr}, allow},
		{"i386 ioctl FS_IOC32_SETFLAGS", "amd64", x86, 54, [6]uint64{3, SetFlags32}, notify},
		{"foreign machine", "amd64", a64, 33, [6]uint64{1, 2, chr}, allow},
		{"arm64 mknodat", "arm64", a64, 33, [6]uint64{1, 2, chr}, notify},
		{"arm64 mount", "arm64", a64, 40, [6]uint64{}, notify},
		{"arm64 setxattr", "arm64", a64, 5, [6]uint64{}, notify},
		{"arm64 other", "arm64", a64, 133, [6]uint64{1, chr}, allow},
		{"arm mknodat", "arm64", unix.AUDIT_ARCH_ARM, 324, [6]uint64{1, 2, blk}, notify},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := eval(t, Program(ABIs(c.goarch)), c.arch, c.nr, c.args); got != c.want {
				t.Errorf("action %#x, want %#x", got, c.want)
			}
		})
	}
}

// Jumps are relative and forward, and the kernel takes at most 255 for a conditional one.
func TestProgramIsWellFormed(t *testing.T) {
	for _, goarch := range []string{"amd64", "arm64"} {
		abis := ABIs(goarch)
		for _, a := range abis {
			if n := len(section(a)); n > 255 {
				t.Errorf("%s: section of %d instructions cannot be jumped over", goarch, n)
			}
		}
		prog := Program(abis)
		for pc, i := range prog {
			if i.Code&7 == unix.BPF_JMP && pc+1+int(max(i.Jt, i.Jf)) >= len(prog) {
				t.Errorf("%s: instruction %d jumps behind the end", goarch, pc)
			}
		}
	}
	if ABIs("s390x") != nil {
		t.Error("a machine without a table must have no filter")
	}
}

func TestLookup(t *testing.T) {
	abis := ABIs("amd64")
	for _, c := range []struct {
		arch uint32
		nr   int32
		want Call
	}{{unix.AUDIT_ARCH_X86_64, 133, Mknod}, {unix.AUDIT_ARCH_I386, 14, Mknod}, {unix.AUDIT_ARCH_X86_64, 14, None}, {1, 133, None}} {
		if got := lookup(abis, c.arch, c.nr); got != c.want {
			t.Errorf("lookup(%#x, %d) = %d, want %d", c.arch, c.nr, got, c.want)
		}
	}
}
