package plan

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/disk/loop"
	"github.com/dib-builder/dib/internal/element"
	"github.com/dib-builder/dib/internal/hook"
	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/recipe"
)

// ErrNoElements is a recipe without elements.
var ErrNoElements = errors.New("cannot build an image: no elements given")

// Options are what a plan needs to know of the machine. Zero fields mean the
// machine itself; ValidateLayout is optional.
type Options struct {
	Dir      string                            // the caller's working directory
	ReadFile func(path string) ([]byte, error) // os.ReadFile
	// CheckOutput says whether a file can be created under the given absolute path.
	CheckOutput func(path string) error
	// CheckLoop says why disks cannot be made on loop devices here, nil if they can.
	CheckLoop func() error
	// Executable says whether the machine has a program under the given absolute path.
	Executable func(path string) error
	// ValidateLayout checks a block-device configuration; name says where it is from.
	ValidateLayout func(name string, text []byte) error
}

func (o Options) withDefaults() (Options, error) {
	if o.ReadFile == nil {
		o.ReadFile = os.ReadFile
	}
	if o.CheckOutput == nil {
		o.CheckOutput = checkOutput
	}
	if o.CheckLoop == nil {
		o.CheckLoop = loop.Available
	}
	if o.Executable == nil {
		o.Executable = executableFile
	}
	if o.Dir == "" {
		var err error
		if o.Dir, err = os.Getwd(); err != nil {
			return o, fmt.Errorf("cannot find working directory: %w", err)
		}
	}
	return o, nil
}

// Make plans a build. The error joins everything that was found wrong; see
// package element for the types of what it says of elements, and
// hook.ConflictError.
func Make(rec recipe.Recipe, lib *element.Library, opt Options) (*Plan, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	if len(rec.Elements) == 0 {
		return nil, ErrNoElements
	}
	resolved, err := lib.ResolveRequest(rec.Elements, element.RequestOptions{
		Arch: rec.Arch, SkipBase: rec.SkipBase, Ramdisk: rec.Ramdisk, RamdiskElement: rec.RamdiskElement,
	})
	if err != nil {
		return nil, err
	}
	elements := element.Elements(resolved)
	p := &Plan{
		Recipe:  rec,
		Env:     environment(rec, elements),
		Secrets: secretNames(rec),
		// A library's warnings are about all elements; the plan's are about these.
		Warnings: warningsAbout(lib.Warnings, resolved),
	}
	p.Env, p.SecretEnv = splitSecrets(p.Env)
	p.Recipe.Env = nil
	p.Recipe.Args = visibleArgs(rec)
	for _, r := range resolved {
		p.Elements = append(p.Elements, Element{
			Name: r.Name, Dir: r.Dir, Builtin: r.Builtin, Hides: hidden(lib.Warnings, r.Name), Reason: r.Reason, Deps: r.Deps, Provides: r.Provides,
		})
		if !r.IsDependency() {
			p.Requested = append(p.Requested, r.Name)
		}
	}
	p.Outputs = outputs(rec, p)

	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	note(checkArch(rec.Arch, elements))
	tree, err := hook.Assemble(elements)
	note(err)
	if err == nil {
		note(p.addHooks(tree, opt.Executable))
		note(p.chooseBackend(tree, opt.CheckLoop))
	}
	note(p.checkData(elements))
	note(p.chooseLayout(elements, opt))
	p.Outputs = append(p.Outputs, furtherDisks(p)...)
	note(distinct(p.Outputs))
	for _, file := range outputFiles(p) {
		if !filepath.IsAbs(file) {
			file = filepath.Join(opt.Dir, file)
		}
		note(opt.CheckOutput(file))
	}
	_, unknown := breaks(p.Env["break"])
	p.Warnings = append(p.Warnings, unknown...)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return p, nil
}

