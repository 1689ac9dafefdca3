// Package sourcerepo reads the source-repository files of elements: which git
// repositories, archives and files belong where in an image. It is pure:
// package intarget/sourcerepos fetches what is read here.
package sourcerepo

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Type is how a source is kept where it comes from.
type Type string

// The types of sources.
const (
	Git     Type = "git"
	Tar     Type = "tar"
	File    Type = "file"
	Package Type = "package" // nothing to fetch: a distribution package does it
)

var types = []Type{Git, Tar, File, Package}

// Line is one entry of a file, with its variables expanded. Fields that the
// line leaves out are empty.
type Line struct {
	File     string // where the entry is
	Number   int    // of the line, from 1
	Name     string
	Type     Type
	Dest     string // absolute path in the image, clean
	Location string
	Ref      string
}

// At is where the entry is, as FILE:LINE.
func (l Line) At() string { return fmt.Sprintf("%s:%d", l.File, l.Number) }

// LineError is a fault of one line.
type LineError struct {
	File   string
	Number int // of the line, from 1
	Err    error
}

func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Number, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// UnsetVariableError is a reference to a variable without a value. Before a
// build that is no fault yet: environment files of elements may set it.
type UnsetVariableError struct{ Variable string }

func (e *UnsetVariableError) Error() string {
	return fmt.Sprintf("the variable %s is not set", e.Variable)
}

// Lookup returns the value of an environment variable.
type Lookup func(name string) (string, bool)

// Parse reads a file of lines
//
//	NAME TYPE [DEST] [LOCATION] [REF]
//
// Words and quotes are those of the shell, and $VAR, ${VAR}, ${VAR-WORD} and
// ${VAR:-WORD} are replaced by values, in which blanks separate words; nothing
// else has a special meaning but a "#" at the beginning of a word, which starts
// a comment. The error joins a *LineError for each line that cannot be read;
// the other lines are returned all the same.
func Parse(file string, data []byte, lookup Lookup) ([]Line, error) {
	var lines []Line
	var errs []error
	for i, text := range strings.Split(string(data), "\n") {
		words, err := expand(strings.TrimSuffix(text, "\r"), lookup)
		var line Line
		if err == nil && len(words) > 0 && !strings.HasPrefix(words[0], "#") {
			line, err = parseLine(words)
		}
		if err != nil {
			errs = append(errs, &LineError{file, i + 1, err})
			continue
		}
		if line.Name != "" {
			line.File, line.Number = file, i+1
			lines = append(lines, line)
		}
	}
	return lines, errors.Join(errs...)
}

func parseLine(words []string) (Line, error) {
	if len(words) < 2 {
		return Line{}, errors.New("a name and a type are needed: NAME TYPE [DEST] [LOCATION] [REF]")
	}
	l := Line{Name: words[0], Type: Type(words[1])}
	if err := checkType(l.Type); err != nil {
		return Line{}, err
	}
	if strings.Trim(VariablePart(l.Name), "_") == "" {
		return Line{}, fmt.Errorf("the name %q has no letter or digit", l.Name)
	}
	rest := words[2:]
	if len(rest) > 0 && strings.HasPrefix(rest[0], "/") {
		l.Dest, rest = path.Clean(rest[0]), rest[1:]
	}
	if len(rest) > 2 {
		return Line{}, fmt.Errorf("too many words, from %q on: NAME TYPE [DEST] [LOCATION] [REF]", rest[2])
	}
	rest = append(rest, "", "")
	l.Location, l.Ref = rest[0], rest[1]
	return l, nil
}

func checkType(t Type) error {
	if slices.Contains(types, t) {
		return nil
	}
	return fmt.Errorf("the type %q is not one of git, tar, file and package", t)
}

// expander cuts one line into words.
type expander struct {
	rest   string
	lookup Lookup
	words  []string
	word   strings.Builder
	inWord bool
}

