package pkglist

import (
	"fmt"
	"slices"
	"strings"
)

// UnsetVariableError is the failure of a condition on a variable that is not set.
type UnsetVariableError struct{ At, Variable, Condition string }

func (e *UnsetVariableError) Error() string {
	return fmt.Sprintf("%s: condition %q: variable %s is not set; give it a default in environment.d", e.At, e.Condition, e.Variable)
}

// Selected reports whether the entry's filters let it through in an
// environment. Every condition is evaluated, so that an unset variable is
// always found.
func (e Entry) Selected(env map[string]string) (bool, error) {
	if e.InstallType != "" && e.InstallType != InstallType(e.Element, env) {
		return false, nil
	}
	if e.Arch != nil || e.NotArch != nil {
		arch, set := env["ARCH"]
		if !set {
			return false, fmt.Errorf("%s: package %s depends on the architecture, but ARCH is not set", e.At, e.Package)
		}
		if e.Arch != nil && !slices.Contains(e.Arch, arch) || slices.Contains(e.NotArch, arch) {
			return false, nil
		}
	}
	if e.Python != "" {
		version := env["DIB_PYTHON_VERSION"]
		if version == "" {
			version = "3" // without the dib-python element
		}
		if e.Python != version {
			return false, nil
		}
	}
	ok := true
	for _, c := range e.When {
		value, set := env[c.Variable]
		if !set {
			return false, &UnsetVariableError{e.At, c.Variable, c.Text}
		}
		ok = ok && (value == c.Value) == c.Equal
	}
	return ok, nil
}

// InstallType is the install type chosen for an element: that of its own
// variable, the default one, or source.
func InstallType(element string, env map[string]string) string {
	for _, name := range []string{"DIB_INSTALLTYPE_" + strings.ReplaceAll(element, "-", "_"), "DIB_DEFAULT_INSTALLTYPE"} {
		if value := env[name]; value != "" {
			return value
		}
	}
	return "source"
}

// Lists is what one phase installs at its start and removes at its end, as
// pairs of package and element.
type Lists struct {
	Install   [][2]string `json:"install"`
	Uninstall [][2]string `json:"uninstall"`
}

// Merge joins the selected entries of all elements, in their order, by phase. A
// package that any element installs for good is not removed in that phase. A
// removal in a later phase than the installation is done, with a warning.
func Merge(entries []Entry) (phases map[string]*Lists, warnings []string) {
	type key struct{ phase, pkg string }
	wanted := map[key]bool{}
	wantedBy := map[string][]Entry{}
	for _, e := range entries {
		if e.Action == Install {
			wanted[key{e.Phase, e.Package}] = true
			wantedBy[e.Package] = append(wantedBy[e.Package], e)
		}
	}
	phases = map[string]*Lists{}
	for _, e := range entries {
		p := phases[e.Phase]
		if p == nil {
			p = &Lists{Install: [][2]string{}, Uninstall: [][2]string{}}
			phases[e.Phase] = p
		}
		record := [2]string{e.Package, e.Element}
		if e.Action != Uninstall {
			p.Install = append(p.Install, record)
		}
		if e.Action == Install || wanted[key{e.Phase, e.Package}] {
			continue
		}
		p.Uninstall = append(p.Uninstall, record)
		for _, w := range wantedBy[e.Package] {
			if slices.Index(Phases, w.Phase) < slices.Index(Phases, e.Phase) {
				warnings = append(warnings, fmt.Sprintf("package %s, installed in %s by element %s (%s), is removed in %s by element %s (%s)",
					e.Package, w.Phase, w.Element, w.At, e.Phase, e.Element, e.At))
			}
		}
	}
	return phases, warnings
}
