package yamldoc

import (
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
)

// Type is what a reader of YAML 1.1 makes of a value.
type Type uint8

// The types of values.
const (
	Nothing Type = iota
	String
	Bool
	Int
	Float
	Date
	Sequence
	Mapping
)

// String names the type in a message, with its article.
func (t Type) String() string {
	return [...]string{"nothing", "a string", "a boolean", "an integer", "a decimal number", "a date", "a list", "a mapping"}[t]
}

// Type is what the value is.
func (v Value) Type() Type {
	switch v.Kind {
	case Scalar:
		return v.typ
	case List:
		return Sequence
	case Map:
		return Mapping
	}
	return Nothing
}

// Forms of scalars without quotes in YAML 1.1 (https://yaml.org/type/), as
// PyYAML reads them. They differ from YAML 1.2: an octal number has a leading
// 0, base 60 exists, and an exponent needs a point and a sign.
var (
	nullForm = regexp.MustCompile(`^(~|null|Null|NULL)?$`)
	trueForm = regexp.MustCompile(`^(yes|Yes|YES|true|True|TRUE|on|On|ON)$`)
	noForm   = regexp.MustCompile(`^(no|No|NO|false|False|FALSE|off|Off|OFF)$`)

	intDecimal = regexp.MustCompile(`^[-+]?(0|[1-9][0-9_]*)$`)
	intOctal   = regexp.MustCompile(`^[-+]?0[0-7_]+$`)
	intHex     = regexp.MustCompile(`^[-+]?0x[0-9a-fA-F_]+$`)
	intBinary  = regexp.MustCompile(`^[-+]?0b[01_]+$`)
	intBase60  = regexp.MustCompile(`^[-+]?[1-9][0-9_]*(:[0-5]?[0-9])+$`)

	floatDecimal = regexp.MustCompile(`^([-+]?[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+][0-9]+)?$`)
	floatBase60  = regexp.MustCompile(`^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+\.[0-9_]*$`)
	floatOther   = regexp.MustCompile(`^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$`)

	dateForm = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)
	timeForm = regexp.MustCompile(`^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(\.[0-9]*)?([ \t]*(Z|[-+][0-9]{1,2}(:[0-9]{2})?))?$`)
)

func plainType(s string) Type {
	anyOf := func(forms ...*regexp.Regexp) bool {
		for _, f := range forms {
			if f.MatchString(s) {
				return true
			}
		}
		return false
	}
	switch {
	case nullForm.MatchString(s):
		return Nothing
	case anyOf(trueForm, noForm):
		return Bool
	case anyOf(intDecimal, intOctal, intHex, intBinary, intBase60):
		return Int
	case anyOf(floatDecimal, floatBase60, floatOther):
		return Float
	case anyOf(dateForm, timeForm):
		return Date
	}
	return String
}

// taggedType is the type of a scalar that names it itself.
func taggedType(tag, text string) (Type, error) {
	want, known := map[string]Type{
		"!!str": String, "!!null": Nothing, "!!bool": Bool, "!!int": Int, "!!float": Float, "!!timestamp": Date,
	}[tag]
	switch is := plainType(text); {
	case !known:
		return String, fmt.Errorf("tag %s is not known here", tag)
	case want == String, want == Nothing, want == is, want == Float && is == Int:
		return want, nil
	}
	return String, fmt.Errorf("tag %s does not fit %q, which is not %s", tag, text, want)
}

// Bool is the value of a boolean.
func (v Value) Bool() (value, ok bool) {
	if v.Type() != Bool {
		return false, false
	}
	return trueForm.MatchString(v.Text), true
}

// Number is the value of an integer or a decimal number. Very large ones come
// out rounded, as JSON has them.
func (v Value) Number() (value float64, ok bool) {
	switch v.Type() {
	case Int:
		if n, ok := bigInt(v.Text); ok {
			f, _ := new(big.Float).SetInt(n).Float64()
			return f, true
		}
		return 0, false
	case Float:
		return parseFloat(v.Text)
	}
	return 0, false
}

// ParseInt reads an integer as YAML 1.1 defines it.
func ParseInt(s string) (int64, bool) {
	n, ok := bigInt(s)
	if !ok || !n.IsInt64() {
		return 0, false
	}
	return n.Int64(), true
}

func bigInt(s string) (*big.Int, bool) {
	digits := strings.ReplaceAll(strings.TrimLeft(s, "+-"), "_", "")
	n, ok := new(big.Int), true
	switch {
	case intDecimal.MatchString(s):
		n, ok = n.SetString(digits, 10)
	case intOctal.MatchString(s):
		n, ok = n.SetString(digits, 8)
	case intHex.MatchString(s):
		n, ok = n.SetString(digits[2:], 16)
	case intBinary.MatchString(s):
		n, ok = n.SetString(digits[2:], 2)
	case intBase60.MatchString(s):
		for part := range strings.SplitSeq(digits, ":") {
			digit, _ := new(big.Int).SetString(part, 10)
			n.Add(n.Mul(n, big.NewInt(60)), digit)
		}
	default:
		return nil, false
	}
	if ok && strings.HasPrefix(s, "-") {
		n.Neg(n)
	}
	return n, ok
}

func parseFloat(s string) (float64, bool) {
	if n, ok := bigInt(s); ok { // tagged as a decimal number
		f, _ := new(big.Float).SetInt(n).Float64()
		return f, true
	}
	text := strings.ToLower(strings.ReplaceAll(strings.TrimLeft(s, "+-"), "_", ""))
	value := 0.0
	switch {
	case floatOther.MatchString(s) && text == ".nan":
		return math.NaN(), true
	case floatOther.MatchString(s):
		value = math.Inf(1)
	case floatDecimal.MatchString(s):
		f, err := strconv.ParseFloat(text, 64)
		if err != nil && !math.IsInf(f, 0) {
			return 0, false
		}
		value = f
	case floatBase60.MatchString(s):
		for part := range strings.SplitSeq(text, ":") {
			f, err := strconv.ParseFloat(part, 64)
			if err != nil {
				return 0, false
			}
			value = value*60 + f
		}
	default:
		return 0, false
	}
	if strings.HasPrefix(s, "-") {
		value = -value
	}
	return value, true
}
