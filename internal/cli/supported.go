package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/formats"
	"github.com/dib-builder/dib/internal/image/qcow2"
	"github.com/dib-builder/dib/internal/recipe"
	"github.com/dib-builder/dib/internal/similar"
)

// otherTypes are formats that DIB writes, itself or with qemu-img, and this
// version does not.
var otherTypes = []string{"tar", "tgz", "squashfs", "vhd", "docker", "aci",
	"vmdk", "vdi", "vhdx", "vpc", "qcow", "qed", "parallels", "luks"}

// supportedTypes are the output formats that a build can write.
func supportedTypes() []string {
	var names []string
	for _, f := range formats.All() {
		names = append(names, f.Name())
	}
	return names
}

// checkSupported refuses what DIB offers and this version does not, so that
// nothing that was asked for is silently left out.
func (r *reader) checkSupported(rec recipe.Recipe, host Host) {
	if rec.Ramdisk {
		r.problem("ramdisks are not supported yet; disk-image-create builds disk images")
	}
	r.checkTypes(rec.Types)
	r.checkChecksum(rec.Checksum)
	r.checkQemuImgOptions(rec.QemuImgOptions)
	if rec.DockerTarget != "" {
		r.problem("option --docker-target is not supported yet: docker images cannot be written")
	}
	if host.Arch != "" && canonicalArch(rec.Arch) != canonicalArch(host.Arch) {
		r.problem("cannot build for architecture %q (option -a or ARCH): this machine is %s, and foreign architectures are not supported yet", rec.Arch, host.Arch)
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
			r.problem("unknown output type %q (option -t)%s; supported: %s", t, didYouMean(t, slices.Concat(supported, otherTypes)), list)
		}
	}
}

func (r *reader) checkChecksum(value string) {
	if value == "" || value == "0" {
		return
	}
	if value != "1" {
		for _, word := range strings.Split(value, ",") {
			if word != "md5" && word != "sha256" {
				r.problem("cannot use DIB_CHECKSUM=%q: want 0, 1, md5, sha256 or md5,sha256", value)
				return
			}
		}
	}
	r.problem("option --checksum (DIB_CHECKSUM=%s) is not supported yet: run sha256sum on the finished image", value)
}

// checkQemuImgOptions checks against qcow2, the one format that has such
// options: a raw image is moved to its place, without qemu-img in DIB's case.
func (r *reader) checkQemuImgOptions(list string) {
	settings, err := image.ParseSettings(list)
	if err == nil {
		err = qcow2.Format{}.Check(image.Options{Settings: settings}, 0)
	}
	if err != nil {
		r.problem("option --qemu-img-options: %w", err)
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
