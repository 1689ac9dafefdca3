// Package ext writes ext2, ext3 and ext4 filesystems into a part of a file, filled from a
// directory and from what the builder could not put there (device nodes, flags,
// attributes). Nothing is mounted, no program is run, and the same input gives
// the same bytes.
//
// The format is that of Documentation/filesystems/ext4 in the Linux source; the
// features and the geometry are those mke2fs 1.46 and later choose, so that
// resize2fs grows the result as it grows theirs.
package ext

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Options say what to write.
type Options struct {
	Type     string // "ext2", "ext3" or "ext4"
	Length   int64  // bytes
	Label    string // at most 16 bytes
	UUID     string
	HashSeed string   // a UUID: seed of hashed directories
	MkfsOpts []string // of mke2fs; see Check
	Epoch    int64    // seconds: no time is later; 0 for no limit
}

// ErrNoSpace is a tree that is larger than the filesystem.
var ErrNoSpace = errors.New("the filesystem is too small for its files")

// UnknownOptionError is an option of mke2fs that only mke2fs itself can heed.
type UnknownOptionError struct{ Option string }

func (e *UnknownOptionError) Error() string {
	return fmt.Sprintf("option %s of mke2fs is not known here", e.Option)
}

const blockSize = 4096

// settings are Options that have been read.
type settings struct {
	fsType         string
	uuid, hashSeed uuid.UUID
	label          string
	ratio          int64 // bytes of the filesystem for each inode
	inodes         int64 // instead of ratio; 0 for none
	journal        int64 // blocks; -1 for the usual number, 0 for none
	reserved       float64
	resizeMax      int64 // blocks that the filesystem can grow to; 0 for the usual
	metadataCsum   bool
	epoch          int64
}

// Check says whether Write knows all options: an *UnknownOptionError otherwise.
// Known are -i, -N, -J size=, -m, -b 4096, -I 256, -O with metadata_csum,
// has_journal and what is on anyway, and -E resize=, lazy_*_init=.
func Check(o Options) error {
	_, err := read(o)
	return err
}

func read(o Options) (settings, error) {
	s := settings{fsType: o.Type, label: o.Label, ratio: 16384, journal: -1, reserved: 5, epoch: o.Epoch}
	switch o.Type {
	case "ext2":
		s.journal = 0
	case "ext3":
	case "ext4":
		s.metadataCsum = true
	default:
		return s, fmt.Errorf("filesystem type %q is none of ext2, ext3 and ext4", o.Type)
	}
	var err error
	if s.uuid, err = uuid.Parse(o.UUID); err != nil {
		return s, fmt.Errorf("UUID %q: %w", o.UUID, err)
	}
	if s.hashSeed, err = uuid.Parse(o.HashSeed); err != nil {
		return s, fmt.Errorf("hash seed %q: %w", o.HashSeed, err)
	}
	if len(o.Label) > 16 {
		return s, fmt.Errorf("label %q is longer than 16 bytes", o.Label)
	}
	words := o.MkfsOpts
	for i := 0; i < len(words); i++ {
		name, value := words[i], ""
		if len(name) > 2 && name[0] == '-' && name[1] != '-' {
			name, value = name[:2], name[2:]
		}
		if !strings.Contains(" -i -N -J -m -b -I -O -E ", " "+name+" ") {
			return s, &UnknownOptionError{words[i]}
		}
		if value == "" {
			if i++; i == len(words) {
				return s, fmt.Errorf("option %s of mke2fs wants an argument", name)
			}
			value = words[i]
		}
		if err := s.option(name, value); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s settings) ext4() bool { return s.fsType == "ext4" }

func (s *settings) option(name, value string) error {
	unknown := &UnknownOptionError{name + " " + value}
	n, numErr := strconv.ParseInt(value, 10, 64)
	switch name {
	case "-i":
		if numErr != nil || n < 1024 || n > 64<<20 {
			return fmt.Errorf("option -i %s of mke2fs: want 1024 to 67108864 bytes for each inode", value)
		}
		s.ratio = n
	case "-N":
		if numErr != nil || n < 1 || n > 1<<32-1 {
			return fmt.Errorf("option -N %s of mke2fs: want a number of inodes", value)
		}
		s.inodes = n
	case "-m":
		var err error
		if s.reserved, err = strconv.ParseFloat(value, 64); err != nil || s.reserved < 0 || s.reserved > 50 {
			return fmt.Errorf("option -m %s of mke2fs: want 0 to 50 per cent", value)
		}
	case "-b":
		if n != blockSize {
			return unknown
		}
	case "-I":
		if n != inodeSize {
			return unknown
		}
	case "-J":
		size, ok := strings.CutPrefix(value, "size=")
		mib, err := strconv.ParseInt(size, 10, 32)
		if !ok || err != nil {
			return unknown
		}
		if s.journal = mib << 20 / blockSize; s.journal < minJournal || s.journal > maxJournal {
			return fmt.Errorf("option -J size=%d of mke2fs: want %d to %d MiB", mib, minJournal*blockSize>>20, maxJournal*blockSize>>20)
		}
	case "-O":
		for _, feature := range strings.Split(value, ",") {
			switch feature {
			case "^metadata_csum":
				s.metadataCsum = false
			case "^has_journal":
				s.journal = 0
			case "sparse_super", "dir_index", "filetype", "resize_inode", "large_file", "ext_attr":
			case "metadata_csum", "has_journal", "extent", "extents", "64bit", "flex_bg", "huge_file", "dir_nlink", "extra_isize":
				if !s.ext4() {
					return &UnknownOptionError{"-O " + feature}
				}
				s.metadataCsum = s.metadataCsum || feature == "metadata_csum"
			default:
				return &UnknownOptionError{"-O " + feature}
			}
		}
	case "-E":
		for _, word := range strings.Split(value, ",") {
			key, val, _ := strings.Cut(word, "=")
			switch key {
			case "resize":
				n, err := strconv.ParseInt(val, 10, 64)
				if err != nil || n < 1 || n > 1<<32-1 {
					return fmt.Errorf("option -E resize=%s of mke2fs: want a number of blocks", val)
				}
				s.resizeMax = n
			case "lazy_itable_init", "lazy_journal_init", "assume_storage_prezeroed", "nodiscard", "discard":
				// How mke2fs does its work; the result is the same.
			default:
				return &UnknownOptionError{"-E " + word}
			}
		}
	}
	return nil
}

// Journals have at least 1024 blocks; mke2fs makes none above ten million.
const (
	minJournal = 1024
	maxJournal = 10240000
)

// usualJournal is the size that mke2fs gives the journal of a filesystem
// (ext2fs_default_journal_size), in blocks.
func usualJournal(blocks int64) int64 {
	for _, step := range []struct{ below, size int64 }{
		{2048, 0}, {32768, 1024}, {256 << 10, 4096}, {512 << 10, 8192}, {4096 << 10, 16384},
		{8192 << 10, 32768}, {16384 << 10, 65536}, {32768 << 10, 131072},
	} {
		if blocks < step.below {
			return step.size
		}
	}
	return 262144
}
