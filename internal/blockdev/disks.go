package blockdev

import (
	"fmt"
	"strings"
)

// rehearsalKiB is a size at which every sensible layout fits, and which an MBR
// still reaches: just below 2 TiB.
const rehearsalKiB = 2<<30 - 2048

// Rehearse reports what Layout will refuse, before the size of the image is
// known: in.SizeKiB is then 0, and only what no size can cure is found.
func (c *Config) Rehearse(in LayoutInput) error {
	if in.SizeKiB == 0 {
		in.SizeKiB = rehearsalKiB
	}
	_, err := c.Layout(in)
	return err
}

// RootDisk names the disk that carries the root filesystem, however many
// nodes lie between them; empty if there is none. This disk is the image.
func (c *Config) RootDisk() string {
	root := c.nodes.at("/")
	if root == nil {
		return ""
	}
	todo, seen := []string{root.name}, map[string]bool{}
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if seen[name] {
			continue
		}
		seen[name] = true
		for _, n := range c.nodes.graph.Nodes {
			if n.Name != name {
				continue
			}
			if n.Kind == "local_loop" {
				return name
			}
			for _, e := range n.from {
				todo = append(todo, e.node)
			}
			if base, ok := n.attrs.Get("base"); ok && n.Kind == "pv" { // its edges are the driver's
				todo = append(todo, base.Val.Text)
				for _, b := range base.Val.List {
					todo = append(todo, b.Text)
				}
			}
		}
	}
	return ""
}

// FurtherDisks names the disks beside the image, in document order; none where
// there is no image.
func (c *Config) FurtherDisks() []string {
	root := c.RootDisk()
	if root == "" {
		return nil
	}
	var names []string
	for _, d := range c.nodes.disks {
		if d.name != root {
			names = append(names, d.name)
		}
	}
	return names
}

// ArrayEntry is one device in the form of DIB's IMAGE_BLOCK_DEVICES, which
// hooks evaluate as the content of an array of bash. A name with a blank is
// quoted for that.
func ArrayEntry(name, device string) string {
	if strings.Contains(name, " ") {
		name = `"` + name + `"`
	}
	return fmt.Sprintf(" [%s]=%s ", name, device)
}

// DOT draws the graph in the language of Graphviz. Edges lead from what is made
// first to what builds on it.
func (g *Graph) DOT() string {
	var b strings.Builder
	b.WriteString("digraph blockdev {\n")
	for _, n := range g.Nodes {
		fmt.Fprintf(&b, "  %q [label=%q];\n", n.Name, n.Kind+"\n"+n.Name)
	}
	for _, n := range g.Nodes {
		for _, e := range n.from {
			fmt.Fprintf(&b, "  %q -> %q;\n", e.node, n.Name)
		}
		for _, e := range n.to {
			fmt.Fprintf(&b, "  %q -> %q;\n", n.Name, e.node)
		}
	}
	b.WriteString("}\n")
	return b.String()
}

// HasSizes tells whether every disk has a size of its own.
func (c *Config) HasSizes() bool {
	for _, d := range c.nodes.disks {
		if d.size == 0 {
			return false
		}
	}
	return true
}

// Forget removes the identities in which the layout differs from another one
// of the same configuration, which are those that derive from the seed.
func (l *Layout) Forget(other *Layout) {
	forget := func(id *string, other string) {
		if *id != other {
			*id = ""
		}
	}
	for i := range l.Disks {
		t, o := l.Disks[i].Table, other.Disks[i].Table
		if t == nil {
			continue
		}
		forget(&t.DiskGUID, o.DiskGUID)
		if t.DiskID != o.DiskID {
			t.DiskID = 0
		}
		for k := range t.Partitions {
			forget(&t.Partitions[k].PartUUID, o.Partitions[k].PartUUID)
		}
	}
	for i := range l.VolumeGroups {
		g, o := &l.VolumeGroups[i], other.VolumeGroups[i]
		forget(&g.UUID, o.UUID)
		for k := range g.PVs {
			forget(&g.PVs[k].UUID, o.PVs[k].UUID)
		}
		for k := range g.LVs {
			forget(&g.LVs[k].UUID, o.LVs[k].UUID)
		}
	}
	for i := range l.Filesystems {
		f, o := &l.Filesystems[i], other.Filesystems[i]
		if f.UUID != o.UUID {
			l.FSTab = strings.ReplaceAll(l.FSTab, "UUID="+f.UUID+" ", "UUID=... ")
		}
		forget(&f.UUID, o.UUID)
		forget(&f.HashSeed, o.HashSeed)
	}
}
