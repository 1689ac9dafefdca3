package cli

import (
	"fmt"
	"strings"

	"github.com/dib-builder/dib/internal/cli/getopt"
)

// createOption is one option of disk-image-create: how it is written and which
// variable it assigns.
type createOption struct {
	getopt.Option
	placeholder string // of its argument
	help        string

	variable string // assigned the argument, or value for an option without one
	value    string
	exported bool
	// apply replaces the assignment for the few options that accumulate.
	apply func(v *variables, arg string)
}

// Variables of the core that no environment sets and no hook sees.
const (
	varTypes    = "IMAGE_TYPES"
	varPackages = "INSTALL_PACKAGES"
	varSecrets  = "SECRET_FILES"
)

// createOptions is in the order in which help lists them. The long options
// marked Late came after the others: see getopt.Option.
var createOptions = []createOption{
	{Option: getopt.Option{Short: 'a', Arg: true}, placeholder: "ARCH", variable: "ARCH", exported: true,
		help: "architecture of the image (default: that of this machine)"},
	{Option: getopt.Option{Short: 'o', Arg: true}, placeholder: "NAME", variable: "IMAGE_NAME", exported: true,
		help: "path of the output without its extension (default: image)"},
	{Option: getopt.Option{Short: 't', Arg: true}, placeholder: "TYPE[,...]", variable: varTypes,
		help: "output formats: " + strings.Join(supportedTypes(), ", ") + " (default: qcow2)"},
	{Option: getopt.Option{Short: 'x'}, apply: func(v *variables, _ string) { v.export("DIB_DEBUG_TRACE", increment(v.value["DIB_DEBUG_TRACE"])) },
		help: "trace hooks; give it twice to trace helpers too"},
	{Option: getopt.Option{Short: 'u'}, variable: "COMPRESS_IMAGE", exported: true,
		help: "do not compress qcow2 output"},
	{Option: getopt.Option{Short: 'c'}, variable: "CLEAR_ENV", value: "1", exported: true,
		help: "start from an empty environment"},
	{Option: getopt.Option{Short: 'n'}, variable: "SKIP_BASE", value: "1", exported: true,
		help: "do not add the element base"},
	{Option: getopt.Option{Short: 'p', Arg: true}, placeholder: "PACKAGE[,...]",
		apply: func(v *variables, arg string) { v.set(varPackages, v.value[varPackages]+","+arg) },
		help:  "install packages after the install phase; may be repeated"},
	{Option: getopt.Option{Short: 'h', Long: "help"}, help: "show this text"},
	{Option: getopt.Option{Long: "version"}, help: "show the version"},
	{Option: getopt.Option{Long: "checksum"}, variable: "DIB_CHECKSUM", value: "1", exported: true,
		help: "write an .md5 and a .sha256 file beside every output"},
	{Option: getopt.Option{Long: "image-size", Arg: true}, placeholder: "GIB", variable: "DIB_IMAGE_SIZE", exported: true,
		help: "size of the image in GiB, decimals allowed (default: by content)"},
	{Option: getopt.Option{Long: "image-extra-size", Arg: true, Late: true}, placeholder: "MIB", variable: "DIB_IMAGE_EXTRA_SIZE", exported: true,
		help: "free space in MiB, instead of growing in proportion"},
	{Option: getopt.Option{Long: "image-cache", Arg: true}, placeholder: "DIR", variable: "DIB_IMAGE_CACHE", exported: true,
		help: "where downloads are kept (default: ~/.cache/image-create)"},
	{Option: getopt.Option{Long: "max-online-resize", Arg: true}, placeholder: "BLOCKS", variable: "MAX_ONLINE_RESIZE", exported: true,
		help: "largest size that an ext root can grow to while mounted"},
	{Option: getopt.Option{Long: "min-tmpfs", Arg: true}, placeholder: "GIB", variable: "DIB_MIN_TMPFS", exported: true,
		help: "memory in GiB needed to build in a tmpfs (default: 2)"},
	{Option: getopt.Option{Long: "mkfs-options", Arg: true}, placeholder: "OPTIONS", variable: "MKFS_OPTS",
		help: "more options for making the root filesystem"},
	{Option: getopt.Option{Long: "mkfs-journal-size", Arg: true, Late: true}, placeholder: "MIB", variable: "DIB_JOURNAL_SIZE", exported: true,
		help: "size of the ext4 journal in MiB (default: 64)"},
	{Option: getopt.Option{Long: "no-tmpfs"}, variable: "DIB_NO_TMPFS", value: "1", exported: true,
		help: "never build in a tmpfs"},
	{Option: getopt.Option{Long: "offline"}, variable: "DIB_OFFLINE", value: "1", exported: true,
		help: "use cached downloads only"},
	{Option: getopt.Option{Long: "qemu-img-options", Arg: true}, placeholder: "KEY=VALUE[,...]", variable: "QEMU_IMG_OPTIONS",
		help: "details of disk formats, such as compat=0.10 for qcow2"},
	{Option: getopt.Option{Long: "ramdisk-element", Arg: true}, placeholder: "ELEMENT", variable: "RAMDISK_ELEMENT",
		help: "main element of a ramdisk (default: ramdisk)"},
	{Option: getopt.Option{Long: "root-label", Arg: true}, placeholder: "LABEL", variable: "ROOT_LABEL",
		help: "label of the root filesystem (default: cloudimg-rootfs)"},
	{Option: getopt.Option{Long: "install-type", Arg: true}, placeholder: "TYPE", variable: "DIB_DEFAULT_INSTALLTYPE", exported: true,
		help: "how elements install software: source or package (default: source)"},
	{Option: getopt.Option{Long: "docker-target", Arg: true}, placeholder: "NAME[:TAG]", variable: "DOCKER_TARGET", exported: true,
		help: "name of the docker image (default: that of the output)"},
	{Option: getopt.Option{Long: "secret", Arg: true, Late: true}, placeholder: "NAME=FILE",
		apply: func(v *variables, arg string) { v.set(varSecrets, v.value[varSecrets]+arg+"\x00") },
		help:  "show hooks a file as $DIB_SECRETS_DIR/NAME, and nothing else; may be repeated"},
	{Option: getopt.Option{Long: "logfile", Arg: true}, placeholder: "FILE", variable: "LOGFILE", exported: true,
		help: "append the log to a file and print nothing, unless DIB_QUIET=0"},
}

