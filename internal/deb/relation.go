package deb

import (
	"fmt"
	"strings"
)

// Relation is one alternative of a dependency: a package, perhaps of certain versions.
type Relation struct {
	Name    string
	Arch    string // architecture qualifier: "any", "native", an architecture, or ""
	Op      string // "<<", "<=", "=", ">=", ">>", or "" for any version
	Version string
}

// String prints the relation as a control file would.
func (r Relation) String() string {
	s := r.Name
	if r.Arch != "" {
		s += ":" + r.Arch
	}
	if r.Op != "" {
		s += " (" + r.Op + " " + r.Version + ")"
	}
	return s
}

// Allows tells whether version v satisfies the relation.
func (r Relation) Allows(v string) bool {
	if r.Op == "" {
		return true
	}
	c := CompareVersions(v, r.Version)
	switch r.Op {
	case "<<":
		return c < 0
	case "<=":
		return c <= 0
	case "=":
		return c == 0
	case ">=":
		return c >= 0
	}
	return c > 0
}

// Dependency is a list of alternatives, the preferred one first.
type Dependency []Relation

// String prints the dependency as a control file would.
func (d Dependency) String() string {
	alts := make([]string, len(d))
	for i, r := range d {
		alts[i] = r.String()
	}
	return strings.Join(alts, " | ")
}

// ParseRelations reads the value of Depends, Provides, Conflicts and their
// like (policy 7.1). Architecture restrictions "[…]" and build profiles "<…>"
// mean nothing in a binary package; they are checked for form and dropped.
func ParseRelations(value string) ([]Dependency, error) {
	var deps []Dependency
	for value != "" {
		var clause string
		clause, value, _ = strings.Cut(value, ",")
		if strings.TrimSpace(clause) == "" {
			continue // an empty clause, as after a trailing comma, is harmless and occurs
		}
		var dep Dependency
		for more := true; more; {
			var alt string
			alt, clause, more = strings.Cut(clause, "|")
			r, err := parseRelation(strings.TrimSpace(alt))
			if err != nil {
				return nil, err
			}
			dep = append(dep, r)
		}
		deps = append(deps, dep)
	}
	return deps, nil
}

func parseRelation(s string) (Relation, error) {
	bad := func(why string) (Relation, error) {
		return Relation{}, fmt.Errorf("%q is not a relation: %s", s, why)
	}
	var r Relation
	i := strings.IndexAny(s, " \t\n([<")
	if i < 0 {
		i = len(s)
	}
	r.Name, r.Arch, _ = strings.Cut(s[:i], ":")
	if !ValidName(r.Name) {
		return bad("no package name")
	}
	rest := strings.TrimSpace(s[i:])
	if body, ok := strings.CutPrefix(rest, "("); ok {
		inner, after, closed := strings.Cut(body, ")")
		if !closed {
			return bad("no closing parenthesis")
		}
		inner = strings.TrimSpace(inner)
		n := len(inner) - len(strings.TrimLeft(inner, "<>="))
		r.Version = strings.TrimSpace(inner[n:])
		switch inner[:n] {
		case "<<", "<=", "=", ">=", ">>":
			r.Op = inner[:n]
		case "<": // obsolete spellings, which policy 7.1 still defines
			r.Op = "<="
		case ">":
			r.Op = ">="
		default:
			return bad("unknown comparison")
		}
		if r.Version == "" || strings.ContainsAny(r.Version, " \t\n") {
			return bad("no version")
		}
		rest = strings.TrimSpace(after)
	}
	for rest != "" {
		closing := byte(0)
		switch rest[0] {
		case '[':
			closing = ']'
		case '<':
			closing = '>'
		default:
			return bad("unexpected text after the package")
		}
		end := strings.IndexByte(rest, closing)
		if end < 0 {
			return bad("restriction is not closed")
		}
		rest = strings.TrimSpace(rest[end+1:])
	}
	return r, nil
}
