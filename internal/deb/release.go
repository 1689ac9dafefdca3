package deb

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Release is what a suite's Release file says of the suite.
type Release struct {
	Origin, Suite, Codename string
	Date                    time.Time
	ValidUntil              time.Time // zero: for ever
	ByHash                  bool      // files are also found under by-hash/SHA256/
	Components              []string
	Architectures           []string
	Files                   map[string]FileSum // by path relative to the Release file
}

// FileSum is the size and the SHA-256 sum (lower-case hex) of a file.
type FileSum struct {
	Size   int64
	SHA256 string
}

// ParseRelease reads the text of a Release file.
func ParseRelease(text string) (*Release, error) {
	stanzas, err := ParseStanzas(text)
	if err != nil {
		return nil, err
	}
	if len(stanzas) != 1 {
		return nil, fmt.Errorf("a Release file has one stanza, not %d", len(stanzas))
	}
	s := stanzas[0]
	r := &Release{
		Origin: s.Get("Origin"), Suite: s.Get("Suite"), Codename: s.Get("Codename"),
		ByHash:     s.Get("Acquire-By-Hash") == "yes",
		Components: strings.Fields(s.Get("Components")), Architectures: strings.Fields(s.Get("Architectures")),
		Files: map[string]FileSum{},
	}
	if r.Date, err = parseDate(s.Get("Date")); err != nil {
		return nil, fmt.Errorf("field Date: %w", err)
	}
	if v := s.Get("Valid-Until"); v != "" {
		if r.ValidUntil, err = parseDate(v); err != nil {
			return nil, fmt.Errorf("field Valid-Until: %w", err)
		}
	}
	for _, l := range strings.Split(s.Get("SHA256"), "\n") {
		f := strings.Fields(l)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 || len(f[0]) != 64 || !isHex(f[0]) {
			return nil, fmt.Errorf("field SHA256: %.120q is not a sum, a size and a name", l)
		}
		size, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil || size < 0 {
			return nil, fmt.Errorf("field SHA256: %q is not a size", f[1])
		}
		r.Files[f[2]] = FileSum{Size: size, SHA256: strings.ToLower(f[0])}
	}
	return r, nil
}

// parseDate reads the date format of the repository format (RFC 2822, UTC).
func parseDate(s string) (time.Time, error) {
	for _, layout := range []string{"Mon, _2 Jan 2006 15:04:05 MST", time.RFC1123Z} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a date", s)
}
