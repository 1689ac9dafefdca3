package blockdev

import (
	"slices"
	"sort"
	"strings"

	"github.com/dib-builder/dib/internal/finding"
	"github.com/dib-builder/dib/internal/yamldoc"
)

// GraphNode is one step of making a disk and the steps it depends on.
type GraphNode struct {
	Name string
	Kind string // "local_loop", "partition", "lvm", "pv", "vg", "lv", "mkfs", "mount" or "fstab"

	from, to []edge
	pos      finding.Pos
	attrs    yamldoc.Pairs
}

type edge struct {
	node string
	pos  finding.Pos
}

// Graph holds the nodes of a configuration in document order and their order
// of creation.
type Graph struct {
	Nodes []GraphNode
	Order []string // names, each after everything it depends on
}

func (g *Graph) kind(name string) string {
	for _, n := range g.Nodes {
		if n.Name == name {
			return n.Kind
		}
	}
	return ""
}

func (g *Graph) attr(name, key string) (yamldoc.Pair, bool) {
	for _, n := range g.Nodes {
		if n.Name == name {
			return n.attrs.Get(key)
		}
	}
	return yamldoc.Pair{}, false
}

// Graph gives the nodes and the order in which they are made.
func (c *Config) Graph() Graph { return c.nodes.graph }

func buildGraph(items []Item, mounts []mountNode, c *finding.Collector) Graph {
	b := graphBuilder{c: c}
	for _, it := range items {
		switch it.Kind {
		case "partitioning":
			b.partitions(it)
		case "lvm":
			b.lvm(it)
		case "local_loop":
			b.add(GraphNode{Name: it.Name, Kind: it.Kind, pos: it.pos, attrs: it.attrs})
		default:
			b.add(GraphNode{Name: it.Name, Kind: it.Kind, from: b.edges(it.Base, it.pos), pos: it.pos, attrs: it.attrs})
		}
	}
	b.chainMounts(mounts)
	b.sort()
	return b.g
}

type graphBuilder struct {
	c *finding.Collector
	g Graph
}

func (b *graphBuilder) add(n GraphNode) {
	if n.Name == "" {
		return // reported when it was read
	}
	if !nodeName.MatchString(n.Name) {
		b.c.Errorf(n.pos, "node name %q: only letters, digits, dots, underscores, hyphens and blanks are allowed", n.Name)
	}
	if b.g.kind(n.Name) != "" {
		b.c.Errorf(n.pos, "Duplicate node name: %s", n.Name)
		return
	}
	b.g.Nodes = append(b.g.Nodes, n)
}

func (b *graphBuilder) edges(base string, pos finding.Pos) []edge {
	if base == "" {
		return nil
	}
	return []edge{{base, pos}}
}

func (b *graphBuilder) partitions(it Item) {
	parts, _ := it.get("partitions")
	previous := ""
	for _, e := range parts.Val.List {
		name, _ := e.Get("name")
		from := append(b.edges(it.Base, it.pos), b.edges(previous, e.Pos)...)
		b.add(GraphNode{Name: name.Val.Text, Kind: "partition", from: from, pos: e.Pos, attrs: e.Pairs})
		previous = name.Val.Text
	}
}

// lvm adds the physical volumes, groups and logical volumes and the driver
// that makes them all: it comes after the devices and before the volumes.
func (b *graphBuilder) lvm(it Item) {
	driver := GraphNode{Name: it.Name, Kind: "lvm", pos: it.pos, attrs: it.attrs}
	var made []string // names that bases of the next list may have
	for _, part := range []struct{ key, kind string }{{"pvs", "pv"}, {"vgs", "vg"}, {"lvs", "lv"}} {
		list, _ := it.get(part.key)
		var names []string
		for _, e := range list.Val.List {
			name, _ := e.Get("name")
			base, _ := e.Get("base")
			n := GraphNode{Name: name.Val.Text, Kind: part.kind, pos: e.Pos, attrs: e.Pairs}
			bases := []yamldoc.Value{base.Val}
			if base.Val.Kind == yamldoc.List {
				bases = base.Val.List
			}
			for _, v := range bases {
				switch {
				case v.Text == "": // reported when it was read, as are bases that do not fit
				case part.kind != "pv" && slices.Contains(made, v.Text):
					n.from = append(n.from, edge{v.Text, e.Pos})
				case part.kind == "pv" && !slices.ContainsFunc(driver.from, func(x edge) bool { return x.node == v.Text }):
					driver.from = append(driver.from, edge{v.Text, e.Pos})
				}
			}
			if part.kind == "pv" && n.Name != "" {
				driver.to = append(driver.to, edge{n.Name, e.Pos})
			}
			names = append(names, n.Name)
			b.add(n)
		}
		made = names
	}
	b.add(driver)
}

// chainMounts makes every mount follow the one before it in the byte order of
// mount points, so that parents come before their children.
func (b *graphBuilder) chainMounts(mounts []mountNode) {
	sorted := slices.Clone(mounts)
	sort.SliceStable(sorted, func(i, j int) bool { return sorted[i].point < sorted[j].point })
	for i := 1; i < len(sorted); i++ {
		for k := range b.g.Nodes {
			if n := &b.g.Nodes[k]; n.Name == sorted[i].name {
				n.from = append([]edge{{sorted[i-1].name, n.pos}}, n.from...)
			}
		}
	}
}

// sort is Kahn's algorithm with a first-in first-out queue: among nodes that
// are free to go, the one whose last dependency was made first goes first, and
// ties keep document order.
func (b *graphBuilder) sort() {
	next := map[string][]string{}
	waits := map[string]int{}
	add := func(from, to string, pos finding.Pos) {
		if b.g.kind(from) == "" || b.g.kind(to) == "" {
			b.c.Errorf(pos, "Edge not defined: %s->%s", from, to)
			return
		}
		if slices.Contains(next[from], to) {
			return
		}
		next[from] = append(next[from], to)
		waits[to]++
	}
	for _, n := range b.g.Nodes {
		for _, e := range n.from {
			add(e.node, n.Name, e.pos)
		}
		for _, e := range n.to {
			add(n.Name, e.node, e.pos)
		}
	}
	var queue []string
	for _, n := range b.g.Nodes {
		if waits[n.Name] == 0 {
			queue = append(queue, n.Name)
		}
	}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		b.g.Order = append(b.g.Order, name)
		for _, to := range next[name] {
			if waits[to]--; waits[to] == 0 {
				queue = append(queue, to)
			}
		}
	}
	if len(b.g.Order) < len(b.g.Nodes) {
		b.reportCycle(next, waits)
	}
}

// reportCycle names one cycle: from any node that is left, walking backwards
// through nodes that are left must come round.
func (b *graphBuilder) reportCycle(next map[string][]string, waits map[string]int) {
	before := func(name string) string {
		for _, n := range b.g.Nodes {
			if waits[n.Name] > 0 && slices.Contains(next[n.Name], name) {
				return n.Name
			}
		}
		return ""
	}
	var start GraphNode
	for _, n := range b.g.Nodes {
		if waits[n.Name] > 0 {
			start = n
			break
		}
	}
	walk := []string{start.Name}
	for {
		prev := before(walk[len(walk)-1])
		if i := slices.Index(walk, prev); i >= 0 {
			walk = append(walk[i:], prev)
			break
		}
		walk = append(walk, prev)
	}
	slices.Reverse(walk)
	b.c.Errorf(start.pos, "Graph contains a cycle: %s", strings.Join(walk, " -> "))
}
