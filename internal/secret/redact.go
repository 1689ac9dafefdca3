package secret

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// MinLength is the number of bytes from which on a value is taken out of text.
// Masking every occurrence of something shorter, such as "1" or "root", would
// make a log unreadable and hide nothing that cannot be guessed.
const MinLength = 6

// Redactor takes the values of secret variables out of text. It learns them
// from environments; it is safe for concurrent use. nil redacts nothing.
type Redactor struct {
	mu     sync.Mutex // held while learning
	values map[string]bool
	index  atomic.Pointer[index]
}

// NewRedactor knows the secrets of env, by the rules that env itself declares.
func NewRedactor(env map[string]string) *Redactor {
	r := &Redactor{values: map[string]bool{}}
	r.Learn(env)
	return r
}

// Learn adds the secrets of an environment.
func (r *Redactor) Learn(env map[string]string) {
	rules := RulesOf(env)
	var found []string
	for name, value := range env {
		if m := urlPassword.FindAllStringSubmatch(value, -1); m != nil && !rules.declared[name] && !byName(name) {
			for _, match := range m {
				found = append(found, match[2]) // the rest of the URL is no secret
			}
			continue
		}
		if rules.Secret(name, value) {
			found = append(found, value)
		}
	}
	r.Add(found...)
}

// Add adds secrets, such as the content of a file. Of a text of many lines
// every line is one, because logs show lines.
func (r *Redactor) Add(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.values)
	for _, secret := range secrets {
		for line := range strings.Lines(secret) {
			for _, spelling := range spellings(strings.TrimRight(line, "\r\n")) {
				if len(spelling) >= MinLength {
					r.values[spelling] = true
				}
			}
		}
	}
	if len(r.values) != before {
		r.index.Store(newIndex(slices.Collect(maps.Keys(r.values))))
	}
}

// spellings are the ways in which programs print one line of a value: as it
// is, inside the quotes of shells, in JSON, in URLs.
func spellings(line string) []string {
	if len(line) < MinLength {
		return nil
	}
	list := []string{
		line,
		strings.ReplaceAll(line, "'", `'\''`),
		shellEscape(line, "\"$`\\"),
		shellEscape(line, `\'`), // $'...'
		shellEscape(line, " \t!\"#$&'()*,;<>?[\\]^`{|}~"), // printf %q
		url.QueryEscape(line),
		url.PathEscape(line),
	}
	if text, err := json.Marshal(line); err == nil {
		list = append(list, strings.TrimSuffix(strings.TrimPrefix(string(text), `"`), `"`))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// shellEscape writes a backslash before each of the given bytes.
func shellEscape(text, special string) string {
	if !strings.ContainsAny(text, special) {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		if strings.IndexByte(special, text[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// String returns text with a mark in place of every secret.
func (r *Redactor) String(text string) string {
	if r == nil {
		return text
	}
	return r.index.Load().redact(text)
}

// Bytes is String for bytes; it returns its argument if there is no secret in it.
func (r *Redactor) Bytes(text []byte) []byte {
	if r == nil {
		return text
	}
	s := string(text)
	if clean := r.String(s); clean != s {
		return []byte(clean)
	}
	return text
}

// Strings is String for each of a list.
func (r *Redactor) Strings(list []string) []string {
	if list == nil {
		return nil
	}
	clean := make([]string, len(list))
	for i, text := range list {
		clean[i] = r.String(text)
	}
	return clean
}

// Arguments joins a command line to one text for people to read, without
// secrets: known values, values of assignments to names that sound secret, and
// passwords of URLs.
func (r *Redactor) Arguments(args []string) string {
	clean := make([]string, len(args))
	for i, arg := range args {
		clean[i] = MaskAssignments(r.String(arg))
	}
	return strings.Join(clean, " ")
}

// Env returns a copy of env without secret variables, as Rules.Strip does, and
// with marks in what other variables repeat of them.
func (r *Redactor) Env(env map[string]string) (kept map[string]string, leftOut []string) {
	kept, leftOut = RulesOf(env).Strip(env)
	for name, value := range kept {
		kept[name] = r.String(value)
	}
	return kept, leftOut
}

// Format keeps the secrets out of messages that print a Redactor.
func (r *Redactor) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "secret.Redactor") }

// index finds many strings in one pass: candidates by their first byte.
type index struct {
	byFirst [256][]string // longest first
}

func newIndex(values []string) *index {
	x := new(index)
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
	for _, v := range values {
		x.byFirst[v[0]] = append(x.byFirst[v[0]], v)
	}
	return x
}

// redact replaces what is found. Where findings overlap or touch, all of them
// become one mark, so that nothing of the second is left.
func (x *index) redact(text string) string {
	if x == nil {
		return text
	}
	var b strings.Builder
	end := -1 // where the last finding ends
	for i := range len(text) {
		for _, v := range x.byFirst[text[i]] {
			if !strings.HasPrefix(text[i:], v) {
				continue
			}
			if i > end {
				b.WriteString(text[max(end, 0):i])
				b.WriteString(Mark)
			}
			end = max(end, i+len(v))
			break // shorter ones are inside it
		}
	}
	if end < 0 {
		return text
	}
	b.WriteString(text[end:])
	return b.String()
}
