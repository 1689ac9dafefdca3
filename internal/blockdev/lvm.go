package blockdev

import (
	"fmt"
	"math"
	"math/bits"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dib-builder/dib/internal/blockdev/size"
	"github.com/dib-builder/dib/internal/finding"
	"github.com/dib-builder/dib/internal/yamldoc"
)

const (
	defaultExtent = 4 << 20  // bytes; of vgcreate
	defaultStripe = 64 << 10 // bytes; of lvcreate
	minStripe     = 4 << 10  // bytes; a page
	maxStripes    = 128      // of the format
	// maxExtents is what device-mapper's 32-bit extent numbers can count.
	maxExtents = math.MaxUint32
)

// lvmNode is what one lvm item makes.
type lvmNode struct {
	name string
	pvs  []pvNode
	vgs  []vgNode
	lvs  []lvNode
	pos  finding.Pos
}

type pvNode struct {
	name, base string
	opts       []string
	pos        finding.Pos
}

type vgNode struct {
	name   string
	pvs    []string
	extent int64 // bytes
	opts   []string
	pos    finding.Pos
}

type lvNode struct {
	name, base    string
	size          int64  // bytes; 0 when extents say it
	sizeText      string // as given
	extents       extentCount
	extentsText   string
	kind          string // "", "thin" or "thin-pool"
	pool          string // of a thin volume
	stripes       int64
	stripeSize    int64 // bytes
	opts          []string
	pos, sizesPos finding.Pos
}

// extentCount is a number of extents, or a percentage of those of the group
// ("VG", or "PVS": all of its physical volumes) or of its free ones ("FREE").
type extentCount struct {
	n  int64
	of string
}

// of gives the number of extents, rounded down.
func (e extentCount) count(all, free int64) int64 {
	switch e.of {
	case "FREE":
		return free * e.n / 100
	case "VG", "PVS":
		return all * e.n / 100
	}
	return e.n
}

var extentsForm = regexp.MustCompile(`^([0-9]{1,10})(?:%(VG|FREE|PVS))?$`)

