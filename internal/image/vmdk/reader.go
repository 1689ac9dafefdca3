package vmdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/klauspost/compress/zlib"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/mapped"
)

const (
	magic = 0x564d444b // "KDMV"

	flagZeroed     = 1 << 2
	flagCompressed = 1 << 16

	maxDirectory  = 1 << 20 // entries: 32 TiB with the usual grains
	maxDescriptor = 64 << 10
	grainHead     = 12 // of a compressed grain: sector and length

	descriptorStart = "# Disk DescriptorFile"
)

// Is reports whether a file is a VMDK image, or a part of one.
func Is(r io.ReaderAt) bool {
	b := make([]byte, len(descriptorStart))
	if n, _ := r.ReadAt(b, 0); n < 4 {
		return false
	}
	return string(b[:4]) == "KDMV" || string(b[:4]) == "COWD" || string(b) == descriptorStart
}

// Open reads the header of an image in a file of size bytes. Variant is its
// createType. Images of several files and differences are refused.
func Open(r io.ReaderAt, size int64) (disk image.Disk, variant string, err error) {
	disk, variant, err = open(r, size)
	if err != nil {
		return nil, "", fmt.Errorf("cannot read vmdk image: %w", err)
	}
	return disk, variant, nil
}

func open(r io.ReaderAt, size int64) (image.Disk, string, error) {
	start := make([]byte, sector)
	if n, err := r.ReadAt(start, 0); n < 4 {
		return nil, "", fmt.Errorf("it has %d bytes only: %w", n, err)
	}
	switch {
	case string(start[:4]) == "COWD":
		return nil, "", errors.New("sparse disks of ESX are not supported; convert it with vmkfstools")
	case bytes.HasPrefix(start, []byte(descriptorStart)):
		return nil, "", errors.New("it describes a disk of several files; join them first (qemu-img convert, or vmware-vdiskmanager -r)")
	}
	h, err := readHeader(r, 0)
	if err != nil {
		return nil, "", err
	}
	variant, err := readDescriptor(r, size, h)
	if err != nil {
		return nil, "", err
	}
	if h.DirectoryOffset == atEnd {
		// What ends a stream: the footer, which is the header again, and a marker.
		if h, err = readHeader(r, size-2*sector); err != nil {
			return nil, "", fmt.Errorf("its footer: %w", err)
		}
	}
	if err := h.check(size); err != nil {
		return nil, "", err
	}
	return mapped.New("vmdk", r, size, h.layout(r)), variant, nil
}

func readHeader(r io.ReaderAt, at int64) (header, error) {
	var h header
	b := make([]byte, sector)
	if err := mapped.ReadFull(r, b, at); err != nil {
		return h, err
	}
	// Reading fixed-size values from memory cannot fail.
	_ = binary.Read(bytes.NewReader(b), binary.LittleEndian, &h)
	if h.Magic != magic {
		return h, fmt.Errorf("there is no header at %d", at)
	}
	if h.Version < 1 || h.Version > 3 {
		return h, fmt.Errorf("version %d of the format is unknown", h.Version)
	}
	return h, nil
}

var (
	createType = regexp.MustCompile(`(?mi)^\s*createType\s*=\s*"?([A-Za-z0-9]*)`)
	parentCID  = regexp.MustCompile(`(?mi)^\s*parentCID\s*=\s*"?([0-9A-Fa-f]*)`)
	extentLine = regexp.MustCompile(`(?m)^\s*(RW|RDONLY|NOACCESS)\s`)
)

func readDescriptor(r io.ReaderAt, size int64, h header) (variant string, err error) {
	if h.DescriptorOffset == 0 {
		return "", errors.New("it is a part of a disk of several files; join them first (qemu-img convert, or vmware-vdiskmanager -r)")
	}
	if h.DescriptorOffset > uint64(size/sector) || h.DescriptorLen == 0 || h.DescriptorLen > maxDescriptor/sector {
		return "", fmt.Errorf("its descriptor of %d sectors at sector %d is out of place", h.DescriptorLen, h.DescriptorOffset)
	}
	b := make([]byte, h.DescriptorLen*sector)
	if err := mapped.ReadFull(r, b, int64(h.DescriptorOffset)*sector); err != nil {
		return "", fmt.Errorf("its descriptor: %w", err)
	}
	text, _, _ := strings.Cut(string(b), "\x00")
	found := createType.FindStringSubmatch(text)
	if found == nil {
		return "", errors.New("its descriptor has no createType: it may be a part of a disk of several files; join them first (qemu-img convert)")
	}
	if variant = found[1]; variant != sparse && variant != stream {
		return "", fmt.Errorf("images of type %q are not supported, only %s and %s", variant, sparse, stream)
	}
	if p := parentCID.FindStringSubmatch(text); p != nil && !strings.EqualFold(p[1], "ffffffff") {
		return "", errors.New("it is a difference to another image (a snapshot); merge them first")
	}
	if n := len(extentLine.FindAllString(text, -1)); n != 1 {
		return "", fmt.Errorf("its disk is in %d files, not in this one", n)
	}
	return variant, nil
}