// environment adds to the recipe's environment what planning knows.
func environment(rec recipe.Recipe, elements []element.Element) Env {
	env := Env{}
	maps.Copy(env, rec.Env)
	// Hooks take these for set by the build; a caller's values would mislead them.
	for _, name := range []string{"TARGET_ROOT", "TMP_MOUNT_PATH", "IMAGE_BLOCK_DEVICE", "IMAGE_BLOCK_DEVICES"} {
		delete(env, name)
	}
	maps.Copy(env, Env{
		"_LIB":               place.LibDir,
		"ELEMENTS_PATH":      elementsPath(env["ELEMENTS_PATH"]),
		"IMAGE_ELEMENT":      element.ImageElement(elements),
		"IMAGE_ELEMENT_YAML": element.ImageElementYAML(elements),
		"TMP_BUILD_DIR":      place.BuildDir,
		"TMP_IMAGE_DIR":      place.ImageDir,
		"TMP_HOOKS_PATH":     place.HooksDir,
		"OUT_IMAGE_PATH":     "",

		functionVariable("die"):                 dieFunction,
		functionVariable(element.ArrayFunction): element.ArrayFunctionValue(elements),
	})
	if env["DIB_PYTHON_EXEC"] == "" {
		env["DIB_PYTHON_EXEC"] = "python3" // hooks of other elements run their scripts with it
	}
	return env
}

func elementsPath(path string) string {
	var entries []string
	for _, entry := range strings.Split(path, ":") {
		if entry != "" && filepath.Clean(entry) != place.ElementsDir {
			entries = append(entries, entry)
		}
	}
	return strings.Join(append(entries, place.ElementsDir), ":")
}

// functionVariable is the name under which bash finds an exported function.
func functionVariable(name string) string { return "BASH_FUNC_" + name + "%%" }

// dieFunction prints its arguments and exits with the status of the command
// before it, but never 0: "if ! command; then die ..." must not end well.
const dieFunction = `() {  local status=$?
 { set +x; } 2>/dev/null
 printf '%s\n' "$*"
 [ "$status" -ne 0 ] || status=1
 exit "$status"
}`

func warningsAbout(warnings []element.Override, resolved []element.Resolved) []string {
	var lines []string
	for _, w := range warnings {
		for _, r := range resolved {
			if r.Name == w.Name {
				lines = append(lines, w.String())
			}
		}
	}
	return lines
}

func hidden(warnings []element.Override, name string) []string {
	var dirs []string
	for _, w := range warnings {
		if w.Name == name {
			dirs = append(dirs, w.Hidden)
		}
	}
	return dirs
}

// suffix is the file name suffix of an output type, where it is not the type itself.
var suffix = map[string]string{"docker": "docker.tar", "gcp": "tar.gz", "oci": "oci.tar", "squashfs": "squash", "vhd-fixed": "vhd"}

// fromTree are the types that are made of files rather than of the disk.
var fromTree = map[string]bool{"aci": true, "cpio": true, "cpio.gz": true, "docker": true, "oci": true, "squashfs": true, "tar": true, "tar.zst": true, "tgz": true}

// outputs lists what a build leaves, each once, in the order in which it is
// made: what is made of files first, then disk images, raw last. A ramdisk
// build, or one with the element no-final-image, leaves no disk image.
func outputs(rec recipe.Recipe, p *Plan) []Output {
	var trees, disks, raw []Output
	noDisk := rec.Ramdisk || p.HasElement("no-final-image")
	for i, t := range rec.Types {
		if slices.Contains(rec.Types[:i], t) {
			continue
		}
		ext := t
		if s, ok := suffix[t]; ok {
			ext = s
		}
		out := Output{Type: t, Path: rec.ImageName + "." + ext, FromTree: fromTree[t]}
		switch {
		case out.FromTree:
			if t == "docker" || t == "oci" {
				out.Tag = rec.DockerTarget
			}
			trees = append(trees, out)
		case noDisk:
		case t == "raw":
			raw = append(raw, out)
		default:
			disks = append(disks, out)
		}
	}
	return slices.Concat(trees, disks, raw)
}

