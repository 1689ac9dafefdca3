package hook

import (
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
