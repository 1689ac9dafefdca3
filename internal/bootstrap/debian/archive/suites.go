package archive

import (
	"fmt"
	"strings"

	"github.com/dib-builder/dib/internal/similar"
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
	if part != "" && isRelease(base) {
		return fmt.Sprintf("there is no release %q at %s; if this mirror has no such suite, state the sources in DIB_APT_SOURCES_CONF", e.Suite, e.URL)
	}
	cure := "known are " + strings.Join(releases, ", ")
	if words := similar.Words(base, append(olderReleases, releases...)); len(words) > 0 {
		cure = "did you mean " + strings.Join(words, " or ") + "?"
	}
	return fmt.Sprintf("there is no release %q at %s (DIB_RELEASE); %s", base, e.URL, cure)
}
