// Package size reads the sizes of a block-device configuration: absolute ones
// with units, and shares of what is free.
package size

import (
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strings"
)

// units are the units of sizes in bytes. The single letters are decimal.
var units = map[string]int64{
	"": 1, "B": 1,
	"K": 1e3, "KB": 1e3, "KiB": 1 << 10,
	"M": 1e6, "MB": 1e6, "MiB": 1 << 20,
	"G": 1e9, "GB": 1e9, "GiB": 1 << 30,
	"T": 1e12, "TB": 1e12, "TiB": 1 << 40,
}

var (
	form        = regexp.MustCompile(`^([0-9.]*) ?([a-zA-Z0-9_]*)$`)
	decimalForm = regexp.MustCompile(`^([0-9]+\.?[0-9]*|\.[0-9]+)$`)
)

// maxLength bounds the text of a number: longer ones are mistakes, and would
// cost time to compute with.
const maxLength = 64

// ParseDecimal reads a decimal number without sign or exponent, exactly. It
// may have 64 characters at most.
func ParseDecimal(s string) (*big.Rat, error) {
	if !decimalForm.MatchString(s) || len(s) > maxLength {
		return nil, fmt.Errorf("%q is not a decimal number", s)
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return nil, fmt.Errorf("%q is not a decimal number", s)
	}
	return r, nil
}

// floorInt64 gives the integer part of a number that is not negative.
func floorInt64(r *big.Rat) (int64, error) {
	q := new(big.Int).Quo(r.Num(), r.Denom())
	if !q.IsInt64() {
		return 0, fmt.Errorf("number is larger than %d", int64(math.MaxInt64))
	}
	return q.Int64(), nil
}

// Parse reads an absolute size such as "154MiB" or "1.75 TB" and returns
// it in bytes, at least 1. Units are case-sensitive, at most one blank stands
// before them, and fractions of a byte are dropped.
func Parse(s string) (int64, error) {
	m := form.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("invalid size %q: want a number and a unit such as 10GiB", s)
	}
	// Letters and digits share the form, so "1e3" arrives as number 1, unit e3.
	unit, ok := units[m[2]]
	if !ok {
		return 0, fmt.Errorf("invalid size %q: unknown unit %q (B, KiB, MiB, GiB, TiB; decimal KB or K, MB or M, GB or G, TB or T)", s, m[2])
	}
	if m[1] == "" {
		return 0, fmt.Errorf("invalid size %q: no number", s)
	}
	num, err := ParseDecimal(m[1])
	if err != nil {
		return 0, fmt.Errorf("invalid size %q: %w", s, err)
	}
	n, err := floorInt64(num.Mul(num, new(big.Rat).SetInt64(unit)))
	if err != nil {
		return 0, fmt.Errorf("invalid size %q: %w", s, err)
	}
	if n < 1 {
		return 0, fmt.Errorf("invalid size %q: less than one byte", s)
	}
	return n, nil
}

// Size is an absolute size or a share of what is free.
type Size struct {
	bytes   int64
	percent *big.Rat
}

// ParseRelative reads a size as partitions give it: an absolute size, or a
// percentage above 0 and up to 100 of the space that is still free.
func ParseRelative(s string) (Size, error) {
	num, relative := strings.CutSuffix(s, "%")
	if !relative {
		n, err := Parse(s)
		return Size{bytes: n}, err
	}
	p, err := ParseDecimal(strings.TrimSpace(num))
	if err != nil {
		return Size{}, fmt.Errorf("invalid percentage %q: %w", s, err)
	}
	if p.Sign() <= 0 || p.Cmp(big.NewRat(100, 1)) > 0 {
		return Size{}, fmt.Errorf("invalid percentage %q: want more than 0 and at most 100", s)
	}
	return Size{percent: p}, nil
}

// Of gives the size in bytes when free bytes are left, fractions dropped.
func (s Size) Of(free int64) int64 {
	if s.percent == nil {
		return s.bytes
	}
	r := new(big.Rat).Mul(s.percent, big.NewRat(max(free, 0), 100))
	n, err := floorInt64(r)
	if err != nil { // at most free, so it cannot be
		return free
	}
	return n
}
