// Package hook merges elements into the hooks tree and knows which files of it
// run, in which order and with which environment.
package hook

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/element"
)

// EnvironmentDir is the directory of the hooks tree whose files are sourced by
// bash before the hooks of a phase run.
const EnvironmentDir = "environment.d"

// Tree is the merged content of all elements of an image: what TMP_HOOKS_PATH
// holds when the first hook runs. It refers to the elements' files and copies
// them only when written.
type Tree struct {
	// Warnings are lines for the user about entries that were left out.
	Warnings []string

	nodes map[string]node // by path below the tree, slash-separated
}

// node is a directory, regular file or symbolic link of the tree.
type node struct {
	element string
	dir     string // of the element, for messages
	fsys    fs.FS
	src     string // path in fsys
	mode    fs.FileMode
	link    string // target of a symbolic link
	builtin bool
}

func (n node) where() string { return path.Join(n.dir, n.src) }

// ConflictError is a path that two elements fill differently.
type ConflictError struct {
	Path                        string // in the hooks tree
	FirstElement, SecondElement string
	FirstFile, SecondFile       string // where each has it
	Reason                      string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("cannot combine elements %q and %q: %s: %s (%s and %s): rename one, or leave one element out",
		e.FirstElement, e.SecondElement, e.Path, e.Reason, e.FirstFile, e.SecondFile)
}

// Assemble merges the elements, in order. It follows these rules:
//
//   - a first-level directory is merged with its namesakes, except tests and
//     __pycache__, and version control metadata, which no hook can mean;
//   - a file directly in such a directory may come from one element only, even
//     when two copies are equal: hooks, commands and environment files are
//     found by that name alone. Hidden files there are mostly leftovers of
//     editors and version control, so only different ones below static count;
//   - two files deeper down may share a path when they are equal;
//   - files at the top are read from the elements' own directories, so a later
//     one hides an earlier one, except source-repository-*, which are read here;
//   - nothing reads test-elements from the merged tree: the last one stays.
//
// The error joins a *ConflictError for each finding.
func Assemble(elements []element.Element) (*Tree, error) {
	a := assembly{tree: &Tree{nodes: map[string]node{}}}
	for _, e := range elements {
		if err := a.add(e); err != nil {
			a.errs = append(a.errs, fmt.Errorf("cannot read element %q: %w", e.Name, err))
		}
	}
	if len(a.errs) > 0 {
		return nil, errors.Join(a.errs...)
	}
	return a.tree, nil
}

type assembly struct {
	tree *Tree
	errs []error
}

