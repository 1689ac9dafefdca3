// Package secret says which variables of a build are secret, and takes their
// values out of text.
//
// A variable is secret by its name, by declaration in DIB_SECRET_NAMES, or
// because its value is a URL with a password. docs/secrets.md tells users what
// that means for them.
package secret

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Names of variables with a meaning here.
const (
	// Prefix begins the names of variables that are secret whatever follows,
	// and that hooks find as files too.
	Prefix = "DIB_SECRET_"
	// NamesVariable holds names of further secret variables, separated by blanks or commas.
	NamesVariable = "DIB_SECRET_NAMES"
	// DirVariable is the directory where hooks find secrets as files.
	DirVariable = "DIB_SECRETS_DIR"
)

// Mark stands where a secret was.
const Mark = "********"

// telling are the parts of names that say that a value is secret.
var telling = []string{
	"PASSWORD", "PASSWD", "PASSPHRASE", "PASSCODE", "SECRET", "TOKEN", "CREDENTIAL",
	"PRIVATE_KEY", "PRIVATEKEY", "API_KEY", "APIKEY", "ACCESS_KEY", "ACCESSKEY",
}

// tellingEnds are telling at the end of a name, as words of their own.
var tellingEnds = []string{"_PASS", "_PWD", "_KEY"}

// harmless are ends of names that hold no secret, though the rest may sound
// so: where a secret is kept, whether there is one, and keys that may be known.
var harmless = []string{
	"_FILE", "_PATH", "_DIR", "_URL", "_NAME", "_USERNAME", "PASSWORDLESS", "_PUBLIC_KEY", "_PUB_KEY",
}

// byName says whether a name alone makes a variable secret.
func byName(name string) bool {
	switch {
	case name == NamesVariable, name == DirVariable:
		return false
	case strings.HasPrefix(name, Prefix):
		return true
	}
	name = strings.ToUpper(name)
	hasSuffix := func(end string) bool { return strings.HasSuffix(name, end) }
	if slices.ContainsFunc(harmless, hasSuffix) {
		return false
	}
	return slices.ContainsFunc(tellingEnds, hasSuffix) ||
		slices.ContainsFunc(telling, func(part string) bool { return strings.Contains(name, part) })
}

// Rules say which variables are secret. The zero value knows only what names
// and values tell.
type Rules struct {
	declared map[string]bool
}

// RulesOf are the rules of an environment, which may declare more names.
func RulesOf(env map[string]string) Rules {
	r := Rules{declared: map[string]bool{}}
	for _, name := range DeclaredNames(env[NamesVariable]) {
		r.declared[name] = true
	}
	return r
}

// DeclaredNames splits the value of DIB_SECRET_NAMES.
func DeclaredNames(list string) []string {
	return strings.FieldsFunc(list, func(c rune) bool { return strings.ContainsRune(", \t\n", c) })
}

// Secret says whether a variable is secret. An empty value is not.
func (r Rules) Secret(name, value string) bool {
	return value != "" && (r.declared[name] || byName(name) || urlPassword.MatchString(value))
}

// Strip returns a copy of env without secret variables, and the names that are
// missing in it, in byte order.
func (r Rules) Strip(env map[string]string) (kept map[string]string, leftOut []string) {
	kept = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if r.Secret(name, env[name]) {
			leftOut = append(leftOut, name)
		} else {
			kept[name] = env[name]
		}
	}
	return kept, leftOut
}

// LeftOutComment is the line, a comment for shells, that says what is missing
// in a list of variables; it is empty if nothing is.
func LeftOutComment(leftOut []string) string {
	if len(leftOut) == 0 {
		return ""
	}
	return "# left out because they hold secrets: " + strings.Join(leftOut, " ")
}

// urlPassword finds the password of "scheme://user:password@host".
var urlPassword = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^\s/?#:@]*:)([^\s/?#@]+)(@)`)

// assignment finds "NAME=value", as traces and command lines show it. The value
// is a word of a shell, quoted or not.
var assignment = regexp.MustCompile(`([A-Za-z_][A-Za-z0-9_.-]*)=('(?:[^']|'\\'')*'|"(?:[^"\\]|\\.)*"|[^\s'"]+)`)

// MaskAssignments hides values that a line of text assigns to names that sound
// secret ("NAME=value"), and passwords of URLs, without knowing any of them.
func MaskAssignments(line string) string {
	if !strings.Contains(line, "=") && !strings.Contains(line, "://") {
		return line
	}
	line = urlPassword.ReplaceAllString(line, "${1}"+Mark+"${3}")
	return assignment.ReplaceAllStringFunc(line, func(found string) string {
		name, _, _ := strings.Cut(found, "=")
		if !optionByName(name) {
			return found
		}
		return name + "=" + Mark
	})
}

// optionByName is byName for options of programs, which spell names their own
// way: encrypt.key-secret.
func optionByName(name string) bool {
	return byName(strings.NewReplacer("-", "_", ".", "_").Replace(name))
}

// Assigned lists what MaskAssignments would hide in the argument of a command.
func Assigned(arg string) []string {
	var values []string
	for _, m := range urlPassword.FindAllStringSubmatch(arg, -1) {
		values = append(values, m[2])
	}
	for _, m := range assignment.FindAllStringSubmatch(arg, -1) {
		if optionByName(m[1]) {
			values = append(values, m[2])
		}
	}
	return values
}
