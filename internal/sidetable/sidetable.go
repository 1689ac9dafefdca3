// Package sidetable remembers what a tree cannot hold when it is built without
// root: device nodes, inode flags and security labels.
//
// A device node is represented in the tree by a placeholder, an empty regular
// file. Facts are keyed by inode and time of birth rather than by path, so that
// they follow a file through renames and links, and a reused inode number does
// not inherit them. The table is a file of JSON lines, each the whole state of
// one inode; the last line about an inode counts.
package sidetable

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Inode flags that an unprivileged caller cannot set, as in FS_IOC_SETFLAGS.
const (
	FlagImmutable uint32 = unix.STATX_ATTR_IMMUTABLE // chattr +i
	FlagAppend    uint32 = unix.STATX_ATTR_APPEND    // chattr +a
)

// ID names one inode during one life of its number.
type ID struct {
	Dev       uint64 `json:"dev"` // as in stat(2)
	Ino       uint64 `json:"ino"`
	BirthSec  int64  `json:"birth_sec,omitempty"` // both zero when the file system keeps no time of birth
	BirthNsec uint32 `json:"birth_nsec,omitempty"`
}

// Node is the device node that a placeholder stands for.
type Node struct {
	Mode  uint32 `json:"mode"` // S_IFCHR or S_IFBLK; Entry.Node also holds the permission bits
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
}

// Fact is what is known of one inode.
type Fact struct {
	Node   *Node             `json:"node,omitempty"`
	Flags  uint32            `json:"flags,omitempty"`
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
}

func (f Fact) clone() Fact {
	f.Xattrs = maps.Clone(f.Xattrs)
	return f
}

func (f Fact) empty() bool { return f.Node == nil && f.Flags == 0 && len(f.Xattrs) == 0 }

type line struct {
	ID
	Fact
}

// Entry is a fact with the place where its inode is found in a tree.
type Entry struct {
	Path     string // relative to the tree, without a leading slash; "." is the tree itself
	Node     *Node  // nil unless the file is a placeholder; Mode has type and current permission bits
	Flags    uint32
	Xattrs   map[string][]byte
	UID, GID uint32 // current owner, as seen inside the sandbox
}

// Table is the content of a side table.
type Table struct {
	facts map[ID]Fact
}

// Load reads the table at path. A missing file is an empty table: nothing was
// refused, or the build runs as root. A last line without its newline is
// dropped, its writer was killed.
func Load(path string) (*Table, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &Table{facts: map[ID]Fact{}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the side table: %w", err)
	}
	defer f.Close()
	t, err := parse(f)
	if err != nil {
		return nil, fmt.Errorf("cannot read the side table %q: %w", path, err)
	}
	return t, nil
}

func parse(r io.Reader) (*Table, error) {
	t := &Table{facts: map[ID]Fact{}}
	br := bufio.NewReader(r)
	for n := 1; ; n++ {
		text, err := br.ReadBytes('\n')
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		var l line
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&l); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if l.Node != nil && l.Node.Mode&unix.S_IFMT != unix.S_IFCHR && l.Node.Mode&unix.S_IFMT != unix.S_IFBLK {
			return nil, fmt.Errorf("line %d: mode %#o is no device node", n, l.Node.Mode)
		}
		if l.empty() {
			delete(t.facts, l.ID)
			continue
		}
		t.facts[l.ID] = l.Fact
	}
}

// Len is the number of inodes about which the table knows something.
func (t *Table) Len() int { return len(t.facts) }

// Resolve walks tree once and returns what the table knows of the files in it,
// sorted by path; a file with several links appears once for each. Other mounts
// inside the tree are not entered. A node is reported only when its
// placeholder is still a regular file, and, where the file system does not tell
// the time of birth, still empty.
func (t *Table) Resolve(tree string) ([]Entry, error) {
	if len(t.facts) == 0 {
		return nil, nil
	}
	inodes := map[[2]uint64]bool{}
	for id := range t.facts {
		inodes[[2]uint64{id.Dev, id.Ino}] = true
	}
	var rootDev uint64
	var out []Entry
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		if path == tree {
			rootDev = uint64(st.Dev)
		} else if d.IsDir() && uint64(st.Dev) != rootDev {
			return fs.SkipDir
		}
		if !inodes[[2]uint64{uint64(st.Dev), st.Ino}] {
			return nil
		}
		entry, ok, err := t.entry(path, &st)
		if err != nil || !ok {
			return err
		}
		if entry.Path, err = filepath.Rel(tree, path); err != nil {
			return err
		}
		out = append(out, entry)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot match the side table with %q: %w", tree, err)
	}
	slices.SortFunc(out, func(a, b Entry) int { return bytes.Compare([]byte(a.Path), []byte(b.Path)) })
	return out, nil
}

