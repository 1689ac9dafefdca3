package plan

import (
	"fmt"
	"strings"

	"github.com/dib-builder/dib/internal/similar"
)

// BreakPoints lists where a build can stop for a shell, in order of the build.
func BreakPoints() []string {
	var names []string
	for _, phase := range phases {
		if phase.Name == "block-device" {
			names = append(names, "before-block-device-size")
		}
		names = append(names, "before-"+phase.Name, "after-"+phase.Name)
	}
	return append(names, "after-error")
}

// Breaks are the break points that the variable "break" of the environment
// asks for.
func (p *Plan) Breaks() map[string]bool {
	wanted, _ := breaks(p.Env["break"])
	return wanted
}

// breaks reads a comma-separated list of break points; what is none gives a warning.
func breaks(list string) (wanted map[string]bool, warnings []string) {
	wanted = map[string]bool{}
	known := map[string]bool{}
	points := BreakPoints()
	for _, name := range points {
		known[name] = true
	}
	for _, word := range strings.Split(list, ",") {
		word = strings.TrimSpace(word)
		switch {
		case word == "":
		case known[word]:
			wanted[word] = true
		default:
			line := fmt.Sprintf("break point %q does not exist", word)
			if near := similar.Words(word, points); len(near) > 0 {
				line += ": did you mean " + strings.Join(near, " or ") + "?"
			}
			warnings = append(warnings, line)
		}
	}
	return wanted, warnings
}
