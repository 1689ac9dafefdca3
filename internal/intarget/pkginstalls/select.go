package pkginstalls

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/intarget/cmdline"
)

// unsetVariable is the failure of a condition on a variable that is not set.
type unsetVariable struct{ at, name, condition string }

func (e *unsetVariable) Error() string {
	return fmt.Sprintf("%s: condition %q: variable %s is not set; give it a default in environment.d", e.at, e.condition, e.name)
}

// selected reports whether the entry's filters let it through. Every
// condition is evaluated, so that an unset variable is always found.
func (e entry) selected(env cmdline.Environment) (bool, error) {
	ok := e.installType == "" || e.installType == installTypeOf(e.element, env)
	if e.arch != nil || e.notArch != nil {
		arch, set := env["ARCH"]
		if !set {
			return false, fmt.Errorf("%s: package %s depends on the architecture, but ARCH is not set", e.at, e.pkg)
		}
		ok = ok && (e.arch == nil || slices.Contains(e.arch, arch)) && !slices.Contains(e.notArch, arch)
	}
	if e.pythonVer != "" {
		version := env["DIB_PYTHON_VERSION"]
		if version == "" {
			version = "3" // without the dib-python element
		}
		ok = ok && e.pythonVer == version
	}
	if !ok {
		return false, nil
	}
	for _, c := range e.when {
		value, set := env[c.variable]
		if !set {
			return false, &unsetVariable{e.at, c.variable, c.text}
		}
		ok = ok && (value == c.value) == c.equal
	}
	return ok, nil
}

// installTypeOf is the install type chosen for an element.
func installTypeOf(element string, env cmdline.Environment) string {
	for _, name := range []string{"DIB_INSTALLTYPE_" + strings.ReplaceAll(element, "-", "_"), "DIB_DEFAULT_INSTALLTYPE"} {
		if value := env[name]; value != "" {
			return value
		}
	}
	return "source"
}
