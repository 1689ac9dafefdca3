package dpkg

import (
	"fmt"
	"strings"
)

// interest is one directive of a package that waits for a trigger.
type interest struct {
	name    string
	noAwait bool
}

// parseTriggers reads a triggers control file (deb-triggers(5)).
func parseTriggers(text string) (interests []interest, activates []string, err error) {
	for _, l := range strings.Split(text, "\n") {
		l, _, _ = strings.Cut(l, "#")
		f := strings.Fields(l)
		if len(f) == 0 {
			continue
		}
		if len(f) != 2 || strings.Trim(f[1], "/") == "" {
			return nil, nil, fmt.Errorf("%q is not a directive and a trigger", l)
		}
		switch f[0] {
		case "interest", "interest-await":
			interests = append(interests, interest{name: f[1]})
		case "interest-noawait":
			interests = append(interests, interest{name: f[1], noAwait: true})
		case "activate", "activate-await", "activate-noawait":
			activates = append(activates, f[1])
		default:
			return nil, nil, fmt.Errorf("unknown directive %q", f[0])
		}
	}
	return interests, activates, nil
}
