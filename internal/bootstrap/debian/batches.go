package debian

import "github.com/dib-builder/dib/internal/deb"

// batches cuts the packages into groups that are unpacked and configured one
// after the other. A Pre-Depends must be configured before the package's
// preinst runs; a package without preinst does nothing before it is
// configured itself, and dpkg orders that. Almost always one group results.
// The order within a group is that of units.
func batches(units []*unit) [][]*unit {
	byName := map[string]*unit{}
	for _, u := range units {
		byName[u.pkg.Name] = u
	}
	members := func(d deb.Dependency) []*unit {
		var found []*unit
		for _, r := range d {
			if u := byName[r.Name]; u != nil {
				found = append(found, u)
				continue
			}
			for _, u := range units {
				if u.pkg.satisfies(r) {
					found = append(found, u)
				}
			}
		}
		return found
	}
	level := map[*unit]int{}
	// Levels only rise and none exceeds the number of packages, so this ends;
	// circles of dependencies share the highest level of their members' needs.
	for changed := true; changed; {
		changed = false
		raise := func(u *unit, to int) {
			if level[u] < to && to < len(units) {
				level[u], changed = to, true
			}
		}
		for _, u := range units {
			_, hasPreinst := u.staged.control.Files["preinst"]
			for i, d := range u.pkg.needs {
				for _, v := range members(d) {
					if hasPreinst && i < u.pkg.preNeeds && v != u {
						raise(u, level[v]+1)
					} else {
						raise(u, level[v])
					}
				}
			}
		}
	}
	var groups [][]*unit
	for n := 0; len(units) > 0; n++ {
		var group []*unit
		left := 0
		for _, u := range units {
			switch {
			case level[u] == n:
				group = append(group, u)
			case level[u] > n:
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
