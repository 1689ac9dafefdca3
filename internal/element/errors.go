package element

import (
	"fmt"
	"strings"
)

// InvalidDirError is an entry of ELEMENTS_PATH that is not a usable directory.
type InvalidDirError struct {
	Entry  string // the entry, possibly empty
	Path   string // the whole list
	Reason error
}

func (e *InvalidDirError) Error() string {
	cure := "correct its name or leave it out"
	if e.Entry == "" {
		cure = "remove the colon before or after it"
	}
	return fmt.Sprintf("cannot use entry %q of ELEMENTS_PATH %q: %v: %s", e.Entry, e.Path, e.Reason, cure)
}

func (e *InvalidDirError) Unwrap() error { return e.Reason }

// MissingElementError is a name that is neither an element nor provided by one in use.
type MissingElementError struct {
	Name      string
	NeededBy  []string // elements depending on it; empty when it was requested
	Providers []string // elements that would provide it
	Similar   []string // names that may have been meant
	Searched  []string // directories of ELEMENTS_PATH
}

func (e *MissingElementError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cannot find element %q", e.Name)
	if len(e.NeededBy) > 0 {
		fmt.Fprintf(&b, " (needed by %s)", strings.Join(e.NeededBy, ", "))
	}
	switch {
	case len(e.Providers) > 0:
		fmt.Fprintf(&b, ": request one of the elements that provide it: %s", strings.Join(e.Providers, ", "))
	case len(e.Similar) > 0:
		fmt.Fprintf(&b, ": did you mean %s?", strings.Join(e.Similar, " or "))
	default:
		searched := append(append([]string(nil), e.Searched...), "the built-in elements")
		fmt.Fprintf(&b, ": searched %s: set ELEMENTS_PATH to the directory that holds it", strings.Join(searched, " and "))
	}
	return b.String()
}

// AlreadyProvidedError is a name that an image would have twice: two elements
// provide it, or one provides it and it was requested as well.
type AlreadyProvidedError struct {
	Name      string
	Requested bool     // Name itself was requested
	Providers []string // in order of resolution
	Reasons   []string // why each provider is there, as in Resolved.Reason
}

func (e *AlreadyProvidedError) Error() string {
	who := make([]string, len(e.Providers))
	for i, p := range e.Providers {
		who[i] = fmt.Sprintf("%s (%s)", p, e.Reasons[i])
	}
	if e.Requested {
		return fmt.Sprintf("cannot use element %q: it is requested and already provided by %s: leave one of them out", e.Name, strings.Join(who, ", "))
	}
	return fmt.Sprintf("cannot combine elements %s: each provides %q: leave out all but one", strings.Join(who, ", "), e.Name)
}

// MissingOSError is a request without an operating system.
type MissingOSError struct {
	Available []string // elements that provide one
}

func (e *MissingOSError) Error() string {
	if len(e.Available) == 0 {
		return "cannot build without an operating system: no known element provides operating-system"
	}
	return "cannot build without an operating system: request one of " + strings.Join(e.Available, ", ")
}
