// Package installstatic is the command install-static: it lays a tree of files
// over another.
package installstatic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/intarget/tempfile"
)

// versionControl are the directories that never belong into an image.
var versionControl = []string{".bzr", ".git", ".hg", ".svn", "CVS", "RCS", "SCCS"}

// Run is the command install-static FROM TO: it copies a tree over
// another. Files become the caller's; new files take the source's permission
// bits as far as the umask lets them, existing files keep theirs; times are
// not kept; links are copied as links. A directory whose counterpart is a link
// to a directory goes where the link leads, so that /lib of a merged-usr
// system stays a link.
func Run(ctx context.Context, io command.IO, args []string) error {
	if len(args) != 2 {
		fmt.Fprintln(io.Err, "usage: install-static FROM TO")
		return &cmdline.ExitError{Code: 2}
	}
	if err := overlay(ctx, args[0], args[1]); err != nil {
		return fmt.Errorf("cannot install static files: %w", err)
	}
	return nil
}

func overlay(ctx context.Context, from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		switch {
		case e.IsDir() && slices.Contains(versionControl, e.Name()):
			continue
		case e.IsDir():
			err = overlayDir(ctx, src, dst)
		case e.Type() == fs.ModeSymlink:
			err = overlayLink(src, dst)
		case e.Type().IsRegular():
			err = overlayFile(src, dst)
		default:
			err = fmt.Errorf("%s is neither file, directory nor link", src)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func overlayDir(ctx context.Context, src, dst string) error {
	st, err := os.Stat(dst)
	if err != nil || !st.IsDir() {
		if err := os.Remove(dst); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		info, err := os.Stat(src)
		if err != nil {
			return err
		}
		if err := os.Mkdir(dst, info.Mode().Perm()); err != nil {
			return err
		}
	}
	return overlay(ctx, src, dst)
}

func overlayLink(src, dst string) error {
	target, err := os.Readlink(src)
	if err != nil {
		return err
	}
	if old, err := os.Readlink(dst); err == nil && old == target {
		return nil
	}
	if err := os.Remove(dst); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(target, dst)
}

// overlayFile replaces dst as a whole: a program that is running, or a file
// with other hard links, stays what it was for those who hold it.
func overlayFile(src, dst string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	old, err := os.Lstat(dst)
	if err == nil && old.IsDir() {
		return fmt.Errorf("%s is a directory, but %s is a file", dst, src)
	}
	out, err := tempfile.CreateBeside(dst, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(out.Name())
		}
	}()
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	if old != nil && old.Mode().IsRegular() {
		if err := out.Chmod(old.Mode().Perm()); err != nil {
			_ = out.Close()
			return err
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(out.Name(), dst)
}
