package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dib-builder/dib/internal/command"
)

// installLinks makes links to this program under the names of DIB's commands.
func installLinks(_ context.Context, std command.IO, args []string) int {
	const usage = "Usage: dib install-links DIRECTORY\n\nMake symbolic links to this program under the names of DIB's commands.\nLinks are replaced, files are not.\n"
	if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
		_, _ = fmt.Fprint(std.Out, usage)
		return 0
	}
	if len(args) != 1 || args[0] == "" {
		_, _ = fmt.Fprint(std.Err, usage)
		return exitUsage
	}
	program, err := os.Executable()
	if err == nil {
		err = linkNames(args[0], program)
	}
	if err != nil {
		complain(std.Err, "dib install-links", err)
		return 1
	}
	return 0
}

// linkNames links every name of DIB's commands in dir to program. A file that
// is not a link is left alone and reported, unless it is the program itself.
func linkNames(dir, program string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("cannot create directory for links: %w", err)
	}
	target, err := os.Stat(program)
	if err != nil {
		return fmt.Errorf("cannot find the program to link to: %w", err)
	}
	for _, name := range dibNames {
		link := filepath.Join(dir, name)
		old, err := os.Lstat(link)
		switch {
		case err == nil && os.SameFile(old, target):
			continue
		case err == nil && old.Mode()&os.ModeSymlink == 0:
			return fmt.Errorf("cannot link %s: a file of that name exists; move it away first", link)
		}
		if err := replaceLink(program, link); err != nil {
			return fmt.Errorf("cannot link %s: %w", link, err)
		}
	}
	return nil
}

// replaceLink makes a symbolic link in one step, so that the command never is
// missing for somebody who starts it meanwhile.
func replaceLink(program, link string) error {
	fresh := fmt.Sprintf("%s.%d.new", link, os.Getpid())
	if err := os.Symlink(program, fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, link); err != nil {
		_ = os.Remove(fresh)
		return err
	}
	return nil
}
