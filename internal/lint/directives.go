package lint

import "strings"

// separate splits a list of names of checks at blanks and commas.
func separate(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\r' })
}

// disabled lists the checks that a file switches off for itself, in comment
// lines of the form "# dib-lint: disable=NAME NAME...".
func disabled(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		if list, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "# dib-lint: disable="); ok {
			names = append(names, separate(list)...)
		}
	}
	return names
}

// marked says whether a line is exempt from a check, by "dib-lint: CHECK" in a
// comment of it.
func marked(line, check string) bool {
	_, comment, ok := strings.Cut(line, "dib-lint:")
	return ok && strings.Contains(comment, check)
}

// ParseToxINI lists the checks that a project's tox.ini switches off: the value
// of "ignore" in section [dib-lint], which may go on over indented lines.
func ParseToxINI(text string) []string {
	var names []string
	section, option := "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';':
			continue
		case line[0] == ' ' || line[0] == '\t': // goes on with the option before
			if section == "dib-lint" && option == "ignore" {
				names = append(names, separate(stripComment(trimmed))...)
			}
			continue
		case trimmed[0] == '[' && strings.HasSuffix(trimmed, "]"):
			section, option = strings.TrimSpace(trimmed[1:len(trimmed)-1]), ""
			continue
		}
		at := strings.IndexAny(trimmed, "=:")
		if at < 0 {
			option = ""
			continue
		}
		option = strings.TrimSpace(trimmed[:at])
		if section == "dib-lint" && option == "ignore" {
			names = separate(stripComment(trimmed[at+1:])) // the last one counts
		}
	}
	return names
}

// stripComment cuts a comment off a value.
func stripComment(value string) string {
	for _, mark := range []string{" #", "\t#", " ;", "\t;"} {
		value, _, _ = strings.Cut(value, mark)
	}
	return value
}
