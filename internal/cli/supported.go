package cli

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/recipe"
)

// supportedTypes are the output formats that a build can write.
var supportedTypes = []string{"qcow2", "raw"}

// otherTypes are formats that DIB writes, itself or with qemu-img, and this
// version does not.
var otherTypes = []string{"tar", "tgz", "squashfs", "vhd", "docker", "aci",
	"vmdk", "vdi", "vhdx", "vpc", "qcow", "qed", "parallels", "luks"}

// qcow2Options are the keys of --qemu-img-options that are honoured, and their
// values; anything else would change the output in a way we cannot follow.
var qcow2Options = map[string]*regexp.Regexp{
	"compat":           regexp.MustCompile(`^(0\.10|1\.1|v2|v3)$`),
	"cluster_size":     regexp.MustCompile(`^(512|1024|2048|4096|8192|16384|32768|65536|131072|262144|524288|1048576|2097152|0\.5[kK]|(1|2|4|8|16|32|64|128|256|512|1024|2048)[kK]|[12][mM])$`),
	"compression_type": regexp.MustCompile(`^zlib$`),
}

func qcow2Keys() []string { return slices.Sorted(maps.Keys(qcow2Options)) }

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
	case "", "auto", "offline":
	case "loop":
		r.problem("DIB_BLOCK_DEVICE_BACKEND=loop is not supported yet: leave it unset, images are written without loop devices")
	default:
		r.problem("cannot use DIB_BLOCK_DEVICE_BACKEND=%q: want auto or offline", backend)
	}
}

func (r *reader) checkTypes(types []string) {
	if len(types) == 0 {
		r.problem("option -t names no output type; supported: %s", strings.Join(supportedTypes, ", "))
	}
	for _, t := range types {
		switch {
		case slices.Contains(supportedTypes, t):
		case slices.Contains(otherTypes, t):
			r.problem("output type %q (option -t) is not supported yet; supported: %s", t, strings.Join(supportedTypes, ", "))
		default:
			r.problem("unknown output type %q (option -t)%s; supported: %s", t,
				didYouMean(t, slices.Concat(supportedTypes, otherTypes)), strings.Join(supportedTypes, ", "))
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

func (r *reader) checkQemuImgOptions(list string) {
	if list == "" {
		return
	}
	for _, word := range strings.Split(list, ",") {
		key, value, assigned := strings.Cut(word, "=")
		values, known := qcow2Options[key]
		switch {
		case !assigned || key == "":
			r.problem("cannot use option --qemu-img-options: %q is not of the form key=value", word)
		case !known:
			r.problem("key %q of option --qemu-img-options is not supported%s; supported: %s", key,
				didYouMean(key, qcow2Keys()), strings.Join(qcow2Keys(), ", "))
		case !values.MatchString(value):
			r.problem("value %q for key %q of option --qemu-img-options is not supported", value, key)
		}
	}
}

// canonicalArch maps the kernel's names of architectures to Debian's, so that
// both spellings of one architecture compare equal.
func canonicalArch(arch string) string {
	switch {
	case arch == "x86_64":
		return "amd64"
	case arch == "aarch64":
		return "arm64"
	case strings.HasPrefix(arch, "armv"):
		return "armhf"
	case arch == "ppc64le":
		return "ppc64el"
	}
	return arch
}