func (t *Table) entry(path string, st *unix.Stat_t) (Entry, bool, error) {
	id, err := Identify(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return Entry{}, false, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	f, ok := t.facts[id]
	if !ok {
		return Entry{}, false, nil
	}
	f = f.clone()
	e := Entry{Flags: f.Flags, Xattrs: f.Xattrs, UID: st.Uid, GID: st.Gid}
	sameLife := id.BirthSec != 0 || id.BirthNsec != 0 || st.Size == 0
	if f.Node != nil && st.Mode&unix.S_IFMT == unix.S_IFREG && sameLife {
		node := *f.Node
		node.Mode = node.Mode&unix.S_IFMT | st.Mode&0o7777
		e.Node = &node
	}
	return e, e.Node != nil || e.Flags != 0 || len(e.Xattrs) > 0, nil
}

// Identify returns the ID of a file; dirfd, path and flags are those of statx(2).
func Identify(dirfd int, path string, flags int) (ID, error) {
	var stx unix.Statx_t
	if err := unix.Statx(dirfd, path, flags, unix.STATX_INO|unix.STATX_BTIME, &stx); err != nil {
		return ID{}, err
	}
	id := ID{Dev: unix.Mkdev(stx.Dev_major, stx.Dev_minor), Ino: stx.Ino}
	if stx.Mask&unix.STATX_BTIME != 0 {
		id.BirthSec, id.BirthNsec = stx.Btime.Sec, stx.Btime.Nsec
	}
	return id, nil
}

// Recorder adds to a side table. It is safe for concurrent use; a table has one
// Recorder at a time.
type Recorder struct {
	mu    sync.Mutex
	file  *os.File
	table *Table
}

// Open returns a Recorder for the table at path, which is created if missing.
func Open(path string) (*Recorder, error) {
	t, err := Load(path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot write the side table: %w", err)
	}
	return &Recorder{file: f, table: t}, nil
}

// Close closes the file of the table.
func (r *Recorder) Close() error { return r.file.Close() }

// Fact returns what is known of an inode.
func (r *Recorder) Fact(id ID) Fact {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table.facts[id].clone()
}

// SetNode makes id the placeholder of a device node. What an earlier life of
// the inode left behind is forgotten.
func (r *Recorder) SetNode(id ID, n Node) error {
	return r.update(id, func(f *Fact) { *f = Fact{Node: &n} })
}

// SetFlags replaces the recorded inode flags.
func (r *Recorder) SetFlags(id ID, flags uint32) error {
	return r.update(id, func(f *Fact) { f.Flags = flags })
}

// SetXattr records an extended attribute.
func (r *Recorder) SetXattr(id ID, name string, value []byte) error {
	return r.update(id, func(f *Fact) {
		if f.Xattrs == nil {
			f.Xattrs = map[string][]byte{}
		}
		f.Xattrs[name] = bytes.Clone(value)
	})
}

// RemoveXattr forgets an extended attribute.
func (r *Recorder) RemoveXattr(id ID, name string) error {
	return r.update(id, func(f *Fact) { delete(f.Xattrs, name) })
}

func (r *Recorder) update(id ID, change func(*Fact)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.table.facts[id].clone()
	change(&f)
	text, err := json.Marshal(line{ID: id, Fact: f})
	if err != nil {
		return err
	}
	// One write of the whole line: a reader never sees a half of it in the middle.
	if _, err := r.file.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("cannot write the side table: %w", err)
	}
	if f.empty() {
		delete(r.table.facts, id)
	} else {
		r.table.facts[id] = f
	}
	return nil
}
