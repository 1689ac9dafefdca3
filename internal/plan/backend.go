package plan

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/hook"
)

// BackendVariable chooses how disks are made: "auto", "offline" or "loop".
const BackendVariable = "DIB_BLOCK_DEVICE_BACKEND"

// Backend is how disks are made.
type Backend string

const (
	// Offline writes filesystems straight into the image file, after the last hook.
	Offline Backend = "offline"
	// Loop attaches the image to a loop device and mounts its filesystems before
	// pre-finalise.d, so that hooks find them on $IMAGE_BLOCK_DEVICE. It takes root.
	Loop Backend = "loop"
)

// BlockDeviceHookError is a hook that needs what this build does not have.
type BlockDeviceHookError struct {
	Element string
	Hook    string // "finalise.d/50-name"
	Uses    string // what it uses, for instance "uses IMAGE_BLOCK_DEVICE"
	Why     error  // why it cannot have that
	Cure    string
}

func (e *BlockDeviceHookError) Error() string {
	return fmt.Sprintf("cannot run hook %s of element %q: it %s, and %v: %s", e.Hook, e.Element, e.Uses, e.Why, e.Cure)
}

func (e *BlockDeviceHookError) Unwrap() error { return e.Why }

// chooseBackend decides how disks are made, and refuses hooks that cannot work
// with that. Hooks of the embedded library work with both.
func (p *Plan) chooseBackend(tree *hook.Tree, checkLoop func() error) error {
	p.Backend = Offline
	users, makers, err := p.deviceHooks(tree)
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range makers {
		// DIB cannot finish such a build either (D40).
		h.Uses, h.Why = "makes the block device itself", errors.New("a build makes its block devices from the disk layout")
		h.Cure = "describe the disk with " + layoutVariable + " or a block-device element instead"
		errs = append(errs, h)
	}
	switch asked := p.Env[BackendVariable]; asked {
	case "", "auto":
		if len(users) == 0 {
			break
		}
		why := checkLoop()
		if why == nil {
			p.Backend = Loop
			break
		}
		for _, h := range users {
			h.Why, h.Cure = why, "build as root, use the built-in element, or leave the element out"
			errs = append(errs, h)
		}
	case string(Offline):
		for _, h := range users {
			h.Why, h.Cure = fmt.Errorf("%s=offline gives it none", BackendVariable), "set "+BackendVariable+"=auto, use the built-in element, or leave the element out"
			errs = append(errs, h)
		}
	case string(Loop):
		if why := checkLoop(); why != nil {
			return errors.Join(append(errs, fmt.Errorf("cannot use %s=loop: %w: build as root on a machine with loop devices, or set it to auto", BackendVariable, why))...)
		}
		p.Backend = Loop
	default:
		errs = append(errs, fmt.Errorf("cannot use %s=%s: want auto, offline or loop", BackendVariable, asked))
	}
	return errors.Join(errs...)
}

// deviceHooks finds the hooks of elements that are not embedded which use the
// image as a block device, and those which make it.
func (p *Plan) deviceHooks(tree *hook.Tree) (users, makers []*BlockDeviceHookError, err error) {
	for _, phase := range p.Phases {
		switch phase.Name {
		case "block-device", "pre-finalise", "finalise", "cleanup":
		default:
			continue
		}
		for _, h := range phase.Hooks {
			if slices.ContainsFunc(p.Elements, func(e Element) bool { return e.Name == h.Element && e.Builtin }) {
				continue
			}
			file := path.Join(phase.Name+".d", h.Name)
			content, err := tree.ReadFile(file)
			if err != nil {
				return nil, nil, fmt.Errorf("cannot read hook %s of element %q: %w", file, h.Element, err)
			}
			if !mentions(content, "IMAGE_BLOCK_DEVICE") {
				continue
			}
			found := &BlockDeviceHookError{Element: h.Element, Hook: file, Uses: "uses IMAGE_BLOCK_DEVICE"}
			if phase.Name == "block-device" {
				// Only a hook that sets the variable makes the device itself;
				// others look at the tree.
				makers = append(makers, found)
			} else {
				users = append(users, found)
			}
		}
	}
	return users, makers, nil
}

// mentions looks for a word outside comment lines.
func mentions(script []byte, word string) bool {
	for line := range strings.Lines(string(script)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "#") && strings.Contains(line, word) {
			return true
		}
	}
	return false
}