func expand(line string, lookup Lookup) ([]string, error) {
	if strings.ContainsRune(line, 0) {
		return nil, errors.New("a zero byte cannot be part of a line")
	}
	x := &expander{rest: line, lookup: lookup}
	for x.rest != "" {
		c := x.rest[0]
		var err error
		switch {
		case c == ' ' || c == '\t':
			x.rest = x.rest[1:]
			x.end()
		case c == '#' && !x.inWord:
			x.rest = ""
		case c == '\\':
			x.escape("")
		case c == '\'':
			err = x.single()
		case c == '"':
			err = x.double()
		case c == '$':
			err = x.variable(false)
		default:
			x.add(x.rest[:1])
			x.rest = x.rest[1:]
		}
		if err != nil {
			return nil, err
		}
	}
	x.end()
	// Blanks in quotes separate words too: no field can have one.
	return strings.Fields(strings.Join(x.words, " ")), nil
}

func (x *expander) add(text string) {
	x.inWord = true
	x.word.WriteString(text)
}

func (x *expander) end() {
	if x.inWord {
		x.words = append(x.words, x.word.String())
	}
	x.word.Reset()
	x.inWord = false
}

// escape reads a backslash and what it protects: any character, or one of only.
func (x *expander) escape(only string) {
	if len(x.rest) > 1 && only != "" && !strings.Contains(only, x.rest[1:2]) {
		x.add(x.rest[:2])
		x.rest = x.rest[2:]
		return
	}
	if x.rest = x.rest[1:]; x.rest != "" {
		x.add(x.rest[:1])
		x.rest = x.rest[1:]
	}
}

func (x *expander) single() error {
	text, rest, ok := strings.Cut(x.rest[1:], "'")
	if !ok {
		return errors.New("a ' is not closed; write \\' for the character itself")
	}
	x.add(text)
	x.rest = rest
	return nil
}

func (x *expander) double() error {
	x.rest = x.rest[1:]
	x.add("")
	for x.rest != "" {
		switch c := x.rest[0]; c {
		case '"':
			x.rest = x.rest[1:]
			return nil
		case '\\':
			x.escape("\"\\$`")
		case '$':
			if err := x.variable(true); err != nil {
				return err
			}
		default:
			x.add(x.rest[:1])
			x.rest = x.rest[1:]
		}
	}
	return errors.New("a \" is not closed; write \\\" for the character itself")
}

// variable reads a reference, or a "$" that is none.
func (x *expander) variable(quoted bool) error {
	after := x.rest[1:]
	if strings.HasPrefix(after, "(") {
		return errors.New("commands are not run: put what $(...) would print into a variable, in environment.d")
	}
	if !strings.HasPrefix(after, "{") {
		name := after[:nameLength(after)]
		if name == "" {
			x.add("$")
			x.rest = after
			return nil
		}
		x.rest = after[len(name):]
		return x.value(name, "", "", quoted)
	}
	body, rest, ok := strings.Cut(after[1:], "}")
	if !ok {
		return errors.New("a ${ is not closed")
	}
	name := body[:nameLength(body)]
	operator := body[len(name):]
	word := strings.TrimPrefix(strings.TrimPrefix(operator, ":"), "-")
	switch {
	case name == "":
		return fmt.Errorf("${%s} names no variable", body)
	case operator == "":
	case strings.HasPrefix(operator, ":-"):
		operator = ":-"
	case strings.HasPrefix(operator, "-"):
		operator = "-"
	default:
		return fmt.Errorf("${%s} is not understood: only ${VAR}, ${VAR-WORD} and ${VAR:-WORD} are", body)
	}
	if strings.ContainsAny(word, "$'\"\\") {
		return fmt.Errorf("${%s} is not understood: its default must be plain text", body)
	}
	x.rest = rest
	return x.value(name, operator, word, quoted)
}

// value adds the value of a variable, with what to take when it has none.
func (x *expander) value(name, operator, word string, quoted bool) error {
	value, set := x.lookup(name)
	switch {
	case operator == ":-" && value == "", operator == "-" && !set:
		value = word
	case !set:
		return &UnsetVariableError{name}
	}
	if strings.ContainsAny(value, "\n\x00") {
		return fmt.Errorf("the variable %s has more than one line", name)
	}
	if quoted {
		x.add(value)
		return nil
	}
	for i := range len(value) { // bytes, not characters: an address may be in any encoding
		if c := value[i]; c == ' ' || c == '\t' {
			x.end()
		} else {
			x.add(value[i : i+1])
		}
	}
	return nil
}

// nameLength is the length of the variable name at the beginning of a text.
func nameLength(text string) int {
	for i := range len(text) {
		c := text[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(text)
}

// VariablePart is a name as part of the name of a variable.
func VariablePart(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
}
