package archive

import (
	"fmt"
	"sort"
	"strings"
)

// releases are the names that Debian's archive knows its suites by: code names
// from the oldest that the built-in keys verify, then aliases.
var releases = []string{
	"bookworm", "trixie", "forky", "duke", "sid",
	"oldstable", "stable", "testing", "unstable", "experimental",
}

// olderReleases still occur in a host's sources.
var olderReleases = []string{"buster", "bullseye", "oldoldstable"}

func isRelease(name string) bool {
	for _, r := range append(olderReleases, releases...) {
		if r == name {
			return true
		}
	}
	return false
}

// UnknownReleaseError is a suite that the mirror does not have.
type UnknownReleaseError struct {
	Suite, URL string
}

func (e *UnknownReleaseError) Error() string {
	base, part, _ := strings.Cut(e.Suite, "-")
	msg := fmt.Sprintf("there is no release %q at %s", e.Suite, e.URL)
	if part == "" || !isRelease(base) {
		msg += fmt.Sprintf("; did you mean %s? (DIB_RELEASE)", strings.Join(nearest(base, releases, 3), ", "))
	} else {
		msg += "; if this mirror has no such suite, state the sources in DIB_APT_SOURCES_CONF"
	}
	return msg
}

// nearest returns the n candidates that take the fewest edits to become name.
func nearest(name string, candidates []string, n int) []string {
	sorted := append([]string(nil), candidates...)
	sort.SliceStable(sorted, func(i, j int) bool {
		return editDistance(name, sorted[i]) < editDistance(name, sorted[j])
	})
	return sorted[:min(n, len(sorted))]
}

// editDistance is the Levenshtein distance in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
