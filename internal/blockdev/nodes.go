package blockdev

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/dib-builder/dib/internal/blockdev/size"
	"github.com/dib-builder/dib/internal/disk/fat"
	"github.com/dib-builder/dib/internal/finding"
	"github.com/dib-builder/dib/internal/shellwords"
	"github.com/dib-builder/dib/internal/yamldoc"
)

// DefaultAlign is the alignment of partitions in bytes when none is given.
const DefaultAlign = 1 << 20

// maxSlots is the number of entries in a master boot record.
const maxSlots = 4

type diskNode struct {
	name      string
	size      int64 // bytes; 0 for the size of the image
	directory string
	blockSize int // bytes; 0 for the default
	pos       finding.Pos
}

type tableNode struct {
	base       string
	label      string
	align      int64 // bytes
	partitions []partitionNode
	pos        finding.Pos
}

type partitionNode struct {
	name          string
	size          size.Size
	boot, primary bool
	code          uint8  // type, of an MBR partition
	guid          string // type, of a GPT partition
	pos           finding.Pos
}

type fsNode struct {
	name, base string
	fstype     string
	label      string
	uuid       string
	opts       []string
	pos        finding.Pos
}

type mountNode struct {
	name, base string
	point      string // clean and absolute; "none" for swap
	pos        finding.Pos
}

type fstabNode struct {
	name, base string
	options    string
	freq, pass int64
	byUUID     bool
	pos        finding.Pos
}

// nodeSet is the typed form of a configuration.
type nodeSet struct {
	disks       []diskNode
	tables      []tableNode
	filesystems []fsNode
	mounts      []mountNode
	fstabs      []fstabNode
	lvms        []lvmNode
	graph       Graph
}

// nodeName is what a node may be called: names end up in shell text that hooks
// evaluate, and in file names.
var nodeName = regexp.MustCompile(`^[A-Za-z0-9._-][A-Za-z0-9._ -]*$`)

// nodeReader builds a nodeSet and checks it on the way.
type nodeReader struct {
	*finding.Collector
	set nodeSet
	// merged says that the options of the build have been filled in, so that
	// what is still missing is an error.
	merged bool
}

func readNodes(items []Item, c *finding.Collector, merged bool) nodeSet {
	r := nodeReader{Collector: c, merged: merged}
	for _, it := range items {
		switch it.Kind {
		case "local_loop":
			r.disk(it)
		case "partitioning":
			r.table(it)
		case "mkfs":
			r.filesystem(it)
		case "mount":
			r.mount(it)
		case "fstab":
			r.fstab(it)
		case "lvm":
			r.lvm(it)
		}
	}
	r.cleanPoints()
	r.set.graph = buildGraph(items, r.set.mounts, c)
	r.crossCheck()
	return r.set
}

// known warns about options that mean nothing here.
func (r *nodeReader) known(kind string, attrs yamldoc.Pairs, keys ...string) {
	for _, a := range attrs {
		if a.Key != "name" && a.Key != "base" && !slices.Contains(keys, a.Key) {
			r.Warnf(a.Pos, "%s: unknown option %q is ignored", kind, a.Key)
		}
	}
}

// text gives an option as it was written; an absent or null one is def.
func (r *nodeReader) text(kind string, attrs yamldoc.Pairs, key, def string) (string, finding.Pos) {
	p, ok := attrs.Get(key)
	switch {
	case !ok || p.Val.Kind == yamldoc.Null:
		return def, p.Pos
	case p.Val.Kind != yamldoc.Scalar:
		r.Errorf(p.Pos, "%s: %s must be a text or a number, not %s", kind, key, p.Val.Kind)
		return def, p.Pos
	}
	return p.Val.Text, p.Pos
}

func (r *nodeReader) number(kind string, attrs yamldoc.Pairs, key string, def int64) int64 {
	s, pos := r.text(kind, attrs, key, "")
	if s == "" {
		return def
	}
	n, ok := yamldoc.ParseInt(s)
	if !ok || n < 0 {
		r.Errorf(pos, "%s: %s must be a whole number, not %q", kind, key, s)
		return def
	}
	return n
}

// words reads a list of words, given as a list or as one text.
func (r *nodeReader) words(kind string, attrs yamldoc.Pairs, key string, split bool) []string {
	p, _ := attrs.Get(key)
	switch p.Val.Kind {
	case yamldoc.List:
		var out []string
		for _, e := range p.Val.List {
			if e.Kind != yamldoc.Scalar {
				r.Errorf(e.Pos, "%s: %s must hold texts, not %s", kind, key, e.Kind)
				continue
			}
			out = append(out, e.Text)
		}
		return out
	case yamldoc.Scalar:
		if !split {
			return []string{p.Val.Text}
		}
		out, err := shellwords.Split(p.Val.Text)
		if err != nil {
			r.Errorf(p.Pos, "%s: cannot split %s %q into words: %v", kind, key, p.Val.Text, err)
		}
		return out
	case yamldoc.Map:
		r.Errorf(p.Pos, "%s: %s must be a list or a text, not %s", kind, key, p.Val.Kind)
	}
	return nil
}

