// Package distro knows which distributions belong together. Every table of
// names that elements bring (pkg-map, svc-map) is read with the same families.
package distro

import (
	"maps"
	"slices"
)

// families names the family of each distribution, as DISTRO_NAME spells it.
var families = map[string]string{
	"almalinux": "redhat",
	"centos":    "redhat",
	"fedora":    "redhat",
	"openeuler": "redhat",
	"rhel":      "redhat",
	"rocky":     "redhat",
	"debian":    "debian",
	"ubuntu":    "debian",
	"opensuse":  "suse",
	"gentoo":    "gentoo",
}

// Family returns the family of a distribution, named as in DISTRO_NAME, or ""
// for one that belongs to none.
func Family(name string) string { return families[name] }

// Families lists the families.
func Families() []string { return slices.Compact(slices.Sorted(maps.Values(families))) }
