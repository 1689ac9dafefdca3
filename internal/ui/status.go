package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dib-builder/dib/internal/event"
)

// maxSteps is how many steps are shown at a time, the latest ones: the formats
// of an image are written side by side.
const maxSteps = 6

// status is what the build is doing now. Its frame is a pure function of the
// events so far and of the time.
type status struct {
	since      time.Time // start of the build
	phase      string    // empty between phases
	side       string
	phaseSince time.Time
	hook       string // "element: hook", empty between hooks
	hookSince  time.Time
	steps      []step // running ones, in the order of their start
	over       bool   // the build has failed
}

// step is a piece of work of the core, perhaps with a count.
type step struct {
	name  string
	since time.Time
	// announced by StepStart, and so ended by StepEnd only
	announced bool

	counted     bool
	first       int64 // the first count, reached at firstAt: the base of the rate
	firstAt     time.Time
	done, total int64
	unit        string
}

// apply takes an event in.
func (s *status) apply(e event.Event) {
	switch e.Kind {
	case event.PhaseStart:
		s.phase, s.side, s.phaseSince = e.Phase, e.Side, e.Time
		s.hook = ""
	case event.PhaseEnd:
		s.phase, s.hook = "", ""
		// Counts that stopped short, such as of a download that failed, have
		// nobody else to end them.
		s.steps = slices.DeleteFunc(s.steps, func(st step) bool { return !st.announced })
	case event.HookStart:
		s.hook, s.hookSince = e.Hook, e.Time
		if e.Element != "" {
			s.hook = e.Element + ": " + e.Hook
		}
	case event.HookEnd:
		s.hook = ""
	case event.StepStart:
		st := s.step(e.Step, e.Time)
		st.announced = true
	case event.StepEnd:
		s.endStep(e.Step)
	case event.Progress:
		st := s.step(e.Step, e.Time)
		if !st.counted {
			st.counted, st.first, st.firstAt = true, e.Done, e.Time
		}
		st.done, st.total, st.unit = e.Done, e.Total, e.Unit
		if st.total > 0 && st.done >= st.total && !st.announced {
			s.endStep(e.Step)
		}
	case event.Failed:
		s.over = true
	}
}

// step finds a running step, or starts it.
func (s *status) step(name string, at time.Time) *step {
	i := slices.IndexFunc(s.steps, func(st step) bool { return st.name == name })
	if i < 0 {
		s.steps = append(s.steps, step{name: name, since: at})
		i = len(s.steps) - 1
	}
	return &s.steps[i]
}

func (s *status) endStep(name string) {
	s.steps = slices.DeleteFunc(s.steps, func(st step) bool { return st.name == name })
}

// frame returns the status lines, each shorter than width columns.
func (s *status) frame(now time.Time, width int) []string {
	if s.over || width < 8 { // nothing useful fits
		return nil
	}
	head := fmt.Sprintf("[%s] ", clock(now.Sub(s.since)))
	switch {
	case s.phase == "":
		head += "building"
	case s.side == "":
		head += fmt.Sprintf("%s  %s", s.phase, clock(now.Sub(s.phaseSince)))
	default:
		head += fmt.Sprintf("%s, %s  %s", s.phase, sideName(s.side), clock(now.Sub(s.phaseSince)))
	}
	lines := []string{head}
	if s.hook != "" {
		lines = append(lines, fmt.Sprintf("  %s  %s", s.hook, clock(now.Sub(s.hookSince))))
	}
	for _, st := range s.steps[max(0, len(s.steps)-maxSteps):] {
		lines = append(lines, "  "+st.text(now))
	}
	for i, l := range lines {
		lines[i] = fit(l, width)
	}
	return lines
}

// text is the step's name, then its bar, count and rate as far as known.
func (st step) text(now time.Time) string {
	if !st.counted {
		return st.name + "  " + clock(now.Sub(st.since))
	}
	var b strings.Builder
	b.WriteString(st.name)
	if st.total > 0 {
		fmt.Fprintf(&b, "  %s  %s of %s", bar(st.done, st.total), amount(st.done, st.unit), amount(st.total, st.unit))
	} else {
		fmt.Fprintf(&b, "  %s", amount(st.done, st.unit))
	}
	if d := now.Sub(st.firstAt); d >= time.Second && st.unit == "bytes" && st.done > st.first {
		fmt.Fprintf(&b, "  %s/s", amount(int64(float64(st.done-st.first)/d.Seconds()), st.unit))
	}
	return b.String()
}

// bar draws how much is done, with the percentage.
func bar(done, total int64) string {
	const cells = 20
	share := min(max(float64(done)/float64(total), 0), 1)
	full := int(share * cells)
	return fmt.Sprintf("[%s%s] %3d%%", strings.Repeat("#", full), strings.Repeat(".", cells-full), int(share*100))
}

// amount prints a count with a binary unit if it counts bytes.
func amount(n int64, unit string) string {
	if unit != "bytes" {
		return fmt.Sprint(n)
	}
	value, prefix := float64(n), ""
	for _, p := range []string{"Ki", "Mi", "Gi", "Ti"} {
		if value < 1024 {
			break
		}
		value, prefix = value/1024, p
	}
	if prefix == "" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %sB", value, prefix)
}

// clock prints a duration as minutes and seconds, or with hours.
func clock(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}
