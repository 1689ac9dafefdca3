package unpack

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/bootstrap/debian/dpkg"
	"github.com/dib-builder/dib/internal/bootstrap/debian/resolve"
	"github.com/dib-builder/dib/internal/deb"
)

// Placer moves staged packages into a tree the way dpkg does: it follows the
// tree's own symbolic links (as a chroot would see them), leaves directories
// that exist alone, honours diversions, and refuses to let one package
// overwrite another's file unless it Replaces it.
type Placer struct {
	root       string
	diversions []dpkg.Diversion
	dirs       map[string]string             // directory in the tree -> real directory, as far as known
	owner      map[string]*resolve.Candidate // real path -> the package that brought it
}

// NewPlacer makes a Placer for the tree at root that knows of no diversions yet.
func NewPlacer(root string) *Placer {
	return &Placer{root: root, dirs: map[string]string{}, owner: map[string]*resolve.Candidate{}}
}

// Refresh forgets what maintainer scripts may have changed.
func (p *Placer) Refresh() error {
	p.dirs = map[string]string{}
	var err error
	p.diversions, err = dpkg.Diversions(p.root)
	return err
}

// diverted is where pkg's file of this path goes.
func (p *Placer) diverted(name, pkg string) string {
	for _, d := range p.diversions {
		if d.From == name && d.By != pkg {
			return d.To
		}
	}
	return name
}

// Place moves all files of a package into the tree. With keepConffiles,
// configuration files get their final name at once; otherwise that of a new
// version (.dpkg-new), which dpkg looks at when it configures the package.
func (p *Placer) Place(st *Staged, keepConffiles bool) error {
	placed := map[string]string{} // path in the package -> real path
	for i := range st.entries {
		e := &st.entries[i]
		if err := p.entry(st, e, placed, keepConffiles); err != nil {
			return fmt.Errorf("cannot unpack %s: %s: %w", st.Name, e.path, err)
		}
	}
	return nil
}

func (p *Placer) entry(st *Staged, e *entry, placed map[string]string, keepConffiles bool) error {
	if e.kind == tar.TypeDir {
		_, err := p.dir(e.path, e, 0)
		return err
	}
	name := p.diverted(e.path, st.Name)
	dir, err := p.dir(path.Dir(name), nil, 0)
	if err != nil {
		return err
	}
	real := filepath.Join(dir, path.Base(name))
	if err := p.claim(real, st.candidate); err != nil {
		return err
	}
	if _, isConf := st.Conffiles[e.path]; isConf && !keepConffiles {
		real += ".dpkg-new"
	}
	placed[e.path] = real
	switch e.kind {
	case tar.TypeReg:
		return os.Rename(e.file, real)
	case tar.TypeLink:
		target, ok := placed[e.link]
		if !ok {
			return fmt.Errorf("hard link to %s, which the package does not have", e.link)
		}
		return replace(real, func(tmp string) error { return os.Link(target, tmp) })
	}
	return replace(real, func(tmp string) error {
		var err error
		switch e.kind {
		case tar.TypeSymlink:
			err = os.Symlink(e.link, tmp)
		case tar.TypeFifo:
			err = unix.Mkfifo(tmp, e.mode)
		case tar.TypeChar:
			err = unix.Mknod(tmp, unix.S_IFCHR|e.mode, int(e.dev))
		case tar.TypeBlock:
			err = unix.Mknod(tmp, unix.S_IFBLK|e.mode, int(e.dev))
		}
		if err != nil {
			return err
		}
		return e.setAttributes(tmp)
	})
}

// replace makes name atomically, whether or not something bears it already.
func replace(name string, create func(tmp string) error) error {
	err := create(name)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	tmp := name + ".dpkg-tmp"
	if err := create(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, name); err != nil {
		return err
	}
	// Renaming one hard link over another of the same file does nothing.
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// claim records that pkg brings the file, or says whose it is.
func (p *Placer) claim(real string, pkg *resolve.Candidate) error {
	old := p.owner[real]
	if old != nil && old != pkg {
		replaces, err := deb.ParseRelations(pkg.Replaces)
		if err != nil {
			return err
		}
		allowed := false
		for _, d := range replaces {
			allowed = allowed || old.Satisfies(d[0])
		}
		if !allowed {
			return fmt.Errorf("the file belongs to %s, which %s does not replace", old.Name, pkg.Name)
		}
	}
	p.owner[real] = pkg
	return nil
}

// maxLinks bounds the symbolic links followed for one path, as the kernel does.
const maxLinks = 40

// dir returns the real directory of a directory in the tree, making what is
// missing: with e's attributes when e is given, otherwise 0755 of root.
func (p *Placer) dir(name string, e *entry, links int) (string, error) {
	if real, ok := p.dirs[name]; ok {
		return real, nil
	}
	if name == "/" {
		p.dirs[name] = p.root
		if e != nil {
			return p.root, e.setAttributes(p.root)
		}
		return p.root, nil
	}
	parent, err := p.dir(path.Dir(name), nil, links)
	if err != nil {
		return "", err
	}
	real := filepath.Join(parent, path.Base(name))
	st, err := os.Lstat(real)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.Mkdir(real, 0o755); err != nil {
			return "", err
		}
		if e != nil {
			err = e.setAttributes(real)
		} else {
			err = unix.Chmod(real, 0o755) // whatever the umask
		}
		if err != nil {
			return "", err
		}
	case err != nil:
		return "", err
	case st.Mode()&fs.ModeSymlink != 0:
		if links >= maxLinks {
			return "", fmt.Errorf("%s: %w", name, unix.ELOOP)
		}
		target, err := os.Readlink(real)
		if err != nil {
			return "", err
		}
		if !path.IsAbs(target) {
			target = path.Join(p.virtual(parent), target)
		}
		if real, err = p.dir(path.Clean(target), nil, links+1); err != nil {
			return "", err
		}
	case !st.IsDir():
		return "", fmt.Errorf("%s is not a directory", name)
	}
	p.dirs[name] = real
	return real, nil
}

// virtual is the path inside the tree of a real directory.
func (p *Placer) virtual(real string) string {
	return path.Clean("/" + strings.TrimPrefix(real, p.root))
}
