package plan

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/element"
	"github.com/dib-builder/dib/internal/finding"
)

// layoutVariable overrides every element's layout: YAML, or "file://" and a path.
const layoutVariable = "DIB_BLOCK_DEVICE_CONFIG"

// chooseLayout finds the block-device configuration: the variable, then the
// element that provides block-device, then the only other element that has
// one, then a plain filesystem on the whole disk.
func (p *Plan) chooseLayout(elements []element.Element, opt Options) error {
	b, err := p.layout(elements, opt)
	if err != nil {
		return err
	}
	p.BlockDevice = b
	if opt.ValidateLayout == nil {
		return nil
	}
	if err := opt.ValidateLayout(b.Source, []byte(b.Text)); err != nil {
		return &layoutError{err}
	}
	return nil
}

// layoutError is a disk layout with faults, which it shows in their lines.
type layoutError struct{ err error }

func (e *layoutError) Error() string {
	var faults finding.List
	if errors.As(e.err, &faults) {
		return "cannot use disk layout: " + faults.Explain()
	}
	return "cannot use disk layout: " + e.err.Error()
}

func (e *layoutError) Unwrap() error { return e.err }

func (p *Plan) layout(elements []element.Element, opt Options) (BlockDevice, error) {
	config := p.Env[layoutVariable]
	if file, ok := strings.CutPrefix(config, "file://"); ok {
		abs := file
		if !filepath.IsAbs(abs) {
			abs = filepath.Join(opt.Dir, file)
		}
		text, err := opt.ReadFile(abs)
		if err != nil {
			return BlockDevice{}, fmt.Errorf("cannot read disk layout named by %s: %w: correct the path after file://", layoutVariable, err)
		}
		return BlockDevice{Source: file, Text: string(text)}, nil
	}
	if config != "" {
		return BlockDevice{Source: layoutVariable, Text: config}, nil
	}
	found, err := candidates(elements, p.Recipe.Arch)
	if err != nil {
		return BlockDevice{}, err
	}
	chosen := slices.IndexFunc(found, func(c layoutCandidate) bool { return c.provider })
	switch {
	case len(found) == 0:
		return BlockDevice{Source: "built-in layout", Text: blockdev.Fallback}, nil
	case chosen < 0 && len(found) > 1:
		return BlockDevice{}, &AmbiguousLayoutError{Files: sources(found)}
	case chosen < 0:
		chosen = 0
	}
	for i, c := range found {
		if i != chosen {
			p.Warnings = append(p.Warnings, fmt.Sprintf("disk layout %s of element %q is not used: element %q provides block-device", c.Source, c.Element, found[chosen].Element))
		}
	}
	return found[chosen].BlockDevice, nil
}

// AmbiguousLayoutError is a build whose elements bring more than one disk layout.
type AmbiguousLayoutError struct{ Files []string }

func (e *AmbiguousLayoutError) Error() string {
	return fmt.Sprintf("cannot choose disk layout: %s are equally good: leave out all but one element or set %s",
		strings.Join(e.Files, " and "), layoutVariable)
}

type layoutCandidate struct {
	BlockDevice
	provider bool
}

func sources(found []layoutCandidate) []string {
	var list []string
	for _, c := range found {
		list = append(list, c.Source)
	}
	return list
}

// candidates reads at most one layout of each element: the one for the
// architecture, else the default.
func candidates(elements []element.Element, arch string) ([]layoutCandidate, error) {
	var found []layoutCandidate
	for _, e := range elements {
		for _, name := range layoutFiles(arch) {
			text, err := fs.ReadFile(e.FS, name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("cannot read disk layout of element %q: %w", e.Name, err)
			}
			found = append(found, layoutCandidate{
				BlockDevice: BlockDevice{Source: path.Join(e.Dir, name), Element: e.Name, Text: string(text)},
				provider:    slices.Contains(e.Provides, element.BlockDevice),
			})
			break
		}
	}
	return found, nil
}

// archNames are the names under which elements may know an architecture, the
// given one first.
func archNames(arch string) []string {
	for _, pair := range [][2]string{{"amd64", "x86_64"}, {"arm64", "aarch64"}} {
		switch arch {
		case pair[0]:
			return []string{pair[0], pair[1]}
		case pair[1]:
			return []string{pair[1], pair[0]}
		}
	}
	if arch == "ppc64le" {
		return []string{"ppc64el"} // the only name that layouts use
	}
	return []string{arch}
}

func layoutFiles(arch string) []string {
	var names []string
	for _, a := range archNames(arch) {
		names = append(names, "block-device-"+a+".yaml")
	}
	return append(names, "block-device-default.yaml")
}