func parseExtents(text string) (extentCount, error) {
	m := extentsForm.FindStringSubmatch(text)
	if m == nil {
		return extentCount{}, fmt.Errorf("extents %q: want a number of extents, N%%VG, N%%FREE or N%%PVS", text)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	switch {
	case err != nil || n == 0 || n > maxExtents:
		return extentCount{}, fmt.Errorf("extents %q: want a number between 1 and %d", text, uint32(maxExtents))
	case m[2] != "" && n > 100:
		return extentCount{}, fmt.Errorf("extents %q: want at most 100%%", text)
	}
	return extentCount{n, m[2]}, nil
}

// lvmName is what LVM takes for a name of a group or a volume.
var lvmName = regexp.MustCompile(`^[A-Za-z0-9_.+][A-Za-z0-9_.+-]*$`)

// lvmReserved are parts of names that LVM keeps for volumes of its own.
var lvmReserved = []string{"_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_iorig", "_mimage", "_mlog", "_pmspare", "_rimage", "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig"}

func checkLVMName(name string) error {
	switch {
	case name == "." || name == ".." || !lvmName.MatchString(name):
		return fmt.Errorf("%q is not a name that LVM takes: want letters, digits, and . _ + -, not beginning with a hyphen", name)
	case len(name) > 127:
		return fmt.Errorf("%q is longer than the 127 characters that LVM takes", name)
	}
	return nil
}

func (r *nodeReader) lvm(it Item) {
	r.known(it.Kind, it.attrs, "pvs", "vgs", "lvs")
	n := lvmNode{name: it.Name, pos: it.pos}
	if it.Name == "" {
		r.Errorf(it.pos, "Lvm config requires 'name'")
	}
	for _, e := range r.lvmList(it, "pvs", "Lvm config requires a 'pvs'") {
		n.pvs = append(n.pvs, r.pv(e))
	}
	for _, e := range r.lvmList(it, "vgs", "Lvm config needs 'vgs'") {
		n.vgs = append(n.vgs, r.vg(n, e))
	}
	for _, e := range r.lvmList(it, "lvs", "Lvm config needs 'lvs'") {
		n.lvs = append(n.lvs, r.lv(n, e))
	}
	r.set.lvms = append(r.set.lvms, n)
}

func (r *nodeReader) lvmList(it Item, key, missing string) []yamldoc.Value {
	p, ok := it.get(key)
	what := "lvm " + strconv.Quote(it.Name)
	if !ok || p.Val.Kind == yamldoc.Null {
		r.Errorf(it.pos, "%s: %s", what, missing)
		return nil
	}
	if p.Val.Kind != yamldoc.List || len(p.Val.List) == 0 {
		r.Errorf(p.Pos, "%s: %s: %s must be a list with at least one entry", what, missing, key)
		return nil
	}
	var out []yamldoc.Value
	for _, e := range p.Val.List {
		if e.Kind != yamldoc.Map {
			r.Errorf(e.Pos, "%s: %s: want a mapping of options, not %s", what, key, describe(e))
			continue
		}
		out = append(out, e)
	}
	return out
}

// lvmName reads the option name of an entry.
func (r *nodeReader) lvmName(key string, e yamldoc.Value) string {
	name, pos := r.text(key, e.Pairs, "name", "")
	if name == "" {
		r.Errorf(e.Pos, "Missing 'name' in %s config", key)
		return ""
	}
	if key != "pvs" { // a pv's name is only that of its node
		if err := checkLVMName(name); err != nil {
			r.Errorf(pos, "%s: %v", key, err)
		}
	}
	return name
}

// lvmBases reads the option base: one name or a list of them.
func (r *nodeReader) lvmBases(key string, e yamldoc.Value) (names []string, shown string, pos finding.Pos) {
	p, ok := e.Get("base")
	if !ok || p.Val.Kind == yamldoc.Null || p.Val.Kind == yamldoc.Scalar && p.Val.Text == "" {
		missing := "'base' in " + key + " config"
		if key == "pvs" {
			missing = "'base' in pvs_config"
		}
		r.Errorf(e.Pos, "Missing %s", missing)
		return nil, "", e.Pos
	}
	names = r.words(key, e.Pairs, "base", false)
	shown = strings.Join(names, " ")
	if p.Val.Kind == yamldoc.List {
		shown = "['" + strings.Join(names, "', '") + "']"
		if len(names) == 0 {
			r.Errorf(p.Pos, "%s: base is an empty list", key)
		}
	}
	return names, shown, p.Pos
}

// lvmBase is the one name that a pv or an lv builds on.
func (r *nodeReader) lvmBase(key string, e yamldoc.Value) (name, shown string, pos finding.Pos) {
	names, shown, pos := r.lvmBases(key, e)
	if len(names) > 1 {
		r.Errorf(pos, "%s: base must be one name, not %s", key, shown)
	}
	if len(names) != 1 {
		return "", shown, pos
	}
	return names[0], shown, pos
}

func (r *nodeReader) pv(e yamldoc.Value) pvNode {
	p := pvNode{name: r.lvmName("pvs", e), pos: e.Pos}
	what := "pv " + strconv.Quote(p.name)
	r.known(what, e.Pairs, "options")
	p.base, _, _ = r.lvmBase("pvs", e)
	p.opts = r.words(what, e.Pairs, "options", true)
	r.lvmOptions(what, "pvcreate", e, p.opts, map[string]lvmOption{
		"-f": {}, "--force": {}, "-ff": {}, "-y": {}, "--yes": {},
	})
	return p
}

func (r *nodeReader) vg(n lvmNode, e yamldoc.Value) vgNode {
	v := vgNode{name: r.lvmName("vgs", e), extent: defaultExtent, pos: e.Pos}
	what := "vg " + strconv.Quote(v.name)
	r.known(what, e.Pairs, "options")
	names, _, pos := r.lvmBases("vgs", e)
	for _, name := range names {
		switch {
		case !slices.ContainsFunc(n.pvs, func(p pvNode) bool { return p.name == name }):
			r.Errorf(pos, "base:%s in vgs does not match a valid pvs", name)
		case slices.Contains(v.pvs, name):
			r.Errorf(pos, "%s: base %q is named twice", what, name)
		default:
			v.pvs = append(v.pvs, name)
		}
	}
	v.opts = r.words(what, e.Pairs, "options", true)
	extent := func(text string) error {
		bytes, err := lvmSize(text, 1<<20)
		switch {
		case err != nil:
			return err
		case bytes < 1<<10 || bits.OnesCount64(uint64(bytes)) != 1 && bytes%(128<<10) != 0:
			return fmt.Errorf("extents of %d bytes: want a power of 2 of at least 1 KiB, or a multiple of 128 KiB", bytes)
		case bytes > 16<<30:
			return fmt.Errorf("extents of %d bytes: want at most 16 GiB", bytes)
		}
		v.extent = bytes
		return nil
	}
	r.lvmOptions(what, "vgcreate", e, v.opts, map[string]lvmOption{
		"-f": {}, "--force": {}, "-y": {}, "--yes": {}, "-s": {value: extent}, "--physicalextentsize": {value: extent},
	})
	return v
}

func (r *nodeReader) lv(n lvmNode, e yamldoc.Value) lvNode {
	v := lvNode{name: r.lvmName("lvs", e), pos: e.Pos, sizesPos: e.Pos, stripes: 1, stripeSize: defaultStripe}
	what := "lv " + strconv.Quote(v.name)
	r.known(what, e.Pairs, "size", "extents", "options", "type", "thin-pool")
	for _, part := range lvmReserved {
		if strings.Contains(v.name, part) {
			r.Errorf(e.Pos, "%s: LVM keeps names with %q for itself", what, part)
		}
	}
	for _, start := range []string{"snapshot", "pvmove"} {
		if strings.HasPrefix(v.name, start) {
			r.Errorf(e.Pos, "%s: LVM keeps names that begin with %q for itself", what, start)
		}
	}
	var shown string
	var pos finding.Pos
	if v.base, shown, pos = r.lvmBase("lvs", e); v.base != "" && !slices.ContainsFunc(n.vgs, func(g vgNode) bool { return g.name == v.base }) {
		r.Errorf(pos, "base:%s in lvs does not match a valid vg", shown)
	}
	if device := strings.TrimPrefix(mapperName(v.base, v.name), mapperDir); len(device) > 127 {
		r.Errorf(e.Pos, "%s: its device %s would have a name of %d characters, and device-mapper takes 127", what, device, len(device))
	}
	r.lvSize(&v, what, e)
	v.kind, pos = r.text(what, e.Pairs, "type", "")
	if v.kind != "" && v.kind != "thin" && v.kind != "thin-pool" {
		r.Errorf(pos, "%s: Unsupported type:%s, supported types: thin, thin-pool", what, v.kind)
	}
	if v.pool, pos = r.text(what, e.Pairs, "thin-pool", ""); v.kind == "thin" || v.pool != "" {
		if err := v.checkThin(n); err != nil {
			if pos == (finding.Pos{}) {
				pos = e.Pos
			}
			r.Errorf(pos, "%s: %v", what, err)
		}
	}
	v.opts = r.words(what, e.Pairs, "options", true)
	stripes := func(text string) (err error) {
		if v.stripes, err = strconv.ParseInt(text, 10, 32); err != nil || v.stripes < 1 || v.stripes > maxStripes {
			return fmt.Errorf("%q stripes: want 1 to %d", text, maxStripes)
		}
		return nil
	}
	stripeSize := func(text string) (err error) {
		if v.stripeSize, err = lvmSize(text, 1<<10); err == nil && (v.stripeSize < minStripe || bits.OnesCount64(uint64(v.stripeSize)) != 1) {
			err = fmt.Errorf("stripes of %d bytes: want a power of 2 of at least %d", v.stripeSize, minStripe)
		}
		return err
	}
	yesNo := func(text string) error {
		if text != "y" && text != "n" {
			return fmt.Errorf("want y or n, not %q", text)
		}
		return nil
	}
	r.lvmOptions(what, "lvcreate", e, v.opts, map[string]lvmOption{
		"-y": {}, "--yes": {}, "-i": {value: stripes}, "--stripes": {value: stripes}, "-I": {value: stripeSize}, "--stripesize": {value: stripeSize},
		"-W": {value: yesNo}, "--wipesignatures": {value: yesNo}, "-Z": {value: yesNo}, "--zero": {value: yesNo},
	})
	return v
}

func (r *nodeReader) lvSize(v *lvNode, what string, e yamldoc.Value) {
	var err error
	var sizePos, extentsPos finding.Pos
	v.sizeText, sizePos = r.text(what, e.Pairs, "size", "")
	v.extentsText, extentsPos = r.text(what, e.Pairs, "extents", "")
	switch {
	case v.sizeText != "":
		v.sizesPos = sizePos
		if v.size, err = size.Parse(v.sizeText); err != nil {
			r.Errorf(sizePos, "%s: size: %v", what, err)
		}
		if v.extentsText != "" {
			r.Warnf(extentsPos, "%s: extents %q is ignored, because there is a size", what, v.extentsText)
		}
	case v.extentsText != "":
		v.sizesPos = extentsPos
		if v.extents, err = parseExtents(v.extentsText); err != nil {
			r.Errorf(extentsPos, "%s: %v", what, err)
		}
	default:
		r.Errorf(e.Pos, "%s: Missing 'size' or 'extents' in lvs config", what)
	}
}

// checkThin checks what a thin volume needs of the volumes before it.
func (v *lvNode) checkThin(n lvmNode) error {
	switch {
	case v.kind != "thin":
		return fmt.Errorf("thin-pool %q: only volumes of type thin are in a pool", v.pool)
	case v.pool == "":
		return fmt.Errorf("type thin needs a thin-pool")
	case v.size == 0 && v.extentsText != "":
		return fmt.Errorf("type thin needs a size: extents are space of the group, which a thin volume takes from its pool")
	}
	for _, p := range n.lvs {
		if p.name == v.pool && p.kind == "thin-pool" && p.base == v.base {
			return nil
		}
	}
	return fmt.Errorf("thin-pool %q: no volume of type thin-pool has this name in group %q before this one", v.pool, v.base)
}

// lvmOption is an option of an LVM program that is understood; value reads what
// follows it, and is nil when nothing does.
type lvmOption struct{ value func(string) error }

// lvmOptions reads options as the program they are meant for would. Options
// that only silence questions mean nothing here, and what is not understood is
// refused, since the disk would not be what was asked for.
func (r *nodeReader) lvmOptions(what, program string, e yamldoc.Value, words []string, known map[string]lvmOption) {
	pos := e.Pos
	if p, ok := e.Get("options"); ok {
		pos = p.Pos
	}
	for i := 0; i < len(words); i++ {
		w := words[i]
		name, value, inline := strings.Cut(w, "=")
		if !strings.HasPrefix(w, "--") {
			name, inline = w, false
			if o, ok := known[w[:min(2, len(w))]]; ok && o.value != nil && len(w) > 2 {
				name, value, inline = w[:2], w[2:], true
			}
		}
		o, ok := known[name]
		switch {
		case !ok || o.value == nil && inline:
			names := make([]string, 0, len(known))
			for k := range known {
				names = append(names, k)
			}
			slices.Sort(names)
			r.Errorf(pos, "%s: option %q of %s is not supported; supported are %s", what, w, program, strings.Join(names, ", "))
			continue
		case o.value == nil:
			continue
		case !inline && i+1 == len(words):
			r.Errorf(pos, "%s: option %s of %s wants a value", what, w, program)
			return
		case !inline:
			i++
			value = words[i]
		}
		if err := o.value(value); err != nil {
			r.Errorf(pos, "%s: option %s: %v", what, name, err)
		}
	}
}

// lvmUnits are the suffixes of sizes in LVM's options, whose capitals mean the
// same as their small letters.
var lvmUnits = map[string]int64{"b": 1, "s": 512, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

// lvmSize reads a size as LVM's options have it; a bare number counts units.
func lvmSize(text string, unit int64) (int64, error) {
	number := text
	if n := len(text); n > 0 {
		if u, ok := lvmUnits[strings.ToLower(text[n-1:])]; ok {
			number, unit = text[:n-1], u
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is not a size: want a whole number, with b, s, k, m, g or t after it", text)
	}
	return n * unit, nil
}

// lvmBasesFit checks that physical volumes lie on something that holds data and
// that nothing is used twice.
func (r *nodeReader) lvmBasesFit(use func(pos finding.Pos, what, base string, kinds ...string)) {
	for _, n := range r.set.lvms {
		for _, p := range n.pvs {
			use(p.pos, "pv "+strconv.Quote(p.name), p.base, "local_loop", "partition")
		}
		for _, v := range n.vgs {
			for _, p := range v.pvs {
				use(v.pos, "vg "+strconv.Quote(v.name), p, "pv")
			}
		}
		for _, v := range n.lvs {
			if v.kind == "thin-pool" {
				use(v.pos, "its thin volumes", v.name, "lv")
			}
		}
	}
}

// lvmSupported reports what of LVM cannot be written yet.
func (c *Config) lvmSupported(col *finding.Collector) {
	for _, n := range c.nodes.lvms {
		for _, v := range n.lvs {
			if v.kind != "" {
				col.Errorf(v.pos, "lv %q: type %s: thin pools and thin volumes are not supported; leave out the type (and the pool) to get an ordinary volume", v.name, v.kind)
			}
		}
	}
}

// UsesLVM says whether the configuration has logical volumes.
func (c *Config) UsesLVM() bool { return len(c.nodes.lvms) > 0 }
