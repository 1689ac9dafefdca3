package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// WriteText prints the report for people. What comes from the image is made
// harmless for a terminal.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		for i, a := range args {
			if s, ok := a.(string); ok {
				args[i] = clean(s)
			}
		}
		fmt.Fprintf(&b, "%-18s%s\n", name+":", fmt.Sprintf(format, args...))
	}
	line("file", "%s", r.File)
	line("format", "%s", r.Format+details(r.Details))
	line("virtual size", "%s", amount(r.VirtualSize))
	line("file size", "%s, of which %s are on disk", amount(r.FileSize), amount(r.RealSize))
	if r.BackingFile != "" {
		line("backing file", "%s", r.BackingFile)
	}
	if r.Snapshots > 0 {
		line("snapshots", "%d", r.Snapshots)
	}
	line("partition table", "%s", r.PartitionTable)
	for _, p := range r.Partitions {
		line(label(p), "%s", p.describe())
	}
	if s := r.System; s != nil {
		name := s.Name
		if name == "" {
			name = strings.TrimSpace(s.ID + " " + s.Version)
		}
		line("operating system", "%s", name)
	}
	line("kernels", "%s", list(r.Kernels))
	var packages []string
	for _, p := range r.Packages {
		if p.Count == nil {
			packages = append(packages, p.Manager+" (not counted)")
		} else {
			packages = append(packages, fmt.Sprintf("%d of %s", *p.Count, p.Manager))
		}
	}
	line("packages", "%s", list(packages))
	boot := slices.Clone(r.Boot.EFI)
	if r.Boot.BIOS != "" {
		boot = append([]string{r.Boot.BIOS + " (BIOS)"}, boot...)
	}
	line("boot programs", "%s", list(boot))
	for _, p := range r.Problems {
		line("problem", "%s", strings.ReplaceAll(p, "\n", "; "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func details(m map[string]string) string {
	var words []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		words = append(words, k+"="+m[k])
	}
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, ", ") + ")"
}

func label(p Partition) string {
	if p.Number == 0 {
		return "whole disk"
	}
	return fmt.Sprintf("partition %d", p.Number)
}

func (p Partition) describe() string {
	words := []string{amount(p.Size) + " at " + amount(p.Offset)}
	if p.Type != "" {
		words = append(words, "type "+p.Type)
	}
	if p.Name != "" {
		words = append(words, fmt.Sprintf("name %q", p.Name))
	}
	f := p.Filesystem
	if f == nil {
		return strings.Join(append(words, "content unknown"), ", ")
	}
	words = append(words, f.Type)
	if f.Label != "" {
		words = append(words, fmt.Sprintf("label %q", f.Label))
	}
	if f.UUID != "" {
		words = append(words, "UUID "+f.UUID)
	}
	if f.Used != nil && f.Size != nil {
		words = append(words, fmt.Sprintf("%s of %s used", amount(*f.Used), amount(*f.Size)))
	}
	return strings.Join(words, ", ")
}

func list(words []string) string {
	if len(words) == 0 {
		return "none found"
	}
	return strings.Join(words, ", ")
}

// amount prints a number of bytes, exactly when it is a small one.
func amount(n int64) string {
	for shift, unit := range []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"} {
		scale := int64(1) << (10 * shift)
		switch {
		case n/1024 >= scale && unit != "EiB":
		case n%scale == 0:
			return fmt.Sprintf("%d %s", n/scale, unit)
		default:
			return fmt.Sprintf("%.1f %s", float64(n)/float64(scale), unit)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// clean replaces what could steer a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
