package hook

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Tracing says whether an environment asks for traces (DIB_DEBUG_TRACE > 0).
func Tracing(env []string) bool {
	value := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "DIB_DEBUG_TRACE="); ok {
			value = v
		}
	}
	level, err := strconv.Atoi(strings.TrimSpace(value))
	return err == nil && level > 0
}

const masked = "********"

var (
	secretName       = regexp.MustCompile(`(?i)passw|passphrase|secret|token|credential|api_?key|private_?key`)
	secretAssignment = regexp.MustCompile(`(?i)(\b\w*(?:passw|passphrase|secret|token|credential|api_?key|private_?key)\w*=)('(?:[^']|'\\'')*'|\S+)`)
)

// secretValues lists the values, longest first, of variables whose name says
// that they are secret. Short ones are left out: masking every "1" of a trace
// would hide more than the secret.
func secretValues(env []string) [][]byte {
	const minLength = 4
	var values [][]byte
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if len(value) >= minLength && secretName.MatchString(name) {
			values = append(values, []byte(value))
		}
	}
	slices.SortFunc(values, func(a, b []byte) int { return len(b) - len(a) })
	return values
}

// mask hides secrets in one line of a trace.
func mask(line []byte, values [][]byte) []byte {
	for _, v := range values {
		line = bytes.ReplaceAll(line, v, []byte(masked))
	}
	return secretAssignment.ReplaceAll(line, []byte("${1}"+masked))
}
