package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/sandbox/account"
)

// oldRoot is where the host's root is while the new one is composed.
const oldRoot = "/.old-root"

// composed says how the root file system turned out.
type composed struct {
	freshProc bool // /proc is of this PID namespace
}

// compose makes the root file system of the sandbox out of the host's: its
// top-level directories, new /proc, /dev and /.dib, /sys read-only. It works in
// a mount namespace of its own, and nothing of it reaches the host.
func compose(cfg initConfig, warn func(string)) (composed, error) {
	var out composed
	work := -1
	if cfg.WorkRoot != "" {
		// Opened here, since its path may lead nowhere in the new root (/dev/shm).
		var err error
		if work, err = unix.Open(cfg.WorkRoot, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return out, fmt.Errorf("cannot open the work directory %q: %w", cfg.WorkRoot, err)
		}
		defer unix.Close(work)
	}
	if err := enterNewRoot(); err != nil {
		return out, err
	}
	if err := bindHost(warn); err != nil {
		return out, err
	}
	var err error
	if out.freshProc, err = makeProc(); err != nil {
		return out, err
	}
	for _, step := range []func() error{
		makeSys,
		func() error { return makeDev(cfg.Rootless) },
		func() error { return makeOwn(cfg, work) },
		func() error { return makeAccounts(cfg) },
		func() error { return makeHome(cfg) },
		func() error { return makeStandIns(cfg.Rootless) },
		leaveOldRoot,
	} {
		if err := step(); err != nil {
			return out, err
		}
	}
	if err := os.Chdir(cfg.Cwd); err != nil {
		warn(fmt.Sprintf("cannot keep the working directory: %v; hooks start in /", err))
		if err := os.Chdir("/"); err != nil {
			return out, err
		}
	}
	return out, nil
}

func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("cannot mount %s on %s: %w", source, target, err)
	}
	return nil
}

// enterNewRoot makes an empty tmpfs the root, with the host's root below it.
func enterNewRoot() error {
	// Nothing mounted from here on may show on the host; but what the host
	// unmounts meanwhile must go here too, or a build would keep it busy.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("cannot detach the mounts from those of the host: %w", err)
	}
	// Any directory will do: the mount moves to the root.
	point := ""
	for _, dir := range []string{"/tmp", "/mnt", "/proc"} {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			point = dir
			break
		}
	}
	if point == "" {
		return errors.New("cannot compose a root file system: none of /tmp, /mnt and /proc is a directory")
	}
	if err := mount("tmpfs", point, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	old := filepath.Join(point, oldRoot)
	if err := os.Mkdir(old, 0o755); err != nil {
		return err
	}
	if err := unix.PivotRoot(point, old); err != nil {
		return fmt.Errorf("cannot change the root file system: %w", err)
	}
	return os.Chdir("/")
}

func leaveOldRoot() error {
	if err := unix.Unmount(oldRoot, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("cannot let go of the host's root: %w", err)
	}
	return os.Remove(oldRoot)
}

// bindHost puts the host's top-level entries into the new root.
func bindHost(warn func(string)) error {
	entries, err := os.ReadDir(oldRoot)
	if err != nil {
		return fmt.Errorf("cannot list the host's root: %w", err)
	}
	for _, e := range entries {
		from, to := filepath.Join(oldRoot, e.Name()), "/"+e.Name()
		switch to {
		case "/proc", "/sys", "/dev", place.Root, oldRoot:
			continue
		}
		if err := bindEntry(from, to, e.Type()); err != nil {
			warn(fmt.Sprintf("%s of the host is not visible to hooks: %v", to, err))
		}
	}
	return nil
}

func bindEntry(from, to string, typ fs.FileMode) error {
	switch {
	case typ == fs.ModeSymlink:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case typ.IsDir():
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
		return mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
	case typ.IsRegular():
		return bindFile(from, to)
	}
	return nil // sockets and the like have no business in a root directory
}

// bindFile binds a file that need not exist yet.
func bindFile(from, to string) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_RDONLY|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return err
	}
	f.Close()
	return mount(from, to, "", unix.MS_BIND, "")
}

// makeProc mounts a procfs of the new PID namespace. The kernel refuses that
// where parts of the host's are hidden, as in containers; then that one serves.
func makeProc() (fresh bool, err error) {
	if err := os.Mkdir("/proc", 0o555); err != nil {
		return false, err
	}
	err = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err == nil {
		return true, nil
	}
	if err := mount(oldRoot+"/proc", "/proc", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return false, err
	}
	return false, nil
}