// furtherDisks lists the outputs that are made of disks beside the one with the
// root filesystem, in every format asked for: DIB loses these disks (BD-23).
func furtherDisks(p *Plan) []Output {
	config, err := blockdev.Parse(p.BlockDevice.Source, []byte(p.BlockDevice.Text))
	if err != nil {
		return nil // which choosing it has reported
	}
	var list []Output
	for _, disk := range config.FurtherDisks() {
		for _, out := range p.Outputs {
			if ext, ok := strings.CutPrefix(out.Path, p.Recipe.ImageName); ok && !out.FromTree {
				list = append(list, Output{Type: out.Type, Path: p.Recipe.ImageName + "-" + disk + ext, Disk: disk})
			}
		}
	}
	return list
}

// outputFiles are the paths that the build will write.
func outputFiles(p *Plan) []string {
	var paths []string
	for _, out := range p.Outputs {
		paths = append(paths, out.Path)
	}
	if p.Recipe.Ramdisk { // written by a hook of the ramdisk elements
		paths = append(paths, p.Recipe.ImageName+".initramfs", p.Recipe.ImageName+".kernel")
	}
	return paths
}

// distinct refuses outputs of one name.
func distinct(list []Output) error {
	for i, out := range list {
		if j := slices.IndexFunc(list[:i], func(o Output) bool { return o.Path == out.Path }); j >= 0 {
			return fmt.Errorf("cannot write output types %s and %s in one build: both would be %q", list[j].Type, out.Type, out.Path)
		}
	}
	return nil
}

func checkOutput(file string) error {
	dir := filepath.Dir(file)
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("cannot write image %q: directory %q does not exist: create it", file, dir)
	case err != nil:
		return fmt.Errorf("cannot write image %q: %w", file, err)
	case !st.IsDir():
		return fmt.Errorf("cannot write image %q: %q is not a directory", file, dir)
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("cannot write image %q: directory %q is not writable: %w: choose another place with -o", file, dir, err)
	}
	if st, err := os.Stat(file); err == nil && st.IsDir() {
		return fmt.Errorf("cannot write image %q: it is a directory", file)
	}
	return nil
}

// gates are the architectures that layouts of the embedded library exclude,
// with what to use instead. Their environment files say the same, but only
// when the first phase starts.
var gates = []struct {
	element, arches, instead string
}{
	{"block-device-mbr", " arm64 aarch64 ", "block-device-efi"},
	{"block-device-gpt", " arm64 aarch64 ", "block-device-efi"},
	{"block-device-efi", " ppc64 ppc64le ppc64el ", "block-device-gpt"},
	{"block-device-efi-4k", " ppc64 ppc64le ppc64el ", "block-device-gpt"},
	{"block-device-efi-lvm", " ppc64 ppc64le ppc64el ", "block-device-gpt"},
}

func checkArch(arch string, elements []element.Element) error {
	for _, e := range elements {
		for _, g := range gates {
			if e.Builtin && e.Name == g.element && strings.Contains(g.arches, " "+arch+" ") {
				return fmt.Errorf("cannot use element %q for architecture %s: use %s", e.Name, arch, g.instead)
			}
		}
	}
	return nil
}

// addHooks lists what runs, and refuses what cannot start.
func (p *Plan) addHooks(tree *hook.Tree, executable func(string) error) error {
	p.Warnings = append(p.Warnings, tree.Warnings...)
	for _, name := range tree.EnvironmentFiles() {
		p.Environment = append(p.Environment, Hook{name, tree.Owner(path.Join(hook.EnvironmentDir, name))})
	}
	var errs []error
	for _, phase := range phases {
		dir := phase.Name + ".d"
		names, ignored, err := tree.Select(dir, p.Env["RUN_PARTS_REGEX"])
		if err != nil {
			return err
		}
		for _, i := range ignored {
			p.Warnings = append(p.Warnings, fmt.Sprintf("element %q: %s", tree.Owner(path.Join(dir, i.Name)), i.Warning(dir)))
		}
		phase.Hooks = []Hook{}
		for _, name := range names {
			h := Hook{name, tree.Owner(path.Join(dir, name))}
			phase.Hooks = append(phase.Hooks, h)
			errs = append(errs, p.checkStart(tree, h, phase, executable))
		}
		p.Phases = append(p.Phases, phase)
	}
	return errors.Join(errs...)
}
