package hook

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Timing is how long one hook took.
type Timing struct {
	Name     string
	Duration time.Duration
}

// Profile renders the closing table of a phase, one element a line: name in 40
// columns, seconds with three decimals, hooks in byte order of their names.
func Profile(target string, timings []Timing) []string {
	const rule = "----------------------"
	lines := []string{
		rule + " PROFILING " + rule,
		"",
		"Target: " + target,
		"",
		fmt.Sprintf("%-40s %9s", "Script", "Seconds"),
		strings.Repeat("-", 39) + "  " + strings.Repeat("-", 9),
		"",
	}
	sorted := slices.SortedFunc(slices.Values(timings), func(a, b Timing) int { return strings.Compare(a.Name, b.Name) })
	for _, t := range sorted {
		lines = append(lines, fmt.Sprintf("%-40s%10.3f", t.Name, t.Duration.Seconds()))
	}
	return append(lines, "", "--------------------"+" END PROFILING "+"--------------------")
}
