package blockdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/dib-builder/dib/internal/disk/fat"
	"github.com/dib-builder/dib/internal/finding"
)

// LayoutInput is what a layout needs beyond the configuration.
type LayoutInput struct {
	SizeKiB   int64  // size of every disk that has none of its own
	Seed      []byte // disk ids and UUIDs derive from it
	BlockSize string // DIB_BLOCK_SIZE: sector size of all disks; empty for what the configuration says
}

// Layout is everything that will be on the disks of one image. It round-trips
// through JSON.
type Layout struct {
	Disks        []Disk        `json:"disks"`
	VolumeGroups []VolumeGroup `json:"volume_groups,omitempty"`
	Filesystems  []Filesystem  `json:"filesystems"`
	Mounts       []Mount       `json:"mounts"` // sorted: a mount point comes after its parent
	FSTab        string        `json:"fstab"`  // content of /etc/fstab
}

// Disk is one raw image.
type Disk struct {
	Name       string `json:"name"` // of the node
	Directory  string `json:"directory,omitempty"`
	Device     string `json:"device"`      // made-up device name
	Size       int64  `json:"size"`        // bytes
	SectorSize int    `json:"sector_size"` // bytes: 512 or 4096
	Table      *Table `json:"table,omitempty"`
}

// Table is an MS-DOS or a GUID partition table.
type Table struct {
	Label      string      `json:"label"` // "mbr" or "gpt"
	Partitions []Partition `json:"partitions"`

	// Of an MS-DOS table: the master boot record, then the chain of extended ones.
	DiskID  uint32       `json:"disk_id,omitempty"`
	Records []BootRecord `json:"records,omitempty"`

	// Of a GUID table; the sectors that partitions may use.
	DiskGUID    string `json:"disk_guid,omitempty"`
	FirstUsable int64  `json:"first_usable,omitempty"`
	LastUsable  int64  `json:"last_usable,omitempty"`
}

// Partition is a partition that can hold something; the extended partition is
// only in the records. Start and Length count sectors of the disk.
type Partition struct {
	Name     string `json:"name"`   // of the node
	Device   string `json:"device"` // made-up device name
	Number   int    `json:"number"` // 1-4 primary, from 5 on logical
	Start    int64  `json:"start"`
	Length   int64  `json:"length"`
	Type     uint8  `json:"type,omitempty"`      // of an MS-DOS table
	TypeGUID string `json:"type_guid,omitempty"` // of a GUID table
	Boot     bool   `json:"boot,omitempty"`
	PartUUID string `json:"partuuid"` // the partition's GUID, or what Linux makes of disk id and number
}

// BootRecord is one sector of the table.
type BootRecord struct {
	LBA     int64    `json:"lba"`
	Entries [4]Entry `json:"entries"` // all zero for an unused slot
}

// Entry is one slot of a boot record. Start is what is written there; LBA is
// where the thing really begins, since entries of extended boot records count
// from other places. All count sectors.
type Entry struct {
	Boot   bool  `json:"boot,omitempty"`
	Type   uint8 `json:"type,omitempty"`
	Start  int64 `json:"start,omitempty"`
	Length int64 `json:"length,omitempty"`
	LBA    int64 `json:"lba,omitempty"`
}

// Partition types of a chain of logical partitions.
const (
	typeExtendedLBA  = 0x0f
	typeExtendedLink = 0x05
)

// Filesystem is a filesystem and where it lies. Offset and Length are bytes.
type Filesystem struct {
	Node      string `json:"node"`
	Disk      string `json:"disk"`
	Partition string `json:"partition,omitempty"` // empty: the whole disk, or a volume
	// Of a filesystem on a logical volume. One that is split lies in several
	// pieces, which VolumeGroup.Place finds; Disk is that of the first.
	VolumeGroup string   `json:"volume_group,omitempty"`
	Volume      string   `json:"volume,omitempty"`
	Split       bool     `json:"split,omitempty"`
	Device      string   `json:"device"`
	Offset      int64    `json:"offset"`
	Length      int64    `json:"length"`
	Type        string   `json:"type"`
	Label       string   `json:"label"`
	UUID        string   `json:"uuid"`
	HashSeed    string   `json:"hash_seed"` // a UUID: seed of hashed directories
	Opts        []string `json:"opts,omitempty"`
}

