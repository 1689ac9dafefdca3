// Package install brings chosen packages into a tree: fetches, unpacks and
// configures them, as much of it side by side as dependencies allow.
package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dib-builder/dib/internal/bootstrap/debian/dpkg"
	"github.com/dib-builder/dib/internal/bootstrap/debian/resolve"
	"github.com/dib-builder/dib/internal/bootstrap/debian/unpack"
	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/fetch"
)

// stagingDir holds unpacked packages inside the tree, on its file system, so
// that a rename puts them in place. It is gone when installation ends.
const stagingDir = ".dib-staging"

// first are packages that others rely on while they are configured without
// saying so, as they are essential: users and groups, awk, the directories.
var first = []string{"base-passwd", "mawk", "base-files"}

// Installer brings a resolution into a tree. All exported fields are needed.
type Installer struct {
	Root       string // the tree, an empty directory
	Arch       string // Debian architecture of the tree
	Codename   string // of the release
	Resolution *resolve.Resolution
	Fetch      *fetch.Client
	Cache      string    // directory for the decompressed content of packages
	Epoch      time.Time // SOURCE_DATE_EPOCH of what runs in the tree
	Events     event.Sink

	db     *dpkg.Database
	chroot *dpkg.Chroot
	placer *unpack.Placer
	units  []*unit
}

// unit is one package on its way: ready is closed when staged is set.
type unit struct {
	pkg    *resolve.Candidate
	staged *unpack.Staged
	ready  chan struct{}
}

// Install fetches, unpacks and configures all packages. Fetching and unpacking
// to the staging directory run beside the configuration of the base. It needs
// the right to mount; what it mounts is gone when it returns.
func (in *Installer) Install(ctx context.Context) (err error) {
	staging := filepath.Join(in.Root, stagingDir)
	if err := os.MkdirAll(staging, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(staging)) }()
	for _, c := range in.Resolution.All() {
		in.units = append(in.units, &unit{pkg: c, ready: make(chan struct{})})
	}
	in.placer = unpack.NewPlacer(in.Root)
	in.chroot = &dpkg.Chroot{Root: in.Root, Arch: in.Arch, Epoch: in.Epoch, Events: in.Events}
	if in.db, err = dpkg.CreateDatabase(in.Root, in.Arch); err != nil {
		return fmt.Errorf("cannot create dpkg's database: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return in.stageAll(ctx, staging) })
	g.Go(func() error { return in.configureAll(ctx) })
	return g.Wait()
}

// stageAll downloads every package and unpacks each, as it comes in, to the
// staging directory.
func (in *Installer) stageAll(ctx context.Context, staging string) error {
	blobs := make([]fetch.Blob, len(in.units))
	for i, u := range in.units {
		blobs[i] = fetch.Blob{
			URLs: []string{u.pkg.Archive + "/" + u.pkg.Filename}, SHA256: u.pkg.SHA256, Size: u.pkg.Size,
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	arrived := make(chan int, len(blobs))
	paths := make([]string, len(blobs))
	g.Go(func() error {
		defer close(arrived)
		return in.Fetch.All(ctx, "packages", blobs, func(i int, path string) error {
			paths[i] = path
			arrived <- i
			return nil
		})
	})
	stager := &unpack.Stager{Cache: in.Cache}
	var mu sync.Mutex
	done := 0
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for i := range arrived {
				u := in.units[i]
				st, err := stager.Stage(ctx, u.pkg, paths[i], filepath.Join(staging, strconv.Itoa(i)))
				if err != nil {
					return err
				}
				u.staged = st
				close(u.ready)
				mu.Lock()
				done++
				in.Events.Emit(event.Event{Kind: event.Progress, Step: "unpack", Done: int64(done), Total: int64(len(in.units)), Unit: "items"})
				mu.Unlock()
			}
			return nil
		})
	}
	return g.Wait()
}

// wait blocks until the units are staged.
func wait(ctx context.Context, units []*unit) error {
	for _, u := range units {
		select {
		case <-u.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// configureAll puts the packages in place and has dpkg configure them, the
// base first: the scripts of all others may rely on it.
func (in *Installer) configureAll(ctx context.Context) (err error) {
	base, rest := in.units[:len(in.Resolution.Base)], in.units[len(in.Resolution.Base):]
	if err := wait(ctx, base); err != nil {
		return err
	}
	if err := in.unpackBase(base); err != nil {
		return err
	}
	if err := in.chroot.Mount(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.chroot.Unmount()) }()
	allow, err := in.chroot.ForbidDaemons()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, allow()) }()
	if err := in.configureBase(ctx, base); err != nil {
		return err
	}
	if err := in.chroot.DeferInitramfs(in.db); err != nil {
		return err
	}
	if err := wait(ctx, rest); err != nil {
		return err
	}
	for _, batch := range batches(rest) {
		if err := in.installBatch(ctx, batch); err != nil {
			return err
		}
	}
	return in.chroot.Run(ctx, "--audit")
}