func (r *nodeReader) size(kind string, attrs yamldoc.Pairs, key string) int64 {
	s, pos := r.text(kind, attrs, key, "")
	if s == "" {
		return 0
	}
	n, err := size.Parse(s)
	if err != nil {
		r.Errorf(pos, "%s: %s: %v", kind, key, err)
	}
	return n
}

func (r *nodeReader) disk(it Item) {
	r.known(it.Kind, it.attrs, "size", "directory", "block_size")
	d := diskNode{name: it.Name, pos: it.pos}
	d.size = r.size(it.Kind, it.attrs, "size")
	d.directory, _ = r.text(it.Kind, it.attrs, "directory", "")
	if bs := r.number(it.Kind, it.attrs, "block_size", 0); bs != 0 {
		d.blockSize = int(bs)
		if bs != 512 && bs != 4096 {
			r.Errorf(it.pos, "local_loop %q: block_size %d is not supported: want 512 or 4096", it.Name, bs)
		}
	}
	r.set.disks = append(r.set.disks, d)
}

func (r *nodeReader) table(it Item) {
	r.known(it.Kind, it.attrs, "label", "align", "partitions")
	t := tableNode{base: it.Base, align: DefaultAlign, pos: it.pos}
	if t.base == "" {
		r.Errorf(it.pos, "Partitioning config needs 'base'")
	}
	parts, ok := it.get("partitions")
	if !ok {
		r.Errorf(it.pos, "Partitioning config needs 'partitions'")
	}
	label, pos := r.text(it.Kind, it.attrs, "label", "")
	switch t.label = label; label {
	case "mbr", "gpt":
	case "":
		r.Errorf(it.pos, "Partitioning config needs 'label'")
	default:
		r.Errorf(pos, "Label must be 'mbr' or 'gpt', not %q", label)
	}
	if n := r.size(it.Kind, it.attrs, "align"); n != 0 {
		t.align = n
		if label == "gpt" && n != gptAlign {
			r.Warnf(it.pos, "partitioning: align is ignored: partitions of a GPT begin on whole MiB")
		}
		if n%512 != 0 {
			r.Errorf(it.pos, "partitioning: align %d is not a multiple of 512", n)
		}
	}
	for _, e := range parts.Val.List {
		t.partitions = append(t.partitions, r.partition(t.label, e))
	}
	if t.label == "mbr" {
		r.slots(t)
	}
	r.set.tables = append(r.set.tables, t)
}

func (r *nodeReader) partition(label string, e yamldoc.Value) partitionNode {
	name, _ := r.text("partition", e.Pairs, "name", "")
	what := "partition " + strconv.Quote(name)
	r.known(what, e.Pairs, "size", "flags", "type")
	p := partitionNode{name: name, code: 0x83, guid: gptTypes["8300"], pos: e.Pos}
	for _, f := range r.words(what, e.Pairs, "flags", false) {
		switch {
		case f == "boot":
			p.boot = true
		case f == "primary" && label == "gpt":
			r.Errorf(e.Pos, "%s: Primary flag not supported for GPT partitions", what)
		case f == "primary":
			p.primary = true
		default:
			r.Errorf(e.Pos, "%s: Unknown flag: %s", what, f)
		}
	}
	share, pos := r.text(what, e.Pairs, "size", "")
	if share == "" {
		if given, _ := e.Get("size"); given.Val.Kind != yamldoc.List && given.Val.Kind != yamldoc.Map { // which is reported already
			r.Errorf(e.Pos, "%s: no size given", what)
		}
	} else if s, err := size.ParseRelative(share); err != nil {
		r.Errorf(pos, "%s: %v", what, err)
	} else {
		p.size = s
	}
	var err error
	if code, pos := r.text(what, e.Pairs, "type", ""); code != "" && label == "mbr" {
		n, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(code), "0x"), 16, 8)
		if err != nil || n == 0 {
			r.Errorf(pos, "%s: type %q is not a partition type: want 0x01 to 0xff", what, code)
		}
		p.code = uint8(n)
	} else if code != "" && label == "gpt" {
		if p.guid, err = gptType(code); err != nil {
			r.Errorf(pos, "%s: %v", what, err)
		}
	}
	if label == "gpt" {
		if err := checkGPTName(name); err != nil {
			r.Errorf(e.Pos, "%s: %v", what, err)
		}
	}
	return p
}