// Mount says which filesystem belongs where in the tree.
type Mount struct {
	Node       string `json:"node"`
	Point      string `json:"point"` // clean and absolute
	Filesystem string `json:"filesystem"`
}

// Layout computes where everything goes. The configuration must be merged.
// Errors of type finding.List are in the configuration; others are in the input.
func (c *Config) Layout(in LayoutInput) (*Layout, error) {
	if !c.merged {
		return nil, errors.New("internal error: layout of a configuration that is not merged")
	}
	col := c.collector()
	c.supported(col)
	if len(c.nodes.disks) == 0 {
		col.Errorf(finding.Pos{}, "no local_loop: there is no disk to write")
	}
	if len(col.Errors) > 0 {
		return nil, col.Errors
	}
	a := arranger{Collector: col, in: in, nodes: &c.nodes, extents: map[string]extent{}}
	for _, d := range c.nodes.disks {
		if err := a.disk(d); err != nil {
			return nil, err
		}
	}
	for _, n := range c.nodes.lvms {
		a.groups(n)
	}
	for _, f := range c.nodes.filesystems {
		a.filesystem(f)
	}
	a.mounts()
	if len(col.Errors) > 0 {
		return nil, col.Errors
	}
	return &a.out, nil
}

// extent is the place of a node that can carry a filesystem.
type extent struct {
	disk, partition, device string
	group, volume           string // of LVM
	split                   bool   // in several pieces, so that offset means nothing
	offset, length          int64  // bytes
	sectorSize              int
}

type arranger struct {
	*finding.Collector
	in      LayoutInput
	nodes   *nodeSet
	extents map[string]extent
	out     Layout
}

// identity derives a UUID (version 5, RFC 9562) for one purpose of one node.
func (a *arranger) identity(purpose, node string) uuid.UUID {
	// The namespace is this program's own; it only has to stay the same.
	space := uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/dib-builder/dib/layout"))
	seeded := uuid.NewSHA1(space, a.in.Seed)
	return uuid.NewSHA1(seeded, []byte(purpose+"\x00"+node))
}

// madeUpDevices begins the names of devices that do not exist.
const madeUpDevices = "/dev/dib/"

// MadeUp tells whether a device of a layout is a name only.
func MadeUp(device string) bool { return strings.HasPrefix(device, madeUpDevices) }

// deviceName makes up a device for display and for boot-loader tools; it has
// no blanks, so that scripts can pass it around.
func deviceName(node string) string {
	return madeUpDevices + strings.ReplaceAll(node, " ", "_")
}

func (a *arranger) disk(n diskNode) error {
	d := Disk{Name: n.name, Directory: n.directory, Device: deviceName(n.name), Size: n.size, SectorSize: 512}
	if d.Size == 0 {
		if a.in.SizeKiB <= 0 || a.in.SizeKiB > math.MaxInt64/1024 {
			return fmt.Errorf("cannot lay out disk %q: no size (the image size is %d KiB)", n.name, a.in.SizeKiB)
		}
		d.Size = a.in.SizeKiB * 1024
	}
	if n.blockSize != 0 {
		d.SectorSize = n.blockSize
	}
	switch a.in.BlockSize {
	case "":
	case "512":
		d.SectorSize = 512
	case "4096":
		d.SectorSize = 4096
	default:
		return fmt.Errorf("cannot lay out disk %q: DIB_BLOCK_SIZE %q is not supported: want 512 or 4096", n.name, a.in.BlockSize)
	}
	if d.Size%int64(d.SectorSize) != 0 {
		a.Errorf(n.pos, "local_loop %q: size %d is not a multiple of the sector size %d", n.name, d.Size, d.SectorSize)
		return nil
	}
	a.extents[n.name] = extent{disk: n.name, device: d.Device, length: d.Size, sectorSize: d.SectorSize}
	for _, t := range a.nodes.tables {
		if t.base == n.name {
			d.Table = a.table(t, d)
		}
	}
	a.out.Disks = append(a.out.Disks, d)
	return nil
}

