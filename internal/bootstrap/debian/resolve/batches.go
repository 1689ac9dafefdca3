package resolve

import "github.com/dib-builder/dib/internal/deb"

// Batches cuts packages of a Resolution into groups that are unpacked and
// configured one after the other. A Pre-Depends must be configured before the
// package's preinst runs; a package without preinst does nothing before it is
// configured itself, and dpkg orders that. Almost always one group results.
// The order within a group is that of packages; hasPreinst tells which of them
// have the script.
func Batches(packages []*Candidate, hasPreinst func(*Candidate) bool) [][]*Candidate {
	byName := map[string]*Candidate{}
	for _, c := range packages {
		byName[c.Name] = c
	}
	members := func(d deb.Dependency) []*Candidate {
		var found []*Candidate
		for _, r := range d {
			if c := byName[r.Name]; c != nil {
				found = append(found, c)
				continue
			}
			for _, c := range packages {
				if c.Satisfies(r) {
					found = append(found, c)
				}
			}
		}
		return found
	}
	level := map[*Candidate]int{}
	// Levels only rise and none exceeds the number of packages, so this ends;
	// circles of dependencies share the highest level of their members' needs.
	for changed := true; changed; {
		changed = false
		raise := func(c *Candidate, to int) {
			if level[c] < to && to < len(packages) {
				level[c], changed = to, true
			}
		}
		for _, c := range packages {
			pre := hasPreinst(c)
			for i, d := range c.needs {
				for _, v := range members(d) {
					if pre && i < c.preNeeds && v != c {
						raise(c, level[v]+1)
					} else {
						raise(c, level[v])
					}
				}
			}
		}
	}
	var groups [][]*Candidate
	for n := 0; len(packages) > 0; n++ {
		var group []*Candidate
		left := 0
		for _, c := range packages {
			switch {
			case level[c] == n:
				group = append(group, c)
			case level[c] > n:
				left++
			}
		}
		if len(group) > 0 {
			groups = append(groups, group)
		}
		if left == 0 {
			break
		}
	}
	return groups
}
