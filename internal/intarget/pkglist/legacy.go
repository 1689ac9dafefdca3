package pkglist

import "strings"

// LegacyPrefix begins the names of the deprecated lists, which lie in a phase
// directory: the prefix is followed by the element's name.
const LegacyPrefix = "package-installs-"

// LegacyPackage is one line of a deprecated list.
type LegacyPackage struct {
	Name      string
	BuildOnly bool // removed again at the end of the phase; written with a leading "-"
}

// ParseLegacy reads a deprecated list: one package a line, empty lines and
// those that begin with "#" left out. The last line needs no line feed.
func ParseLegacy(data []byte) []LegacyPackage {
	var list []LegacyPackage
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, buildOnly := strings.CutPrefix(line, "-")
		if name = strings.TrimSpace(name); name != "" {
			list = append(list, LegacyPackage{name, buildOnly})
		}
	}
	return list
}
