package hook

import (
	"fmt"
	"slices"
	"strings"
)

// Timing is how long one hook took.
type Timing struct {
	Name    string
	Seconds float64
}

// Profile renders the closing table of a phase as log lines: the name in 40
// columns, seconds with three decimals, hooks in byte order of their names.
// target is the name of the directory, such as "install.d".
func Profile(target string, timings []Timing) []string {
	const dashes = "----------------------"
	lines := []string{
		dashes + " PROFILING " + dashes,
		"",
		"Target: " + target,
		"",
		fmt.Sprintf("%-40s %9s", "Script", "Seconds"),
		strings.Repeat("-", 39) + "  " + strings.Repeat("-", 9),
		"",
	}
	sorted := slices.SortedFunc(slices.Values(timings), func(a, b Timing) int { return strings.Compare(a.Name, b.Name) })
	for _, t := range sorted {
		lines = append(lines, fmt.Sprintf("%-40s%10.3f", t.Name, t.Seconds))
	}
	lines = append(lines, "", "--------------------"+" END PROFILING "+"--------------------")
	for i, line := range lines {
		lines[i] = LogPrefix + line
	}
	return lines
}