func (a *arranger) table(t tableNode, d Disk) *Table {
	if t.label == "gpt" {
		return a.gptTable(t, d)
	}
	if t.align%int64(d.SectorSize) != 0 {
		a.Errorf(t.pos, "partitioning: align %d is not a multiple of the sector size %d of %q", t.align, d.SectorSize, d.Name)
		return nil
	}
	id := a.identity("disk", d.Name)
	out := &Table{Label: t.label, DiskID: max(binary.LittleEndian.Uint32(id[:4]), 1)}
	m := mbrArranger{
		Collector: a.Collector, table: out,
		sector: int64(d.SectorSize), align: t.align / int64(d.SectorSize), total: d.Size / int64(d.SectorSize),
	}
	m.arrange(t.partitions)
	for i := range out.Partitions {
		p := &out.Partitions[i]
		p.Device = deviceName(p.Name)
		p.PartUUID = fmt.Sprintf("%08x-%02x", out.DiskID, p.Number)
		a.extents[p.Name] = extent{
			disk: d.Name, partition: p.Name, device: p.Device,
			offset: p.Start * m.sector, length: p.Length * m.sector, sectorSize: d.SectorSize,
		}
	}
	return out
}

// mbrArranger places partitions one after the other. All its numbers count
// sectors.
type mbrArranger struct {
	*finding.Collector
	table *Table

	sector, align, total int64 // bytes in a sector; sectors
	next                 int64 // first sector not yet given away
	extended             int64 // start of the extended partition; 0 before it exists
	slot                 int   // next free slot of the master boot record
}

func (m *mbrArranger) up(n int64) int64 { return (n + m.align - 1) / m.align * m.align }

func (m *mbrArranger) arrange(parts []partitionNode) {
	m.next = m.up(1)
	m.table.Records = []BootRecord{{}}
	for _, p := range parts {
		// One unit is kept back, for an extended boot record that may follow.
		free := m.total*m.sector - (m.next+m.align)*m.sector
		want := p.size.Of(free)
		length := want / m.sector
		var start int64
		if p.primary {
			start = m.up(m.next)
		} else {
			if m.extended == 0 {
				m.extended = m.next
			}
			start = m.up(m.next + 1)
		}
		switch room := (m.total - start) * m.sector; {
		case length < 1:
			m.Errorf(p.pos, "partition %q: %d bytes are less than one sector of %d bytes (%d bytes were free)", p.name, want, m.sector, max(free, 0))
			return
		case length > m.total-start:
			m.Errorf(p.pos, "partition %q does not fit on the disk: it needs %d bytes, but only %d of %d are left; use a larger image size or a smaller partition", p.name, want, max(room, 0), m.total*m.sector)
			return
		case start > math.MaxUint32 || length > math.MaxUint32:
			m.Errorf(p.pos, "partition %q: an MBR cannot hold start %d and length %d: both must be below 2^32 sectors (2 TiB with 512-byte sectors)", p.name, start, length)
			return
		}
		if p.primary {
			m.primary(p, start, length)
		} else {
			m.logical(p, start, length)
		}
	}
	m.closeExtended(parts)
}

func (m *mbrArranger) primary(p partitionNode, start, length int64) {
	m.table.Records[0].Entries[m.slot] = Entry{Boot: p.boot, Type: p.code, Start: start, Length: length, LBA: start}
	m.slot++
	m.table.Partitions = append(m.table.Partitions, Partition{
		Name: p.name, Number: m.slot, Start: start, Length: length, Type: p.code, Boot: p.boot,
	})
	m.next = m.up(start + length)
}