// syntax is what the parser needs to know of the options.
func syntax(options []createOption) []getopt.Option {
	list := make([]getopt.Option, len(options))
	for i, o := range options {
		list[i] = o.Option
	}
	return list
}

// assign does what one option on the command line asks for.
func (o createOption) assign(v *variables, arg string) {
	value := o.value
	if o.Arg {
		value = arg
	}
	switch {
	case o.apply != nil:
		o.apply(v, arg)
	case o.variable == "": // help and version are acted on before
	case o.exported:
		v.export(o.variable, value)
	default:
		v.set(o.variable, value)
	}
}

// increment adds one to a trace level; what is not a number is left for the
// check of the result to report.
func increment(level string) string {
	if level == "" {
		return "1"
	}
	if !integerPattern.MatchString(level) {
		return level
	}
	return fmt.Sprint(atoi(level) + 1)
}

// createUsage is the help text of disk-image-create and ramdisk-image-create.
func createUsage(name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s [OPTION]... ELEMENT...\n\n", name)
	if name == ramdiskCommand {
		b.WriteString("Build a ramdisk and its kernel from elements.\n")
	} else {
		b.WriteString("Build a disk image from elements.\n")
	}
	b.WriteString("\nOptions, which may stand before, between and after elements:\n")
	for _, o := range createOptions {
		var forms []string
		if o.Short != 0 {
			forms = append(forms, "-"+string(rune(o.Short)))
		}
		if o.Long != "" {
			forms = append(forms, "--"+o.Long)
		}
		left := strings.Join(forms, ", ")
		if o.Arg {
			left += " " + o.placeholder
		}
		if len(left) > 27 {
			left += "\n  " + strings.Repeat(" ", 28)
		}
		fmt.Fprintf(&b, "  %-28s %s\n", left, o.help)
	}
	fmt.Fprintf(&b, `
Elements are looked up in the directories of ELEMENTS_PATH, then in the library
that comes with the program. Most options have a variable of the environment
as their default, such as DIB_IMAGE_SIZE or DIB_OFFLINE; DIB_QUIET,
DIB_NO_TIMESTAMP and DIB_PROGRESS=plain|live decide what is printed.

Exit status: 0 success, 1 wrong usage or a failed build, otherwise that of the
hook that failed; 128+N after signal N.

Example:
  %s -o mydebian -p vim debian-minimal vm
`, name)
	return b.String()
}
