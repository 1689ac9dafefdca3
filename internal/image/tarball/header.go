package tarball

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The archives are POSIX.1-2001 "pax" archives, as GNU tar --format=posix writes
// them: a ustar header for each member, preceded by a header of type x with
// what ustar has no room for. It is not archive/tar that writes them, because that cannot write
// sparse files, and its bytes may differ between two versions of Go.
//
// Sources: POSIX.1-2017, pax, section "Extended Description"; GNU tar manual,
// "Storing Sparse Files" (format 1.0); star(5) for SCHILY.xattr and
// SCHILY.fflags.

const (
	blockSize  = 512
	recordSize = 20 * blockSize // archives are padded to this, as tar does
)

// Types of members.
const (
	typeRegular = '0'
	typeLink    = '1'
	typeSymlink = '2'
	typeChar    = '3'
	typeBlock   = '4'
	typeDir     = '5'
	typeFifo    = '6'
	typePax     = 'x'
)

// header is one member without its data.
type header struct {
	name         string
	typ          byte
	mode         uint32
	uid, gid     uint32
	size         int64 // of the data that follows
	modTime      int64 // seconds
	link         string
	major, minor uint32
	records      []record // beyond what encode adds itself
}

// record is one keyword of an extended header.
type record struct{ key, value string }

// encode returns the blocks of the member's headers.
func (h header) encode() []byte {
	records := slices.Clone(h.records)
	add := func(key, value string) { records = append(records, record{key, value}) }

	block := make([]byte, blockSize)
	prefix, name, fits := splitName(h.name)
	if !fits {
		add("path", h.name)
	}
	copy(block[0:100], name)
	copy(block[345:500], prefix)
	octal(block[100:108], uint64(h.mode))
	if !octal(block[108:116], uint64(h.uid)) {
		add("uid", strconv.FormatUint(uint64(h.uid), 10))
	}
	if !octal(block[116:124], uint64(h.gid)) {
		add("gid", strconv.FormatUint(uint64(h.gid), 10))
	}
	if !octal(block[124:136], uint64(h.size)) {
		add("size", strconv.FormatInt(h.size, 10))
	}
	if h.modTime < 0 || !octal(block[136:148], uint64(h.modTime)) {
		octal(block[136:148], 0)
		add("mtime", strconv.FormatInt(h.modTime, 10))
	}
	block[156] = h.typ
	if len(h.link) > 100 || !ascii(h.link) {
		add("linkpath", h.link)
	}
	copy(block[157:257], h.link)
	copy(block[257:265], "ustar\x0000")
	if h.typ == typeChar || h.typ == typeBlock {
		// Linux numbers have 12 and 20 bits: both fit.
		octal(block[329:337], uint64(h.major))
		octal(block[337:345], uint64(h.minor))
	} else {
		octal(block[329:337], 0)
		octal(block[337:345], 0)
	}
	seal(block)
	if len(records) == 0 {
		return block
	}
	return append(paxHeader(h.name, records), block...)
}

// paxHeader encodes an extended header and its records.
func paxHeader(name string, records []record) []byte {
	binary := slices.ContainsFunc(records, func(r record) bool {
		return (r.key == "path" || r.key == "linkpath" || r.key == "GNU.sparse.name") && !utf8.ValidString(r.value)
	})
	slices.SortStableFunc(records, func(a, b record) int { return strings.Compare(a.key, b.key) })
	var body bytes.Buffer
	if binary {
		// Names that are not UTF-8 are bytes, not characters to be converted.
		writeRecord(&body, record{"hdrcharset", "BINARY"})
	}
	for _, r := range records {
		writeRecord(&body, r)
	}
	// This name matters to nobody but to programs that do not know type x.
	short := path.Join(path.Dir(path.Clean(name)), "PaxHeaders", path.Base(path.Clean(name)))
	if _, _, fits := splitName(short); !fits {
		short = "PaxHeaders/member"
	}
	x := header{name: short, typ: typePax, mode: 0o644, size: int64(body.Len())}
	out := append(x.encode(), body.Bytes()...)
	return append(out, make([]byte, padding(int64(body.Len())))...)
}

// writeRecord writes "LENGTH KEY=VALUE\n", where LENGTH counts itself.
func writeRecord(b *bytes.Buffer, r record) {
	rest := len(r.key) + len(r.value) + 3 // blank, equals sign, line break
	length := rest + len(strconv.Itoa(rest))
	length = rest + len(strconv.Itoa(length))
	fmt.Fprintf(b, "%d %s=%s\n", length, r.key, r.value)
}

// splitName fits a name into ustar's two fields; what does not fit is cut.
func splitName(name string) (prefix, rest string, fits bool) {
	if !ascii(name) {
		return "", name, false
	}
	if len(name) <= 100 {
		return "", name, true
	}
	// The slash between the two is not stored; neither may be empty.
	for i := 1; i < len(name)-1 && i <= 155; i++ {
		if name[i] == '/' && len(name)-i-1 <= 100 {
			return name[:i], name[i+1:], true
		}
	}
	return "", name, false
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

// octal writes v with leading zeros and a NUL, and reports whether it fits;
// if not, the field holds zero.
func octal(field []byte, v uint64) bool {
	digits := len(field) - 1
	fits := v>>(3*uint(digits)) == 0
	if !fits {
		v = 0
	}
	for i := digits - 1; i >= 0; i-- {
		field[i] = '0' + byte(v&7)
		v >>= 3
	}
	field[digits] = 0
	return fits
}

// seal computes the checksum of a header block.
func seal(block []byte) {
	copy(block[148:156], "        ")
	sum := 0
	for _, c := range block {
		sum += int(c)
	}
	octal(block[148:155], uint64(sum))
	block[155] = ' '
}

// padding is how many zeros follow n bytes of data.
func padding(n int64) int64 { return -n & (blockSize - 1) }

// xattrKey is the keyword of an extended attribute. As GNU tar does, it
// escapes the one character that a keyword cannot hold.
func xattrKey(name string) string {
	return "SCHILY.xattr." + strings.NewReplacer("%", "%25", "=", "%3D").Replace(name)
}

// single is encode for a member that must not take more than one block: a size
// beyond ustar's is written in GNU tar's way, as a binary number.
func (h header) single() []byte {
	size := h.size
	h.size = 0
	block := h.encode()
	if !octal(block[124:136], uint64(size)) {
		clear(block[124:136])
		block[124] = 0x80
		for i, shift := 135, 0; shift < 64; i, shift = i-1, shift+8 {
			block[i] = byte(size >> shift)
		}
	}
	seal(block)
	return block
}
