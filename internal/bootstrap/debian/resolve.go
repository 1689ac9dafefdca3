package debian

import (
	"fmt"
	"sort"
	"strings"

	"github.com/dib-builder/dib/internal/deb"
)

// candidate is the version of a package that would be installed, and the
// suite it comes from.
type candidate struct {
	deb.Package
	suite *suite

	needs     []deb.Dependency // Pre-Depends, then Depends
	preNeeds  int              // how many of needs are Pre-Depends
	provides  []deb.Relation
	conflicts []deb.Relation // Conflicts and Breaks
	parsed    bool
}

// universe is every package that could be installed: of each name the highest
// version over all suites, as apt chooses without pins.
type universe struct {
	packages  map[string]*candidate
	providers map[string][]provider // by virtual name, the preferred one first
}

type provider struct {
	*candidate
	version string // of the virtual package, "" for none
}

// newUniverse merges the packages of several suites. Of equal versions the
// one of the earlier suite counts.
func newUniverse(suites []*suite, packages [][]deb.Package, arch string) (*universe, error) {
	u := &universe{packages: map[string]*candidate{}, providers: map[string][]provider{}}
	for i, list := range packages {
		for _, p := range list {
			if p.Arch != arch && p.Arch != "all" {
				continue
			}
			if old := u.packages[p.Name]; old == nil || deb.CompareVersions(p.Version, old.Version) > 0 {
				u.packages[p.Name] = &candidate{Package: p, suite: suites[i]}
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
func (c *candidate) parse() error {
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

func (c *candidate) addConflicts(deps []deb.Dependency) {
	for _, d := range deps {
		c.conflicts = append(c.conflicts, d...)
	}
}

// satisfies tells whether the candidate is, or provides, what r asks for
// (policy 7.5: an unversioned Provides satisfies no versioned relation).
func (c *candidate) satisfies(r deb.Relation) bool {
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
	u      *universe
	wanted map[string]bool // names asked for: preferred where alternatives leave a choice

	in    map[string]*candidate
	order []*candidate // dependencies before those who need them, as far as circles allow
	log   []*candidate // as they came into the set, for undoing
}

func newSelection(u *universe, wanted []string) *selection {
	s := &selection{u: u, wanted: map[string]bool{}, in: map[string]*candidate{}}
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
	var choices []*candidate
	seen := map[*candidate]bool{}
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
		if s.in[p.Name] == p.candidate && (r.Op == "" || p.version != "" && r.Allows(p.version)) {
			return true
		}
	}
	return false
}

func (s *selection) choices(r deb.Relation) []*candidate {
	var all []*candidate
	if c := s.u.packages[r.Name]; c != nil && r.Allows(c.Version) {
		all = append(all, c)
	}
	for _, p := range s.u.providers[r.Name] {
		if r.Op == "" || p.version != "" && r.Allows(p.version) {
			all = append(all, p.candidate)
		}
	}
	return all
}

// install puts a candidate and what it needs into the set. The candidate
// counts as present while its needs are looked at, so circles end.
func (s *selection) install(c *candidate, chain []string) error {
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
func (s *selection) conflict(c *candidate) *candidate {
	for _, r := range c.conflicts {
		if o := s.in[r.Name]; o != nil && o.Name != c.Name && r.Allows(o.Version) {
			return o
		}
		for _, p := range s.u.providers[r.Name] {
			if p.Name != c.Name && s.in[p.Name] == p.candidate && p.satisfies(r) {
				return p.candidate
			}
		}
	}
	for _, o := range s.log {
		if o.Name == c.Name {
			continue
		}
		for _, r := range o.conflicts {
			if c.satisfies(r) {
				return o
			}
		}
	}
	return nil
}

// resolution is what to install: base first, configured before the rest is
// unpacked; each in an order where dependencies come first.
type resolution struct {
	base, rest []*candidate
	manual     map[string]bool // asked for by name, or part of the base
	warnings   []string
}

// all lists the packages in the order of installation.
func (r *resolution) all() []*candidate {
	return append(append([]*candidate(nil), r.base...), r.rest...)
}

// mergedMarker is the package that says that the tree has a merged /usr, which
// ours has from the start. Its alternative does the merging and needs perl.
const mergedMarker = "usr-is-merged"

// resolve chooses the packages of a first root filesystem: everything
// essential with what it needs (base), everything of priority required,
// required by name, and, as far as it exists and fits, optional. Only
// Pre-Depends and Depends are followed.
func resolve(u *universe, required, optional []string) (*resolution, error) {
	essential, priority := u.minimal()
	required = append(append(append([]string(nil), essential...), priority...), required...)
	s := newSelection(u, append(append([]string{mergedMarker}, required...), optional...))
	res := &resolution{manual: map[string]bool{}}
	for i, name := range required {
		if i == len(essential) {
			res.base = append(res.base, s.order...)
		}
		if err := s.add(name); err != nil {
			return nil, err
		}
		res.manual[name] = true
	}
	if len(required) == len(essential) {
		res.base = append(res.base, s.order...)
	}
	for _, name := range optional {
		if err := s.add(name); err != nil {
			res.warnings = append(res.warnings, fmt.Sprintf("%v; left to the hook that asks for it", err))
			continue
		}
		res.manual[name] = true
	}
	for _, c := range res.base {
		res.manual[c.Name] = true
	}
	res.rest = s.order[len(res.base):]
	return res, nil
}

// minimal lists the packages that are essential, and those of priority
// required, sorted by name.
func (u *universe) minimal() (essential, required []string) {
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
