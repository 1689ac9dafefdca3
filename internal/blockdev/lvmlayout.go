package blockdev

import (
	"crypto/sha256"
	"strconv"
	"strings"
)

// VolumeGroup is a volume group of LVM with all that is in it.
type VolumeGroup struct {
	Name       string           `json:"name"`
	UUID       string           `json:"uuid"`        // LVM's: 32 letters and digits in seven groups
	ExtentSize int64            `json:"extent_size"` // bytes
	PVs        []PhysicalVolume `json:"pvs"`
	LVs        []LogicalVolume  `json:"lvs"`
}

// PhysicalVolume is a disk or a partition that belongs to a group. Offset and
// Length are bytes of the disk.
type PhysicalVolume struct {
	Node      string `json:"node"`
	UUID      string `json:"uuid"` // LVM's
	Disk      string `json:"disk"`
	Partition string `json:"partition,omitempty"` // empty: the whole disk
	Device    string `json:"device"`
	Offset    int64  `json:"offset"`
	Length    int64  `json:"length"`
	PEStart   int64  `json:"pe_start"` // bytes from Offset to the first extent
	PECount   int64  `json:"pe_count"` // extents
}

// LogicalVolume is a volume of a group. Its segments follow each other without
// a gap.
type LogicalVolume struct {
	Name     string    `json:"name"` // of the node, too
	UUID     string    `json:"uuid"` // LVM's
	Device   string    `json:"device"`
	Segments []Segment `json:"segments"`
}

// Segment is a part of a logical volume: one run of extents of a physical
// volume, or stripes that go round over several.
type Segment struct {
	Start      int64    `json:"start"`                 // extents of the logical volume
	Count      int64    `json:"count"`                 // extents of all stripes together
	StripeSize int64    `json:"stripe_size,omitempty"` // bytes; 0 with one stripe
	Stripes    []Stripe `json:"stripes"`
}

// Stripe is where a stripe of a segment begins.
type Stripe struct {
	PV    int   `json:"pv"`    // index in the group
	Start int64 `json:"start"` // extents of the physical volume
}

// lvmAlign is where the first extent of a physical volume begins: LVM's label
// and metadata come before it (bytes).
const lvmAlign = 1 << 20

// lvmID makes LVM's form of an id: 32 letters and digits.
func (a *arranger) lvmID(kind, node string) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	id := a.identity("lvm-"+kind, node)
	var out strings.Builder
	for i, c := range sha256.Sum256(id[:]) {
		if i == 6 || i > 6 && i < 27 && (i-6)%4 == 0 {
			out.WriteByte('-')
		}
		out.WriteByte(alphabet[int(c)%len(alphabet)])
	}
	return out.String()
}

const mapperDir = "/dev/mapper/"

// mapperName is the device of a volume. Hyphens in names are doubled, so that
// the single one between them stands out.
func mapperName(vg, lv string) string {
	double := func(s string) string { return strings.ReplaceAll(s, "-", "--") }
	return mapperDir + double(vg) + "-" + double(lv)
}

// groups lays out the volume groups of an lvm node.
func (a *arranger) groups(n lvmNode) {
	for _, g := range n.vgs {
		vg := VolumeGroup{Name: g.name, UUID: a.lvmID("vg", g.name), ExtentSize: g.extent, PVs: []PhysicalVolume{}, LVs: []LogicalVolume{}}
		for _, name := range g.pvs {
			for _, p := range n.pvs {
				if p.name == name && !a.physicalVolume(&vg, p) {
					return
				}
			}
		}
		if total := vg.extents(); total > maxExtents {
			a.Errorf(g.pos, "vg %q: %d extents of %d bytes are more than LVM can count; use larger extents (options: [-s, 64m])", g.name, total, g.extent)
			return
		}
		free := newFreeSpace(&vg)
		for _, v := range n.lvs {
			if v.base == g.name && !a.logicalVolume(&vg, free, v) {
				return
			}
		}
		a.out.VolumeGroups = append(a.out.VolumeGroups, vg)
	}
}