// batches cuts staged units into those to be unpacked and configured together.
func batches(units []*unit) [][]*unit {
	byPackage := map[*resolve.Candidate]*unit{}
	packages := make([]*resolve.Candidate, len(units))
	for i, u := range units {
		byPackage[u.pkg], packages[i] = u, u.pkg
	}
	var groups [][]*unit
	for _, batch := range resolve.Batches(packages, func(c *resolve.Candidate) bool { return byPackage[c].staged.Script("preinst") }) {
		var group []*unit
		for _, c := range batch {
			group = append(group, byPackage[c])
		}
		groups = append(groups, group)
	}
	return groups
}

// step reports a piece of work.
func (in *Installer) step(name string, work func() error) error {
	in.Events.Emit(event.Event{Kind: event.StepStart, Step: name})
	defer in.Events.Emit(event.Event{Kind: event.StepEnd, Step: name})
	return work()
}

func (in *Installer) unpackBase(base []*unit) error {
	if err := mergeUsr(in.Root, mergedUsr(in.Arch, in.Codename)); err != nil {
		return fmt.Errorf("cannot prepare the root directory: %w", err)
	}
	if err := in.placer.Refresh(); err != nil {
		return err
	}
	for _, u := range base {
		if err := in.unpack(u, true); err != nil {
			return err
		}
	}
	if err := in.db.Flush(); err != nil {
		return err
	}
	return seedBase(in.Root)
}

// seedBase makes links that the first scripts need before the packages whose
// configuration makes them have been configured.
func seedBase(root string) error {
	for name, target := range map[string]string{"usr/bin/sh": "dash", "usr/bin/awk": "mawk"} {
		full := filepath.Join(root, name)
		if _, err := os.Lstat(full); err == nil {
			continue
		}
		if _, err := os.Lstat(filepath.Join(root, "usr/bin", target)); err != nil {
			continue // the release has another default and links it itself
		}
		if err := os.Symlink(target, full); err != nil {
			return err
		}
	}
	return nil
}

// unpack puts one staged package in place and into dpkg's database.
func (in *Installer) unpack(u *unit, keepConffiles bool) error {
	if err := in.placer.Place(u.staged, keepConffiles); err != nil {
		return err
	}
	return in.db.Add(&u.staged.Unpacked, keepConffiles)
}

// configureBase runs the preinst scripts of the base, which could not run
// before there was anything to run them with, and configures it.
func (in *Installer) configureBase(ctx context.Context, base []*unit) error {
	return in.step("configure base", func() error {
		for _, u := range inOrder(base, first) {
			if err := in.chroot.Preinst(ctx, &u.staged.Unpacked, in.dpkgVersion()); err != nil {
				return err
			}
		}
		for _, name := range first {
			if !contains(base, name) {
				continue
			}
			// The rest of the base is there, only not configured.
			if err := in.chroot.Run(ctx, "--force-depends", "--configure", name); err != nil {
				return fmt.Errorf("cannot configure %s: %w", name, err)
			}
		}
		if err := in.chroot.Run(ctx, "--configure", "-a"); err != nil {
			return fmt.Errorf("cannot configure the essential packages: %w", err)
		}
		return nil
	})
}

// dpkgVersion is the version of the dpkg being installed, which scripts ask for.
func (in *Installer) dpkgVersion() string {
	for _, u := range in.units {
		if u.pkg.Name == "dpkg" {
			return u.pkg.Version
		}
	}
	return ""
}

// installBatch unpacks packages, each after its preinst script, and has dpkg
// configure them and what is still unconfigured.
func (in *Installer) installBatch(ctx context.Context, batch []*unit) error {
	err := in.step("unpack", func() error {
		for _, u := range batch {
			if u.staged.Script("preinst") {
				if err := in.preinst(ctx, u); err != nil {
					return err
				}
			}
			if err := in.unpack(u, false); err != nil {
				return err
			}
		}
		return in.db.Flush()
	})
	if err != nil {
		return err
	}
	return in.step("configure", func() error {
		if err := in.chroot.Run(ctx, "--configure", "-a"); err != nil {
			return fmt.Errorf("cannot configure the packages: %w", err)
		}
		return nil
	})
}

// preinst runs a script before its package's files are in place. Scripts look
// at dpkg's database and change the tree, so both are brought up to date.
func (in *Installer) preinst(ctx context.Context, u *unit) error {
	if err := in.db.Flush(); err != nil {
		return err
	}
	if err := in.chroot.Preinst(ctx, &u.staged.Unpacked, in.dpkgVersion()); err != nil {
		return err
	}
	return in.placer.Refresh()
}

// inOrder moves the named units to the front, in the order of the names.
func inOrder(units []*unit, names []string) []*unit {
	var sorted []*unit
	for _, n := range names {
		for _, u := range units {
			if u.pkg.Name == n {
				sorted = append(sorted, u)
			}
		}
	}
	for _, u := range units {
		if !contains(sorted, u.pkg.Name) {
			sorted = append(sorted, u)
		}
	}
	return sorted
}

func contains(units []*unit, name string) bool {
	for _, u := range units {
		if u.pkg.Name == name {
			return true
		}
	}
	return false
}
