package blockdev

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/google/uuid"
)

// Numbers of a GUID partition table (UEFI specification, chapter 5), and the
// alignment that sgdisk, whom DIB calls, gives every partition.
const (
	gptEntries   = 128
	gptEntrySize = 128     // bytes
	gptAlign     = 1 << 20 // bytes
	gptNameLimit = 36      // UTF-16 units
)

// Partition types that boot loaders look for.
const (
	TypeESP      = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" // EFI system partition
	TypeBIOSBoot = "21686148-6449-6e6f-744e-656564454649" // GRUB's core image for BIOS machines
)

// gptTypes are sgdisk's four-digit codes.
var gptTypes = map[string]string{
	"0700": "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7",
	"0c01": "e3c9e316-0b5c-4db8-817d-f92df00215ae",
	"4100": "9e1a2d38-c612-4316-aa26-8b49521e5a8b",
	"8200": "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f",
	"8300": "0fc63daf-8483-4772-8e79-3d69d8477de4",
	"8301": "8da63339-0007-60c0-c436-083ac8230908",
	"8302": "933ac7e1-2eb4-4f13-b844-0e14e2aef915",
	"8303": "44479540-f297-41b2-9af7-d131d5f0458a",
	"8304": "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
	"8305": "b921b045-1df0-41c3-af44-4c6f280d3fae",
	"8306": "3b8f8425-20e0-4f3b-907f-1a25a76f98e8",
	"8307": "69dad710-2ce4-4e3c-b16c-21a1d49abed3",
	"8308": "7ffec5c9-2d00-49b7-8941-3ea10a5586b7",
	"8309": "ca7d7ccb-63ed-4c53-861c-1742536059cc",
	"8310": "4d21b016-b534-45c2-a9fb-5c16e091fd2d",
	"8311": "7ec6f557-3bc5-4aca-b293-16ef5df639d1",
	"8314": "8484680c-9521-48c6-9c11-b0720656f69e",
	"8e00": "e6d6d379-f507-44c2-a23c-238f2a3df928",
	"ea00": "bc13c2ff-59e6-4262-a352-b275fd6f7172",
	"ef00": TypeESP,
	"ef02": TypeBIOSBoot,
	"fd00": "a19d880f-05fc-4d3b-a006-743f0f84911e",
}

// gptType reads a partition type: a code of sgdisk, with or without 0x, or a
// GUID.
func gptType(text string) (string, error) {
	code := strings.TrimPrefix(strings.ToLower(text), "0x")
	if guid, ok := gptTypes[code]; ok {
		return guid, nil
	}
	if guid, err := uuid.Parse(text); err == nil {
		return guid.String(), nil
	}
	if _, err := strconv.ParseUint(code, 16, 16); err == nil && len(code) == 4 {
		return "", fmt.Errorf("type %q is no partition type known here: give its GUID", text)
	}
	return "", fmt.Errorf("type %q is not a partition type: want four hexadecimal digits, such as 8300 or EF00, or a GUID", text)
}

// gptTable places partitions one after the other, each on a whole number of
// MiB; one MiB at each end of the disk is the table's.
func (a *arranger) gptTable(t tableNode, d Disk) *Table {
	unit := int64(gptAlign / d.SectorSize)
	total := d.Size / int64(d.SectorSize)
	entries := int64(gptEntries * gptEntrySize / d.SectorSize)
	out := &Table{
		Label: t.label, DiskGUID: a.identity("disk", d.Name).String(),
		FirstUsable: 2 + entries, LastUsable: total - 2 - entries,
	}
	if out.LastUsable < out.FirstUsable {
		a.Errorf(t.pos, "disk %q has %d bytes, too few for a GPT: use a larger size", d.Name, d.Size)
		return out
	}
	free := d.Size - 2*gptAlign
	next := unit
	for i, p := range t.partitions {
		want := p.size.Of(free)
		length := want / gptAlign * unit
		switch {
		case i >= gptEntries:
			a.Errorf(p.pos, "partition %q: a GPT holds %d partitions", p.name, gptEntries)
			return out
		case want > free || next+length-1 > out.LastUsable:
			a.Errorf(p.pos, "partition %q does not fit on the disk: it needs %d bytes, but only %d of %d are left; use a larger image size or a smaller partition", p.name, want, max(free, 0), d.Size)
			return out
		case length == 0:
			a.Errorf(p.pos, "partition %q: %d bytes are less than one MiB, the unit of a GPT (%d bytes were free)", p.name, want, max(free, 0))
			return out
		}
		guid := a.identity("partition", p.name).String()
		out.Partitions = append(out.Partitions, Partition{
			Name: p.name, Device: deviceName(p.name), Number: i + 1, Start: next, Length: length,
			TypeGUID: p.guid, PartUUID: guid,
		})
		a.extents[p.name] = extent{
			disk: d.Name, partition: p.name, device: deviceName(p.name),
			offset: next * int64(d.SectorSize), length: length * int64(d.SectorSize), sectorSize: d.SectorSize,
		}
		next += length
		free -= want
	}
	return out
}

// checkGPTName says what keeps a partition name out of a GPT entry.
func checkGPTName(name string) error {
	if n := len(utf16.Encode([]rune(name))); n > gptNameLimit {
		return fmt.Errorf("its name has %d UTF-16 units, and a GPT holds %d", n, gptNameLimit)
	}
	return nil
}

// BIOSBootPartition is where GRUB's core image for BIOS machines goes on a disk
// with a GUID table; nil if there is none.
func (d *Disk) BIOSBootPartition() *Partition { return d.partitionOfType(TypeBIOSBoot) }

func (d *Disk) partitionOfType(guid string) *Partition {
	for i := 0; d.Table != nil && i < len(d.Table.Partitions); i++ {
		if d.Table.Partitions[i].TypeGUID == guid {
			return &d.Table.Partitions[i]
		}
	}
	return nil
}

// TypeCode is sgdisk's code of a partition type, in lower case; empty if it has
// none here.
func TypeCode(guid string) string {
	for code, g := range gptTypes {
		if g == guid {
			return code
		}
	}
	return ""
}
