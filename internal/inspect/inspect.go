// Package inspect says what is inside disks that others wrote. Its parts read
// partition tables and filesystems from anything that can be read at an offset,
// without a kernel, a mount or privileges; their input is not trusted.
package inspect

import (
	"errors"
	"io"
	"io/fs"
	"time"
)

// Entry is a file of a filesystem.
type Entry struct {
	Path     string // from the root of the filesystem, without a leading slash; "." is the root
	Mode     uint32 // as st_mode of stat(2): type and permission bits
	UID, GID uint32
	Size     int64
	ModTime  time.Time
	Major    uint32 // of a device node
	Minor    uint32
	Target   string            // of a symbolic link
	Xattrs   map[string]string // as getxattr(2) gives them
	ID       uint64            // of the inode: equal for the names of one file
	Links    uint32            // how many names it has

	// Content reads a regular file; nil for others.
	Content io.Reader
}

// Walker reads a filesystem: it calls visit for every file, directories before
// what is in them and names in byte order, and ends with the first error. With
// fs.SkipDir for a directory, visit leaves out what is in it.
type Walker interface {
	Walk(visit func(Entry) error) error
}

// Skipped is the error that a Walker goes on with after visit of an entry
// returned err: nil when a directory was to be left out.
func Skipped(e Entry, err error) error {
	if e.Mode&TypeMask == Dir && errors.Is(err, fs.SkipDir) {
		return nil
	}
	return err
}

// Types of files in Entry.Mode.
const (
	TypeMask = 0o170000
	Fifo     = 0o010000
	Char     = 0o020000
	Dir      = 0o040000
	Block    = 0o060000
	Regular  = 0o100000
	Symlink  = 0o120000
	Socket   = 0o140000
)