func (m *mbrArranger) logical(p partitionNode, start, length int64) {
	record := m.next
	end := min(m.up(start+length), m.total)
	if n := len(m.table.Records); n > 1 {
		m.table.Records[n-1].Entries[1] = Entry{Type: typeExtendedLink, Start: record - m.extended, Length: end - record, LBA: record}
	}
	m.table.Records = append(m.table.Records, BootRecord{
		LBA:     record,
		Entries: [4]Entry{{Boot: p.boot, Type: p.code, Start: start - record, Length: length, LBA: start}},
	})
	m.table.Partitions = append(m.table.Partitions, Partition{
		Name: p.name, Number: 3 + len(m.table.Records), Start: start, Length: length, Type: p.code, Boot: p.boot,
	})
	m.next = m.up(start + length)
}

// closeExtended enters the extended partition, which reaches to the end of the
// disk, in the master boot record.
func (m *mbrArranger) closeExtended(parts []partitionNode) {
	if m.extended == 0 {
		return
	}
	length := m.total - m.extended
	if m.extended > math.MaxUint32 || length > math.MaxUint32 {
		m.Errorf(parts[len(parts)-1].pos, "the extended partition reaches to the end of the disk, sector %d: an MBR ends at 2^32 sectors (2 TiB with 512-byte sectors)", m.total)
		return
	}
	m.table.Records[0].Entries[m.slot] = Entry{Type: typeExtendedLBA, Start: m.extended, Length: length, LBA: m.extended}
}

func (a *arranger) filesystem(n fsNode) {
	at, ok := a.extents[n.base]
	if !ok {
		return // its disk or partition is reported already
	}
	f := Filesystem{
		Node: n.name, Disk: at.disk, Partition: at.partition, Device: at.device,
		VolumeGroup: at.group, Volume: at.volume, Split: at.split,
		Offset: at.offset, Length: at.length,
		Type: n.fstype, Label: n.label, UUID: n.uuid, Opts: slices.Clone(n.opts),
		HashSeed: a.identity("hash-seed", n.name).String(),
	}
	if f.UUID == "" {
		f.UUID = a.identity("filesystem", n.name).String()
		if isFAT(n.fstype) {
			f.UUID, _ = volumeID(f.UUID) // of a UUID there always is one
		}
	}
	if strings.HasPrefix(n.fstype, "ext") {
		a.blockSize(n, &f, at.sectorSize)
	}
	a.fits(n, f, at.sectorSize)
	a.out.Filesystems = append(a.out.Filesystems, f)
}

// blockSize keeps the blocks of an ext filesystem from being smaller than a
// sector, which no kernel mounts; mke2fs cannot ask a file for its sector size.
func (a *arranger) blockSize(n fsNode, f *Filesystem, sectorSize int) {
	given := ""
	for i, opt := range f.Opts {
		if opt == "-b" && i+1 < len(f.Opts) {
			given = f.Opts[i+1]
		} else if v, ok := strings.CutPrefix(opt, "-b"); ok {
			given = v
		}
	}
	if given == "" {
		if sectorSize == 4096 {
			f.Opts = append([]string{"-b", "4096"}, f.Opts...)
		}
		return
	}
	if size, err := strconv.Atoi(given); err == nil && size > 0 && size < sectorSize {
		a.Errorf(n.pos, "mkfs %q: blocks of %d bytes are smaller than the sectors of the disk, %d bytes: leave out -b", n.name, size, sectorSize)
	}
}

// swapMin is the size below which the kernel refuses a swap area (bytes).
const swapMin = 10 * 4096

