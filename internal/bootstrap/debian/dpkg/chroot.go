package dpkg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/run"
)

// Chroot runs dpkg and maintainer scripts of a tree inside it.
type Chroot struct {
	Root   string
	Arch   string     // of the tree
	Epoch  time.Time  // SOURCE_DATE_EPOCH of what is run
	Events event.Sink // receives what the programs say, line by line

	mounted []string // in the order of mounting
}

// Mount gives the tree the file systems that maintainer scripts expect.
func (c *Chroot) Mount() error {
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"/dev", "dev", "", unix.MS_BIND | unix.MS_REC},
		{"proc", "proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"/sys", "sys", "", unix.MS_BIND | unix.MS_REC},
	} {
		target := filepath.Join(c.Root, m.target)
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

// Unmount takes away what Mount gave, all of it even when one step fails.
func (c *Chroot) Unmount() error {
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
func (c *Chroot) environ(more ...string) []string {
	return append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "LC_ALL=C", "TERM=dumb",
		"DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true",
		"PERL_HASH_SEED=0", "PERL_PERTURB_KEYS=0", "PYTHONHASHSEED=0",
		"SOURCE_DATE_EPOCH=" + strconv.FormatInt(c.Epoch.Unix(), 10),
	}, more...)
}

func (c *Chroot) exec(ctx context.Context, env []string, argv ...string) error {
	return run.Cmd{
		Argv: argv, Root: c.Root, Env: c.environ(env...),
		Log:   func(line []byte) { c.Events.Emit(event.Event{Kind: event.Log, Line: line}) },
		Where: run.Where{Element: "debootstrap", Phase: "root", Hook: "08-debootstrap"},
	}.Run(ctx)
}

// Run runs dpkg without questions and without waiting for the disk: a build
// that is cut short is thrown away.
func (c *Chroot) Run(ctx context.Context, args ...string) error {
	argv := append([]string{"/usr/bin/dpkg", "--force-unsafe-io", "--force-confold", "--force-confdef"}, args...)
	return c.exec(ctx, nil, argv...)
}

// newControlDir is where dpkg keeps the control part of a package that is being
// unpacked, and where preinst scripts and debconf look for it.
const newControlDir = databaseDir + "/tmp.ci"

// Preinst runs a package's preinst script for a first installation, in the
// place and the environment that dpkg(1) documents for maintainer scripts; one
// without such a script needs nothing. dpkgVersion is that of the dpkg being
// installed, which scripts ask for.
func (c *Chroot) Preinst(ctx context.Context, u *Unpacked, dpkgVersion string) (err error) {
	if !u.Script("preinst") {
		return nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot prepare the installation of %s: %w", u.Name, err)
		}
	}()
	dir := filepath.Join(c.Root, newControlDir)
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "control"), u.Control.Raw, 0o644); err != nil {
		return err
	}
	for name, f := range u.Control.Files {
		if err := writeControlFile(filepath.Join(dir, name), f); err != nil {
			return err
		}
	}
	return c.exec(ctx, []string{
		"DPKG_MAINTSCRIPT_PACKAGE=" + u.Name,
		"DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1",
		"DPKG_MAINTSCRIPT_ARCH=" + installedArch(u.Package, c.Arch),
		"DPKG_MAINTSCRIPT_NAME=preinst",
		"DPKG_RUNNING_VERSION=" + dpkgVersion,
		"DPKG_ADMINDIR=/" + databaseDir,
		"DPKG_ROOT=",
	}, "/"+newControlDir+"/preinst", "install")
}

// policyFile makes invoke-rc.d refuse every action (exit status 101).
const policyFile = "usr/sbin/policy-rc.d"

const policyScript = "#!/bin/sh\nexit 101\n"

// ForbidDaemons keeps maintainer scripts from starting services; the result
// takes the prohibition away again.
func (c *Chroot) ForbidDaemons() (allow func() error, err error) {
	name := filepath.Join(c.Root, policyFile)
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

// DeferInitramfs puts the stand-in in place. Nothing but the base packages is
// unpacked at that time, so there is no file to move.
func (c *Chroot) DeferInitramfs(db *Database) error {
	if err := db.divert(Diversion{From: initramfsTool, To: initramfsDiverted, By: ":"}); err != nil {
		return err
	}
	name := filepath.Join(c.Root, initramfsTool)
	if err := os.WriteFile(name, []byte(initramfsStandIn), 0o755); err != nil {
		return err
	}
	return os.Chmod(name, 0o755)
}
