package pkglist

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dib-builder/dib/internal/finding"
)

func TestParseErrors(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"M22 unknown key", "a:\n  phas: install.d\n", `f:2:3: package a: unknown parameter "phas"`},
		{"M22 unknown phase", "a:\n  phase: install\n", `f:2:10: package a: phase "install" is not one of`},
		{"both architectures", "a:\n  arch: x\n  not-arch: y\n", "f:2:3: package a: arch and not-arch exclude each other"},
		{"M23 number as name", "1.5:\n", `f:1:1: package name "1.5" is not a string`},
		{"M23 list for arch", "a:\n  arch: [x]\n", "f:2:9: arch must be a string"},
		{"M23 number for arch", "a:\n  arch: 64\n", "f:2:9: arch must be a string"},
		{"M23 list for phase", "a:\n  phase: [install.d]\n", "f:2:10: package a: phase"},
		{"M23 mapping for version", "a:\n  dib_python_version: {}\n", "f:2:23: package a: dib_python_version must be a number or a string"},
		{"M23 boolean in when", "a:\n  when: true\n", "f:2:9: when must be a string"},
		{"blank before when", "a:\n  when: ' A = b'\n", `f:2:9: malformed condition " A = b"`},
		{"when without operator", "a:\n  when: [A = b, C]\n", `f:2:17: malformed condition "C"`},
		{"M21 bad flag", "a:\n  uninstall: maybe\n", "f:2:14: uninstall must be true or false"},
		{"top-level list", "- a\n", "f:1:1: the file must be a mapping"},
		{"scalar parameters", "a: yes\n", "f:1:4: package a: parameters must be"},
		{"list of scalars", "a:\n  - b\n", "f:2:5: package a: list items must be mappings"},
		{"yaml syntax", "a:\n\tb: c\n", "f:2:1: neither YAML nor JSON: found character that cannot start any token"},
		{"json with position", "{\n\t\"a\": {\"x\": 1}\n}", `f:2:8: package a: unknown parameter "x"`},
		{"empty name", "'': \n", "f:1:1: a package name is empty"},
		{"merge of a scalar", "a:\n  <<: 1\n", "f:2:3: a merge key needs a mapping"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			entries, _, err := Parse("f", "e", []byte(tt.text))
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || entries != nil {
				t.Errorf("got %v, %v, want %s...", entries, err, tt.want)
			}
		})
	}
}

// Whoever repairs a file wants to see everything that is wrong with it.
func TestAllFindingsAtOnce(t *testing.T) {
	const text = `a: {phas: x}
b:
  - arch: [x]
    when: [C, A = b, 1]
  - 7
3: {}
c: {uninstall: 5, phase: install}
`
	files := fstest.MapFS{"package-installs.yaml": {Data: []byte(text)}, "package-installs.json": {Data: []byte(`{"z": {"y": 1}}`)}}
	_, _, err := Read("dir", files, "e", Files...)
	var list finding.List
	if !errors.As(err, &list) {
		t.Fatalf("%T: %v", err, err)
	}
	var at []string
	for _, f := range list {
		place, _, _ := strings.Cut(f.String(), ": ")
		at = append(at, strings.TrimPrefix(place, "dir/package-installs."))
	}
	want := []string{"json:1:8", "yaml:1:5", "yaml:3:11", "yaml:4:12", "yaml:4:22", "yaml:5:5", "yaml:6:1", "yaml:7:16", "yaml:7:26"}
	if !reflect.DeepEqual(at, want) {
		t.Errorf("findings at %v, want %v:\n%v", at, want, err)
	}
}

