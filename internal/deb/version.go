package deb

import "strings"

// CompareVersions orders two versions by Debian policy 5.6.12: negative when
// a is older than b, 0 when they are equal, positive when a is newer.
func CompareVersions(a, b string) int {
	ea, ua, ra := splitVersion(a)
	eb, ub, rb := splitVersion(b)
	if c := compareNumber(ea, eb); c != 0 {
		return c
	}
	if c := compareRun(ua, ub); c != 0 {
		return c
	}
	return compareRun(ra, rb)
}

// splitVersion cuts a version into epoch, upstream version and revision; a
// missing epoch or revision counts as 0.
func splitVersion(v string) (epoch, upstream, revision string) {
	epoch, revision = "0", "0"
	if i := strings.IndexByte(v, ':'); i >= 0 {
		epoch, v = v[:i], v[i+1:]
	}
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		v, revision = v[:i], v[i+1:]
	}
	return epoch, v, revision
}

// compareRun compares by turns runs of non-digits, bytewise in the order of
// rank, and runs of digits as numbers.
func compareRun(a, b string) int {
	for a != "" || b != "" {
		for (a != "" && !isDigit(a[0])) || (b != "" && !isDigit(b[0])) {
			ra, rb := rank(a), rank(b)
			if ra != rb {
				return ra - rb
			}
			a, b = a[1:], b[1:]
		}
		da, db := digits(a), digits(b)
		if c := compareNumber(da, db); c != 0 {
			return c
		}
		a, b = a[len(da):], b[len(db):]
	}
	return 0
}

// rank orders the first byte of s: '~' before the end, the end (and a digit,
// which ends a run of non-digits) before letters, letters before the rest.
func rank(s string) int {
	if s == "" || isDigit(s[0]) {
		return 0
	}
	c := s[0]
	switch {
	case c == '~':
		return -1
	case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
		return int(c)
	}
	return int(c) + 256
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func digits(s string) string {
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return s[:i]
}

// compareNumber compares decimal numbers of any length.
func compareNumber(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
