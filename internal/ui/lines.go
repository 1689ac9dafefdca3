package ui

import (
	"fmt"
	"io"
	"time"

	"github.com/dib-builder/dib/internal/event"
)

// line is one line of text that an event stands for.
type line struct {
	text   []byte // without newline, any bytes
	urgent bool   // to be seen in a quiet view too
	// status marks a line that says what status lines say already.
	status bool
}

// slowStep is how long a step takes before its end is worth a line.
const slowStep = 1.0 // seconds

// linesOf translates an event into text. logFile is the name of the complete
// log for the report of a failure, empty if there is none.
func linesOf(e event.Event, logFile string) []line {
	switch e.Kind {
	case event.Log:
		return []line{{text: e.Line}}
	case event.Warning:
		return []line{{text: append([]byte("WARNING: "), e.Line...), urgent: true}}
	case event.StepStart:
		return []line{{text: fmt.Appendf(nil, "%s ...", e.Step), status: true}}
	case event.StepEnd:
		if e.Seconds >= slowStep {
			return []line{{text: fmt.Appendf(nil, "%s took %.1f s", e.Step, e.Seconds)}}
		}
	case event.Artifact:
		return []line{{text: fmt.Appendf(nil, "Image file %s created...", e.Path)}}
	case event.Failed:
		if e.Failure != nil {
			return failureLines(*e.Failure, logFile)
		}
	}
	return nil
}

// failureLines is the report at the end of a failed build.
func failureLines(f event.Failure, logFile string) []line {
	var lines []line
	add := func(format string, a ...any) {
		lines = append(lines, line{text: fmt.Appendf(nil, format, a...), urgent: true})
	}
	add("")
	add("Build failed: %s", f.Message)
	phase := f.Phase
	if phase != "" && f.Side != "" {
		phase += " (" + sideName(f.Side) + ")"
	}
	for _, field := range []struct{ name, value string }{
		{"element", f.Element}, {"phase", phase}, {"hook", f.Hook},
	} {
		if field.value != "" {
			add("  %-9s %s", field.name, field.value)
		}
	}
	if f.Exit != 0 {
		add("  %-9s %d", "status", f.Exit)
	}
	if len(f.Tail) > 0 {
		add("  its last output:")
		for _, l := range f.Tail {
			add("    | %s", l)
		}
	}
	if logFile != "" {
		add("  %-9s %s", "full log", logFile)
	}
	for _, hint := range f.Hints {
		add("  hint: %s", hint)
	}
	return lines
}

// sideName says where a hook runs.
func sideName(side string) string {
	switch side {
	case "target":
		return "inside the image"
	case "host":
		return "on the host"
	}
	return side
}

// stampLayout is the time before each line: UTC, as DIB prints it.
const stampLayout = "2006-01-02 15:04:05.000 | "

// appendLines appends lines with their newlines and, if asked for, the time
// before each.
func appendLines(b []byte, lines []line, at time.Time, timestamps bool) []byte {
	for _, l := range lines {
		if timestamps {
			b = at.UTC().AppendFormat(b, stampLayout)
		}
		b = append(b, l.text...)
		b = append(b, '\n')
	}
	return b
}

// plainView prints lines as they come, for pipes and files.
type plainView struct {
	out        io.Writer
	timestamps bool
}

func (v plainView) show(e event.Event, lines []line) {
	if len(lines) > 0 {
		_, _ = v.out.Write(appendLines(nil, lines, e.Time, v.timestamps))
	}
}

func (plainView) close() {}

// quietView prints only what must be seen.
type quietView struct{ err io.Writer }

func (v quietView) show(e event.Event, lines []line) {
	var urgent []line
	for _, l := range lines {
		if l.urgent {
			urgent = append(urgent, l)
		}
	}
	if len(urgent) > 0 {
		_, _ = v.err.Write(appendLines(nil, urgent, e.Time, false))
	}
}

func (quietView) close() {}