func TestNoEntries(t *testing.T) {
	for _, text := range []string{"", "# only a comment\n", "{}", "null", "---\n...\n", "[]"} {
		t.Run("M23 "+text, func(t *testing.T) {
			entries, warnings, err := Parse("f", "e", []byte(text))
			if entries != nil || warnings != nil || err != nil {
				t.Errorf("%v, %v, %v", entries, warnings, err)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"a: {when: A == b}\n", `f:1:11: condition "A == b" compares with "= b"; the operator is a single =`},
		{"a: {arch: x}\na: {arch: y}\n", `f:2:1: "a" replaces the entry of line 1`},
	} {
		entries, warnings, err := Parse("f", "e", []byte(tt.text))
		if err != nil || len(entries) != 1 || len(warnings) != 1 || warnings[0].String() != tt.want {
			t.Errorf("%q: %v, %v, %v", tt.text, entries, warnings, err)
		}
	}
}

func TestSelected(t *testing.T) {
	env := map[string]string{"ARCH": "ppc64le", "A": "x", "EMPTY": "", "BLANKS": "x y ", "DIB_INSTALLTYPE_my_element": "package", "DIB_DEFAULT_INSTALLTYPE": "source"}
	for _, tt := range []struct {
		name, params string
		want         string // empty: left out; otherwise the action and phase
	}{
		{"", "{}", "install install.d"},
		{"", "''", "install install.d"},
		{"", "[]", "install install.d"},
		{"", "~", "install install.d"},
		{"", "{phase: pre-install.d}", "install pre-install.d"},
		{"", "{phase: post-install.d}", "install post-install.d"},
		{"M20", "{arch: 'ppc64, ppc64le'}", "install install.d"},
		{"", "{arch: 'ppc64'}", ""},
		{"M20", "{not-arch: 'ppc64, ppc64le'}", ""},
		{"", "{not-arch: ppc64}", "install install.d"},
		{"", "{uninstall: }", "uninstall install.d"},
		{"", "{uninstall: True}", "uninstall install.d"},
		{"M21", "{uninstall: no}", "install install.d"},
		{"M21", "{uninstall: 'False'}", "install install.d"},
		{"", "{build-only: on}", "build-only install.d"},
		{"M21", "{build-only: 'off'}", "install install.d"},
		{"", "{build-only: true, uninstall: true}", "build-only install.d"},
		{"", "{installtype: package}", "install install.d"},
		{"", "{installtype: source}", ""},
		{"M24", "{dib_python_version: 3}", "install install.d"},
		{"M24", "{dib_python_version: '3'}", "install install.d"},
		{"M24", "{dib_python_version: '2'}", ""},
		{"", "{when: A=x}", "install install.d"},
		{"", "{when: 'A   =x'}", "install install.d"},
		{"trailing blanks count", "{when: 'A = x '}", ""},
		{"blanks inside and at the end", "{when: 'BLANKS =   x y '}", "install install.d"},
		{"case counts", "{when: A = X}", ""},
		{"quotes are text", "{when: 'A = \"x\"'}", ""},
		{"", "{when: A != x}", ""},
		{"", "{when: 'EMPTY ='}", "install install.d"},
		{"", "{when: [A = x, EMPTY != y]}", "install install.d"},
		{"", "{when: [A = x, EMPTY = y]}", ""},
		{"", "{when: 'A == x'}", ""},
		{"one filter fails", "{arch: ppc64le, installtype: source, when: UNSET = 1}", ""},
	} {
		t.Run(strings.TrimSpace(tt.name+" "+tt.params), func(t *testing.T) {
			entries, _, err := Parse("f", "my-element", []byte("pkg: "+tt.params+"\n"))
			if err != nil || len(entries) != 1 {
				t.Fatalf("%d entries, %v", len(entries), err)
			}
			ok, err := entries[0].Selected(env)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if ok {
				got = entries[0].Action.String() + " " + entries[0].Phase
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	// Set, the version counts as it is.
	entries, _, err := Parse("f", "e", []byte("pkg: {dib_python_version: 2}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := entries[0].Selected(map[string]string{"DIB_PYTHON_VERSION": "2"}); err != nil || !ok {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestSelectionFailures(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"p:\n  when: [A = no, B = b]\n", `f:1: condition "B = b": variable B is not set; give it a default in environment.d`},
		{"p: {arch: x}\n", "f:1: package p depends on the architecture, but ARCH is not set"},
	} {
		entries, _, err := Parse("f", "e", []byte(tt.text))
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := entries[0].Selected(map[string]string{"A": "x"}); ok || err == nil || err.Error() != tt.want {
			t.Errorf("%q: %v, %v", tt.text, ok, err)
		}
	}
}

// A list of parameters has entries that are judged each by itself.
func TestListOfParameters(t *testing.T) {
	entries, _, err := Parse("f", "e", []byte("k:\n  - {not-arch: arm64, when: K = x}\n  - {arch: arm64, when: [K = x, R != jammy]}\n  -\n"))
	if err != nil || len(entries) != 3 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, tt := range []struct {
		arch, k, r string
		want       [3]bool
	}{
		{"amd64", "x", "noble", [3]bool{true, false, true}},
		{"arm64", "x", "noble", [3]bool{false, true, true}},
		{"arm64", "x", "jammy", [3]bool{false, false, true}},
		{"amd64", "y", "jammy", [3]bool{false, false, true}},
	} {
		for i, e := range entries {
			ok, err := e.Selected(map[string]string{"ARCH": tt.arch, "K": tt.k, "R": tt.r})
			if err != nil || ok != tt.want[i] {
				t.Errorf("%v: entry %d: %v, %v", tt, i, ok, err)
			}
		}
	}
}

func TestInstallType(t *testing.T) {
	for _, tt := range []struct {
		env  map[string]string
		want string
	}{
		{nil, "source"},
		{map[string]string{"DIB_DEFAULT_INSTALLTYPE": "package"}, "package"},
		{map[string]string{"DIB_DEFAULT_INSTALLTYPE": "package", "DIB_INSTALLTYPE_a_b": "repo"}, "repo"},
		{map[string]string{"DIB_DEFAULT_INSTALLTYPE": "package", "DIB_INSTALLTYPE_a_b": ""}, "package"},
		{map[string]string{"DIB_INSTALLTYPE_a": "repo"}, "source"},
	} {
		if got := InstallType("a-b", tt.env); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.env, got, tt.want)
		}
	}
}

func TestMerge(t *testing.T) {
	pkg := func(name, element, phase string, a Action) Entry {
		return Entry{Package: name, Element: element, Phase: phase, Action: a, At: element + ":1"}
	}
	for _, tt := range []struct {
		name     string
		entries  []Entry
		want     map[string]*Lists
		warnings []string
	}{
		{"nothing", nil, map[string]*Lists{}, nil},
		{
			"order of elements, repetitions stay", []Entry{pkg("b", "x", "install.d", Install), pkg("a", "y", "install.d", Install), pkg("b", "y", "install.d", Install)},
			map[string]*Lists{"install.d": {[][2]string{{"b", "x"}, {"a", "y"}, {"b", "y"}}, [][2]string{}}}, nil,
		},
		{
			"M26 installation beats a removal before it", []Entry{pkg("a", "x", "install.d", Uninstall), pkg("a", "y", "install.d", Install)},
			map[string]*Lists{"install.d": {[][2]string{{"a", "y"}}, [][2]string{}}}, nil,
		},
		{
			"M26 installation beats a removal after it", []Entry{pkg("a", "y", "install.d", Install), pkg("a", "x", "install.d", Uninstall), pkg("a", "z", "install.d", BuildOnly)},
			map[string]*Lists{"install.d": {[][2]string{{"a", "y"}, {"a", "z"}}, [][2]string{}}}, nil,
		},
		{
			"build-only", []Entry{pkg("a", "x", "install.d", BuildOnly)},
			map[string]*Lists{"install.d": {[][2]string{{"a", "x"}}, [][2]string{{"a", "x"}}}}, nil,
		},
		{
			"M27 removal in a later phase", []Entry{pkg("a", "x", "pre-install.d", Install), pkg("a", "y", "install.d", Uninstall)},
			map[string]*Lists{
				"pre-install.d": {[][2]string{{"a", "x"}}, [][2]string{}}, "install.d": {[][2]string{}, [][2]string{{"a", "y"}}},
			}, []string{"package a, installed in pre-install.d by element x (x:1), is removed in install.d by element y (y:1)"},
		},
		{
			"removal in an earlier phase is nothing to warn of", []Entry{pkg("a", "x", "install.d", Install), pkg("a", "y", "pre-install.d", Uninstall)},
			map[string]*Lists{
				"install.d": {[][2]string{{"a", "x"}}, [][2]string{}}, "pre-install.d": {[][2]string{}, [][2]string{{"a", "y"}}},
			}, nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, warnings := Merge(tt.entries)
			if !reflect.DeepEqual(got, tt.want) || !reflect.DeepEqual(warnings, tt.warnings) {
				t.Errorf("%v, %v", got, warnings)
			}
		})
	}
}

func TestParseLegacy(t *testing.T) {
	got := ParseLegacy([]byte("# comment\n\n  a \r\n-b\n - c\n-\n#d\nlast"))
	want := []LegacyPackage{{"a", false}, {"b", true}, {"c", true}, {"last", false}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("M29: %v, want %v", got, want)
	}
}

func FuzzParseLegacy(f *testing.F) {
	for _, seed := range []string{"", "a", "-a\n", "#a\n\n-\n", "a b\r\nc", "\xff\n- -x"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, p := range ParseLegacy(data) {
			if p.Name == "" || p.Name != strings.TrimSpace(p.Name) || strings.Contains(p.Name, "\n") {
				t.Errorf("%q", p.Name)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "# x\n", "a:\n", "a: {arch: b}\n", "a: [{when: A = b}, '']\n", "{\"a\": {\"phase\": \"install.d\"}}",
		"x: &x {arch: a}\ny:\n  <<: *x\n", "a: *b\n", "a: 1\n", "? [a]\n: b\n", "a:\n  when: [[]]\n", "\x00", "a: &a [*a]",
		"a: {phase: [x], uninstall: {}, dib_python_version: []}\nb: {build-only: }\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, _, err := Parse("list", "e", data)
		if err != nil {
			var list finding.List
			if !errors.As(err, &list) || list[0].Source != "list" {
				t.Errorf("error does not name the file: %v", err)
			}
			return
		}
		env := map[string]string{"ARCH": "amd64"}
		for _, e := range entries {
			for _, c := range e.When {
				env[c.Variable] = c.Value
			}
		}
		var chosen []Entry
		for _, e := range entries {
			ok, err := e.Selected(env)
			if err != nil {
				t.Errorf("all variables are set: %v", err)
			}
			if ok {
				chosen = append(chosen, e)
			}
		}
		phases, _ := Merge(chosen)
		records := 0
		for _, p := range phases {
			records += len(p.Install) + len(p.Uninstall)
		}
		if records > 2*len(chosen) {
			t.Error("more records than entries")
		}
	})
}
