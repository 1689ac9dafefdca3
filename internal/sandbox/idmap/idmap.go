// Package idmap decides which ids a user namespace gets: the caller as 0, and
// his subordinate ids (subuid(5), subgid(5)) as 1 to 65535.
package idmap

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Subordinate is how many subordinate ids a build maps, as 1 to Subordinate:
// all that file systems and packages of a distribution use, nobody included.
const Subordinate = 65535

// Needed is how many of them there must be: the last id, 65535, is nobody's, and
// a container of 65536 ids has one less to give.
const Needed = Subordinate - 1

// grant is how many ids useradd(8) grants to a user, and where it starts.
const (
	grant      = 65536
	grantStart = 100000
	grantLimit = 1 << 31 // beyond it some programs take ids for negative numbers
)

// Range is a range of subordinate ids granted to a user.
type Range struct {
	Owner string // user name or decimal uid
	Start uint32
	Count uint32
}

// Parse reads subuid(5) or subgid(5). Lines that are not of the form
// NAME:START:COUNT are skipped, as newuidmap skips them.
func Parse(r io.Reader) ([]Range, error) {
	var out []Range
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		f := strings.Split(strings.TrimSpace(sc.Text()), ":")
		if len(f) != 3 || f[0] == "" || f[0][0] == '#' {
			continue
		}
		start, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 != nil || err2 != nil || count == 0 || start+count > 1<<32 {
			continue
		}
		out = append(out, Range{Owner: f[0], Start: uint32(start), Count: uint32(count)})
	}
	return out, sc.Err()
}

// ParseGetsubids reads the output of getsubids(1), which asks name services too:
// lines "INDEX: OWNER START COUNT".
func ParseGetsubids(text string) []Range {
	var lines []string
	for l := range strings.Lines(text) {
		if f := strings.Fields(l); len(f) == 4 {
			lines = append(lines, strings.Join(f[1:], ":"))
		}
	}
	out, _ := Parse(strings.NewReader(strings.Join(lines, "\n")))
	return out
}

// Of returns the ranges granted to a user.
func Of(ranges []Range, name string, uid int) []Range {
	var out []Range
	for _, r := range ranges {
		if r.Owner == name || r.Owner == strconv.Itoa(uid) {
			out = append(out, r)
		}
	}
	return out
}

// Total is the number of ids in ranges.
func Total(ranges []Range) int {
	n := 0
	for _, r := range ranges {
		n += int(r.Count)
	}
	return n
}

// Extent is one line of a uid_map or gid_map.
type Extent struct {
	Inside, Outside, Count uint32
}

// Map maps 0 to own and 1 to Subordinate, or at least to Needed, to the ids of ranges, in their order.
// It says how many ids are missing when they are too few. The own id is left
// out of the ranges: it cannot be mapped twice.
func Map(own uint32, ranges []Range) ([]Extent, error) {
	out := []Extent{{Inside: 0, Outside: own, Count: 1}}
	next := uint32(1)
	add := func(start uint64, count uint64) {
		count = min(count, uint64(Subordinate+1-next))
		if count > 0 {
			out = append(out, Extent{Inside: next, Outside: uint32(start), Count: uint32(count)})
			next += uint32(count)
		}
	}
	for _, r := range ranges {
		start, end := uint64(r.Start), uint64(r.Start)+uint64(r.Count)
		if o := uint64(own); start <= o && o < end {
			add(start, o-start)
			start = o + 1
		}
		add(start, end-start)
	}
	if next <= Needed {
		return nil, fmt.Errorf("%d subordinate ids, %d are needed", next-1, Needed)
	}
	return out, nil
}

// Args are the arguments of newuidmap(1) or newgidmap(1) for a process.
func Args(pid int, m []Extent) []string {
	args := []string{strconv.Itoa(pid)}
	for _, e := range m {
		for _, n := range []uint32{e.Inside, e.Outside, e.Count} {
			args = append(args, strconv.FormatUint(uint64(n), 10))
		}
	}
	return args
}

// ParseMap reads /proc/PID/uid_map or gid_map, see user_namespaces(7). Lines of
// another form are skipped.
func ParseMap(text string) []Extent {
	var out []Extent
	for l := range strings.Lines(text) {
		f := strings.Fields(l)
		if len(f) != 3 {
			continue
		}
		var n [3]uint32
		ok := true
		for i := range f {
			v, err := strconv.ParseUint(f[i], 10, 32)
			ok = ok && err == nil
			n[i] = uint32(v)
		}
		if ok && n[2] > 0 && uint64(n[0])+uint64(n[2]) <= 1<<32 {
			out = append(out, Extent{n[0], n[1], n[2]})
		}
	}
	slices.SortFunc(out, func(a, b Extent) int { return cmp.Compare(a.Inside, b.Inside) })
	return out
}

// Lines is what is written to uid_map or gid_map.
func Lines(m []Extent) string {
	var b strings.Builder
	for _, e := range m {
		fmt.Fprintf(&b, "%d %d %d\n", e.Inside, e.Outside, e.Count)
	}
	return b.String()
}

// Reach is how many ids, counted from 0 without a gap, a map has.
func Reach(here []Extent) int {
	next := uint64(0)
	for _, e := range here {
		if uint64(e.Inside) > next {
			break
		}
		next = max(next, uint64(e.Inside)+uint64(e.Count))
	}
	return int(next)
}

// Same maps every id of the user namespace that is mapped as here says to
// itself, up to Subordinate. It fails when fewer than a build needs are there.
func Same(here []Extent) ([]Extent, error) {
	n := Reach(here)
	if n <= Needed {
		return nil, fmt.Errorf("%d ids, %d are needed", n, Needed+1)
	}
	var out []Extent
	next := uint64(0)
	for _, e := range here {
		end := min(uint64(e.Inside)+uint64(e.Count), Subordinate+1)
		if uint64(e.Inside) > next || end <= next {
			continue
		}
		// The kernel takes no extent that spans two of the outer map.
		out = append(out, Extent{Inside: uint32(next), Outside: uint32(next), Count: uint32(end - next)})
		next = end
	}
	return out, nil
}

// Missing returns the first extent of m, as its ids outside, that is not wholly
// among the ids that are mapped as here says.
func Missing(m, here []Extent) (first, last uint32, missing bool) {
	for _, e := range m {
		next, end := uint64(e.Outside), uint64(e.Outside)+uint64(e.Count)
		for _, h := range here {
			if from, to := uint64(h.Inside), uint64(h.Inside)+uint64(h.Count); from <= next && next < to {
				next = to
			}
		}
		if next < end {
			return e.Outside, uint32(end - 1), true
		}
	}
	return 0, 0, false
}

// Free proposes a range of 65536 ids that overlaps none of the
// ranges given, which should be those of /etc/subuid and /etc/subgid together.
func Free(taken []Range) Range {
	sorted := slices.Clone(taken)
	slices.SortFunc(sorted, func(a, b Range) int { return int(int64(a.Start) - int64(b.Start)) })
	start := uint64(grantStart)
	for _, r := range sorted {
		if uint64(r.Start) >= start+grant {
			break
		}
		start = max(start, uint64(r.Start)+uint64(r.Count))
	}
	if start+grant > grantLimit {
		start = grantStart // everything is taken: the administrator must choose
	}
	return Range{Start: uint32(start), Count: grant}
}

// Last is the last id of a range.
func (r Range) Last() uint32 { return r.Start + r.Count - 1 }

// String is a range as usermod(8) takes it.
func (r Range) String() string { return fmt.Sprintf("%d-%d", r.Start, r.Last()) }
