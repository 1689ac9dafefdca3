package draw

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/dib-builder/dib/internal/blockdev"
)

// Text shows every disk as a drawing to scale of the given width (characters)
// and as a table; start and end count sectors, and the end is the last one.
func Text(l *blockdev.Layout, width int) string {
	var b strings.Builder
	for i := range l.Disks {
		d := &l.Disks[i]
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(heading(l, d) + "\n\n")
		b.WriteString(bar(cover(l, d), width) + "\n")
		b.WriteString(table(rows(l, d), int64(d.SectorSize)))
	}
	if l.FSTab != "" {
		b.WriteString("\n/etc/fstab\n\n")
		for line := range strings.Lines(l.FSTab) {
			b.WriteString("  " + line)
		}
	}
	return b.String()
}

func table(list []row, sector int64) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(cells ...string) { _, _ = fmt.Fprintf(w, "  %s\n", strings.Join(cells, "\t")) } // to a Builder, which never fails
	line("#", "Name", "Start", "End", "Size", "Type", "Filesystem", "Label", "UUID", "Mount point")
	for _, r := range list {
		number, kind := "-", or(r.kind)
		if r.number > 0 {
			number = fmt.Sprint(r.number)
		}
		if r.boot {
			kind += " boot"
		}
		fs, label, id := "-", "-", "-"
		if r.fs != nil {
			fs, label, id = r.fs.Type, or(r.fs.Label), or(r.fs.UUID)
		}
		start, end := fmt.Sprint(r.start/sector), fmt.Sprint(r.end/sector-1)
		if r.split {
			start, end = "several", "places"
		}
		line(number, r.name, start, end, amount(r.size()), kind, fs, label, id, or(r.mount))
	}
	_ = w.Flush()
	var out strings.Builder
	for l := range strings.Lines(b.String()) {
		out.WriteString(strings.TrimRight(l, " \n") + "\n")
	}
	return out.String()
}

func or(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// bar draws places side by side, each as wide as its share of the disk but wide
// enough for its number; what is free and too small to be seen is left out.
func bar(places []row, width int) string {
	total := int64(0)
	for _, p := range places {
		total = max(total, p.end)
	}
	room := width - 4 // two blanks before, a line at each end
	type cell struct {
		text  string
		width int
		free  bool
	}
	var cells []cell
	used := 0
	for _, p := range places {
		c := cell{text: p.title(), free: p.free}
		c.width = int(float64(p.size()) / float64(max(total, 1)) * float64(room))
		if p.free && c.width < 2 {
			continue
		}
		if !p.free {
			short := fmt.Sprint(p.number)
			if p.number == 0 {
				short = p.name
			}
			c.width = max(c.width, utf8.RuneCountInString(short)+1)
		}
		used += c.width
		cells = append(cells, c)
	}
	// The widest give what the narrow ones took, and take what is left over.
	for used != room && len(cells) > 0 {
		widest := 0
		for i := range cells {
			if cells[i].width > cells[widest].width {
				widest = i
			}
		}
		if used > room && cells[widest].width <= 8 {
			break // too many to fit: the drawing is wider than asked for
		}
		step := 1
		if used > room {
			step = -1
		}
		cells[widest].width += step
		used += step
	}
	top, mid, low := "  ┌", "  │", "  └"
	for i, c := range cells {
		inner := max(c.width-1, 1)
		ends := [3]string{"┬", "│", "┴"}
		if i == len(cells)-1 {
			ends = [3]string{"┐", "│", "┘"}
			inner++
		}
		fill := " "
		if c.free {
			fill = "░"
		}
		top += strings.Repeat("─", inner) + ends[0]
		mid += padded(c.text, inner, fill) + ends[1]
		low += strings.Repeat("─", inner) + ends[2]
	}
	return top + "\n" + mid + "\n" + low + "\n"
}

// padded makes a text exactly n characters wide.
func padded(s string, n int, fill string) string {
	runes := []rune(s)
	if len(runes) > n {
		return string(runes[:n])
	}
	return s + strings.Repeat(fill, n-len(runes))
}
