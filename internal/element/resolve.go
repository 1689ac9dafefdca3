package element

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/similar"
)

// Resolved is an element of an image and why it is there.
type Resolved struct {
	Element
	Reason string // ReasonRequested, "needed by NAME" or one of the defaults
}

// Elements returns the elements alone.
func Elements(resolved []Resolved) []Element {
	elements := make([]Element, len(resolved))
	for i, r := range resolved {
		elements[i] = r.Element
	}
	return elements
}

// ReasonRequested is the Reason of elements that were asked for by name.
const ReasonRequested = "requested"

const reasonNeeded = "needed by "

// IsDependency says whether only other elements' needs brought this one in.
func (r Resolved) IsDependency() bool { return strings.HasPrefix(r.Reason, reasonNeeded) }

// RequestOptions are the circumstances that add elements to a request.
type RequestOptions struct {
	Arch           string // ARCH, as given
	SkipBase       bool
	Ramdisk        bool
	RamdiskElement string // default "ramdisk"
}

// defaults returns the elements that come before the requested words, with their reasons.
func (o RequestOptions) defaults() (names, reasons []string) {
	if o.Ramdisk {
		main := o.RamdiskElement
		if main == "" {
			main = "ramdisk"
		}
		names, reasons = append(names, main), append(reasons, "main element of a ramdisk")
	}
	if !o.SkipBase {
		names, reasons = append(names, "base"), append(reasons, "in every image")
	}
	return names, reasons
}

// Request is the list to resolve for the given words: the ramdisk element and
// base come first. The disk layout that vm brings is not in it, because vm may
// come in as a dependency: ResolveRequest adds it.
func Request(words []string, opt RequestOptions) []string {
	names, _ := opt.defaults()
	return append(names, words...)
}

// DefaultBlockDevice is the element whose layout vm uses when no other is there.
func DefaultBlockDevice(arch string) string {
	if arch == "arm64" || arch == "aarch64" {
		return "block-device-efi"
	}
	return "block-device-mbr"
}

// ResolveRequest resolves what a build asks for, defaults included.
func (l *Library) ResolveRequest(words []string, opt RequestOptions) ([]Resolved, error) {
	requested := Request(words, opt)
	reasons := map[string]string{}
	names, why := opt.defaults()
	for i, name := range names {
		if !slices.Contains(words, name) {
			reasons[name] = why[i]
		}
	}
	if l.settle(requested).wantsBlockDevice() {
		name := DefaultBlockDevice(opt.Arch)
		requested = append(requested, name)
		reasons[name] = "default layout for vm"
	}
	if owner := l.wantsInstallBin(l.settle(requested)); owner != "" {
		requested = append(requested, InstallBin)
		reasons[InstallBin] = reasonNeeded + owner + " for its commands"
	}
	return l.resolve(requested, reasons)
}

// Resolve returns the requested elements and all they need: requested ones
// first, in order and without repetition, then dependencies, breadth first in
// the order of their files. Where an element in use provides the name of
// another that was not requested, it stands in for that one.
//
// The error joins *MissingElementError, *AlreadyProvidedError and
// *MissingOSError values, one for each finding.
func (l *Library) Resolve(requested []string) ([]Resolved, error) {
	return l.resolve(requested, nil)
}

func (l *Library) resolve(requested []string, reasons map[string]string) ([]Resolved, error) {
	w := l.settle(requested)
	for name, reason := range reasons {
		w.reason[name] = reason
	}
	if err := l.check(w); err != nil {
		return nil, err
	}
	resolved := make([]Resolved, len(w.kept))
	for i, name := range w.kept {
		resolved[i] = Resolved{Element: l.elements[name], Reason: w.reason[name]}
	}
	return resolved, nil
}

// verdict is what is known about a name that some element in use provides.
type verdict int

const (
	// replaced: the element of that name is left out, and so is what it needs.
	replaced verdict = iota + 1
	// hollow: left out as well, but what it needs stays, because its stand-in
	// is among that.
	hollow
	// restored: kept, because what would have stood in for it went away
	// together with another replaced element.
	restored
)

// settle walks the dependencies again and again until the set of provided
// names no longer changes. Walking once would not do: a virtual name may come
// before the element that provides it, and an element before its stand-in.
// It ends because verdicts only ever rise.
func (l *Library) settle(requested []string) *walk {
	verdicts := map[string]verdict{}
	for {
		w := l.walk(requested, verdicts)
		changed := false
		for _, name := range w.provided {
			if verdicts[name] == 0 {
				verdicts[name] = replaced
				changed = true
			}
		}
		if changed {
			continue
		}
		for _, name := range w.skipped {
			_, real := l.elements[name]
			if !real || len(w.providers[name]) > 0 {
				continue
			}
			switch verdicts[name] {
			case replaced:
				verdicts[name] = hollow
			case hollow:
				verdicts[name] = restored
			}
			changed = true
		}
		if !changed {
			return w
		}
	}
}