func makeSys() error {
	if err := os.Mkdir("/sys", 0o555); err != nil {
		return err
	}
	if _, err := os.Stat(oldRoot + "/sys/kernel"); errors.Is(err, fs.ErrNotExist) {
		return nil // a host without sysfs
	}
	if err := mount(oldRoot+"/sys", "/sys", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	err := unix.MountSetattr(unix.AT_FDCWD, "/sys", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if err == nil {
		return nil
	}
	// Before Linux 5.12 only the top can be changed at once. Flags that the mount
	// has already are locked and must be named again.
	var st unix.Statfs_t
	if err := unix.Statfs("/sys", &st); err != nil {
		return fmt.Errorf("cannot look at /sys: %w", err)
	}
	return mount("/sys", "/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|lockedFlags(int64(st.Flags)), "")
}

// lockedFlags turns flags of statfs(2) into those of mount(2).
func lockedFlags(f int64) uintptr {
	var out uintptr
	for _, p := range [][2]int64{
		{unix.ST_NOSUID, unix.MS_NOSUID}, {unix.ST_NODEV, unix.MS_NODEV}, {unix.ST_NOEXEC, unix.MS_NOEXEC},
		{unix.ST_NOATIME, unix.MS_NOATIME}, {unix.ST_NODIRATIME, unix.MS_NODIRATIME}, {unix.ST_RELATIME, unix.MS_RELATIME},
	} {
		if f&p[0] != 0 {
			out |= uintptr(p[1])
		}
	}
	return out
}

// makeOwn makes /.dib, in memory or in the work directory. build and image are
// in one file system, so that files can be moved between them.
func makeOwn(cfg initConfig, work int) error {
	if err := os.Mkdir(place.Root, 0o755); err != nil {
		return err
	}
	if work >= 0 {
		if err := mount("/proc/self/fd/"+strconv.Itoa(work), place.Root, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		if !cfg.Rootless {
			// A /tmp mounted nosuid,nodev would break what is built in it.
			if err := mount("", place.Root, "", unix.MS_BIND|unix.MS_REMOUNT, ""); err != nil {
				return err
			}
		}
	} else {
		opts := "mode=0755"
		if cfg.TmpfsSize > 0 {
			opts += ",size=" + strconv.FormatInt(cfg.TmpfsSize, 10)
		}
		if err := mount("tmpfs", place.Root, "tmpfs", 0, opts); err != nil {
			return err
		}
	}
	for _, d := range []struct {
		path string
		mode fs.FileMode
	}{
		{place.BuildDir, 0o700}, {place.ImageDir, 0o700},
		{place.ElementsDir, 0o755}, {place.LibDir, 0o755}, {place.StandInDir, 0o755},
	} {
		if err := os.Mkdir(d.path, d.mode); err != nil {
			return err
		}
	}
	return nil
}

// makeAccounts makes names and ids agree when the caller is id 0.
func makeAccounts(cfg initConfig) error {
	if !cfg.UserNS {
		return nil
	}
	for _, f := range []struct {
		path string
		edit func([]byte, account.User) []byte
	}{{"/etc/passwd", account.Passwd}, {"/etc/group", account.Groupfile}} {
		text, err := os.ReadFile(f.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot adapt the accounts: %w", err)
		}
		own := filepath.Join(place.Root, filepath.Base(f.path))
		if err := os.WriteFile(own, f.edit(text, cfg.Caller), 0o644); err != nil {
			return fmt.Errorf("cannot adapt the accounts: %w", err)
		}
		if err := mount(own, f.path, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	// A name service cache would answer with the host's ids.
	for _, dir := range []string{"/run/nscd", "/var/run/nscd"} {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			if err := mount("tmpfs", dir, "tmpfs", 0, "mode=0755,size=4k"); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// makeHome gives root a home where the host's is closed to the caller: programs
// started with HOME=/root write there.
func makeHome(cfg initConfig) error {
	const dir = "/root"
	st, err := os.Stat(dir)
	if !cfg.UserNS || err != nil || !st.IsDir() || unix.Access(dir, unix.W_OK|unix.X_OK) == nil {
		return nil
	}
	return mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID, "mode=0700")
}

// sudoPaths are where hosts keep sudo.
var sudoPaths = []string{"/usr/bin/sudo", "/bin/sudo", "/usr/local/bin/sudo", "/usr/sbin/sudo"}

// makeStandIns provides sudo where the host's cannot work (it has no power in a
// user namespace) or is missing.
func makeStandIns(rootless bool) error {
	var present []string
	for _, p := range sudoPaths {
		st, err := os.Stat(p)
		if err != nil {
			continue
		}
		if !rootless && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			// The caller's PATH may not lead there.
			return os.Symlink(p, filepath.Join(place.StandInDir, "sudo"))
		}
		present = append(present, p)
	}
	binary := filepath.Join(place.StandInDir, "dib")
	if err := placeBinary(binary); err != nil {
		return err
	}
	if err := os.Symlink("dib", filepath.Join(place.StandInDir, "sudo")); err != nil {
		return err
	}
	own, err := os.Stat(binary)
	if err != nil {
		return err
	}
	for _, p := range present {
		if st, err := os.Stat(p); err == nil && os.SameFile(st, own) {
			continue // reached before by another name
		}
		if err := mount(binary, p, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

// placeBinary makes this program available under path: bound if it still is
// where it was started from, else copied, since the one running belongs to a
// mount of the host's namespace.
func placeBinary(path string) error {
	const self = "/proc/self/exe"
	if name, err := os.Readlink(self); err == nil {
		named, err1 := os.Stat(name)
		own, err2 := os.Stat(self)
		if err1 == nil && err2 == nil && os.SameFile(named, own) && bindFile(name, path) == nil {
			return nil
		}
	}
	from, err := os.Open(self)
	if err != nil {
		return fmt.Errorf("cannot copy this program: %w", err)
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return fmt.Errorf("cannot copy this program: %w", err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Chmod(0o755), to.Close()); err != nil {
		return fmt.Errorf("cannot copy this program: %w", err)
	}
	return nil
}

// makeDev makes /dev with the nodes that programs expect everywhere.
func makeDev(rootless bool) error {
	if err := os.Mkdir("/dev", 0o755); err != nil {
		return err
	}
	if err := mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID, "mode=0755,size=16m"); err != nil {
		return err
	}
	names := []string{"null", "zero", "full", "random", "urandom", "tty", "fuse", "kvm", "console"}
	if !rootless {
		// Block-device hooks of foreign elements want loop devices.
		loops, err := filepath.Glob(oldRoot + "/dev/loop*")
		if err != nil {
			return err
		}
		for _, l := range loops {
			names = append(names, filepath.Base(l))
		}
	}
	for _, name := range names {
		if err := makeNode(name, rootless); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
		"ptmx": "pts/ptmx",
	} {
		if err := os.Symlink(target, "/dev/"+name); err != nil {
			return err
		}
	}
	return makePtsAndShm()
}

// makeNode makes one device of the host available; one that is not there, or
// that the caller may not use, is left out, but not those that must be.
func makeNode(name string, rootless bool) error {
	from, to := oldRoot+"/dev/"+name, "/dev/"+name
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if name == "null" {
			return fmt.Errorf("cannot find the host's /dev/null: %w", err)
		}
		return nil
	}
	if optional := name == "console" || name == "kvm" || name == "fuse"; optional && unix.Access(from, unix.R_OK|unix.W_OK) != nil {
		return nil
	}
	if !rootless {
		// A node of its own survives a bind of /dev that leaves out what is below.
		if err := unix.Mknod(to, st.Mode, int(st.Rdev)); err == nil {
			return errors.Join(unix.Lchown(to, int(st.Uid), int(st.Gid)), unix.Chmod(to, st.Mode&0o7777))
		}
	}
	return bindFile(from, to)
}

func makePtsAndShm() error {
	for _, dir := range []string{"/dev/pts", "/dev/shm"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	opts := []string{"newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NOEXEC)
	if unix.Mount("devpts", "/dev/pts", "devpts", flags, strings.Join(opts, ",")) != nil {
		// gid 5 (tty) is not mapped where dib runs as the root of a small container.
		if err := mount("devpts", "/dev/pts", "devpts", flags, strings.Join(opts[:3], ",")); err != nil {
			return err
		}
	}
	return mount("tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
}
