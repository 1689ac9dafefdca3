// Package functest runs the functional tests of elements: each builds an image
// of the element that it tests and of itself, and hooks of the test look at
// what comes of it.
package functest

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Layer is one directory of elements; earlier ones hide elements of the same
// name in later ones.
type Layer struct {
	Path string // where builds find it; empty for the library of the program
	FS   fs.FS
}

// Test is one functional test, itself an element.
type Test struct {
	Element, Name string
	Layer         Layer
	Formats       []string // output formats, from test-output-formats
	Ramdisk       bool     // from element-type
}

// ID is how people name the test.
func (t Test) ID() string { return t.Element + "/" + t.Name }

// dir is the directory of the test in its layer.
func (t Test) dir() string { return path.Join(t.Element, testsDir, t.Name) }

const (
	testsDir    = "test-elements"
	formatsFile = "test-output-formats"
	typeFile    = "element-type"

	defaultFormat = "tar"
)

// Discover finds the tests of every element that is not hidden, by ID. What is
// wrong with any of them is an error: nobody may believe that a test ran.
func Discover(layers []Layer) ([]Test, error) {
	var tests []Test
	var errs []error
	seen := map[string]bool{}
	for _, layer := range layers {
		entries, err := fs.ReadDir(layer.FS, ".")
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot list elements of %q: %w", layer.Path, err))
			continue
		}
		for _, e := range entries {
			if st, err := fs.Stat(layer.FS, e.Name()); err != nil || !st.IsDir() || seen[e.Name()] {
				continue
			}
			seen[e.Name()] = true
			found, err := discoverElement(layer, e.Name())
			tests, errs = append(tests, found...), append(errs, err)
		}
	}
	slices.SortFunc(tests, func(a, b Test) int { return strings.Compare(a.ID(), b.ID()) })
	return tests, errors.Join(errs...)
}

func discoverElement(layer Layer, element string) ([]Test, error) {
	entries, err := fs.ReadDir(layer.FS, path.Join(element, testsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list tests of element %s: %w", element, err)
	}
	var tests []Test
	var errs []error
	for _, e := range entries {
		t := Test{Element: element, Name: e.Name(), Layer: layer}
		if st, err := fs.Stat(layer.FS, t.dir()); err != nil || !st.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := t.readControl(); err != nil {
			errs = append(errs, fmt.Errorf("test %s: %w", t.ID(), err))
			continue
		}
		tests = append(tests, t)
	}
	return tests, errors.Join(errs...)
}

func (t *Test) readControl() error {
	text, err := t.control(formatsFile)
	if err != nil {
		return err
	}
	if t.Formats, err = ParseFormats(text); err != nil {
		return err
	}
	if text, err = t.control(typeFile); err != nil {
		return err
	}
	t.Ramdisk, err = ParseType(text)
	return err
}

// control reads a control file; one that is not there is empty.
func (t *Test) control(name string) (string, error) {
	data, err := fs.ReadFile(t.Layer.FS, path.Join(t.dir(), name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return string(data), nil
}

var formatName = regexp.MustCompile(`^[a-z0-9]+$`)

// ParseFormats reads test-output-formats: output formats separated by commas,
// in any number of lines. Nothing but comments and blanks means the default.
func ParseFormats(text string) ([]string, error) {
	var formats []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		for word := range strings.FieldsFuncSeq(line, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' || r == '\r' }) {
			if !formatName.MatchString(word) {
				return nil, fmt.Errorf("%s: %q is no output format", formatsFile, word)
			}
			if !slices.Contains(formats, word) {
				formats = append(formats, word)
			}
		}
	}
	if len(formats) == 0 {
		formats = []string{defaultFormat}
	}
	return formats, nil
}

// ParseType reads element-type: disk, which is the default, or ramdisk.
func ParseType(text string) (ramdisk bool, err error) {
	switch kind := strings.TrimSpace(text); kind {
	case "", "disk":
		return false, nil
	case "ramdisk":
		return true, nil
	default:
		return false, fmt.Errorf("%s: %q is neither disk nor ramdisk", typeFile, kind)
	}
}

// skipped are the tests that run only when they are asked for: they take long,
// need much of the network, or test what its makers no longer maintain.
var skipped = []string{
	"centos/10-stream-build-succeeds", "centos/build-succeeds",
	"debian-minimal/stable-build-succeeds", "debian-minimal/stable-vm", "debian-minimal/testing-build-succeeds",
	"debian/build-succeeds", "fedora/build-succeeds", "gentoo/build-succeeds",
	"opensuse-minimal/build-succeeds", "opensuse-minimal/opensuse15-build-succeeds",
	"opensuse/build-succeeds", "opensuse/opensuse15-build-succeeds",
	"ubuntu-minimal/bionic-build-succeeds", "ubuntu-minimal/trusty-build-succeeds", "ubuntu-minimal/xenial-build-succeeds",
	"ubuntu/bionic-build-succeeds", "ubuntu/trusty-build-succeeds", "ubuntu/xenial-build-succeeds",
}

// UnknownError names tests that do not exist.
type UnknownError struct{ IDs []string }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("there is no test %s; -l lists all tests", strings.Join(e.IDs, ", "))
}

// Select is the tests that the words ask for, in the order of all: without
// words those that are not skipped by default, with "all" every one. The error
// is an *UnknownError.
func Select(all []Test, words []string) ([]Test, error) {
	if slices.Contains(words, "all") {
		return all, nil
	}
	var unknown []string
	for _, word := range words {
		if !slices.ContainsFunc(all, func(t Test) bool { return t.ID() == word }) {
			unknown = append(unknown, word)
		}
	}
	if len(unknown) > 0 {
		return nil, &UnknownError{unknown}
	}
	return slices.DeleteFunc(slices.Clone(all), func(t Test) bool {
		if len(words) > 0 {
			return !slices.Contains(words, t.ID())
		}
		return slices.Contains(skipped, t.ID())
	}), nil
}
