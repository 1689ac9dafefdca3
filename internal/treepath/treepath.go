// Package treepath finds paths in a tree as a process would that has the tree
// as its root directory: symbolic links never lead out of it.
package treepath

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxLinks bounds the symbolic links followed for one path, as the kernel does.
const maxLinks = 40

// Step is one directory entry on the way to a path.
type Step struct {
	Path   string      // from the root of the tree, without a leading slash; no part of it is a link except the last
	Mode   fs.FileMode // of the entry itself
	Target string      // of a symbolic link, as it is written
}

// Resolve gives the path, beginning with tree, that name leads to. Every part
// of it exists. ".." at the root of the tree stays there.
func Resolve(tree, name string) (string, error) {
	at, err := Walk(tree, name, func(Step) error { return nil })
	if err != nil {
		return "", err
	}
	return filepath.Join(tree, at), nil
}

// Walk calls visit for every entry on the way to name, links before what they
// lead to, and returns where the way ends, from the root of the tree and
// without a leading slash. ".." after a link means the parent of where the link
// leads. Walk ends with the first error of visit.
func Walk(tree, name string, visit func(Step) error) (string, error) {
	todo := strings.Split(filepath.ToSlash(name), "/")
	at, links := "", 0
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			at = filepath.Dir("/" + at)[1:]
			continue
		}
		step := Step{Path: filepath.Join(at, part)}
		st, err := os.Lstat(filepath.Join(tree, step.Path))
		if err != nil {
			return "", err
		}
		step.Mode = st.Mode()
		link := step.Mode&fs.ModeSymlink != 0
		if link {
			if links++; links > maxLinks {
				return "", &fs.PathError{Op: "resolve", Path: name, Err: errors.New("too many symbolic links")}
			}
			if step.Target, err = os.Readlink(filepath.Join(tree, step.Path)); err != nil {
				return "", err
			}
		}
		if err := visit(step); err != nil {
			return "", err
		}
		if !link {
			at = step.Path
			continue
		}
		if filepath.IsAbs(step.Target) {
			at = ""
		}
		todo = append(strings.Split(step.Target, "/"), todo...)
	}
	return at, nil
}
