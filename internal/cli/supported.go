package cli

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/checksum"
	"github.com/dib-builder/dib/internal/image/formats"
	"github.com/dib-builder/dib/internal/image/tarball"
	"github.com/dib-builder/dib/internal/recipe"
	"github.com/dib-builder/dib/internal/similar"
)

// otherTypes are formats that DIB writes, itself or with qemu-img, and this
// version does not.
var otherTypes = []string{"vhdx", "qcow", "qed", "parallels", "luks"}

// supportedTypes are the output formats that a build can write.
func supportedTypes() []string { return formats.Names() }

// checkSupported refuses what DIB offers and this version does not, so that
// nothing that was asked for is silently left out.
func (r *reader) checkSupported(rec recipe.Recipe, host Host) {
	r.checkTypes(rec.Types)
	if _, err := checksum.Parse(rec.Checksum); err != nil {
		r.problem("%w", err)
	}
	r.checkQemuImgOptions(rec)
	if slices.Contains(rec.Types, "docker") || slices.Contains(rec.Types, "oci") {
		r.checkDockerTarget(rec)
	}
	if host.Arch != "" && canonicalArch(rec.Arch) != canonicalArch(host.Arch) {
		r.problem("cannot build for architecture %q (option -a or ARCH): this machine is %s, and foreign architectures are not supported yet%s", rec.Arch, host.Arch, didYouMean(rec.Arch, []string{host.Arch}))
	}
	switch backend := r.vars.value["DIB_BLOCK_DEVICE_BACKEND"]; backend {
	case "", "auto", "offline", "loop":
	default:
		r.problem("cannot use DIB_BLOCK_DEVICE_BACKEND=%q: want auto, offline or loop", backend)
	}
}

func (r *reader) checkTypes(types []string) {
	supported := supportedTypes()
	list := strings.Join(supported, ", ")
	if len(types) == 0 {
		r.problem("option -t names no output type; supported: %s", list)
	}
	for _, t := range types {
		switch {
		case slices.Contains(supported, t):
		case slices.Contains(otherTypes, t):
			r.problem("output type %q (option -t) is not supported yet; supported: %s", t, list)
		default:
			meant := didYouMean(t, supported)
			if meant == "" {
				meant = didYouMean(t, otherTypes)
			}
			r.problem("unknown output type %q (option -t)%s; supported: %s", t, meant, list)
		}
	}
}

// checkQemuImgOptions checks the settings against every format that gets them.
// Where no format asked for has any, they are checked against qcow2: DIB never
// runs qemu-img then, but a misspelt option is a mistake all the same.
func (r *reader) checkQemuImgOptions(rec recipe.Recipe) {
	list, err := image.ParseSettings(rec.QemuImgOptions)
	if err != nil {
		r.problem("option --qemu-img-options: %w", err)
		return
	}
	types := rec.Types
	withKeys := func(t string) bool {
		f, ok := formats.Lookup(t)
		return ok && len(f.Keys()) > 0
	}
	if !slices.ContainsFunc(types, withKeys) {
		types = []string{"qcow2"}
	}
	for _, t := range types {
		f, ok := formats.Lookup(t)
		if !ok {
			continue
		}
		if err := f.Check(image.Options{Settings: formats.Settings(list, t, types)}, 0); err != nil {
			r.problem("option --qemu-img-options: %w (options of %s: %s)", err, t, strings.Join(f.Keys(), ", "))
		}
	}
}

// dockerTarget is the name of a docker image: as given, else that of the image
// file, in lower case as names of images are.
func dockerTarget(given, imageName string) string {
	if given != "" {
		return given
	}
	return strings.ToLower(path.Base(imageName))
}

func (r *reader) checkDockerTarget(rec recipe.Recipe) {
	if _, err := tarball.ParseTag(rec.DockerTarget); err != nil {
		r.problem("cannot name the docker image: %w; give another name with --docker-target", err)
	}
}

// canonicalArch maps the kernel's names of architectures to Debian's, so that
// both spellings of one architecture compare equal.
func canonicalArch(arch string) string {
	if arch == "ppc64le" {
		return "ppc64el"
	}
	return archOfMachine(arch)
}

// didYouMean is ` (did you mean "x"?)` for the candidate that a misspelt word
// most likely stands for, or empty when none is near.
func didYouMean(word string, candidates []string) string {
	if near := similar.Words(word, candidates); len(near) > 0 {
		return fmt.Sprintf(" (did you mean %q?)", near[0])
	}
	return ""
}
