// Package resolve chooses the packages of a first root filesystem and the
// order of their installation. It knows indexes alone and touches nothing.
package resolve

import (
	"fmt"
	"sort"
	"strings"

	"github.com/dib-builder/dib/internal/deb"
)

// Index is what one Packages file holds.
type Index struct {
	Archive  string // root of the archive, which file names of packages are relative to
	Packages []deb.Package
}

// Candidate is the version of a package that would be installed, and the
// archive it comes from.
type Candidate struct {
	deb.Package
	Archive string // root that Filename is relative to

	needs     []deb.Dependency // Pre-Depends, then Depends
	preNeeds  int              // how many of needs are Pre-Depends
	provides  []deb.Relation
	conflicts []deb.Relation // Conflicts and Breaks
	parsed    bool
}

// Universe is every package that could be installed: of each name the highest
// version over all suites, as apt chooses without pins.
type Universe struct {
	packages  map[string]*Candidate
	providers map[string][]provider // by virtual name, the preferred one first
}

type provider struct {
	*Candidate
	version string // of the virtual package, "" for none
}

// NewUniverse merges the packages of several indexes that run on arch. Of equal
// versions the one of the earlier index counts.
func NewUniverse(indexes []Index, arch string) (*Universe, error) {
	u := &Universe{packages: map[string]*Candidate{}, providers: map[string][]provider{}}
	for _, index := range indexes {
		for _, p := range index.Packages {
			if p.Arch != arch && p.Arch != "all" {
				continue
			}
			if old := u.packages[p.Name]; old == nil || deb.CompareVersions(p.Version, old.Version) > 0 {
				u.packages[p.Name] = &Candidate{Package: p, Archive: index.Archive}
			}
		}
	}
	for _, c := range u.packages {
		if c.Provides == "" {
			continue
		}
		deps, err := deb.ParseRelations(c.Provides)
		if err != nil {
			return nil, fmt.Errorf("package %s: field Provides: %w", c.Name, err)
		}
		for _, d := range deps {
			c.provides = append(c.provides, d[0])
			u.providers[d[0].Name] = append(u.providers[d[0].Name], provider{c, d[0].Version})
		}
	}
	for _, list := range u.providers {
		sort.Slice(list, func(i, j int) bool {
			a, b := list[i], list[j]
			if ra, rb := priorityRank(a.Priority), priorityRank(b.Priority); ra != rb {
				return ra < rb
			}
			return a.Name < b.Name
		})
	}
	return u, nil
}

func priorityRank(p string) int {
	for i, known := range []string{"required", "important", "standard", "optional"} {
		if p == known {
			return i
		}
	}
	return 4
}

// parse reads the relations of a candidate when it is first looked at.
func (c *Candidate) parse() error {
	if c.parsed {
		return nil
	}
	c.parsed = true
	for _, f := range []struct {
		name, value string
		use         func([]deb.Dependency)
	}{
		{"Pre-Depends", c.PreDepends, func(d []deb.Dependency) { c.needs, c.preNeeds = d, len(d) }},
		{"Depends", c.Depends, func(d []deb.Dependency) { c.needs = append(c.needs, d...) }},
		{"Conflicts", c.Conflicts, c.addConflicts},
		{"Breaks", c.Breaks, c.addConflicts},
	} {
		deps, err := deb.ParseRelations(f.value)
		if err != nil {
			return fmt.Errorf("package %s: field %s: %w", c.Name, f.name, err)
		}
		f.use(deps)
	}
	return nil
}

func (c *Candidate) addConflicts(deps []deb.Dependency) {
	for _, d := range deps {
		c.conflicts = append(c.conflicts, d...)
	}
}

// Satisfies tells whether the candidate is, or provides, what r asks for
// (policy 7.5: an unversioned Provides satisfies no versioned relation).
func (c *Candidate) Satisfies(r deb.Relation) bool {
	if c.Name == r.Name && r.Allows(c.Version) {
		return true
	}
	for _, p := range c.provides {
		if p.Name == r.Name && (r.Op == "" || p.Version != "" && r.Allows(p.Version)) {
			return true
		}
	}
	return false
}

// UnresolvableError is a package that cannot be installed.
type UnresolvableError struct {
	Chain  []string // who needs whom, from what was asked for down to the package
	Reason string
}

func (e *UnresolvableError) Error() string {
	return fmt.Sprintf("cannot install %s: %s", strings.Join(e.Chain, ", which needs "), e.Reason)
}

// selection is a set of packages whose dependencies are in the set.
type selection struct {
	u      *Universe
	wanted map[string]bool // names asked for: preferred where alternatives leave a choice

	in    map[string]*Candidate
	order []*Candidate // dependencies before those who need them, as far as circles allow
	log   []*Candidate // as they came into the set, for undoing
}

func newSelection(u *Universe, wanted []string) *selection {
	s := &selection{u: u, wanted: map[string]bool{}, in: map[string]*Candidate{}}
	for _, w := range wanted {
		s.wanted[w] = true
	}
	return s
}

// add puts the named package and what it needs into the set, or leaves the set
// as it was and returns an *UnresolvableError. Another package that provides
// the name counts only when there is no package of that name, as for apt.
func (s *selection) add(name string) error {
	return s.attempt(func() error {
		c := s.u.packages[name]
		if c == nil {
			return s.relation(deb.Dependency{{Name: name}}, nil)
		}
		if s.in[name] != nil {
			return nil
		}
		return s.install(c, nil)
	})
}

// attempt undoes what f did when it fails.
func (s *selection) attempt(f func() error) error {
	inLog, inOrder := len(s.log), len(s.order)
	err := f()
	if err != nil {
		for _, c := range s.log[inLog:] {
			delete(s.in, c.Name)
		}
		s.log, s.order = s.log[:inLog], s.order[:inOrder]
	}
	return err
}

