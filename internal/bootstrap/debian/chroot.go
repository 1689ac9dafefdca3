package debian

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/run"
)

// chroot runs programs of a tree inside it.
type chroot struct {
	root   string
	epoch  time.Time // SOURCE_DATE_EPOCH of what is run
	events event.Sink

	mounted []string // in the order of mounting
}

// mount gives the tree the file systems that maintainer scripts expect.
func (c *chroot) mount() error {
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"/dev", "dev", "", unix.MS_BIND | unix.MS_REC},
		{"proc", "proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"/sys", "sys", "", unix.MS_BIND | unix.MS_REC},
	} {
		target := filepath.Join(c.root, m.target)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("cannot mount %s on %s: %w", m.source, target, err)
		}
		c.mounted = append(c.mounted, target)
		// Nothing done below may travel back to the mounts it was copied from.
		if err := unix.Mount("", target, "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return fmt.Errorf("cannot detach %s from its source: %w", target, err)
		}
	}
	return nil
}

// unmount takes away what mount gave, all of it even when one step fails.
func (c *chroot) unmount() error {
	var errs []error
	for i := len(c.mounted) - 1; i >= 0; i-- {
		if err := unix.Unmount(c.mounted[i], unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("cannot unmount %s: %w", c.mounted[i], err))
		}
	}
	c.mounted = nil
	return errors.Join(errs...)
}

// environ is the environment of package configuration: no questions, no
// locale, and nothing that makes two runs differ.
func (c *chroot) environ(more ...string) []string {
	return append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "LC_ALL=C", "TERM=dumb",
		"DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true",
		"PERL_HASH_SEED=0", "PERL_PERTURB_KEYS=0", "PYTHONHASHSEED=0",
		"SOURCE_DATE_EPOCH=" + strconv.FormatInt(c.epoch.Unix(), 10),
	}, more...)
}

func (c *chroot) run(ctx context.Context, env []string, argv ...string) error {
	return run.Cmd{
		Argv: argv, Root: c.root, Env: c.environ(env...),
		Log:   func(line []byte) { c.events.Emit(event.Event{Kind: event.Log, Line: line}) },
		Where: run.Where{Element: "debootstrap", Phase: "root", Hook: "08-debootstrap"},
	}.Run(ctx)
}

// dpkg runs dpkg without questions and without waiting for the disk: a build
// that is cut short is thrown away.
func (c *chroot) dpkg(ctx context.Context, args ...string) error {
	argv := append([]string{"/usr/bin/dpkg", "--force-unsafe-io", "--force-confold", "--force-confdef"}, args...)
	return c.run(ctx, nil, argv...)
}

// newControlDir is where dpkg keeps the control part of a package that is being
// unpacked, and where preinst scripts and debconf look for it.
const newControlDir = dpkgDir + "/tmp.ci"

// preinst runs a package's preinst script for a first installation, in the
// place and the environment that dpkg(1) documents for maintainer scripts.
func (c *chroot) preinst(ctx context.Context, st *staged, native, dpkgVersion string) (err error) {
	if _, ok := st.control.Files["preinst"]; !ok {
		return nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot prepare the installation of %s: %w", st.pkg.Name, err)
		}
	}()
	dir := filepath.Join(c.root, newControlDir)
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "control"), st.control.Raw, 0o644); err != nil {
		return err
	}
	for name, f := range st.control.Files {
		if err := writeControlFile(filepath.Join(dir, name), f); err != nil {
			return err
		}
	}
	arch := st.pkg.Arch
	if arch == "all" {
		arch = native
	}
	return c.run(ctx, []string{
		"DPKG_MAINTSCRIPT_PACKAGE=" + st.pkg.Name,
		"DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1",
		"DPKG_MAINTSCRIPT_ARCH=" + arch,
		"DPKG_MAINTSCRIPT_NAME=preinst",
		"DPKG_RUNNING_VERSION=" + dpkgVersion,
		"DPKG_ADMINDIR=/" + dpkgDir,
		"DPKG_ROOT=",
	}, "/"+newControlDir+"/preinst", "install")
}

// policyFile makes invoke-rc.d refuse every action (exit status 101).
const policyFile = "usr/sbin/policy-rc.d"

const policyScript = "#!/bin/sh\nexit 101\n"

// forbidDaemons keeps maintainer scripts from starting services; the result
// takes the prohibition away again.
func (c *chroot) forbidDaemons() (allow func() error, err error) {
	name := filepath.Join(c.root, policyFile)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(name, []byte(policyScript), 0o755); err != nil {
		return nil, err
	}
	if err := os.Chmod(name, 0o755); err != nil {
		return nil, err
	}
	return func() error { return os.Remove(name) }, nil
}

// Deferral of update-initramfs. The real program takes many seconds each time
// and every kernel, every trigger of initramfs-tools would run it. While it is
// diverted a stand-in notes that it was asked for; the element dpkg runs it
// once at the end of post-install.d. The paths are known to that hook, and
// the diversion is the administrator's, so upgrades respect it.
const (
	initramfsTool     = "/usr/sbin/update-initramfs"
	initramfsDiverted = "/usr/sbin/update-initramfs.dib-diverted"
	initramfsRequests = "/var/lib/dib-update-initramfs"
)

const initramfsStandIn = `#!/bin/sh
# Notes the request; the real program runs once, at the end of the build's post-install phase.
echo "$*" >> ` + initramfsRequests + `
echo "update-initramfs: put off until the end of the build" >&2
`

// deferInitramfs puts the stand-in in place. Nothing but the base packages is
// unpacked at that time, so there is no file to move.
func (c *chroot) deferInitramfs(db *dpkgDB) error {
	if err := appendFile(db.path("diversions"), initramfsTool+"\n"+initramfsDiverted+"\n:\n"); err != nil {
		return err
	}
	name := filepath.Join(c.root, initramfsTool)
	if err := os.WriteFile(name, []byte(initramfsStandIn), 0o755); err != nil {
		return err
	}
	return os.Chmod(name, 0o755)
}

// mergedUsr lists the top-level directories that are links into /usr: those of
// the base system, and the ones that the release's other library
// architectures use.
func mergedUsr(arch string, codename string) []string {
	dirs := []string{"bin", "lib", "sbin"}
	lib64 := map[string]bool{"amd64": true, "ppc64el": true, "loong64": true, "s390x": false}
	if lib64[arch] {
		dirs = append(dirs, "lib64")
	}
	if codename == "bookworm" && arch == "amd64" {
		// Before trixie packages still name the directories at the top.
		dirs = append(dirs, "lib32", "libx32")
	}
	return dirs
}

// mergeUsr makes the links before anything is unpacked, so that everything
// lands in /usr.
func mergeUsr(root string, dirs []string) error {
	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Join(root, "usr", d), 0o755); err != nil {
			return err
		}
		err := os.Symlink("usr/"+d, filepath.Join(root, d))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// tidy removes what configuration leaves behind and what differs by run:
// old copies of databases, logs, caches that are made again when missing.
func tidy(root string) error {
	for _, pattern := range []string{
		"var/lib/dpkg/*-old", "var/cache/debconf/*-old", "var/cache/ldconfig/aux-cache",
		"var/cache/apt/*.bin", "var/lib/dpkg/lock*", "var/lib/dpkg/triggers/Lock",
		"etc/*-", "run/lock/*",
	} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := os.RemoveAll(n); err != nil {
				return err
			}
		}
	}
	return filepath.WalkDir(filepath.Join(root, "var/log"), func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if strings.HasSuffix(name, ".log") {
			return os.Truncate(name, 0)
		}
		return nil
	})
}
