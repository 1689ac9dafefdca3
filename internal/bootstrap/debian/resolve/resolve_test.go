package resolve

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/internal/deb"
)

// world makes a universe from index stanzas; what every package has is added.
func world(t *testing.T, stanzas ...string) *Universe {
	t.Helper()
	var all []deb.Package
	for _, s := range stanzas {
		if !strings.Contains(s, "\nVersion:") {
			s += "\nVersion: 1"
		}
		list, err := deb.ParseIndex("Package: " + s + "\nArchitecture: amd64\nFilename: pool/x\nSize: 1\nSHA256: " + strings.Repeat("0", 64) + "\n")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, list...)
	}
	u, err := NewUniverse([]Index{{Archive: "http://test/debian", Packages: all}}, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func names(list []*Candidate) string {
	var n []string
	for _, c := range list {
		n = append(n, c.Name)
	}
	return strings.Join(n, " ")
}

func TestResolve(t *testing.T) {
	for _, c := range []struct {
		summary            string
		world              []string
		required, optional string
		base, rest         string
		fails, warns       string
	}{
		{summary: "essential, then priority required, then by name; needs first",
			world: []string{"sh\nEssential: yes\nDepends: libc", "libc", "tool\nPriority: required", "app\nDepends: lib", "lib", "other"},
			base:  "libc sh", rest: "tool lib app", required: "app"},
		{summary: "the first alternative that can be installed",
			world: []string{"app\nDepends: a | b", "a\nDepends: gone", "b"}, required: "app", rest: "b app"},
		{summary: "an alternative that is there already",
			world: []string{"app\nDepends: a | b", "a", "b"}, required: "b app", rest: "b app"},
		{summary: "an alternative that is asked for later",
			world: []string{"app\nDepends: a | b", "a", "b"}, required: "app", optional: "b", rest: "b app"},
		{summary: "a virtual package: the provider of the higher priority, then by name",
			world: []string{"app\nDepends: mta", "x\nProvides: mta", "y\nPriority: important\nProvides: mta", "z\nPriority: important\nProvides: mta"}, required: "app", rest: "y app"},
		{summary: "a versioned Provides",
			world: []string{"app\nDepends: v (>= 2)", "a\nProvides: v", "b\nProvides: v (= 1)", "c\nProvides: v (= 3)"}, required: "app", rest: "c app"},
		{summary: "by name the package itself, though another provides it",
			world: []string{"apt\nProvides: https (= 2)", "https"}, required: "apt https", rest: "apt https"},
		{summary: "circles end",
			world: []string{"a\nDepends: b", "b\nDepends: c", "c\nDepends: a"}, required: "a", rest: "c b a"},
		{summary: "highest version",
			world: []string{"a\nVersion: 1.9", "a\nVersion: 1.10\nDepends: b", "b"}, required: "a", rest: "b a"},
		{summary: "Pre-Depends count",
			world: []string{"a\nPre-Depends: b\nDepends: c", "b", "c"}, required: "a", rest: "b c a"},
		{summary: "Recommends do not",
			world: []string{"a\nRecommends: b", "b"}, required: "a", rest: "a"},
		{summary: "failed alternatives leave nothing behind",
			world: []string{"app\nDepends: a | b", "a\nDepends: x, gone", "x", "b"}, required: "app", rest: "b app"},
		{summary: "conflicts exclude an alternative",
			world: []string{"app\nDepends: a | b", "a\nConflicts: old", "b", "old"}, required: "old app", rest: "old b app"},
		{summary: "nothing conflicts with itself",
			world: []string{"a\nProvides: v\nConflicts: v"}, required: "a", rest: "a"},
		{summary: "the chain to what is missing",
			world: []string{"app\nDepends: lib (>= 1)", "lib\nDepends: gone (>= 3) | gone2"}, required: "app",
			fails: "cannot install app, which needs lib, which needs gone (>= 3) | gone2: no configured source has it"},
		{summary: "the version that is missing",
			world: []string{"app\nDepends: lib (>= 2)", "lib"}, required: "app",
			fails: "cannot install app, which needs lib (>= 2): only version 1 is available"},
		{summary: "conflict between what is asked for",
			world: []string{"a\nBreaks: b (<< 2)", "b"}, required: "a b", fails: "cannot install b: it conflicts with a 1"},
		{summary: "optional packages may be missing or conflict",
			world: []string{"a", "b\nConflicts: a", "c"}, required: "a", optional: "b gone c", rest: "a c",
			warns: "cannot install b: it conflicts with a 1; left to the hook that asks for it\ncannot install gone: no configured source has it; left to the hook that asks for it"},
		{summary: "a merged /usr needs no merging",
			world: []string{"init\nEssential: yes\nDepends: usrmerge | usr-is-merged", "usrmerge\nDepends: perl", "perl", "usr-is-merged"}, base: "usr-is-merged init"},
	} {
		res, err := world(t, c.world...).Resolve(strings.Fields(c.required), strings.Fields(c.optional))
		if err != nil || c.fails != "" {
			if err == nil || err.Error() != c.fails {
				t.Errorf("%s: %v, want %q", c.summary, err, c.fails)
			}
			continue
		}
		if b, r := names(res.Base), names(res.Rest); b != c.base || r != c.rest {
			t.Errorf("%s: base %q, rest %q; want %q, %q", c.summary, b, r, c.base, c.rest)
		}
		if w := strings.Join(res.Warnings, "\n"); w != c.warns {
			t.Errorf("%s: warnings %q", c.summary, w)
		}
	}
}

func TestBatches(t *testing.T) {
	u := world(t, "a\nPre-Depends: b", "b\nDepends: c", "c", "d\nPre-Depends: b", "e\nDepends: a", "f\nDepends: g", "g\nDepends: f")
	var packages []*Candidate
	for _, n := range []string{"c", "b", "a", "d", "e", "f", "g"} {
		c := u.packages[n]
		if err := c.parse(); err != nil {
			t.Fatal(err)
		}
		packages = append(packages, c)
	}
	var got []string
	for _, group := range Batches(packages, func(c *Candidate) bool { return c.Name == "a" }) {
		got = append(got, names(group))
	}
	if d := cmp.Diff([]string{"c b d f g", "a e"}, got); d != "" {
		t.Error(d)
	}
}