// relation makes the set satisfy one dependency: by what is in it, else by an
// alternative that was asked for anyway, else by the first that can be installed.
func (s *selection) relation(d deb.Dependency, chain []string) error {
	for _, r := range d {
		if s.satisfied(r) {
			return nil
		}
	}
	var choices []*Candidate
	seen := map[*Candidate]bool{}
	for _, r := range d {
		for _, c := range s.choices(r) {
			if !seen[c] {
				seen[c] = true
				choices = append(choices, c)
			}
		}
	}
	sort.SliceStable(choices, func(i, j int) bool { return s.wanted[choices[i].Name] && !s.wanted[choices[j].Name] })
	if len(choices) == 0 {
		return &UnresolvableError{Chain: append(chain[:len(chain):len(chain)], d.String()), Reason: s.absence(d)}
	}
	var first error
	for _, c := range choices {
		err := s.attempt(func() error { return s.install(c, chain) })
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// absence says why nothing can satisfy a dependency.
func (s *selection) absence(d deb.Dependency) string {
	if c := s.u.packages[d[0].Name]; c != nil {
		return fmt.Sprintf("only version %s is available", c.Version)
	}
	return "no configured source has it"
}

func (s *selection) satisfied(r deb.Relation) bool {
	if c := s.in[r.Name]; c != nil && r.Allows(c.Version) {
		return true
	}
	for _, p := range s.u.providers[r.Name] {
		if s.in[p.Name] == p.Candidate && (r.Op == "" || p.version != "" && r.Allows(p.version)) {
			return true
		}
	}
	return false
}

func (s *selection) choices(r deb.Relation) []*Candidate {
	var all []*Candidate
	if c := s.u.packages[r.Name]; c != nil && r.Allows(c.Version) {
		all = append(all, c)
	}
	for _, p := range s.u.providers[r.Name] {
		if r.Op == "" || p.version != "" && r.Allows(p.version) {
			all = append(all, p.Candidate)
		}
	}
	return all
}

// install puts a candidate and what it needs into the set. The candidate
// counts as present while its needs are looked at, so circles end.
func (s *selection) install(c *Candidate, chain []string) error {
	chain = append(chain[:len(chain):len(chain)], c.Name)
	if err := c.parse(); err != nil {
		return err
	}
	if other := s.conflict(c); other != nil {
		return &UnresolvableError{Chain: chain, Reason: fmt.Sprintf("it conflicts with %s %s", other.Name, other.Version)}
	}
	s.in[c.Name] = c
	s.log = append(s.log, c)
	for _, d := range c.needs {
		if err := s.relation(d, chain); err != nil {
			return err
		}
	}
	s.order = append(s.order, c)
	return nil
}

// conflict returns a member of the set that c cannot live with, or nil. A
// package never conflicts with itself, whatever it provides (policy 7.4).
func (s *selection) conflict(c *Candidate) *Candidate {
	for _, r := range c.conflicts {
		if o := s.in[r.Name]; o != nil && o.Name != c.Name && r.Allows(o.Version) {
			return o
		}
		for _, p := range s.u.providers[r.Name] {
			if p.Name != c.Name && s.in[p.Name] == p.Candidate && p.Satisfies(r) {
				return p.Candidate
			}
		}
	}
	for _, o := range s.log {
		if o.Name == c.Name {
			continue
		}
		for _, r := range o.conflicts {
			if c.Satisfies(r) {
				return o
			}
		}
	}
	return nil
}

// Resolution is what to install: Base first, configured before Rest is
// unpacked; each in an order where dependencies come first.
type Resolution struct {
	Base, Rest []*Candidate
	Manual     map[string]bool // names asked for, or part of the base; the others are there for these
	Warnings   []string        // optional packages that were left out, and why
}

// All lists the packages in the order of installation.
func (r *Resolution) All() []*Candidate {
	return append(append([]*Candidate(nil), r.Base...), r.Rest...)
}

// mergedMarker is the package that says that the tree has a merged /usr, which
// ours has from the start. Its alternative does the merging and needs perl.
const mergedMarker = "usr-is-merged"

// Resolve chooses the packages of a first root filesystem: everything
// essential with what it needs (base), everything of priority required,
// required by name, and, as far as it exists and fits, optional. Only
// Pre-Depends and Depends are followed. What is required and cannot be had is
// an *UnresolvableError.
func (u *Universe) Resolve(required, optional []string) (*Resolution, error) {
	essential, priority := u.minimal()
	required = append(append(append([]string(nil), essential...), priority...), required...)
	s := newSelection(u, append(append([]string{mergedMarker}, required...), optional...))
	res := &Resolution{Manual: map[string]bool{}}
	for i, name := range required {
		if i == len(essential) {
			res.Base = append(res.Base, s.order...)
		}
		if err := s.add(name); err != nil {
			return nil, err
		}
		res.Manual[name] = true
	}
	if len(required) == len(essential) {
		res.Base = append(res.Base, s.order...)
	}
	for _, name := range optional {
		if err := s.add(name); err != nil {
			res.Warnings = append(res.Warnings, fmt.Sprintf("%v; left to the hook that asks for it", err))
			continue
		}
		res.Manual[name] = true
	}
	for _, c := range res.Base {
		res.Manual[c.Name] = true
	}
	res.Rest = s.order[len(res.Base):]
	return res, nil
}

// minimal lists the packages that are essential, and those of priority
// required, sorted by name.
func (u *Universe) minimal() (essential, required []string) {
	for _, c := range u.packages {
		switch {
		case c.Essential:
			essential = append(essential, c.Name)
		case c.Priority == "required":
			required = append(required, c.Name)
		}
	}
	sort.Strings(essential)
	sort.Strings(required)
	return essential, required
}
