package deb

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Package is what the index of a suite says about one package: the fields
// that choosing, fetching and ordering packages need. Relations are kept as
// written; ParseRelations reads them.
type Package struct {
	Name, Version, Arch string
	Priority, MultiArch string
	Essential           bool

	Depends, PreDepends, Provides string
	Conflicts, Breaks, Replaces   string

	Filename string // relative to the root of the archive
	Size     int64  // of the .deb in bytes
	SHA256   string // of the .deb, lower-case hex
}

// ParseIndex reads a Packages file. The strings of the result share memory with text.
func ParseIndex(text string) ([]Package, error) {
	all := make([]Package, 0, len(text)/800)
	var p Package
	var bad error
	set := func(name, value string) {
		switch name {
		case "Package":
			p.Name = value
		case "Version":
			p.Version = value
		case "Architecture":
			p.Arch = value
		case "Priority":
			p.Priority = value
		case "Multi-Arch":
			p.MultiArch = value
		case "Essential":
			p.Essential = value == "yes"
		case "Depends":
			p.Depends = value
		case "Pre-Depends":
			p.PreDepends = value
		case "Provides":
			p.Provides = value
		case "Conflicts":
			p.Conflicts = value
		case "Breaks":
			p.Breaks = value
		case "Replaces":
			p.Replaces = value
		case "Filename":
			p.Filename = value
		case "SHA256":
			p.SHA256 = value
		case "Size":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 0 {
				bad = fmt.Errorf("size %q is not a number of bytes", value)
			}
			p.Size = n
		}
	}
	err := scanFields(text, set, func() error {
		err := bad
		if err == nil {
			err = p.check()
		}
		all = append(all, p)
		p, bad = Package{}, nil
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// check refuses what could not be fetched, or would be fetched from elsewhere.
func (p *Package) check() error {
	switch {
	case p.Name == "" || p.Version == "" || p.Arch == "":
		return errors.New("package without name, version or architecture")
	case !ValidName(p.Name):
		return fmt.Errorf("%q is not a package name", p.Name)
	case p.Filename == "" || p.Filename[0] == '/' || strings.Contains("/"+p.Filename+"/", "/../"):
		return fmt.Errorf("package %s: %q is not a file name inside the archive", p.Name, p.Filename)
	case len(p.SHA256) != 64 || !isHex(p.SHA256):
		return fmt.Errorf("package %s: %q is not a SHA-256 sum", p.Name, p.SHA256)
	}
	return nil
}

func isHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil
}

// ValidName tells whether s may name a package (policy 5.6.1; one letter is
// accepted, as dpkg does).
func ValidName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case i > 0 && (c == '+' || c == '-' || c == '.' || c == '_'):
		default:
			return false
		}
	}
	return s != ""
}