// fits reports a place that its filesystem cannot have.
func (a *arranger) fits(n fsNode, f Filesystem, sectorSize int) {
	switch {
	case isFAT(f.Type):
		sector := int64(sectorSize)
		err := fat.Check(fat.Options{Length: f.Length / sector * sector, SectorSize: sectorSize, Label: f.Label, VolumeID: f.UUID, MkfsOpts: f.Opts})
		if err != nil {
			a.Errorf(n.pos, "mkfs %q: %v", n.name, err)
		}
	case f.Type == "swap" && f.Length < swapMin:
		a.Errorf(n.pos, "mkfs %q: %d bytes are too small for a swap area: want %d at least", n.name, f.Length, swapMin)
	}
}

func (a *arranger) mounts() {
	var fstab strings.Builder
	mounts := slices.Clone(a.nodes.mounts)
	sort.SliceStable(mounts, func(i, j int) bool { return mounts[i].point < mounts[j].point })
	for _, m := range mounts {
		if fs := a.nodes.filesystem(m.base); fs == nil || fs.fstype == "swap" {
			continue
		}
		a.out.Mounts = append(a.out.Mounts, Mount{Node: m.name, Point: m.point, Filesystem: m.base})
	}
	for _, m := range mounts {
		for i, f := range a.nodes.fstabs {
			replaced := slices.ContainsFunc(a.nodes.fstabs[i+1:], func(g fstabNode) bool { return g.base == f.base })
			if f.base == m.name && !replaced {
				fstab.WriteString(a.fstabLine(f, m))
			}
		}
	}
	a.out.FSTab = fstab.String()
}

// fstabLine is one line of fstab(5).
func (a *arranger) fstabLine(f fstabNode, m mountNode) string {
	fs := a.out.Filesystem(m.base)
	if fs == nil {
		return ""
	}
	id := "LABEL=" + fs.Label
	if f.byUUID || fs.Label == "" {
		id = "UUID=" + fs.UUID
	}
	if fs.Type == "swap" {
		return fmt.Sprintf("%s none swap sw 0 0\n", fstabEscape(id))
	}
	kind := fs.Type
	if isFAT(kind) {
		kind = "vfat" // the name that the kernel has for all of them
	}
	return fmt.Sprintf("%s %s %s %s %d %d\n", fstabEscape(id), fstabEscape(m.point), kind, fstabEscape(f.options), f.freq, f.pass)
}

// fstabEscape writes blanks as the octal escapes that fstab(5) knows.
func fstabEscape(s string) string {
	return strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(s)
}

// Filesystem gives the filesystem made by a node, nil if there is none.
func (l *Layout) Filesystem(node string) *Filesystem {
	for i := range l.Filesystems {
		if l.Filesystems[i].Node == node {
			return &l.Filesystems[i]
		}
	}
	return nil
}

// Holding gives the filesystem that a path of the tree lies on and the mount
// point of that filesystem; nil when nothing is mounted at /.
func (l *Layout) Holding(p string) (*Filesystem, string) {
	p = path.Clean("/" + p)
	var best *Mount
	for i, m := range l.Mounts {
		inside := m.Point == "/" || p == m.Point || strings.HasPrefix(p, m.Point+"/")
		if inside && (best == nil || len(m.Point) > len(best.Point)) {
			best = &l.Mounts[i]
		}
	}
	if best == nil {
		return nil, ""
	}
	return l.Filesystem(best.Filesystem), best.Point
}

// Disk gives the disk of a name, nil if there is none.
func (l *Layout) Disk(name string) *Disk {
	for i := range l.Disks {
		if l.Disks[i].Name == name {
			return &l.Disks[i]
		}
	}
	return nil
}

// RootDisk is the disk that carries the root filesystem: the image proper.
func (l *Layout) RootDisk() *Disk {
	fs, _ := l.Holding("/")
	if fs == nil {
		return nil
	}
	return l.Disk(fs.Disk)
}

// Partition gives the partition of a name, nil if the disk has none.
func (d *Disk) Partition(name string) *Partition {
	if d.Table == nil {
		return nil
	}
	for i := range d.Table.Partitions {
		if d.Table.Partitions[i].Name == name {
			return &d.Table.Partitions[i]
		}
	}
	return nil
}
