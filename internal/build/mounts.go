package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/pidns"
	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/run"
)

// mountKernelFilesystems gives the tree the sandbox's own /proc, /dev and
// (read-only, which tells systemd and udev tools that they are not on a
// running system) /sys, so that programs work in the chroot.
func mountKernelFilesystems(tree string) error {
	for _, name := range []string{"proc", "dev", "sys"} {
		dst := filepath.Join(tree, name)
		if st, err := os.Lstat(dst); err != nil || !st.IsDir() {
			return fmt.Errorf("the image tree has no directory /%s: a root.d hook must create proc, dev, sys, etc and tmp", name)
		}
		if err := unix.Mount("/"+name, dst, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("cannot mount /%s into the image tree: %w", name, err)
		}
		if err := unix.Mount("", dst, "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return fmt.Errorf("cannot separate the image tree's /%s from the host's: %w", name, err)
		}
	}
	return nil
}

// bindHooks shows the hooks tree read-only inside the chroot.
func bindHooks(tree string) error {
	return bindReadOnly(place.HooksDir, filepath.Join(tree, place.InTarget), "the hooks")
}

// bindReadOnly mounts src read-only on a new directory of the image tree.
func bindReadOnly(src, dst, what string) error {
	if err := os.Mkdir(dst, 0o755); err != nil {
		return fmt.Errorf("cannot create the place for %s in the image tree: %w", what, err)
	}
	if err := unix.Mount(src, dst, "", unix.MS_BIND, ""); err != nil {
		_ = os.Remove(dst)
		return fmt.Errorf("cannot mount %s into the image tree: %w", what, err)
	}
	flags := uintptr(unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY)
	if err := unix.Mount("", dst, "", flags|lockedFlags(dst), ""); err != nil {
		return fmt.Errorf("cannot make %s read-only in the image tree: %w", what, err)
	}
	return nil
}

// lockedFlags returns the flags of a mount that a remount must repeat: in a
// user namespace dropping them is refused.
func lockedFlags(path string) uintptr {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return 0
	}
	var flags uintptr
	for stFlag, msFlag := range map[int64]uintptr{
		unix.ST_NOSUID: unix.MS_NOSUID, unix.ST_NODEV: unix.MS_NODEV, unix.ST_NOEXEC: unix.MS_NOEXEC,
		unix.ST_NOATIME: unix.MS_NOATIME, unix.ST_RELATIME: unix.MS_RELATIME, unix.ST_NODIRATIME: unix.MS_NODIRATIME,
	} {
		if int64(st.Flags)&stFlag != 0 {
			flags |= msFlag
		}
	}
	return flags
}

func unbindHooks(tree string) error {
	return unbind(filepath.Join(tree, place.InTarget), "hooks")
}

// unbind takes back what bindReadOnly did, if it did.
func unbind(dst, what string) error {
	if err := unmountBelow(dst, true); err != nil {
		return err
	}
	if err := os.Remove(dst); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove the place for %s from the image tree: %w", what, err)
	}
	return nil
}

// unmountImage unmounts everything below the tree but what belongs to the
// disks, and runs the commands that the caller gave for that in the named
// variables.
func (b *builder) unmountImage(ctx context.Context, variables ...string) error {
	if err := unmountTree(place.TreeDir, b.backend.keep()...); err != nil {
		return err
	}
	return b.extraCommands(ctx, variables...)
}

// extraCommands runs commands of the caller: words of variables, taken apart at
// blanks and nothing else.
func (b *builder) extraCommands(ctx context.Context, variables ...string) error {
	for _, name := range variables {
		argv := strings.Fields(b.env[name])
		if len(argv) == 0 {
			continue
		}
		b.logf("Running %s: %s", name, run.QuoteArgv(argv))
		if err := (run.Cmd{Argv: argv, Dir: b.cwd, Env: b.hostEnv(nil), Log: b.log}).Run(ctx); err != nil {
			return fmt.Errorf("the command in %s failed: %w", name, err)
		}
	}
	return nil
}

// afterFailure does for a failed build what the end of its namespaces does not:
// it runs the commands of the caller. Their failures change nothing any more (D60).
func (b *builder) afterFailure(ctx context.Context) {
	for _, name := range []string{"EXTRA_DETACH", "EXTRA_UNMOUNT"} {
		if err := b.extraCommands(ctx, name); err != nil {
			b.warn(err.Error())
		}
	}
}

// unmountTree ends what still runs in the chroot and unmounts everything below
// the tree but keep, so that it can be measured, renamed and read as plain files.
func unmountTree(tree string, keep ...string) error {
	endProcessesIn(tree)
	return unmountBelow(tree, false, keep...)
}

// unmountBelow unmounts every mount below dir but keep, and dir itself if self
// is set, deepest first. A mount that stays busy is an error that names it: going on
// would write a host's file system into the image, or delete it.
func unmountBelow(dir string, self bool, keep ...string) error {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		below := strings.HasPrefix(m.Mountpoint, dir+"/") || (self && m.Mountpoint == dir)
		return !below || isKept(m.Mountpoint, keep), false
	})
	if err != nil {
		return fmt.Errorf("cannot list mounts: %w", err)
	}
	// Reverse order of appearance: a later mount may hide an earlier one of the same path.
	points := make([]string, len(mounts))
	for i, m := range mounts {
		points[len(mounts)-1-i] = m.Mountpoint
	}
	sort.SliceStable(points, func(i, j int) bool { return strings.Count(points[i], "/") > strings.Count(points[j], "/") })
	for _, p := range points {
		if err := unmountRetrying(p); err != nil {
			return err
		}
	}
	return nil
}

func unmountRetrying(path string) error {
	var err error
	for range 20 {
		err = unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
		if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil // EINVAL: gone together with another mount
		}
		if !errors.Is(err, unix.EBUSY) {
			break
		}
		// The sandbox's own /dev, /proc and /sys may be held by nothing that matters
		// any more, and by mounts that a user namespace cannot take apart.
		if detachable(path) {
			err = unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("cannot unmount %s: %w%s", path, err, whoHolds(path))
	}
	return nil
}

func detachable(path string) bool {
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if path == place.TreeDir+dir || strings.HasPrefix(path, place.TreeDir+dir+"/") {
			return true
		}
	}
	return false
}

// whoHolds names processes with a working directory, root or open file below path.
func whoHolds(path string) string {
	var names []string
	processes, _ := pidns.Processes()
	for _, p := range processes {
		for _, link := range []string{"cwd", "root"} {
			if t, err := os.Readlink(p.Dir + "/" + link); err == nil && (t == path || strings.HasPrefix(t, path+"/")) {
				comm, _ := os.ReadFile(p.Dir + "/comm")
				names = append(names, fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(comm)), p.PID))
				break
			}
		}
	}
	if names == nil {
		return ""
	}
	return "; in use by " + strings.Join(names, ", ")
}

// endProcessesIn ends processes whose root directory is tree: daemons that a
// hook started in the chroot and left behind.
func endProcessesIn(tree string) {
	for _, step := range []struct {
		signal unix.Signal
		rounds int
	}{{unix.SIGTERM, 20}, {unix.SIGKILL, 20}} {
		for range step.rounds {
			found := false
			processes, _ := pidns.Processes()
			for _, p := range processes {
				root, err := os.Readlink(p.Dir + "/root")
				if err != nil || (root != tree && !strings.HasPrefix(root, tree+"/")) || p.PID <= 1 {
					continue
				}
				found = true
				_ = unix.Kill(p.PID, step.signal)
			}
			if !found {
				return
			}
			time.Sleep(25 * time.Millisecond)
		}
	}
}
