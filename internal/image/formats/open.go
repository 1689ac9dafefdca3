package formats

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/qcow2"
	"github.com/dib-builder/dib/internal/image/vdi"
	"github.com/dib-builder/dib/internal/image/vhd"
	"github.com/dib-builder/dib/internal/image/vhdx"
	"github.com/dib-builder/dib/internal/image/vmdk"
)

// File is an open image file with the disk that is in it.
type File struct {
	image.Disk
	Format    string            // as in Readable
	Details   map[string]string // of the format, such as its variant
	Backing   string            // what the file is an overlay of; empty when it is whole
	Snapshots int               // inside the file; the disk is the state after them
	files     []*os.File        // this one and those below it
}

// Readable are the formats that Open knows, in the order in which it looks for
// them.
func Readable() []string { return []string{"qcow2", "vmdk", "vdi", "vhdx", "vhd", "raw"} }

// Files are the image's file and its backing files, for comparisons.
func (f *File) Files() []*os.File { return f.files }

// Close closes all files.
func (f *File) Close() error {
	var errs []error
	for _, file := range f.files {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}

// maxChain is how many files may be one on top of the other.
const maxChain = 16

// Open opens an image file. Format is one of Readable, or empty to find out
// from the content. A backing file is opened only when it is in the directory
// of the file on top of it: images come from elsewhere, and must not make
// their reader disclose any file of this machine.
func Open(path, format string) (*File, error) {
	f, err := open(path, format, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open image %q: %w", path, err)
	}
	return f, nil
}

func open(path, format string, depth int) (_ *File, err error) {
	if depth >= maxChain {
		return nil, fmt.Errorf("more than %d files are on top of each other", maxChain)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f := &File{files: []*os.File{file}, Details: map[string]string{}}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	size := st.Size()
	if st.Mode()&os.ModeDevice != 0 {
		// Of a disk, stat gives no size.
		if size, err = file.Seek(0, io.SeekEnd); err != nil {
			return nil, err
		}
	} else if !st.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	if format == "" {
		if format, err = Detect(file, size); err != nil {
			return nil, err
		}
	}
	f.Format = format
	return f, f.openDisk(file, size, depth)
}

func (f *File) openDisk(file *os.File, size int64, depth int) (err error) {
	variant := ""
	switch f.Format {
	case "raw":
		f.Disk, err = image.Flat(file, size)
	case "qcow2":
		return f.openQcow2(file, size, depth)
	case "vmdk":
		f.Disk, variant, err = vmdk.Open(file, size)
	case "vdi":
		f.Disk, variant, err = vdi.Open(file, size)
	case "vhdx":
		f.Disk, err = vhdx.Open(file, size)
	case "vhd":
		f.Disk, variant, err = vhd.Open(file, size)
	default:
		err = fmt.Errorf("format %q cannot be read; want %s", f.Format, strings.Join(Readable(), ", "))
	}
	if variant != "" {
		f.Details["subformat"] = variant
	}
	return err
}

func (f *File) openQcow2(file *os.File, size int64, depth int) error {
	q, err := qcow2.Open(file, size)
	if err != nil {
		return err
	}
	f.Disk, f.Snapshots = q, q.Snapshots()
	f.Details["compat"] = map[int]string{2: "0.10", 3: "1.1"}[q.Version()]
	f.Details["cluster_size"] = strconv.FormatInt(q.ClusterSize(), 10)
	f.Details["compression_type"] = q.Compression()
	name, format := q.BackingFile()
	if name == "" {
		return nil
	}
	f.Backing = name
	path, err := besides(file.Name(), name)
	if err != nil {
		return err
	}
	if format == "vpc" {
		format = "vhd"
	}
	if format != "" && !slices.Contains(Readable(), format) {
		return fmt.Errorf("its backing file %q has the format %q, which cannot be read", name, format)
	}
	below, err := open(path, format, depth+1)
	if err != nil {
		return fmt.Errorf("its backing file %q: %w", name, err)
	}
	f.files = append(f.files, below.files...)
	q.Backing = below
	return nil
}

// besides finds a backing file, which has to be in the directory of the file
// on top of it.
func besides(top, name string) (string, error) {
	dir := filepath.Dir(top)
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, name)
	}
	// Links in the directory's own name are the caller's business.
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if at, err := filepath.Abs(path); err != nil || filepath.Dir(at) != abs {
		return "", fmt.Errorf("it is an overlay of %q, which is not in its own directory %q and is not read from elsewhere; move it there, or merge them first (qemu-img convert)", name, abs)
	}
	if st, err := os.Lstat(path); err != nil {
		return "", fmt.Errorf("it is an overlay of another image: %w", err)
	} else if !st.Mode().IsRegular() {
		return "", fmt.Errorf("it is an overlay of %q, which is not a regular file", name)
	}
	return path, nil
}

// others are files that would be taken for raw disks.
var others = []struct{ magic, problem string }{
	{"\x1f\x8b\x08", "it is compressed with gzip; decompress it first"},
	{"\xfd7zXZ\x00", "it is compressed with xz; decompress it first"},
	{"\x28\xb5\x2f\xfd", "it is compressed with zstd; decompress it first"},
	{"BZh9", "it is compressed with bzip2; decompress it first"},
	{"QED\x00", "images of the format qed are not supported"},
	{"conectix", "its footer is damaged, and so is the copy at its beginning"},
}

// Detect says which of Readable the content of a file of size bytes is. What
// is nothing else is raw.
func Detect(r io.ReaderAt, size int64) (string, error) {
	start := make([]byte, 8)
	n, err := r.ReadAt(start, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	start = start[:n]
	switch {
	case n == 0:
		return "", errors.New("it is empty")
	case strings.HasPrefix(string(start), "QFI\xfb"):
		return "qcow2", nil
	case vmdk.Is(r):
		return "vmdk", nil
	case vdi.Is(r):
		return "vdi", nil
	case vhdx.Is(r):
		return "vhdx", nil
	case vhd.Is(r, size):
		return "vhd", nil
	}
	for _, o := range others {
		if strings.HasPrefix(string(start), o.magic) {
			return "", errors.New(o.problem)
		}
	}
	return "raw", nil
}
