package bootloader

import (
	"regexp"
	"strings"

	"github.com/dib-builder/dib/internal/shellwords"
)

// assignment is one shell variable of /etc/default/grub.
type assignment struct {
	Key, Value string
}

var (
	assignForm  = regexp.MustCompile(`^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=`)
	plainValue  = regexp.MustCompile(`^[A-Za-z0-9_./=:,@%+-]*$`)
	consoleWord = regexp.MustCompile(`^console=[A-Za-z0-9,]*$`)
	bootWord    = regexp.MustCompile(`^boot=`)
)

// EditDefaults gives the text of /etc/default/grub, a shell fragment, with
// console= and boot= arguments taken out of all kernel command lines and then
// the variables set. Editing twice changes nothing more.
func EditDefaults(text string, set []assignment) string {
	var out strings.Builder
	for _, line := range statements(text) {
		if m := assignForm.FindStringSubmatchIndex(line); m != nil && strings.HasPrefix(line[m[2]:m[3]], "GRUB_CMDLINE_") {
			line = line[:m[3]+1] + dropArguments(line[m[3]+1:])
		}
		out.WriteString(line)
	}
	return setVariables(out.String(), set)
}

// setVariables sets variables in shell text. A variable keeps the place of its
// first assignment, and later ones go; all other text stays.
func setVariables(text string, set []assignment) string {
	values := map[string]string{}
	for _, a := range set {
		values[a.Key] = a.Value
	}
	done := map[string]bool{}
	var out strings.Builder
	for _, line := range statements(text) {
		key := ""
		if m := assignForm.FindStringSubmatch(line); m != nil {
			key = m[1]
		}
		switch value, ours := values[key]; {
		case !ours:
			out.WriteString(line)
		case !done[key]:
			out.WriteString(assign(key, value))
			done[key] = true
		}
	}
	if s := out.String(); s != "" && !strings.HasSuffix(s, "\n") {
		out.WriteByte('\n')
	}
	for _, a := range set {
		if !done[a.Key] {
			out.WriteString(assign(a.Key, a.Value))
		}
	}
	return out.String()
}

// assign writes an assignment, in double quotes where the shell needs them.
func assign(key, value string) string {
	if !plainValue.MatchString(value) || value == "" {
		value = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(value) + `"`
	}
	return key + "=" + value + "\n"
}

// statements cuts shell text into lines, where a quoted line break or one
// after a backslash does not end a line. Joined they give the text again.
func statements(text string) []string {
	var out []string
	start, quote := 0, byte(0)
	comment := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\n' && quote == 0:
			out = append(out, text[start:i+1])
			start, comment = i+1, false
		case comment:
		case c == '\\' && quote != '\'':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '#' && (i == start || strings.IndexByte(" \t;", text[i-1]) >= 0):
			comment = true
		}
	}
	if start < len(text) {
		out = append(out, text[start:])
	}
	return out
}

// dropArguments removes console= and boot= words from the right side of an
// assignment. It leaves alone what is not one plain or quoted string.
func dropArguments(right string) string {
	body := strings.TrimRight(right, " \t\n")
	tail := right[len(body):]
	quote := ""
	if n := len(body); n >= 2 && (body[0] == '"' || body[0] == '\'') && body[n-1] == body[0] {
		quote, body = body[:1], body[1:n-1]
	} else if words, err := shellwords.Split(body); err != nil || len(words) > 1 {
		return right
	}
	kept := make([]string, 0, 8)
	dropped := false
	for _, w := range strings.Fields(body) {
		if consoleWord.MatchString(w) || bootWord.MatchString(w) {
			dropped = true
			continue
		}
		kept = append(kept, w)
	}
	if !dropped {
		return right
	}
	return quote + strings.Join(kept, " ") + quote + tail
}

var (
	firmwareLoad = regexp.MustCompile(`(?m)^([ \t]*)(linux|initrd)(?:efi|16)([ \t]+/)`)
	bootPath     = regexp.MustCompile(`([ \t])/boot/(vmlinuz|initramfs)`)
	plainPath    = regexp.MustCompile(`([ \t])/(vmlinuz|initramfs)`)
)

// plainConfig turns the commands that load a kernel on one kind of firmware
// only into those that work on all: what boots the image decides, not what
// built it (BD-64).
func plainConfig(cfg string) string { return firmwareLoad.ReplaceAllString(cfg, "${1}${2}${3}") }

// bootEntry corrects the paths of kernel and initramfs in a boot loader
// specification entry: they count from the root of the filesystem they are on.
func bootEntry(entry string, separateBoot bool) string {
	if separateBoot {
		return bootPath.ReplaceAllString(entry, "${1}/${2}")
	}
	return plainPath.ReplaceAllString(entry, "${1}/boot/${2}")
}
