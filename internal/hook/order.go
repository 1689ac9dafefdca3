package hook

import (
	"cmp"
	"strings"
)

// Compare orders hook names as `sort -n` does in the C locale: by the number
// they start with, then by bytes. A name without a number counts as 0.
// It returns a negative number when a comes first, 0 only for equal names.
func Compare(a, b string) int {
	return cmp.Or(compareNumbers(number(a), number(b)), strings.Compare(a, b))
}

// decimal is a number of any length: digits without leading zeros before the
// point, without trailing zeros after it.
type decimal struct {
	negative       bool
	whole, decimal string
}

// number reads what GNU sort takes for the number of a line: blanks, "-",
// digits, and a fraction after a point.
func number(name string) decimal {
	rest := strings.TrimLeft(name, " \t\n")
	rest, negative := strings.CutPrefix(rest, "-")
	whole, rest := digits(rest)
	var fraction string
	if after, ok := strings.CutPrefix(rest, "."); ok {
		fraction, _ = digits(after)
	}
	n := decimal{whole: strings.TrimLeft(whole, "0"), decimal: strings.TrimRight(fraction, "0")}
	n.negative = negative && n.whole+n.decimal != ""
	return n
}

func digits(s string) (digits, rest string) {
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	return s[:end], s[end:]
}

func compareNumbers(a, b decimal) int {
	if a.negative != b.negative {
		if a.negative {
			return -1
		}
		return 1
	}
	c := cmp.Or(
		cmp.Compare(len(a.whole), len(b.whole)),
		strings.Compare(a.whole, b.whole),
		strings.Compare(a.decimal, b.decimal),
	)
	if a.negative {
		return -c
	}
	return c
}
