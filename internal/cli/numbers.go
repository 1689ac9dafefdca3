package cli

import (
	"regexp"
	"strconv"
	"strings"
)

// numberKind is a set of decimal numbers and its description.
type numberKind struct {
	pattern *regexp.Regexp
	nonZero bool
	want    string // completes "want ..."
}

// Fifteen digits are more than any of these quantities can mean and still safe in
// 64-bit arithmetic in any unit used here.
var (
	integerPattern = regexp.MustCompile(`^[0-9]{1,15}$`)
	decimalPattern = regexp.MustCompile(`^([0-9]{1,15}(\.[0-9]*)?|\.[0-9]+)$`)
)

func integer(unit string) numberKind {
	return numberKind{pattern: integerPattern, want: "a whole number (" + unit + ")"}
}

func positiveInteger(unit string) numberKind {
	return numberKind{pattern: integerPattern, nonZero: true, want: "a whole number above 0 (" + unit + ")"}
}

func decimal(unit string) numberKind {
	return numberKind{pattern: decimalPattern, want: "a number of " + unit + " without its unit, such as 512 or 1.5"}
}

func positiveDecimal(unit string) numberKind {
	return numberKind{pattern: decimalPattern, nonZero: true, want: "a number of " + unit + " above 0 without its unit, such as 4 or 2.5"}
}

func (k numberKind) matches(s string) bool {
	return k.pattern.MatchString(s) && (!k.nonZero || strings.ContainsAny(s, "123456789"))
}

// atoi converts what a numberKind accepted; anything else was reported
// already and counts as 0.
func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}
