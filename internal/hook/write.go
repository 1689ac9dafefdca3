package hook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// builtinMode is the mode of a file of the embedded library, which carries no
// modes: scripts are executable, except environment files, which are sourced.
func builtinMode(src string, content []byte) fs.FileMode {
	if bytes.HasPrefix(content, []byte("#!")) && !slices.Contains(strings.Split(path.Dir(src), "/"), EnvironmentDir) {
		return 0o755
	}
	return 0o644
}

// Write creates the tree at dir, which must not exist or be empty. Files and
// links keep the modes and modification times they have in their elements;
// directories can be written by the caller, because hooks add files to them.
func (t *Tree) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot create hooks tree: %w", err)
	}
	for _, p := range t.Paths() {
		n := t.nodes[p]
		if err := n.write(filepath.Join(dir, filepath.FromSlash(p))); err != nil {
			return fmt.Errorf("cannot copy %s of element %q: %w", n.where(), n.element, err)
		}
	}
	return nil
}

func (n node) write(dst string) error {
	switch {
	case n.mode.IsDir():
		if err := os.Mkdir(dst, 0o700); err != nil {
			return err
		}
		mode := n.mode.Perm() | 0o700
		if n.builtin {
			mode = 0o755
		}
		return os.Chmod(dst, mode) // Mkdir alone obeys the umask
	case n.mode&fs.ModeSymlink != 0:
		return os.Symlink(n.link, dst)
	case n.builtin:
		return writeBuiltin(n.fsys, n.src, dst)
	}
	return n.copyFile(dst)
}

func (n node) copyFile(dst string) (err error) {
	in, err := n.fsys.Open(n.src)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if err := out.Chmod(n.mode & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)); err != nil {
		return err
	}
	return os.Chtimes(dst, st.ModTime(), st.ModTime())
}

func writeBuiltin(fsys fs.FS, src, dst string) error {
	data, err := fs.ReadFile(fsys, src)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	return errors.Join(err, out.Chmod(builtinMode(src, data)), out.Close())
}

// WriteElements extracts an embedded library (of elements, or of the shell
// files that hooks source) into dir, with the modes that Write gives. The Go
// source that embeds it, at the top, is left out.
func WriteElements(builtin fs.FS, dir string) error {
	err := fs.WalkDir(builtin, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		dst := filepath.Join(dir, filepath.FromSlash(p))
		switch {
		case d.IsDir():
			if err := os.MkdirAll(dst, 0o755); err != nil {
				return err
			}
			return os.Chmod(dst, 0o755)
		case !strings.Contains(p, "/") && strings.HasSuffix(p, ".go"):
			return nil
		}
		return writeBuiltin(builtin, p, dst)
	})
	if err != nil {
		return fmt.Errorf("cannot extract built-in files to %s: %w", dir, err)
	}
	return nil
}