func (a *arranger) physicalVolume(vg *VolumeGroup, p pvNode) bool {
	at, ok := a.extents[p.base]
	if !ok {
		return false // its disk or partition is reported already
	}
	pv := PhysicalVolume{
		Node: p.name, UUID: a.lvmID("pv", p.name), Disk: at.disk, Partition: at.partition, Device: at.device,
		Offset: at.offset, Length: at.length, PEStart: lvmAlign,
		PECount: (at.length - lvmAlign) / vg.ExtentSize,
	}
	switch {
	case at.length < lvmAlign || pv.PECount < 1:
		a.Errorf(p.pos, "pv %q: %d bytes are too small for a physical volume: LVM needs %d and one extent of %d", p.name, at.length, int64(lvmAlign), vg.ExtentSize)
		return false
	case vg.ExtentSize%int64(at.sectorSize) != 0:
		a.Errorf(p.pos, "pv %q: extents of %d bytes do not fit the sectors of %d bytes of disk %q", p.name, vg.ExtentSize, at.sectorSize, at.disk)
		return false
	case len(vg.PVs) > 0 && a.extents[a.pvBase(vg.PVs[0])].sectorSize != at.sectorSize:
		a.Errorf(p.pos, "pv %q: disk %q has sectors of %d bytes, unlike the physical volumes of group %q before it: LVM does not use such a group", p.name, at.disk, at.sectorSize, vg.Name)
		return false
	}
	vg.PVs = append(vg.PVs, pv)
	return true
}

func (a *arranger) logicalVolume(vg *VolumeGroup, free *freeSpace, v lvNode) bool {
	what := "lv " + strconv.Quote(v.name)
	left := free.left()
	want := v.size / vg.ExtentSize
	if v.size == 0 {
		want = v.extents.count(vg.extents(), left)
	}
	if rest := want % v.stripes; rest != 0 {
		// As lvcreate does: a share must not become more than it is.
		want -= rest
		if v.extents.of == "" {
			want += v.stripes
		}
	}
	if want < 1 {
		a.Errorf(v.sizesPos, "%s: %s is less than one extent of %d bytes (%d of %d are free)", what, v.amount(), vg.ExtentSize, left, vg.extents())
		return false
	}
	if want > left {
		a.Errorf(v.sizesPos, "%s does not fit in group %q: %s are %d extents of %d bytes, but only %d of %d are left; use a larger image size or a smaller volume",
			what, vg.Name, v.amount(), want, vg.ExtentSize, left, vg.extents())
		return false
	}
	lv := LogicalVolume{Name: v.name, UUID: a.lvmID("lv", v.name), Device: mapperName(vg.Name, v.name)}
	if v.stripes == 1 {
		lv.Segments = free.linear(want)
	} else {
		if v.stripeSize > vg.ExtentSize {
			a.Errorf(v.pos, "%s: stripes of %d bytes are larger than extents of %d", what, v.stripeSize, vg.ExtentSize)
			return false
		}
		if lv.Segments = free.striped(want, v.stripes, v.stripeSize); lv.Segments == nil {
			a.Errorf(v.pos, "%s: %d stripes need as many physical volumes with %d free extents each; group %q has %s", what, v.stripes, want/v.stripes, vg.Name, free)
			return false
		}
	}
	vg.LVs = append(vg.LVs, lv)
	a.volumeExtent(vg, &vg.LVs[len(vg.LVs)-1])
	return true
}

// amount is the size as it was asked for.
func (v lvNode) amount() string {
	if v.sizeText != "" {
		return v.sizeText
	}
	return v.extentsText
}

// volumeExtent is where filesystems find a volume: at a place of its disk if
// it is in one piece, and through its segments otherwise.
func (a *arranger) volumeExtent(vg *VolumeGroup, lv *LogicalVolume) {
	first := lv.Segments[0].Stripes[0]
	pv := &vg.PVs[first.PV]
	e := extent{
		disk: pv.Disk, device: lv.Device, group: vg.Name, volume: lv.Name, length: lv.extents() * vg.ExtentSize,
		split: len(lv.Segments) > 1 || len(lv.Segments[0].Stripes) > 1,
	}
	if !e.split {
		e.offset = pv.Offset + pv.PEStart + first.Start*vg.ExtentSize
	}
	e.sectorSize = a.extents[a.pvBase(*pv)].sectorSize // all have the same
	a.extents[lv.Name] = e
}

