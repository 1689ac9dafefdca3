package disk

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/blockdev"
)

// SideEntry is what one path of the tree should be but cannot be, because the
// kernel refused it to the builder.
type SideEntry struct {
	Path   string            // relative to the tree, with or without a leading slash
	Node   *Node             // a device; the tree has an empty regular file in its place
	Flags  *uint32           // inode flags (FS_*_FL of linux/fs.h) to be added
	Xattrs map[string][]byte // extended attributes to be added
}

// Node is a device node.
type Node struct {
	Mode         uint32 // S_IFCHR or S_IFBLK, and permissions
	Major, Minor uint32
	UID, GID     uint32
}

// quote writes a word for debugfs: in double quotes, quotes doubled.
func quote(word string) string { return `"` + strings.ReplaceAll(word, `"`, `""`) + `"` }

// inside gives an entry's path inside its filesystem, absolute.
func (e SideEntry) inside(point string) string {
	p := path.Clean("/" + e.Path)
	if point != "/" {
		p = path.Clean("/" + strings.TrimPrefix(p, point))
	}
	return p
}

// clean is inside for debugfs, whose command files have one command a line, so
// that a line break cannot be passed.
func (e SideEntry) clean(point string) (string, error) {
	p := e.inside(point)
	if strings.ContainsAny(p, "\n\x00") {
		return "", fmt.Errorf("cannot record %q in the filesystem: line breaks in such names are not supported by mke2fs's way", e.Path)
	}
	return p, nil
}

// sideEntries picks the entries that lie on the filesystem node, in path order.
func sideEntries(l *blockdev.Layout, node string, all []SideEntry) []SideEntry {
	var own []SideEntry
	for _, e := range all {
		if fs, _ := l.Holding(e.Path); fs != nil && fs.Node == node {
			own = append(own, e)
		}
	}
	sort.SliceStable(own, func(i, j int) bool { return own[i].Path < own[j].Path })
	return own
}

// editPlan is everything debugfs has to do in one filesystem after it was
// made.
type editPlan struct {
	fs      blockdev.Filesystem
	point   string
	entries []SideEntry
	mkdirs  []string // mount points that the tree lacks, parents first; absolute in the filesystem
}

func (t *tools) edit(ctx context.Context, image string, p editPlan) error {
	if len(p.entries) == 0 && len(p.mkdirs) == 0 {
		return nil
	}
	dir, err := os.MkdirTemp("", "dib-debugfs-")
	if err != nil {
		return fmt.Errorf("cannot edit filesystem %s: %w", p.fs.Node, err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "commands")
	flags, err := t.flags(ctx, image, p, file)
	if err != nil {
		return err
	}
	script, values, err := editScript(p, flags, dir)
	if err != nil {
		return err
	}
	for name, val := range values {
		if err := os.WriteFile(name, val, 0o600); err != nil {
			return fmt.Errorf("cannot edit filesystem %s: %w", p.fs.Node, err)
		}
	}
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return fmt.Errorf("cannot edit filesystem %s: %w", p.fs.Node, err)
	}
	_, err = t.debug(ctx, image, p.fs, file, true)
	return err
}

var flagsForm = regexp.MustCompile(`(?m)^Inode: .* Flags: (0x[0-9a-f]+)$`)

// flags reads the present flags of every entry that adds some: flags tell how
// a file's blocks are mapped, so the old ones must stay.
func (t *tools) flags(ctx context.Context, image string, p editPlan, file string) (map[string]uint32, error) {
	var script strings.Builder
	var paths []string
	for _, e := range p.entries {
		if e.Flags == nil || e.Node != nil {
			continue
		}
		name, err := e.clean(p.point)
		if err != nil {
			return nil, err
		}
		paths = append(paths, name)
		fmt.Fprintf(&script, "stat %s\n", quote(name))
	}
	if len(paths) == 0 {
		return nil, nil
	}
	if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
		return nil, fmt.Errorf("cannot edit filesystem %s: %w", p.fs.Node, err)
	}
	out, err := t.debug(ctx, image, p.fs, file, false)
	if err != nil {
		return nil, err
	}
	found := flagsForm.FindAllStringSubmatch(out, -1)
	if len(found) != len(paths) {
		return nil, fmt.Errorf("cannot read inode flags in filesystem %s: asked for %d files, debugfs told of %d", p.fs.Node, len(paths), len(found))
	}
	flags := map[string]uint32{}
	for i, m := range found {
		n, err := strconv.ParseUint(m[1], 0, 32)
		if err != nil {
			return nil, fmt.Errorf("cannot read inode flags of %q: %w", paths[i], err)
		}
		flags[paths[i]] = uint32(n)
	}
	return flags, nil
}

// editScript writes the commands of a plan and, by file name below dir, the
// values of extended attributes, which only a file can carry unharmed.
func editScript(p editPlan, flags map[string]uint32, dir string) (string, map[string][]byte, error) {
	var b strings.Builder
	values := map[string][]byte{}
	for _, d := range p.mkdirs {
		fmt.Fprintf(&b, "mkdir %s\n", quote(d))
	}
	for _, e := range p.entries {
		name, err := e.clean(p.point)
		if err != nil {
			return "", nil, err
		}
		q := quote(name)
		if n := e.Node; n != nil {
			kind := "c"
			if n.Mode&unix.S_IFMT == unix.S_IFBLK {
				kind = "b"
			}
			// rm takes "/name" for a name in the current directory, but not
			// "/./name". mknod links into the current directory and takes no path.
			fmt.Fprintf(&b, "rm %s\ncd %s\nmknod %s %s %d %d\n", quote("/."+name), quote(path.Dir(name)), quote(path.Base(name)), kind, n.Major, n.Minor)
			fmt.Fprintf(&b, "sif %s mode 0x%x\nsif %s uid %d\nsif %s gid %d\n", q, n.Mode, q, n.UID, q, n.GID)
		}
		if e.Flags != nil {
			fmt.Fprintf(&b, "sif %s flags 0x%x\n", q, flags[name]|*e.Flags)
		}
		names := make([]string, 0, len(e.Xattrs))
		for k := range e.Xattrs {
			names = append(names, k)
		}
		sort.Strings(names)
		for _, k := range names {
			file := filepath.Join(dir, fmt.Sprintf("value-%d", len(values)))
			values[file] = e.Xattrs[k]
			fmt.Fprintf(&b, "ea_set -f %s %s %s\n", quote(file), q, quote(k))
		}
	}
	return b.String(), values, nil
}
