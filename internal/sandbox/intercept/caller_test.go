package intercept

import (
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/sidetable"
)

const statusText = "Name:\tbash\nUmask:\t0027\nPid:\t7\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nCapEff:\t0000000008000200\n"

func TestParseStatus(t *testing.T) {
	c := &caller{pid: 7}
	if err := c.parseStatus([]byte(statusText)); err != nil {
		t.Fatal(err)
	}
	if c.umask != 0o27 || c.fsuid != 4 || c.fsgid != 8 || !c.has(capMknod) || !c.has(capLinuxImmutable) || c.has(capSysAdmin) {
		t.Errorf("%+v", c)
	}
	for _, bad := range []string{"", "Uid:\t1\n", "Umask:\t9\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nCapEff:\t0\n"} {
		if err := c.parseStatus([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte(statusText))
	f.Fuzz(func(t *testing.T, text []byte) {
		_ = (&caller{}).parseStatus(text)
	})
}

func TestFlagNames(t *testing.T) {
	for _, c := range [][2]uint32{
		{0, 0}, {sidetable.FlagImmutable, xflagImmutable}, {sidetable.FlagAppend, xflagAppend}, {recordedFlags, xflagImmutable | xflagAppend},
	} {
		if got := toXflags(c[0] | 0x80000); got != c[1] {
			t.Errorf("toXflags(%#x) = %#x, want %#x", c[0], got, c[1])
		}
		if got := fromXflags(c[1] | 0x80000000); got != c[0] {
			t.Errorf("fromXflags(%#x) = %#x, want %#x", c[1], got, c[0])
		}
	}
}

func TestIsRecorded(t *testing.T) {
	for name, want := range map[string]bool{
		"security.selinux": true, "security.ima": true, "security.evm": true,
		"security.capability": false, "user.x": false, "trusted.overlay.opaque": false,
	} {
		if isRecorded(name) != want {
			t.Errorf("isRecorded(%q) = %v", name, !want)
		}
	}
}

// A string is read up to its end even when the next page is not mapped.
func TestPathAtTheEndOfMemory(t *testing.T) {
	page := os.Getpagesize()
	mem, err := unix.Mmap(-1, 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mem) }()
	if err := unix.Mprotect(mem[page:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	c := &caller{pid: os.Getpid()}
	at := func(text string) uint64 {
		copy(mem[page-len(text):page], text)
		return uint64(uintptr(unsafe.Pointer(&mem[page-len(text)])))
	}
	if got, errno := c.path(at("/dev/null\x00")); got != "/dev/null" || errno != 0 {
		t.Errorf("path = %q, %v", got, errno)
	}
	if _, errno := c.path(at("unterminated")); errno != unix.EFAULT {
		t.Errorf("unterminated: %v, want EFAULT", errno)
	}
	if _, errno := c.path(0); errno != unix.EFAULT {
		t.Errorf("null: %v, want EFAULT", errno)
	}
}

// Where a filter forbids process_vm_readv(2), the mem file serves.
func TestMemory(t *testing.T) {
	dir, err := unix.Open("/proc/self", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &caller{pid: os.Getpid(), dir: dir}
	defer unix.Close(dir)
	mem, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mem) }()
	addr := uint64(uintptr(unsafe.Pointer(&mem[8])))
	if n, err := c.memory(unix.O_WRONLY, unix.Pwrite, addr, []byte("text")); n != 4 || err != nil || string(mem[8:12]) != "text" {
		t.Errorf("write: %d, %v, %q", n, err, mem[8:12])
	}
	got := make([]byte, 4)
	if n, err := c.memory(unix.O_RDONLY, unix.Pread, addr, got); n != 4 || err != nil || string(got) != "text" {
		t.Errorf("read: %d, %v, %q", n, err, got)
	}
	if _, err := c.memory(unix.O_RDONLY, unix.Pread, 0, got); err == nil {
		t.Error("the null page can be read")
	}
	if !refused(unix.EPERM) || refused(unix.EFAULT) || refused(nil) {
		t.Error("refusals are not told from faults")
	}
}
