package deb

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// Limits of what is read into memory from the control part of a package.
// The largest control files of the archive are md5sums lists of a few MB.
const (
	maxControlFile  = 32 << 20
	maxControlFiles = 256
)

// Control is the control part of a package: its control file and whatever
// else goes to dpkg's info directory.
type Control struct {
	Stanza Stanza
	Raw    []byte                 // the control file itself
	Files  map[string]ControlFile // by base name, without "control" itself
}

// ControlFile is a maintainer script, md5sums list, triggers file or the like.
type ControlFile struct {
	Data []byte
	Mode int64 // permission bits
}

// Conffiles returns the absolute paths that the package declares as
// configuration files; "remove-on-upgrade" entries are not installed and not listed.
func (c *Control) Conffiles() []string {
	var paths []string
	for _, l := range strings.Split(string(c.Files["conffiles"].Data), "\n") {
		if l = strings.TrimRight(l, " \t\r"); strings.HasPrefix(l, "/") {
			paths = append(paths, path.Clean(l))
		}
	}
	return paths
}

// ReadPackage reads a .deb from r: control gets the control part, then data
// gets the name of the member that holds the file system part, as Decompress
// wants it, and its compressed tar stream. Either may be nil; after a nil data
// nothing more is read. An error of the callbacks is returned as it is.
func ReadPackage(r io.Reader, control func(*Control) error, data func(name string, tar io.Reader) error) error {
	ar := newArReader(r)
	name, _, body, err := ar.next()
	if err != nil {
		return err
	}
	version, err := io.ReadAll(io.LimitReader(body, 64))
	if err != nil {
		return err
	}
	if name != "debian-binary" || !strings.HasPrefix(string(version), "2.") {
		return fmt.Errorf("not a Debian package of format 2 (first member %q, %q)", name, version)
	}
	seenControl := false
	for {
		name, _, body, err := ar.next()
		switch {
		case err == io.EOF:
			return errors.New("package has no data part")
		case err != nil:
			return err
		case strings.HasPrefix(name, "_"): // deb(5): to be ignored
		case strings.HasPrefix(name, "control.tar"):
			seenControl = true
			if err := readControl(name, body, control); err != nil {
				return err
			}
			if data == nil {
				return nil
			}
		case strings.HasPrefix(name, "data.tar") && seenControl:
			return data(name, body)
		default:
			return fmt.Errorf("package has an unexpected member %q", name)
		}
	}
}

func readControl(name string, body io.Reader, use func(*Control) error) error {
	c := &Control{Files: map[string]ControlFile{}}
	err := withTar(name, body, func(t *tar.Reader) error {
		for {
			h, err := t.Next()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if h.Typeflag != tar.TypeReg {
				continue
			}
			if h.Size > maxControlFile || len(c.Files) >= maxControlFiles {
				return fmt.Errorf("control part is too large (%s: %d bytes)", h.Name, h.Size)
			}
			data, err := io.ReadAll(t)
			if err != nil {
				return err
			}
			base := path.Clean("/" + h.Name)[1:]
			if strings.Contains(base, "/") || base == "" {
				return fmt.Errorf("control part holds a path %q", h.Name)
			}
			c.Files[base] = ControlFile{Data: data, Mode: h.Mode & 0o777}
		}
	})
	if err != nil {
		return err
	}
	c.Raw = c.Files["control"].Data
	stanzas, err := ParseStanzas(string(c.Raw))
	if err != nil {
		return fmt.Errorf("control file: %w", err)
	}
	if len(stanzas) != 1 {
		return fmt.Errorf("control file has %d stanzas instead of one", len(stanzas))
	}
	c.Stanza = stanzas[0]
	delete(c.Files, "control")
	if use == nil {
		return nil
	}
	return use(c)
}

// withTar decompresses a member by its name's suffix and hands its tar stream to use.
func withTar(name string, body io.Reader, use func(*tar.Reader) error) error {
	r, done, err := Decompress(name, body)
	if err != nil {
		return fmt.Errorf("cannot decompress %s: %w", name, err)
	}
	defer done()
	return use(tar.NewReader(r))
}

// Decompress returns a reader of what name's suffix (.gz, .xz, .zst, or none
// of them) says was compressed, and a function that releases the decoder.
func Decompress(name string, r io.Reader) (io.Reader, func(), error) {
	nothing := func() {}
	switch path.Ext(name) {
	case ".gz":
		z, err := gzip.NewReader(bufio.NewReaderSize(r, 1<<16))
		return z, nothing, err
	case ".xz":
		// The decoder reads its input in small pieces.
		z, err := xz.NewReader(bufio.NewReaderSize(r, 1<<16), xz.DefaultDictMax)
		return z, nothing, err
	case ".zst":
		// Concurrency 1: callers work on several packages at once.
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<30))
		if err != nil {
			return nil, nothing, err
		}
		return z, z.Close, nil
	case ".tar", "":
		return r, nothing, nil
	}
	return nil, nothing, fmt.Errorf("unknown compression %q", path.Ext(name))
}
