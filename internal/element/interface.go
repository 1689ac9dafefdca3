package element

import (
	"fmt"
	"slices"
	"strings"
)

// The three ways in which hooks learn the elements of the image.

// ImageElement is the value of IMAGE_ELEMENT: the names, separated by single spaces.
func ImageElement(elements []Element) string {
	names := make([]string, len(elements))
	for i, e := range elements {
		names[i] = e.Name
	}
	return strings.Join(names, " ")
}

// ImageElementYAML is the value of IMAGE_ELEMENT_YAML: a block-style map from
// name to directory, keys in byte order, one a line.
func ImageElementYAML(elements []Element) string {
	var b strings.Builder
	for _, e := range sorted(elements) {
		fmt.Fprintf(&b, "%s: %s\n", yamlWord(e.Name), yamlWord(e.Dir))
	}
	return b.String()
}

// ArrayFunction is the name of the bash function that prints the elements.
const ArrayFunction = "get_image_element_array"

// ArrayFunctionValue is the value with which bash imports ArrayFunction from
// the environment (as BASH_FUNC_get_image_element_array%%). The function prints
// "[name]=directory " for each element, meant for
//
//	eval declare -A elements=($(get_image_element_array))
//
// where the output is split into words before bash reads its quotes: no blank
// may be in it, quoted or not, except between the words.
func ArrayFunctionValue(elements []Element) string {
	var b strings.Builder
	for _, e := range elements {
		fmt.Fprintf(&b, "[%s]=%s ", bashWord(e.Name), bashWord(e.Dir))
	}
	return "() {  printf %s '" + strings.ReplaceAll(b.String(), "'", `'\''`) + "'\n}"
}

func sorted(elements []Element) []Element {
	return slices.SortedFunc(slices.Values(elements), func(a, b Element) int { return strings.Compare(a.Name, b.Name) })
}

const plainBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+@%,"

// bashWord quotes a word such that neither splitting nor globbing can change it.
func bashWord(s string) string {
	if s != "" && strings.Trim(s, plainBytes) == "" {
		return s
	}
	var b strings.Builder
	b.WriteString("$'")
	for i := range len(s) {
		if strings.IndexByte(plainBytes, s[i]) >= 0 {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, `\x%02x`, s[i])
		}
	}
	b.WriteString("'")
	return b.String()
}

// yamlWord writes a string such that readers of YAML 1.1 and 1.2 take it as
// that string: "yes", "1.5" or "1:30" would otherwise be something else.
func yamlWord(s string) string {
	letter := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '/' || c == '_' }
	if s != "" && letter(s[0]) && strings.Trim(s, plainBytes) == "" {
		switch strings.ToLower(s) {
		case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		default:
			return s
		}
	}
	if strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0 {
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
