package blockdev

import "path"

// State is the content of state.json, for tools that read what DIB leaves in
// its state directory.
type State struct {
	SortedMountPoints [][2]string               `json:"sorted_mount_points"`
	FSLabels          []string                  `json:"fs_labels"`
	BlockDev          map[string]StateDevice    `json:"blockdev"`
	FileSys           map[string]StateFileSys   `json:"filesys"`
	Mount             map[string]StateMount     `json:"mount"`
	MountOrder        []string                  `json:"mount_order"`
	FSTab             map[string]StateFSTabLine `json:"fstab"`
	PVs               map[string]StatePV        `json:"pvs,omitempty"`
	VGs               map[string]StateVG        `json:"vgs,omitempty"`
}

// StateDevice is a disk, a partition or a logical volume; only disks have an
// image, and only volumes have what LVM needs.
type StateDevice struct {
	Device string `json:"device"`
	Image  string `json:"image,omitempty"`
	*StateLV
}

// StateLV is what a logical volume was asked to be; null is what was not given.
type StateLV struct {
	VGs     string   `json:"vgs"`
	Size    *string  `json:"size"`
	Extents *string  `json:"extents"`
	Opts    []string `json:"opts"`
}

// StatePV is a physical volume.
type StatePV struct {
	Opts   []string `json:"opts"`
	Device string   `json:"device"`
}

// StateVG is a volume group and the names of its physical volumes.
type StateVG struct {
	Opts    []string `json:"opts"`
	Devices []string `json:"devices"`
}

// StateFileSys is a filesystem.
type StateFileSys struct {
	UUID   string   `json:"uuid"`
	Label  string   `json:"label"`
	FSType string   `json:"fstype"`
	Opts   []string `json:"opts,omitempty"`
	Device string   `json:"device"`
}

// StateMount is a mounted filesystem.
type StateMount struct {
	Name string `json:"name"`
	Base string `json:"base"`
	Path string `json:"path"`
}

// StateFSTabLine is what a line of fstab is made of.
type StateFSTabLine struct {
	Name       string `json:"name"`
	Base       string `json:"base"`
	Options    string `json:"options"`
	DumpFreq   int64  `json:"dump-freq"`
	FsckPassNo int64  `json:"fsck-passno"`
}

// State describes a layout of this configuration as DIB would. Images lie in
// imageDir unless their disk names a directory, mounts below mountBase.
func (c *Config) State(l *Layout, imageDir, mountBase string) State {
	s := State{
		SortedMountPoints: [][2]string{}, FSLabels: []string{}, MountOrder: []string{},
		BlockDev: map[string]StateDevice{}, FileSys: map[string]StateFileSys{},
		Mount: map[string]StateMount{}, FSTab: map[string]StateFSTabLine{},
	}
	for _, d := range l.Disks {
		s.BlockDev[d.Name] = StateDevice{Device: d.Device, Image: d.ImagePath(imageDir)}
		if d.Table != nil {
			for _, p := range d.Table.Partitions {
				s.BlockDev[p.Name] = StateDevice{Device: p.Device}
			}
		}
	}
	c.lvmState(&s, l)
	for _, f := range l.Filesystems {
		s.FSLabels = append(s.FSLabels, f.Label)
		s.FileSys[f.Node] = StateFileSys{f.UUID, f.Label, f.Type, f.Opts, f.Device}
	}
	for _, m := range l.Mounts {
		s.SortedMountPoints = append(s.SortedMountPoints, [2]string{m.Point, m.Node})
		s.MountOrder = append(s.MountOrder, m.Point)
		// DIB joins the two without cleaning: the root is "<base>/".
		s.Mount[m.Point] = StateMount{m.Node, m.Filesystem, mountBase + m.Point}
	}
	for _, f := range c.nodes.fstabs {
		s.FSTab[f.base] = StateFSTabLine{f.name, f.base, f.options, f.freq, f.pass}
	}
	return s
}

// ImagePath is the raw file of a disk: NAME.raw in its own directory, or in
// imageDir when it has none.
func (d Disk) ImagePath(imageDir string) string {
	if d.Directory != "" {
		imageDir = d.Directory
	}
	return path.Join(imageDir, d.Name+".raw")
}

// lvmState adds what the lvm items make.
func (c *Config) lvmState(s *State, l *Layout) {
	if len(c.nodes.lvms) == 0 {
		return
	}
	s.PVs, s.VGs = map[string]StatePV{}, map[string]StateVG{}
	for _, g := range l.VolumeGroups {
		for _, n := range c.nodes.lvms {
			for _, p := range n.pvs {
				for _, pv := range g.PVs {
					if pv.Node == p.name {
						s.PVs[p.name] = StatePV{p.opts, pv.Device}
					}
				}
			}
			for _, v := range n.vgs {
				if v.name == g.Name {
					s.VGs[v.name] = StateVG{v.opts, v.pvs}
				}
			}
			for _, v := range n.lvs {
				if v.base != g.Name {
					continue
				}
				lv := &StateLV{VGs: g.Name, Opts: v.opts}
				if v.sizeText != "" {
					lv.Size = &v.sizeText
				}
				if v.extentsText != "" {
					lv.Extents = &v.extentsText
				}
				s.BlockDev[v.name] = StateDevice{Device: mapperName(g.Name, v.name), StateLV: lv}
			}
		}
	}
}