func (a *assembly) add(e element.Element) error {
	entries, err := element.ReadDir(e.FS, ".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		st, err := fs.Stat(e.FS, name) // links at this level are followed
		switch {
		case errors.Is(err, fs.ErrNotExist):
			a.warn(e, name, "is a dangling link")
			continue
		case err != nil:
			return err
		case st.IsDir():
			if !skipDir(name) {
				err = a.addDir(e, name)
			}
		case !st.Mode().IsRegular():
			a.warn(e, name, "is neither a file nor a directory")
		case !strings.HasSuffix(name, ".pyc"):
			err = a.put(name, a.node(e, name, st.Mode()))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func skipDir(name string) bool {
	switch name {
	case "tests", "__pycache__", ".git", ".hg", ".svn", ".bzr":
		return true
	}
	return false
}

func (a *assembly) node(e element.Element, src string, mode fs.FileMode) node {
	return node{element: e.Name, dir: e.Dir, fsys: e.FS, src: src, mode: mode, builtin: e.Builtin}
}

func (a *assembly) warn(e element.Element, src, what string) {
	a.tree.Warnings = append(a.tree.Warnings, fmt.Sprintf("element %q: %s %s and is left out", e.Name, path.Join(e.Dir, src), what))
}

func (a *assembly) addDir(e element.Element, dir string) error {
	// The directory itself may be a link that is followed: mode of a plain one.
	if err := a.put(dir, a.node(e, dir, fs.ModeDir|0o755)); err != nil {
		return err
	}
	entries, err := element.ReadDir(e.FS, dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := a.addBelow(e, path.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (a *assembly) addBelow(e element.Element, src string) error {
	st, err := fs.Lstat(e.FS, src)
	if err != nil {
		return err
	}
	n := a.node(e, src, st.Mode())
	switch st.Mode().Type() {
	case 0:
	case fs.ModeSymlink:
		if n.link, err = fs.ReadLink(e.FS, src); err != nil {
			return err
		}
	case fs.ModeDir:
		if err := a.put(src, n); err != nil {
			return err
		}
		entries, err := element.ReadDir(e.FS, src)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if err := a.addBelow(e, path.Join(src, entry.Name())); err != nil {
				return err
			}
		}
		return nil
	default:
		a.warn(e, src, "is neither a file, a link nor a directory")
		return nil
	}
	return a.put(src, n)
}

// put places a node, or records why it cannot be there together with the one it meets.
func (a *assembly) put(p string, n node) error {
	old, taken := a.tree.nodes[p]
	if !taken {
		a.tree.nodes[p] = n
		return nil
	}
	if old.mode.IsDir() && n.mode.IsDir() {
		return nil
	}
	reason, err := collision(p, old, n)
	if err != nil {
		return err
	}
	if reason == "" {
		a.tree.nodes[p] = n
		return nil
	}
	a.errs = append(a.errs, &ConflictError{
		Path: p, Reason: reason,
		FirstElement: old.element, SecondElement: n.element,
		FirstFile: old.where(), SecondFile: n.where(),
	})
	return nil
}

// collision says why two nodes cannot share a path; "" when the later may take it.
func collision(p string, old, n node) (reason string, err error) {
	if old.mode.IsDir() != n.mode.IsDir() {
		return "is a directory in one and not in the other", nil
	}
	first, rest, nested := strings.Cut(p, "/")
	switch {
	case !nested && !strings.HasPrefix(p, "source-repository-"):
		return "", nil
	case first == "test-elements":
		return "", nil
	case nested && !strings.Contains(rest, "/") && !strings.HasPrefix(rest, ".") && old.mode.IsRegular():
		return "both bring this file", nil
	case nested && !strings.Contains(rest, "/") && strings.HasPrefix(rest, ".") && first != "static":
		return "", nil
	}
	same, err := equal(old, n)
	if err != nil || same {
		return "", err
	}
	return "each brings its own content", nil
}

func equal(a, b node) (bool, error) {
	if a.mode.Type() != b.mode.Type() {
		return false, nil
	}
	if a.mode&fs.ModeSymlink != 0 {
		return a.link == b.link, nil
	}
	dataA, err := fs.ReadFile(a.fsys, a.src)
	if err != nil {
		return false, err
	}
	dataB, err := fs.ReadFile(b.fsys, b.src)
	if err != nil {
		return false, err
	}
	return bytes.Equal(dataA, dataB), nil
}

// Owner returns the name of the element that brought a path of the tree, or ""
// when none did, as with what hooks add during a build. A directory belongs to
// the first element that has it.
func (t *Tree) Owner(rel string) string { return t.nodes[path.Clean(rel)].element }

// Source returns where the element has a path of the tree.
func (t *Tree) Source(rel string) string { return t.nodes[path.Clean(rel)].where() }

// Paths lists everything in the tree in byte order, parents before children.
func (t *Tree) Paths() []string {
	paths := make([]string, 0, len(t.nodes))
	for p := range t.nodes {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

// ReadFile returns the content of a file of the tree.
func (t *Tree) ReadFile(rel string) ([]byte, error) {
	n, err := t.follow(path.Clean(rel))
	if err != nil {
		return nil, err
	}
	return fs.ReadFile(n.fsys, n.src)
}

// maxLinks bounds a chain of symbolic links, as the kernel does.
const maxLinks = 40

// follow finds the file that a path of the tree leads to. A link that leaves
// the tree leads to whatever it leads to from the element's own directory.
func (t *Tree) follow(p string) (node, error) {
	start := t.nodes[p]
	for range maxLinks {
		n, ok := t.nodes[p]
		if !ok {
			return start, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
		}
		if n.mode&fs.ModeSymlink == 0 {
			return n, nil
		}
		target := path.Join(path.Dir(p), n.link)
		if path.IsAbs(n.link) || target == ".." || strings.HasPrefix(target, "../") {
			st, err := fs.Stat(n.fsys, n.src)
			if err != nil {
				return n, err
			}
			n.mode, n.link = st.Mode(), ""
			return n, nil
		}
		p = target
	}
	return start, &fs.PathError{Op: "open", Path: p, Err: errors.New("too many links")}
}

// executable says whether a regular file of the tree will have execute permission.
func (n node) executable() (bool, error) {
	if !n.builtin {
		return n.mode.Perm()&0o111 != 0, nil
	}
	data, err := fs.ReadFile(n.fsys, n.src)
	return builtinMode(n.src, data)&0o111 != 0, err
}
