package fat

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	longNameUnits = 13  // UTF-16 units in one entry
	maxLongName   = 255 // UTF-16 units
)

// shortChars are the characters, besides letters and digits, that a short name
// may have.
const shortChars = "$%'-_@~`!(){}^#&"

// NameError is a file name that FAT cannot hold.
type NameError struct {
	Path string
	Why  string
}

func (e *NameError) Error() string { return fmt.Sprintf("cannot store %q on FAT: %s", e.Path, e.Why) }

// checkName says why a name cannot be stored, or nothing.
func checkName(name string) string {
	switch {
	case !utf8.ValidString(name):
		return "its name is not valid UTF-8"
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune(`"*/:<>?\|`, r) }):
		return `its name has a control character or one of "*/:<>?\|`
	case strings.HasSuffix(name, ".") || strings.HasSuffix(name, " "):
		return "its name ends in a dot or a blank"
	case len(utf16.Encode([]rune(name))) > maxLongName:
		return "its name is longer than 255 UTF-16 units"
	}
	return ""
}

// shortNamer gives the names of one directory their short forms.
type shortNamer struct{ taken map[string]bool }

// name returns the eleven bytes of a short name, and whether they say all
// there is to the name, so that no long one is needed.
func (s *shortNamer) name(long string) (short [11]byte, whole bool) {
	if short, ok := exactShort(long); ok && !s.taken[string(short[:])] {
		s.taken[string(short[:])] = true
		return short, true
	}
	base, ext := reduce(long)
	for n := 1; ; n++ {
		tail := "~" + strconv.Itoa(n)
		short = pad(base[:min(len(base), 8-len(tail))]+tail, ext)
		if !s.taken[string(short[:])] {
			s.taken[string(short[:])] = true
			return short, false
		}
	}
}

// exactShort is the short form of a name that has one without loss: upper case,
// at most eight characters, a dot and three.
func exactShort(name string) (short [11]byte, ok bool) {
	base, ext, dotted := strings.Cut(name, ".")
	if base == "" || len(base) > 8 || len(ext) > 3 || dotted && ext == "" {
		return short, false
	}
	for _, r := range base + ext {
		if !(r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(shortChars, r)) {
			return short, false
		}
	}
	return pad(base, ext), true
}

// reduce makes the parts of a short name out of a long one.
func reduce(name string) (base, ext string) {
	name = strings.TrimLeft(name, ". ")
	base = name
	if dot := strings.LastIndexByte(name, '.'); dot > 0 {
		base, ext = name[:dot], name[dot+1:]
	}
	keep := func(s string, limit int) string {
		var b strings.Builder
		for _, r := range strings.ToUpper(s) {
			switch {
			case b.Len() == limit:
				return b.String()
			case r == ' ' || r == '.':
			case r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(shortChars, r):
				b.WriteRune(r)
			default:
				b.WriteByte('_')
			}
		}
		return b.String()
	}
	return keep(base, 8), keep(ext, 3)
}

func pad(base, ext string) (short [11]byte) {
	copy(short[:], "           ")
	copy(short[:8], base)
	copy(short[8:], ext)
	return short
}

// checksum ties long entries to their short one.
func checksum(short [11]byte) byte {
	var sum byte
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

// longEntries are the entries that come before a short one, in the order in
// which they are stored: the last part of the name first.
func longEntries(name string, short [11]byte) []byte {
	units := utf16.Encode([]rune(name))
	count := (len(units) + longNameUnits - 1) / longNameUnits
	if len(units)%longNameUnits != 0 {
		units = append(units, 0)
	}
	for len(units) < count*longNameUnits {
		units = append(units, 0xffff)
	}
	// Where the units of one entry are stored.
	places := [longNameUnits]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}
	out := make([]byte, 0, count*entrySize)
	for part := count; part >= 1; part-- {
		e := make([]byte, entrySize)
		e[0] = byte(part)
		if part == count {
			e[0] |= 0x40
		}
		e[11] = attrLongName
		e[13] = checksum(short)
		for i, at := range places {
			u := units[(part-1)*longNameUnits+i]
			e[at], e[at+1] = byte(u), byte(u>>8)
		}
		out = append(out, e...)
	}
	return out
}

// encodeLabel gives the eleven bytes of a volume label.
func encodeLabel(label string) ([11]byte, error) {
	if len(label) > 11 {
		return [11]byte{}, fmt.Errorf("label %q is longer than 11 bytes", label)
	}
	for i := range len(label) {
		if c := label[i]; c < ' ' || c > 0x7e || strings.IndexByte(`"*+,./:;<=>?[\]|`, c) >= 0 {
			return [11]byte{}, fmt.Errorf("label %q has the character %q, which FAT labels cannot have", label, c)
		}
	}
	return pad(label, label[min(len(label), 8):]), nil
}
