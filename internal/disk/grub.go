package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/treepath"
)

// Places in GRUB's boot sector (boot.img) and in the first sector of its core
// image, as grub-core/boot/i386/pc lays them out.
const (
	grubBPBStart     = 0x03 // parameters of the disk: kept
	grubBPBEnd       = 0x5a
	grubKernelSector = 0x5c // 64 bits: where the core image starts
	grubBootDrive    = 0x64 // 0xff: the drive the firmware booted from
	grubDriveCheck   = 0x66 // a jump that trusts only hard disks of the firmware
	grubCodeEnd      = 0x1b8

	grubBlockList = 500   // in the first core sector: start (64 bits), count and segment (16 bits each)
	grubSegment   = 0x820 // where the second core sector is loaded
)

// grubImages finds the boot code that the boot-loader step left in the tree;
// ok is false when there is none.
func grubImages(tree string) (boot, core []byte, ok bool, err error) {
	for _, dir := range []string{"boot/grub/i386-pc", "boot/grub2/i386-pc"} {
		at, err := treepath.Resolve(tree, dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, false, fmt.Errorf("cannot look for GRUB in the image: %w", err)
		}
		core, err = os.ReadFile(filepath.Join(at, "core.img"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, false, fmt.Errorf("cannot read GRUB's core image: %w", err)
		}
		boot, err = os.ReadFile(filepath.Join(at, "boot.img"))
		if err != nil {
			return nil, nil, false, fmt.Errorf("cannot read GRUB's boot sector beside its core image: %w", err)
		}
		return boot, core, true, nil
	}
	return nil, nil, false, nil
}

// embedGRUB writes GRUB into the boot sector and the place for its core image.
func embedGRUB(f readerWriterAt, d *blockdev.Disk, boot, core []byte) error {
	var mbr [recordSize]byte
	if _, err := f.ReadAt(mbr[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("cannot read the boot sector: %w", err)
	}
	place, err := grubRoom(d)
	if err != nil {
		return fmt.Errorf("cannot embed GRUB in disk %q: %w", d.Name, err)
	}
	sector, code, err := grubSectors(place, mbr, boot, core)
	if err != nil {
		return fmt.Errorf("cannot embed GRUB in disk %q: %w", d.Name, err)
	}
	if _, err := f.WriteAt(code, place.start*recordSize); err != nil {
		return fmt.Errorf("cannot write GRUB's core image: %w", err)
	}
	if _, err := f.WriteAt(sector[:], 0); err != nil {
		return fmt.Errorf("cannot write GRUB's boot sector: %w", err)
	}
	return nil
}

// room is where GRUB's core image goes; start and sectors count sectors of 512
// bytes.
type room struct {
	start, sectors int64
	what           string // for messages
}

// grubRoom finds the place for the core image: the gap before the first
// partition of an MS-DOS table, the BIOS boot partition of a GUID table.
func grubRoom(d *blockdev.Disk) (room, error) {
	switch {
	case d.Table == nil:
		return room{}, errors.New("it has no partition table, hence no room for the core image")
	case d.SectorSize != recordSize:
		return room{}, fmt.Errorf("BIOS boot needs sectors of %d bytes, not %d", recordSize, d.SectorSize)
	case d.Table.Label == "gpt":
		p := d.BIOSBootPartition()
		if p == nil {
			return room{}, errors.New("its GUID partition table has no BIOS boot partition (type EF02)")
		}
		return room{p.Start, p.Length, fmt.Sprintf("are in the BIOS boot partition %q: make it larger", p.Name)}, nil
	}
	first := d.Size / recordSize
	for _, e := range d.Table.Records[0].Entries {
		if e.Type != 0 {
			first = min(first, e.LBA)
		}
	}
	return room{1, first - 1, "lie before the first partition: use a larger align"}, nil
}

// grubSectors computes the boot sector and the core image, which is padded to
// whole sectors.
func grubSectors(at room, mbr [recordSize]byte, boot, core []byte) (sector [recordSize]byte, code []byte, err error) {
	switch {
	case len(boot) != recordSize:
		return sector, nil, fmt.Errorf("boot.img has %d bytes, not %d", len(boot), recordSize)
	case len(core) <= recordSize:
		return sector, nil, fmt.Errorf("core.img has only %d bytes", len(core))
	}
	sectors := int64(len(core)+recordSize-1) / recordSize
	if sectors > at.sectors {
		return sector, nil, fmt.Errorf("core.img needs %d sectors, but only %d %s", sectors, at.sectors, at.what)
	}
	if sectors-1 > 0xffff {
		return sector, nil, fmt.Errorf("core.img has %d sectors: too many", sectors)
	}

	copy(sector[:], boot[:grubCodeEnd])
	copy(sector[grubBPBStart:grubBPBEnd], mbr[grubBPBStart:grubBPBEnd])
	copy(sector[grubCodeEnd:], mbr[grubCodeEnd:])
	binary.LittleEndian.PutUint64(sector[grubKernelSector:], uint64(at.start))
	sector[grubBootDrive] = 0xff
	// Two no-ops: some firmware passes a drive number that the check rejects.
	sector[grubDriveCheck], sector[grubDriveCheck+1] = 0x90, 0x90

	code = make([]byte, sectors*recordSize)
	copy(code, core)
	binary.LittleEndian.PutUint64(code[grubBlockList:], uint64(at.start+1))
	binary.LittleEndian.PutUint16(code[grubBlockList+8:], uint16(sectors-1))
	binary.LittleEndian.PutUint16(code[grubBlockList+10:], grubSegment)
	return sector, code, nil
}
