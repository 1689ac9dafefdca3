// Package draw shows a disk layout to people: as tables, as a drawing to scale
// for the terminal, and as SVG. Everything is a pure function of the layout.
package draw

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/blockdev"
)

// row is a partition, a volume, or what lies between them.
type row struct {
	number      int    // of the partition; 0: it has none
	name        string // of the node; "extended" for the extended partition
	start, end  int64  // bytes; the end is exclusive
	kind        string // partition type
	boot        bool
	fs          *blockdev.Filesystem
	mount       string
	free, outer bool // nothing lies there; other partitions lie there
	split       bool // in several places, none of which is told
}

func (r row) size() int64 { return r.end - r.start }

// title says in few words what a place holds.
func (r row) title() string {
	words := []string{r.name}
	if r.number > 0 {
		words = []string{fmt.Sprint(r.number), r.name}
	}
	if r.mount != "" && r.mount != r.name {
		words = append(words, r.mount)
	}
	return strings.Join(words, " ")
}

// rows lists what is on a disk in order of place.
func rows(l *blockdev.Layout, d *blockdev.Disk) []row {
	sector := int64(d.SectorSize)
	var list []row
	if t := d.Table; t != nil {
		for _, p := range t.Partitions {
			kind := typeName(p.TypeGUID)
			if p.TypeGUID == "" {
				kind = fmt.Sprintf("0x%02x", p.Type)
			}
			list = append(list, row{number: p.Number, name: p.Name, start: p.Start * sector, end: (p.Start + p.Length) * sector, kind: kind, boot: p.Boot})
		}
		for _, r := range t.Records[:min(1, len(t.Records))] {
			for i, e := range r.Entries {
				if e.Type == 0x05 || e.Type == 0x0f || e.Type == 0x85 {
					list = append(list, row{number: i + 1, name: "extended", start: e.LBA * sector, end: (e.LBA + e.Length) * sector, kind: fmt.Sprintf("0x%02x", e.Type), outer: true})
				}
			}
		}
	}
	for i := range l.Filesystems {
		fs := &l.Filesystems[i]
		if fs.Disk != d.Name {
			continue
		}
		at := slices.IndexFunc(list, func(r row) bool { return !r.outer && r.fs == nil && r.start == fs.Offset && r.name == fs.Partition })
		if at < 0 {
			list = append(list, row{name: fs.Node, start: fs.Offset, end: fs.Offset + fs.Length, split: fs.Split})
			at = len(list) - 1
		}
		list[at].fs, list[at].mount = fs, mountOf(l, fs)
	}
	slices.SortStableFunc(list, func(a, b row) int {
		if a.start != b.start {
			return int(min(max(a.start-b.start, -1), 1))
		}
		return int(min(max(b.size()-a.size(), -1), 1)) // what holds others comes before them
	})
	// A partition with volumes in it is drawn as these.
	for i := range list {
		p := &list[i]
		p.outer = p.outer || p.number > 0 && slices.ContainsFunc(list, func(r row) bool {
			return r.number == 0 && !r.split && r.start >= p.start && r.end <= p.end
		})
	}
	return list
}

func mountOf(l *blockdev.Layout, fs *blockdev.Filesystem) string {
	for _, m := range l.Mounts {
		if m.Filesystem == fs.Node {
			return m.Point
		}
	}
	if fs.Type == "swap" {
		return "swap"
	}
	return ""
}

// cover lists the places of a disk without overlaps and without holes, leaving
// out what only holds others.
func cover(l *blockdev.Layout, d *blockdev.Disk) []row {
	var out []row
	at := int64(0)
	for _, r := range rows(l, d) {
		if r.outer || r.split || r.start < at {
			continue
		}
		if r.start > at {
			out = append(out, row{start: at, end: r.start, free: true})
		}
		out = append(out, r)
		at = r.end
	}
	if at < d.Size {
		out = append(out, row{start: at, end: d.Size, free: true})
	}
	return out
}

// typeNames are the partition types that people meet.
var typeNames = map[string]string{
	"ef00": "EFI system", "ef02": "BIOS boot", "8300": "Linux", "8200": "Linux swap", "8e00": "Linux LVM",
	"0700": "Microsoft data", "4100": "PReP boot", "fd00": "Linux RAID", "8304": "root x86-64", "8305": "root ARM64",
	"8309": "Linux LUKS", "ea00": "XBOOTLDR",
}

// typeName is a GUID partition type for people: its code and name if there is
// one, otherwise itself.
func typeName(guid string) string {
	code := blockdev.TypeCode(guid)
	if code == "" {
		return guid
	}
	if name := typeNames[code]; name != "" {
		return strings.ToUpper(code) + " " + name
	}
	return strings.ToUpper(code)
}

// amount is a number of bytes, exact where a unit allows it in a few digits.
func amount(n int64) string {
	units := []struct {
		name  string
		bytes int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}
	for _, u := range units {
		if n >= u.bytes && n%u.bytes == 0 {
			if v := n / u.bytes; v < 10000 {
				return fmt.Sprintf("%d %s", v, u.name)
			}
		}
	}
	for _, u := range units {
		if n >= u.bytes {
			return fmt.Sprintf("%.2f %s", float64(n)/float64(u.bytes), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

func heading(l *blockdev.Layout, d *blockdev.Disk) string {
	table := "no partition table"
	if d.Table != nil {
		table = map[string]string{"mbr": "MBR", "gpt": "GPT"}[d.Table.Label]
		switch {
		case d.Table.DiskGUID != "":
			table += " " + d.Table.DiskGUID
		case d.Table.DiskID != 0:
			table += fmt.Sprintf(" 0x%08x", d.Table.DiskID)
		}
	}
	note := ""
	if root := l.RootDisk(); len(l.Disks) > 1 && root != nil && root.Name == d.Name {
		note = " (the image)"
	}
	return fmt.Sprintf("Disk %s%s: %s, %d sectors of %d bytes, %s", d.Name, note, amount(d.Size), d.Size/int64(d.SectorSize), d.SectorSize, table)
}