// slots checks what a master boot record can hold.
func (r *nodeReader) slots(t tableNode) {
	used, logical := 0, false
	for _, p := range t.partitions {
		switch {
		case !p.primary && !logical:
			logical = true
			used++
		case !p.primary:
			continue
		default:
			if logical {
				r.Errorf(p.pos, "partition %q: All primary partitions must be given first", p.name)
			}
			used++
		}
		if used > maxSlots {
			r.Errorf(p.pos, "partition %q: an MBR has %d slots, and they are all taken (logical partitions need one for the extended partition)", p.name, maxSlots)
		}
	}
}

func (r *nodeReader) filesystem(it Item) {
	r.known(it.Kind, it.attrs, "type", "label", "opts", "uuid")
	f := fsNode{name: it.Name, base: it.Base, pos: it.pos}
	what := "mkfs " + strconv.Quote(it.Name)
	if f.base == "" {
		r.Errorf(it.pos, "%s: Mkfs config needs [base]", what)
	}
	f.fstype, _ = r.text(what, it.attrs, "type", "")
	if f.fstype == "" && (r.merged || it.Name != rootNode) {
		r.Errorf(it.pos, "%s: Mkfs config needs [type]", what)
	}
	f.label, _ = r.text(what, it.attrs, "label", it.Name)
	if isFAT(f.fstype) {
		f.label = strings.ToUpper(f.label)
	}
	if limit := labelLimit(f.fstype); limit == 0 {
		if f.fstype != "" {
			r.Warnf(it.pos, "%s: length of label [%s] cannot be checked for filesystem [%s]", what, f.label, f.fstype)
		}
	} else if len(f.label) > limit {
		r.Errorf(it.pos, "%s: Label [%s] too long for filesystem [%s]: %d > %d", what, f.label, f.fstype, len(f.label), limit)
	}
	if strings.ContainsAny(f.label, "\x00\n") {
		r.Errorf(it.pos, "%s: label %q has a line break or a NUL", what, f.label)
	}
	f.opts = r.words(what, it.attrs, "opts", true)
	if opts, ok := it.get("opts"); ok && len(f.opts) > 0 {
		switch {
		case f.fstype == "swap":
			r.Warnf(opts.Pos, "%s: opts of a swap area are ignored", what)
			f.opts = nil
		case isFAT(f.fstype):
			if err := fat.CheckOptions(f.opts); err != nil {
				r.Errorf(opts.Pos, "%s: %v", what, err)
			}
		}
	}
	if isFAT(f.fstype) && len(f.label) <= labelLimit(f.fstype) {
		if err := fat.CheckLabel(f.label); err != nil {
			r.Errorf(it.pos, "%s: %v", what, err)
		}
	}
	var pos finding.Pos
	f.uuid, pos = r.text(what, it.attrs, "uuid", "")
	if f.uuid != "" {
		u, err := uuid.Parse(f.uuid)
		switch {
		case isFAT(f.fstype):
			if f.uuid, err = volumeID(f.uuid); err != nil {
				r.Errorf(pos, "%s: %v", what, err)
			}
		case f.fstype != "" && err != nil:
			r.Errorf(pos, "%s: %q is not a UUID", what, f.uuid)
		case err == nil:
			f.uuid = u.String()
		}
	}
	r.set.filesystems = append(r.set.filesystems, f)
}

func isFAT(fstype string) bool { return fstype == "vfat" || fstype == "fat" }

// volumeID makes what stands for a UUID on a FAT filesystem: its first eight
// hexadecimal digits, written as Linux shows them.
func volumeID(text string) (string, error) {
	digits := strings.ReplaceAll(text, "-", "")
	if len(digits) < 8 {
		return "", fmt.Errorf("%q is not a volume id: want eight hexadecimal digits, such as 1A2B-3C4D, or a UUID", text)
	}
	n, err := strconv.ParseUint(digits[:8], 16, 32)
	if err != nil {
		return "", fmt.Errorf("%q is not a volume id: want eight hexadecimal digits, such as 1A2B-3C4D, or a UUID", text)
	}
	return fmt.Sprintf("%04X-%04X", n>>16, n&0xffff), nil
}

// labelLimit is the longest label of a filesystem type in bytes; 0 unknown.
func labelLimit(fstype string) int {
	switch fstype {
	case "ext2", "ext3", "ext4", "swap":
		return 16
	case "xfs":
		return 12
	case "vfat", "fat":
		return 11
	}
	return 0
}

func (r *nodeReader) mount(it Item) {
	r.known(it.Kind, it.attrs, "mount_point")
	what := "mount " + strconv.Quote(it.Name)
	if it.Base == "" {
		r.Errorf(it.pos, "%s: MountPoint config needs [base]", what)
	}
	point, pos := r.text(what, it.attrs, "mount_point", "")
	if point == "" {
		r.Errorf(it.pos, "%s: MountPoint config needs [mount_point]", what)
	}
	r.set.mounts = append(r.set.mounts, mountNode{it.Name, it.Base, point, pos})
}

