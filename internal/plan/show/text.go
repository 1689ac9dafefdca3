package show

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/dib-builder/dib/internal/hook"
	"github.com/dib-builder/dib/internal/plan"
)

// WriteText prints the document for people.
func (d *Document) WriteText(w io.Writer) error {
	t := &text{}
	t.summary(d)
	t.elements(d.Elements)
	t.layout(d.Layout)
	t.hooks(d)
	t.environment(d.Environment)
	if len(d.Warnings) > 0 {
		t.heading("Warnings")
		for _, warning := range d.Warnings {
			t.line("  %s", printable(warning))
		}
	}
	_, err := io.WriteString(w, t.String())
	return err
}

// text is a page that grows.
type text struct{ strings.Builder }

func (t *text) line(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }

func (t *text) heading(format string, args ...any) { t.line("\n"+format, args...) }

// table prints rows of cells in columns; blanks at the ends of lines are dropped.
func (t *text) table(rows [][]string) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		_, _ = fmt.Fprintf(w, "  %s\n", strings.Join(row, "\t"))
	}
	_ = w.Flush() // to a Builder, which never fails
	for line := range strings.Lines(b.String()) {
		t.line("%s", strings.TrimRight(line, " \n"))
	}
}

func (t *text) summary(d *Document) {
	t.line("Plan of %s (%s, %s)", printable(d.ImageName), strings.ReplaceAll(d.Kind, "-", " "), d.Arch)
	t.heading("Outputs")
	for _, o := range d.Outputs {
		tag := ""
		if o.Tag != "" {
			tag = "  (docker image " + printable(o.Tag) + "; the file only where no engine takes it)"
		}
		t.line("  %s%s", printable(o.Path), tag)
	}
	if len(d.Outputs) == 0 {
		t.line("  no image")
	}
	if len(d.Secrets) > 0 {
		t.heading("Secrets that hooks get")
		t.line("  %s", printable(strings.Join(d.Secrets, " ")))
	}
	if len(d.Packages) > 0 {
		t.heading("Packages asked for with -p")
		t.line("  %s", strings.Join(d.Packages, " "))
	}
}

func (t *text) elements(elements []plan.Element) {
	t.heading("Elements (%d)", len(elements))
	var rows [][]string
	for _, e := range elements {
		origin := "built in"
		if !e.Builtin {
			origin = printable(e.Dir)
		}
		about := e.Reason
		if len(e.Provides) > 0 {
			about += "; provides " + strings.Join(e.Provides, ", ")
		}
		if len(e.Hides) > 0 {
			about += "; instead of " + printable(strings.Join(e.Hides, ", "))
		}
		rows = append(rows, []string{e.Name, origin, about})
	}
	t.table(rows)
}

const bySize = "by size"

func (t *text) layout(l Layout) {
	size := "its size is known when the image is filled"
	if l.Size != nil {
		size = "image of " + amount(l.Size)
	}
	t.heading("Disk layout (%s): %s", printable(l.Source), size)
	if l.Unused {
		t.line("  hooks are told of it, but no disk image is made")
	}
	if l.Backend == plan.Loop {
		t.line("  on a loop device, mounted while the hooks of pre-finalise.d and finalise.d run")
	}
	for _, d := range l.Disks {
		table := "no partitions"
		if d.Table != "" {
			table = d.Table + " partition table"
		}
		t.line("  %s: %s, %s, sectors of %d bytes", d.Name, amount(d.Size), table, d.SectorSize)
		var rows [][]string
		for _, p := range d.Partitions {
			flag := ""
			if p.Boot {
				flag = "boot"
			}
			rows = append(rows, []string{fmt.Sprintf("  %d", p.Number), p.Name, "type " + p.Type, "at " + amount(p.Start), "length " + amount(p.Length), flag})
		}
		t.table(rows)
	}
	var rows [][]string
	for _, f := range l.Filesystems {
		mount := "not mounted"
		if f.Mount != "" {
			mount = "mounted on " + f.Mount
		}
		rows = append(rows, []string{f.Name, f.Type, "on " + f.On, mount, "label " + strconv.Quote(f.Label), "at " + amount(f.Offset), "length " + amount(f.Length)})
	}
	t.table(rows)
}

// amount is a number of bytes, exactly.
func amount(n *int64) string {
	if n == nil {
		return bySize
	}
	for _, u := range []struct {
		name  string
		bytes int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if *n != 0 && *n%u.bytes == 0 {
			return fmt.Sprintf("%d %s", *n/u.bytes, u.name)
		}
	}
	return fmt.Sprintf("%d B", *n)
}

func (t *text) hooks(d *Document) {
	t.heading("Hooks, in order")
	t.phase(hook.EnvironmentDir, "sourced before the hooks of each phase", d.EnvironmentFiles)
	for _, phase := range d.Phases {
		where := "on the host"
		if phase.Side == plan.Target {
			where = "in the image"
		}
		t.phase(phase.Name+".d", where, phase.Hooks)
	}
}

func (t *text) phase(dir, where string, hooks []plan.Hook) {
	if len(hooks) == 0 {
		t.line("  %s: none", dir)
		return
	}
	t.line("  %s (%s)", dir, where)
	var rows [][]string
	for _, h := range hooks {
		rows = append(rows, []string{"  " + h.Name, h.Element})
	}
	t.table(rows)
}

func (t *text) environment(e Environment) {
	if e.Evaluated {
		t.heading("Environment of hooks on the host, in the first phase")
	} else {
		t.heading("Environment of hooks on the host, before environment.d, whose effect is unknown:")
		for line := range strings.Lines(e.Reason) {
			t.line("  (%s)", printable(strings.TrimSpace(line)))
		}
	}
	origin := ""
	for _, v := range e.Variables {
		switch v.Origin {
		case originCaller, originBash:
			continue
		}
		origin = ""
		if v.Origin != originDib {
			origin = "  (" + v.Origin + ")"
		}
		t.line("  %s=%s%s", v.Name, printable(v.Value), origin)
	}
	var inherited []string
	for _, v := range e.Variables {
		if v.Origin == originCaller {
			inherited = append(inherited, v.Name+"="+printable(v.Value))
		}
	}
	if len(inherited) > 0 {
		t.line("  as the caller has them:")
		for _, line := range inherited {
			t.line("    %s", line)
		}
	}
}

// printable keeps control characters from the terminal and lines whole.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) < 0 {
		return s
	}
	return strconv.Quote(s)
}