// walk is the outcome of following dependencies once.
type walk struct {
	requested map[string]bool
	kept      []string            // elements of the image, in order
	skipped   []string            // names left to their providers
	unknown   []string            // names without an element
	provided  []string            // every name in providers, in order of discovery
	providers map[string][]string // who provides a name
	neededBy  map[string][]string
	reason    map[string]string
}

func (l *Library) walk(requested []string, verdicts map[string]verdict) *walk {
	w := &walk{
		requested: map[string]bool{},
		providers: map[string][]string{},
		neededBy:  map[string][]string{},
		reason:    map[string]string{},
	}
	var queue []string
	for _, name := range requested {
		if !w.requested[name] {
			w.requested[name] = true
			w.reason[name] = ReasonRequested
			queue = append(queue, name)
		}
	}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		e, real := l.elements[name]
		v := verdicts[name]
		keep := w.requested[name] || v == 0 || v == restored
		switch {
		case !keep:
			w.skipped = append(w.skipped, name)
			if v == replaced || !real {
				continue
			}
		case !real:
			w.unknown = append(w.unknown, name)
			continue
		default:
			w.kept = append(w.kept, name)
		}
		for _, p := range e.Provides {
			if len(w.providers[p]) == 0 {
				w.provided = append(w.provided, p)
			} else if !keep {
				continue // what a left-out element provides counts only when nobody else does
			}
			w.providers[p] = append(w.providers[p], name)
		}
		for _, dep := range e.Deps {
			w.neededBy[dep] = append(w.neededBy[dep], name)
			if w.reason[dep] == "" {
				w.reason[dep] = reasonNeeded + name
				queue = append(queue, dep)
			}
		}
	}
	return w
}

// wantsBlockDevice says whether vm is in the image and nothing brings a layout.
func (w *walk) wantsBlockDevice() bool {
	if len(w.providers[BlockDevice]) > 0 || !slices.Contains(w.kept, "vm") {
		return false
	}
	named := func(name string) bool { return strings.HasPrefix(name, BlockDevice+"-") }
	return !slices.ContainsFunc(w.kept, named) && !slices.ContainsFunc(w.unknown, named)
}

// InstallBin is the element that puts the commands of all elements into the image.
const InstallBin = "install-bin"

// wantsInstallBin returns an element that has commands which nothing would put
// into the image, or "". Many such elements rely on others to bring install-bin.
func (l *Library) wantsInstallBin(w *walk) string {
	if _, known := l.elements[InstallBin]; !known || slices.Contains(w.kept, InstallBin) || len(w.providers[InstallBin]) > 0 {
		return ""
	}
	for _, name := range w.kept {
		if fsys := l.elements[name].FS; fsys != nil {
			if st, err := fs.Stat(fsys, "bin"); err == nil && st.IsDir() {
				return name
			}
		}
	}
	return ""
}

// check reports everything wrong with a settled walk.
func (l *Library) check(w *walk) error {
	var errs []error
	missing := slices.Clone(w.unknown)
	for _, name := range w.skipped {
		if len(w.providers[name]) == 0 && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	missing = slices.DeleteFunc(missing, func(name string) bool { return len(w.providers[name]) > 0 })
	for _, name := range missing {
		errs = append(errs, &MissingElementError{
			Name:      name,
			NeededBy:  w.neededBy[name],
			Providers: l.providersOf(name),
			Similar:   similar.Words(name, l.Names()),
			Searched:  l.searched,
		})
	}
	for _, name := range w.provided {
		providers := w.providers[name]
		if !w.requested[name] {
			// A hollow element's own provides end where a kept one's begin.
			providers = slices.DeleteFunc(slices.Clone(providers), func(p string) bool { return !slices.Contains(w.kept, p) })
			if len(providers) < 2 {
				continue
			}
		}
		err := &AlreadyProvidedError{Name: name, Requested: w.requested[name], Providers: providers}
		for _, p := range providers {
			err.Reasons = append(err.Reasons, w.reason[p])
		}
		errs = append(errs, err)
	}
	if len(missing) == 0 && len(w.providers[OperatingSystem]) == 0 {
		errs = append(errs, &MissingOSError{Available: l.providersOf(OperatingSystem)})
	}
	return errors.Join(errs...)
}
