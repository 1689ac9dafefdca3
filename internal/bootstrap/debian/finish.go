package debian

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dib-builder/dib/internal/bootstrap/debian/apt"
	"github.com/dib-builder/dib/internal/bootstrap/debian/archive"
	"github.com/dib-builder/dib/internal/bootstrap/debian/resolve"
)

// finish writes what later phases go by and removes what only the bootstrap needed.
func (o *options) finish(suites []*archive.Suite, res *resolve.Resolution, mirrors archive.Mirrors, epoch time.Time) error {
	if err := apt.WriteLists(o.target, suites); err != nil {
		return fmt.Errorf("cannot write apt's lists: %w", err)
	}
	if err := os.WriteFile(filepath.Join(o.target, "var/lib/apt/extended_states"), []byte(apt.ExtendedStates(res, o.arch)), 0o644); err != nil {
		return fmt.Errorf("cannot write apt's package states: %w", err)
	}
	// The sources are written by the element that knows them.
	for _, name := range []string{"etc/apt/sources.list", "etc/apt/sources.list.d"} {
		if err := os.RemoveAll(filepath.Join(o.target, name)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(o.target, "etc/apt/sources.list.d"), 0o755); err != nil {
		return err
	}
	if err := tidy(o.target); err != nil {
		return fmt.Errorf("cannot tidy the new root filesystem: %w", err)
	}
	if o.mirrorsFile != "" {
		if err := apt.NoteMirrors(o.mirrorsFile, mirrors); err != nil {
			return err
		}
	}
	if o.epochFile != "" {
		if err := os.WriteFile(o.epochFile, []byte(strconv.FormatInt(epoch.Unix(), 10)+"\n"), 0o644); err != nil {
			return fmt.Errorf("cannot note the date of the sources: %w", err)
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
