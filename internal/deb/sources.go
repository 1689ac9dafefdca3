package deb

import (
	"fmt"
	"strings"
)

// Source is one entry of apt's sources for binary packages.
type Source struct {
	URIs       []string // without a trailing slash
	Suites     []string
	Components []string // empty for a flat repository (a suite that ends in "/")
	SignedBy   string   // a key file, or ""

	Trusted          bool // trusted=yes: the signature need not be there
	IgnoreValidUntil bool // check-valid-until=no
}

// setOption takes an option of sources.list(5) by its one-line name. Options
// that do not concern fetching with verification are for apt alone.
func (s *Source) setOption(name, value string) {
	switch strings.ToLower(name) {
	case "signed-by":
		if strings.HasPrefix(value, "/") {
			s.SignedBy = value
		}
	case "trusted":
		s.Trusted = enabled(value)
	case "check-valid-until":
		s.IgnoreValidUntil = disabled(value)
	}
}

// ParseSourceLines reads the one-line format of sources.list(5). Lines for
// source packages are checked and dropped.
func ParseSourceLines(text string) ([]Source, error) {
	var all []Source
	for n, l := range strings.Split(text, "\n") {
		l, _, _ = strings.Cut(l, "#")
		if strings.TrimSpace(l) == "" {
			continue
		}
		s, binary, err := parseSourceLine(l)
		if err != nil {
			return nil, &SyntaxError{Line: n + 1, Msg: err.Error()}
		}
		if binary {
			all = append(all, s)
		}
	}
	return all, nil
}

func parseSourceLine(l string) (s Source, binary bool, err error) {
	kind, rest, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(l, "\t", " ")), " ")
	if kind != "deb" && kind != "deb-src" {
		return s, false, fmt.Errorf("%q is neither deb nor deb-src", kind)
	}
	rest = strings.TrimSpace(rest)
	if options, ok := strings.CutPrefix(rest, "["); ok {
		var closed bool
		if options, rest, closed = strings.Cut(options, "]"); !closed {
			return s, false, fmt.Errorf("options are not closed by a bracket")
		}
		for _, o := range strings.Fields(options) {
			name, value, _ := strings.Cut(o, "=")
			s.setOption(strings.TrimRight(name, "+-"), value)
		}
	}
	words := strings.Fields(rest)
	if len(words) < 2 {
		return s, false, fmt.Errorf("address and suite expected in %q", strings.TrimSpace(l))
	}
	s.URIs = []string{strings.TrimRight(words[0], "/")}
	s.Suites = words[1:2]
	s.Components = words[2:]
	if err := s.check(); err != nil {
		return s, false, err
	}
	return s, kind == "deb", nil
}

// ParseSourceStanzas reads the deb822 format of sources.list(5). Disabled
// stanzas and those for source packages only are checked and dropped.
func ParseSourceStanzas(text string) ([]Source, error) {
	stanzas, err := ParseStanzas(dropComments(text))
	if err != nil {
		return nil, err
	}
	var all []Source
	for i, st := range stanzas {
		s := Source{Suites: strings.Fields(st.Get("Suites")), Components: strings.Fields(st.Get("Components"))}
		for _, u := range strings.Fields(st.Get("URIs")) {
			s.URIs = append(s.URIs, strings.TrimRight(u, "/"))
		}
		for _, f := range st {
			s.setOption(f.Name, f.Value)
		}
		types := strings.Fields(st.Get("Types"))
		if len(types) == 0 || len(s.URIs) == 0 || len(s.Suites) == 0 {
			return nil, fmt.Errorf("stanza %d: Types, URIs and Suites are needed", i+1)
		}
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("stanza %d: %w", i+1, err)
		}
		binary := false
		for _, t := range types {
			binary = binary || t == "deb"
		}
		if binary && !disabled(st.Get("Enabled")) {
			all = append(all, s)
		}
	}
	return all, nil
}

func (s *Source) check() error {
	for _, suite := range s.Suites {
		flat := strings.HasSuffix(suite, "/")
		if flat && len(s.Components) > 0 {
			return fmt.Errorf("suite %q ends in a slash, so no components may follow", suite)
		}
		if !flat && len(s.Components) == 0 {
			return fmt.Errorf("suite %q needs components", suite)
		}
	}
	return nil
}

// enabled and disabled follow apt's reading of a boolean; other words are neither.
func enabled(v string) bool {
	switch strings.ToLower(v) {
	case "yes", "true", "with", "on", "enable":
		return true
	}
	return false
}

func disabled(v string) bool {
	switch strings.ToLower(v) {
	case "no", "false", "without", "off", "disable":
		return true
	}
	return false
}

// dropComments removes comment lines, which sources.list(5) allows even
// inside a field.
func dropComments(text string) string {
	if !strings.Contains(text, "#") {
		return text
	}
	var b strings.Builder
	for _, l := range strings.SplitAfter(text, "\n") {
		if !strings.HasPrefix(l, "#") {
			b.WriteString(l)
		}
	}
	return b.String()
}
