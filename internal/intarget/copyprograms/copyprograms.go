// Package copyprograms is the command copy-programs: it copies programs of the
// host into a tree, with all that they need to run there.
package copyprograms

import (
	"bufio"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/treepath"
)

// Run is the command copy-programs TARGET PROGRAM...: it copies
// programs of the host, found on PATH, into the tree TARGET together with the
// interpreters and shared libraries that they need, each at its host path.
func Run(ctx context.Context, io command.IO, args []string) error {
	if len(args) < 2 {
		fmt.Fprintln(io.Err, "usage: copy-programs TARGET PROGRAM...")
		return &cmdline.ExitError{Code: 2}
	}
	c := &copier{
		host: "/", target: args[0], path: filepath.SplitList(io.Getenv("PATH")),
		done: map[string]bool{},
	}
	c.libraries = c.libraryPath("/etc/ld.so.conf", 0)
	for _, name := range args[1:] {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.program(name); err != nil {
			return fmt.Errorf("cannot copy program %s: %w", name, err)
		}
	}
	return nil
}

// defaultLibraryDirs are searched after ld.so.conf, see ld.so(8); where the
// dynamic linker has multiarch directories built in they are part of it.
var defaultLibraryDirs = []string{
	"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu",
	"/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
	"/lib64", "/usr/lib64", "/lib", "/usr/lib",
}

// copier copies files from one root to another.
type copier struct {
	host, target string // root directories
	path         []string
	libraries    []string // where shared libraries are looked for
	done         map[string]bool
}

// libraryPath reads the directories of an ld.so.conf and of what it includes,
// and appends the default ones.
func (c *copier) libraryPath(conf string, depth int) []string {
	dirs := c.configuredDirs(conf, depth)
	return append(dirs, defaultLibraryDirs...)
}

func (c *copier) configuredDirs(conf string, depth int) []string {
	f, err := os.Open(filepath.Join(c.host, conf))
	if err != nil || depth > 4 {
		return nil // without the file the default directories are all there is
	}
	defer f.Close()
	var dirs []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		switch {
		case len(fields) == 2 && fields[0] == "include":
			pattern := fields[1]
			if !filepath.IsAbs(pattern) {
				pattern = filepath.Join(filepath.Dir(conf), pattern)
			}
			files, err := filepath.Glob(filepath.Join(c.host, pattern))
			if err != nil {
				continue
			}
			for _, file := range files {
				rel, err := filepath.Rel(c.host, file)
				if err == nil {
					dirs = append(dirs, c.configuredDirs("/"+rel, depth+1)...)
				}
			}
		case len(fields) == 1 && filepath.IsAbs(fields[0]):
			dirs = append(dirs, fields[0])
		}
	}
	return dirs
}

// program copies a program named by its path or found on PATH.
func (c *copier) program(name string) error {
	if filepath.IsAbs(name) {
		return c.file(name)
	}
	for _, dir := range c.path {
		full := filepath.Join(dir, name)
		st, err := os.Stat(filepath.Join(c.host, full))
		if filepath.IsAbs(dir) && err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return c.file(full)
		}
	}
	return fmt.Errorf("not found on PATH: %w", fs.ErrNotExist)
}

// file copies one file and all that it needs in order to run.
func (c *copier) file(path string) error {
	real, err := c.replicate(path)
	if err != nil || c.done[real] {
		return err
	}
	c.done[real] = true
	if err := copyFile(filepath.Join(c.host, real), filepath.Join(c.target, real)); err != nil {
		return err
	}
	needs, err := c.needs(real)
	if err != nil {
		return err
	}
	for _, need := range needs {
		if err := c.file(need); err != nil {
			return err
		}
	}
	return nil
}

// replicate makes the directories and symbolic links that lead to path in the
// target the same as on the host, and returns the path with all links
// followed.
func (c *copier) replicate(path string) (string, error) {
	real, err := treepath.Walk(c.host, filepath.Clean(path), func(s treepath.Step) error {
		var err error
		switch {
		case s.Mode&fs.ModeSymlink != 0:
			err = os.Symlink(s.Target, filepath.Join(c.target, s.Path))
		case s.Mode.IsDir():
			err = os.Mkdir(filepath.Join(c.target, s.Path), 0o755)
		}
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return "/" + real, nil
}

// needs lists the interpreter and the libraries of a program or library, or
// the interpreter of a script.
func (c *copier) needs(path string) ([]string, error) {
	f, err := os.Open(filepath.Join(c.host, path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	magic := make([]byte, 256)
	n, err := io.ReadFull(f, magic)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if line, ok := strings.CutPrefix(string(magic[:n]), "#!"); ok {
		line, _, _ = strings.Cut(line, "\n")
		if fields := strings.Fields(line); len(fields) > 0 {
			return fields[:1], nil
		}
		return nil, nil
	}
	if !strings.HasPrefix(string(magic[:n]), elf.ELFMAG) {
		return nil, nil
	}
	e, err := elf.NewFile(f)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	needs, err := interpreterOf(e)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	libraries, err := e.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	search := append(runPath(e, filepath.Dir(path)), c.libraries...)
	for _, name := range libraries {
		found, err := c.library(name, search, e)
		if err != nil {
			return nil, err
		}
		needs = append(needs, found)
	}
	return needs, nil
}

// interpreterOf returns the program interpreter (PT_INTERP), if there is one.
func interpreterOf(e *elf.File) ([]string, error) {
	for _, p := range e.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		if p.Filesz > 4096 {
			return nil, errors.New("the interpreter's name is too long")
		}
		name := make([]byte, p.Filesz)
		if _, err := p.ReadAt(name, 0); err != nil {
			return nil, err
		}
		return []string{strings.TrimRight(string(name), "\x00")}, nil
	}
	return nil, nil
}

// runPath returns the library directories that the file itself names.
func runPath(e *elf.File, origin string) []string {
	var dirs []string
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		values, err := e.DynString(tag)
		if err != nil {
			continue
		}
		for _, dir := range filepath.SplitList(strings.Join(values, ":")) {
			dirs = append(dirs, strings.NewReplacer("$ORIGIN", origin, "${ORIGIN}", origin).Replace(dir))
		}
	}
	return dirs
}

// library finds a library built for the same machine as the file that needs it.
func (c *copier) library(name string, dirs []string, user *elf.File) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		e, err := elf.Open(filepath.Join(c.host, path))
		if err != nil {
			continue
		}
		fits := e.Machine == user.Machine && e.Class == user.Class
		if err := e.Close(); err != nil {
			return "", err
		}
		if fits {
			return path, nil
		}
	}
	return "", fmt.Errorf("needs shared library %s: %w", name, fs.ErrNotExist)
}

// copyFile copies a file's content and permission bits; an existing target is
// taken for the same file.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, st.Mode().Perm())
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