func (a *arranger) pvBase(p PhysicalVolume) string {
	if p.Partition != "" {
		return p.Partition
	}
	return p.Disk
}

func (vg *VolumeGroup) extents() int64 {
	var n int64
	for _, p := range vg.PVs {
		n += p.PECount
	}
	return n
}

func (v *LogicalVolume) extents() int64 {
	var n int64
	for _, s := range v.Segments {
		n += s.Count
	}
	return n
}

// freeSpace is what is left of the physical volumes of a group: volumes are
// given away from the front and never given back.
type freeSpace struct {
	next, end []int64 // extents of each physical volume
}

func newFreeSpace(vg *VolumeGroup) *freeSpace {
	f := &freeSpace{}
	for _, p := range vg.PVs {
		f.next, f.end = append(f.next, 0), append(f.end, p.PECount)
	}
	return f
}

func (f *freeSpace) left() int64 {
	var n int64
	for i := range f.next {
		n += f.end[i] - f.next[i]
	}
	return n
}

func (f *freeSpace) String() string {
	var out []string
	for i := range f.next {
		out = append(out, strconv.FormatInt(f.end[i]-f.next[i], 10))
	}
	return strings.Join(out, ", ") + " free"
}

// linear takes n extents, in one piece if a physical volume has that many.
func (f *freeSpace) linear(n int64) []Segment {
	for i := range f.next {
		if f.end[i]-f.next[i] >= n {
			return []Segment{f.take(0, i, n)}
		}
	}
	var out []Segment
	var start int64
	for i := range f.next {
		if k := min(f.end[i]-f.next[i], n-start); k > 0 {
			out = append(out, f.take(start, i, k))
			start += k
		}
	}
	return out
}

func (f *freeSpace) take(start int64, pv int, n int64) Segment {
	s := Segment{Start: start, Count: n, Stripes: []Stripe{{PV: pv, Start: f.next[pv]}}}
	f.next[pv] += n
	return s
}

// striped takes n extents from the first physical volumes with enough room,
// nil if there are too few of them.
func (f *freeSpace) striped(n, stripes, stripeSize int64) []Segment {
	s := Segment{Count: n, StripeSize: stripeSize}
	for i := range f.next {
		if f.end[i]-f.next[i] >= n/stripes && int64(len(s.Stripes)) < stripes {
			s.Stripes = append(s.Stripes, Stripe{PV: i, Start: f.next[i]})
		}
	}
	if int64(len(s.Stripes)) < stripes {
		return nil
	}
	for _, p := range s.Stripes {
		f.next[p.PV] += n / stripes
	}
	return []Segment{s}
}

// VolumeOf gives the logical volume that a filesystem is on, and its group; nil
// for one on a partition or a disk.
func (l *Layout) VolumeOf(fs *Filesystem) (*VolumeGroup, *LogicalVolume) {
	if fs.Volume == "" {
		return nil, nil
	}
	for i := range l.VolumeGroups {
		vg := &l.VolumeGroups[i]
		for k := range vg.LVs {
			if vg.Name == fs.VolumeGroup && vg.LVs[k].Name == fs.Volume {
				return vg, &vg.LVs[k]
			}
		}
	}
	return nil, nil
}

// Place finds the byte at offset of a volume: its disk, its offset there, and
// how many bytes from it on lie together; 0 past the end of the volume.
func (vg *VolumeGroup) Place(lv *LogicalVolume, offset int64) (disk string, at, run int64) {
	for _, s := range lv.Segments {
		begin, length := s.Start*vg.ExtentSize, s.Count*vg.ExtentSize
		if offset < begin || offset >= begin+length {
			continue
		}
		in := offset - begin
		stripe := s.Stripes[0]
		run = length - in
		if n := int64(len(s.Stripes)); n > 1 {
			chunk, rest := in/s.StripeSize, in%s.StripeSize
			stripe = s.Stripes[chunk%n]
			in, run = chunk/n*s.StripeSize+rest, s.StripeSize-rest
		}
		pv := &vg.PVs[stripe.PV]
		return pv.Disk, pv.Offset + pv.PEStart + stripe.Start*vg.ExtentSize + in, run
	}
	return "", 0, 0
}
