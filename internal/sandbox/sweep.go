package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/sandbox/workdir"
)

// fdRemoveLock is where the remove stage finds the lock of its directory.
const fdRemoveLock = fdEvents

// sweep removes the work directories below parent that killed builds of this
// user left behind.
func sweep(parent string, who caller) error {
	dirs, err := workdir.Stale(parent, unix.Geteuid())
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range dirs {
		errs = append(errs, remove(d, who))
	}
	return errors.Join(errs...)
}

// remove removes a work directory and everything in it. What belongs to
// subordinate ids only their root can remove: a helper in a user namespace.
func remove(d *workdir.Dir, who caller) error {
	if !who.userNS {
		return workdir.Remove(d)
	}
	defer d.Lock.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("cannot remove the work directory %q: %w", d.Path, err)
	}
	defer null.Close()
	s := stage{
		argv:  []string{stageRemove, d.Path},
		files: [3]*os.File{null, os.Stderr, os.Stderr},
		extra: []*os.File{d.Lock},
	}
	// A cancelled build is cleaned up too: this context does not end with it.
	ctx := context.Background()
	if err := s.start(ctx, who); err != nil {
		// Where there are no user namespaces, there are no such ids in it either.
		if workdir.Remove(d) == nil {
			return nil
		}
		return fmt.Errorf("cannot remove the work directory %q: %w", d.Path, err)
	}
	code, st, err := s.wait(ctx, time.Second)
	switch {
	case err != nil:
		return err
	case st.Failed != "":
		return errors.New(st.Failed)
	case code != 0:
		return fmt.Errorf("cannot remove the work directory %q: the helper ended with status %d", d.Path, code)
	}
	return nil
}

// removeMain removes the work directory given as argument.
func removeMain() {
	dieWithParent()
	var st unix.Stat_t
	if len(os.Args) != 3 || !filepath.IsAbs(os.Args[2]) || unix.Fstat(fdRemoveLock, &st) != nil {
		misused()
	}
	go func() {
		_, _ = readRequest()
		os.Exit(128 + int(unix.SIGKILL))
	}()
	unix.CloseOnExec(fdRemoveLock)
	dir := &workdir.Dir{Path: os.Args[2], Lock: os.NewFile(fdRemoveLock, "lock")}
	if err := workdir.Remove(dir); err != nil {
		fail(err)
	}
	os.Exit(0)
}
