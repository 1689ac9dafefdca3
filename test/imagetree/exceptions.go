package imagetree

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"strings"
)

// MaxExceptions is how many paths may be excused from being equal.
const MaxExceptions = 15

// Exception excuses the paths that match a pattern of path.Match.
type Exception struct {
	Pattern string
	Reason  string
}

// ParseExceptions reads lines of a pattern, blanks, and the reason why such
// paths may differ. Empty lines and lines that begin with # do not count. A
// missing reason and more than MaxExceptions lines are errors.
func ParseExceptions(r io.Reader) ([]Exception, error) {
	var list []Exception
	scanner := bufio.NewScanner(r)
	for number := 1; scanner.Scan(); number++ {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		pattern, reason, _ := strings.Cut(line, " ")
		reason = strings.TrimSpace(reason)
		if reason == "" {
			return nil, fmt.Errorf("line %d: %s has no reason", number, pattern)
		}
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", number, pattern, err)
		}
		list = append(list, Exception{pattern, reason})
	}
	if len(list) > MaxExceptions {
		return nil, fmt.Errorf("%d exceptions, at most %d are allowed", len(list), MaxExceptions)
	}
	return list, scanner.Err()
}

// Unexcused drops the differences that an exception covers.
func Unexcused(differences []Difference, exceptions []Exception) []Difference {
	var rest []Difference
	for _, d := range differences {
		if !excused(d.Path, exceptions) {
			rest = append(rest, d)
		}
	}
	return rest
}

func excused(p string, exceptions []Exception) bool {
	for _, e := range exceptions {
		if ok, err := path.Match(e.Pattern, p); err == nil && ok {
			return true
		}
	}
	return false
}