// check looks at what the tables' places are computed from.
func (h header) check(size int64) error {
	switch {
	case h.Capacity > 1<<62/sector:
		return fmt.Errorf("a disk of %d sectors is too large", h.Capacity)
	case h.GrainSize < 8 || h.GrainSize > 2048 || h.GrainSize&(h.GrainSize-1) != 0:
		return fmt.Errorf("grains of %d sectors are not supported", h.GrainSize)
	case h.TableEntries == 0 || h.TableEntries > 4096:
		return fmt.Errorf("tables of %d grains are not supported", h.TableEntries)
	case h.Flags&flagCompressed != 0 && h.Compression != 1:
		return fmt.Errorf("compression %d is unknown", h.Compression)
	}
	entries := h.directoryEntries()
	if entries > maxDirectory {
		return fmt.Errorf("a disk of %d sectors is too large for grains of %d", h.Capacity, h.GrainSize)
	}
	if h.DirectoryOffset == 0 || h.DirectoryOffset > uint64(size/sector) || 4*entries > size-int64(h.DirectoryOffset)*sector {
		return fmt.Errorf("its directory of %d tables at sector %d lies beyond the end of the file", entries, h.DirectoryOffset)
	}
	return nil
}

func (h header) directoryEntries() int64 {
	covered := int64(h.GrainSize) * int64(h.TableEntries)
	return (int64(h.Capacity) + covered - 1) / covered
}

func (h header) layout(r io.ReaderAt) mapped.Layout {
	directory := mapped.Table{R: r, Order: binary.LittleEndian}
	grains := mapped.Table{R: r, Order: binary.LittleEndian}
	perTable, entries := int64(h.TableEntries), h.directoryEntries()
	g := grainReader{r: r, sectors: int64(h.GrainSize), size: int64(h.Capacity) * sector}
	kind := mapped.Plain
	if h.Flags&flagCompressed != 0 {
		kind = mapped.Packed
	}
	return mapped.Layout{
		Size: g.size, BlockSize: g.sectors * sector, MinPacked: sector, Unpack: g.unpack,
		Find: func(n int64) (mapped.Place, error) {
			at, err := directory.Get(int64(h.DirectoryOffset)*sector, n/perTable, entries)
			if err != nil || at == 0 {
				return mapped.Place{Run: perTable - n%perTable}, err
			}
			entry, err := grains.Get(int64(at)*sector, n%perTable, perTable)
			if err != nil || entry == 0 || entry == 1 && h.Flags&flagZeroed != 0 {
				return mapped.Place{}, err
			}
			return mapped.Place{Kind: kind, Off: int64(entry) * sector}, nil
		},
	}
}

// grainReader reads compressed grains.
type grainReader struct {
	r       io.ReaderAt
	sectors int64 // in a grain
	size    int64 // of the disk
	packed  []byte
	z       io.ReadCloser
}

func (g *grainReader) unpack(p []byte, block, off int64) error {
	head := make([]byte, grainHead)
	if err := mapped.ReadFull(g.r, head, off); err != nil {
		return fmt.Errorf("its grain at %d: %w", off, err)
	}
	at, length := binary.LittleEndian.Uint64(head), int64(binary.LittleEndian.Uint32(head[8:]))
	if at != uint64(block*g.sectors) || length > 2*int64(len(p)) {
		return fmt.Errorf("its grain at %d, of %d bytes for sector %d, is out of place", off, length, at)
	}
	if int64(cap(g.packed)) < length {
		g.packed = make([]byte, 2*len(p))
	}
	g.packed = g.packed[:length]
	if err := mapped.ReadFull(g.r, g.packed, off+grainHead); err != nil {
		return fmt.Errorf("its grain at %d: %w", off, err)
	}
	if err := g.inflate(p, block); err != nil {
		return fmt.Errorf("its compressed grain at %d: %w", off, err)
	}
	return nil
}

func (g *grainReader) inflate(p []byte, block int64) error {
	in := bytes.NewReader(g.packed)
	if g.z == nil {
		z, err := zlib.NewReader(in)
		if err != nil {
			return err
		}
		g.z = z
	} else if err := g.z.(zlib.Resetter).Reset(in, nil); err != nil {
		return err
	}
	n, err := io.ReadFull(g.z, p)
	// The last grain may end with the disk.
	if errors.Is(err, io.ErrUnexpectedEOF) && block*int64(len(p))+int64(n) >= g.size {
		clear(p[n:])
		err = nil
	}
	if err != nil {
		return err
	}
	// The end is where the checksum is compared.
	if n, err := io.ReadFull(g.z, make([]byte, 1)); n > 0 {
		return errors.New("it is larger than a grain")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