func (r *nodeReader) fstab(it Item) {
	r.known(it.Kind, it.attrs, "options", "dump-freq", "fsck-passno", "by")
	what := "fstab " + strconv.Quote(it.Name)
	if it.Base == "" {
		r.Errorf(it.pos, "%s: fstab config needs [base]", what)
	}
	f := fstabNode{name: it.Name, base: it.Base, pos: it.pos}
	f.options, _ = r.text(what, it.attrs, "options", "defaults")
	f.freq = r.number(what, it.attrs, "dump-freq", 0)
	f.pass = r.number(what, it.attrs, "fsck-passno", 2)
	by, pos := r.text(what, it.attrs, "by", "label")
	switch by {
	case "label":
	case "uuid":
		f.byUUID = true
	default:
		r.Errorf(pos, "%s: by: want label or uuid, not %q", what, by)
	}
	r.set.fstabs = append(r.set.fstabs, f)
}

// cleanPoints settles mount points, which needs the types of the filesystems
// below them: swap is not mounted anywhere.
func (r *nodeReader) cleanPoints() {
	for i := range r.set.mounts {
		m := &r.set.mounts[i]
		fs := r.set.filesystem(m.base)
		switch {
		case m.point == "": // reported already
		case fs != nil && fs.fstype == "swap":
			m.point = "none"
		case !path.IsAbs(m.point):
			r.Errorf(m.pos, "mount %q: mount point %q is not an absolute path", m.name, m.point)
		default:
			m.point = path.Clean(m.point)
		}
	}
}

// crossCheck finds conflicts between nodes.
func (r *nodeReader) crossCheck() {
	labels := map[string]bool{}
	for _, f := range r.set.filesystems {
		// The label of the root filesystem may still come from an option.
		if _, given := r.set.graph.attr(f.name, "label"); !r.merged && f.name == rootNode && !given {
			continue
		}
		if labels[f.label] && f.label != "" {
			r.Errorf(f.pos, "mkfs %q: File system label [%s] used more than once", f.name, f.label)
		}
		labels[f.label] = true
	}
	points := map[string]bool{}
	for _, m := range r.set.mounts {
		if m.point != "none" && m.point != "" && points[m.point] {
			r.Errorf(m.pos, "mount %q: Mount point [%s] specified more than once", m.name, m.point)
		}
		points[m.point] = true
	}
	r.bases()
	seen := map[string]string{}
	for _, f := range r.set.fstabs {
		if first, twice := seen[f.base]; twice {
			r.Warnf(f.pos, "fstab %q replaces fstab %q for the same mount", f.name, first)
		}
		seen[f.base] = f.name
	}
}

// bases checks that every node builds on a node of a kind that can carry it,
// and that nothing is used twice.
func (r *nodeReader) bases() {
	user := map[string]string{}
	use := func(pos finding.Pos, what, base string, kinds ...string) {
		kind := r.set.graph.kind(base)
		if kind == "" { // no such node, which the graph reports
			return
		}
		if !slices.Contains(kinds, kind) {
			r.Errorf(pos, "%s: base %q is a %s; want a %s", what, base, kind, strings.Join(kinds, " or a "))
			return
		}
		if other := user[base]; other != "" {
			r.Errorf(pos, "%s: base %q is already used by %s", what, base, other)
			return
		}
		user[base] = what
	}
	for _, t := range r.set.tables {
		use(t.pos, "partitioning", t.base, "local_loop")
	}
	r.lvmBasesFit(use)
	for _, f := range r.set.filesystems {
		use(f.pos, "mkfs "+strconv.Quote(f.name), f.base, "local_loop", "partition", "lv")
	}
	for _, m := range r.set.mounts {
		use(m.pos, "mount "+strconv.Quote(m.name), m.base, "mkfs")
	}
	for _, f := range r.set.fstabs {
		if kind := r.set.graph.kind(f.base); kind != "" && kind != "mount" {
			r.Errorf(f.pos, "fstab %q: base %q is a %s; want a mount", f.name, f.base, kind)
		}
	}
}

func (s *nodeSet) filesystem(name string) *fsNode {
	for i := range s.filesystems {
		if s.filesystems[i].name == name {
			return &s.filesystems[i]
		}
	}
	return nil
}

// at gives the filesystem mounted at exactly this point.
func (s *nodeSet) at(point string) *fsNode {
	for _, m := range s.mounts {
		if m.point == point {
			return s.filesystem(m.base)
		}
	}
	return nil
}
