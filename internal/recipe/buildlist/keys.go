package buildlist

import (
	"slices"
	"strings"
)

// kind is the type of a key's value.
type kind uint8

const (
	kindText     kind = iota
	kindChoice        // a text of a closed list
	kindFlag          // a boolean
	kindLevel         // a small integer
	kindInteger       // 1 or more
	kindNumber        // more than 0, decimals allowed
	kindTextList      // texts, of a closed list if there are choices
	kindTextMap       // texts by name
)

// maxNumber is what any number may be at most: fifteen digits, as on the
// command line.
const maxNumber = 999_999_999_999_999

// key is one key of an entry. Validation, the JSON Schema, the help text and
// the arguments all come from the table of keys, so that they cannot disagree.
type key struct {
	name    string
	kind    kind
	option  string   // of the command line; empty for those with a meaning of their own
	unit    string   // of a number
	max     int64    // of a level
	choices []string // of a choice, or of the items of a list
	help    string
	also    []string // what people may write instead, for suggestions
}

// The keys with a meaning of their own.
const (
	keyName    = "imagename"
	keyEnv     = "environment"
	keyRamdisk = "ramdisk"
	keyClear   = "clear"
	keyTypes   = "types"
	keyTrace   = "debug-trace"
	keyDetails = "qemu-img-options"
	keyList    = "elements"
)

// dibTypes are the output formats that DIB lists.
var dibTypes = []string{"qcow2", "tar", "tgz", "squashfs", "vhd", "docker", "aci", "raw"}

// keys is in the order in which their arguments stand on the command line.
var keys = []key{
	{name: keyName, kind: kindText, option: "-o", also: []string{"name", "output", "image"},
		help: "path of the image without its extension; entries of one name are one image"},
	{name: "arch", kind: kindChoice, option: "-a", also: []string{"architecture"},
		choices: []string{"aarch64", "amd64", "arm64", "armhf", "powerpc", "ppc64", "ppc64el", "ppc64le", "s390x", "x86_64"},
		help:    "architecture of the image"},
	{name: keyTypes, kind: kindTextList, option: "-t", choices: dibTypes, also: []string{"type", "format", "formats"},
		help: "output formats"},
	{name: keyEnv, kind: kindTextMap, also: []string{"env", "variables"},
		help: "environment variables of the build, on top of those of the caller"},
	{name: keyRamdisk, kind: kindFlag,
		help: "build a ramdisk with ramdisk-image-create instead of a disk image"},
	{name: keyTrace, kind: kindLevel, max: 2, option: "-x", also: []string{"trace", "debug"},
		help: "trace hooks (1), and helpers too (2)"},
	{name: "uncompressed", kind: kindFlag, option: "-u",
		help: "do not compress qcow2 images"},
	{name: keyClear, kind: kindFlag, option: "-c",
		help: "build with an empty environment; this drops the variables of \"environment\" too"},
	{name: "logfile", kind: kindText, option: "--logfile", also: []string{"log-file", "log"},
		help: "append the log to this file and print nothing, unless DIB_QUIET=0"},
	{name: "checksum", kind: kindFlag, option: "--checksum",
		help: "write checksum files beside the image"},
	{name: "image-size", kind: kindNumber, unit: "GiB", option: "--image-size", also: []string{"size"},
		help: "size of the image in GiB"},
	{name: "image-extra-size", kind: kindNumber, unit: "MiB", option: "--image-extra-size",
		help: "free space in MiB, instead of growing in proportion"},
	{name: "image-cache", kind: kindText, option: "--image-cache", also: []string{"cache"},
		help: "directory for downloads"},
	{name: "max-online-resize", kind: kindInteger, unit: "blocks", option: "--max-online-resize",
		help: "largest size in blocks that an ext root can grow to while mounted"},
	{name: "min-tmpfs", kind: kindInteger, unit: "GiB", option: "--min-tmpfs",
		help: "memory in GiB needed to build in a tmpfs"},
	{name: "mkfs-journal-size", kind: kindInteger, unit: "MiB", option: "--mkfs-journal-size", also: []string{"journal-size"},
		help: "size of the ext4 journal in MiB"},
	{name: "mkfs-options", kind: kindText, option: "--mkfs-options",
		help: "more options for making the root filesystem"},
	{name: "no-tmpfs", kind: kindFlag, option: "--no-tmpfs",
		help: "never build in a tmpfs"},
	{name: "offline", kind: kindFlag, option: "--offline",
		help: "use cached downloads only"},
	{name: keyDetails, kind: kindTextMap, option: "--qemu-img-options",
		help: "details of qcow2 images, such as compat: \"0.10\""},
	{name: "root-label", kind: kindText, option: "--root-label", also: []string{"label"},
		help: "label of the root filesystem"},
	{name: "ramdisk-element", kind: kindText, option: "--ramdisk-element",
		help: "main element of a ramdisk"},
	{name: "install-type", kind: kindChoice, option: "--install-type", choices: []string{"source", "package"},
		help: "how elements install software"},
	{name: "docker-target", kind: kindText, option: "--docker-target",
		help: "name and tag of a docker image"},
	{name: "packages", kind: kindTextList, option: "-p",
		help: "packages to install after the install phase"},
	{name: "skip-base", kind: kindFlag, option: "-n",
		help: "do not add the element base"},
	{name: keyList, kind: kindTextList, also: []string{"element"},
		help: "elements of the image"},
}

// keyTable is the table of keys, with output formats besides those of DIB.
func keyTable(types []string) []key {
	table := slices.Clone(keys)
	for i := range table {
		if table[i].name == keyTypes {
			for _, t := range types {
				if !slices.Contains(table[i].choices, t) {
					table[i].choices = append(slices.Clip(table[i].choices), t)
				}
			}
		}
	}
	return table
}

func find(table []key, name string) (key, bool) {
	at := slices.IndexFunc(table, func(k key) bool { return k.name == name })
	if at < 0 {
		return key{}, false
	}
	return table[at], true
}

// wants completes "key ... wants".
func (k key) wants() string {
	switch k.kind {
	case kindChoice:
		return "one of " + strings.Join(k.choices, ", ")
	case kindFlag:
		return "true or false"
	case kindLevel:
		return "0, 1 or 2"
	case kindInteger:
		return "a whole number of " + k.unit + ", 1 or more"
	case kindNumber:
		return "a number of " + k.unit + " above 0"
	case kindTextList:
		if len(k.choices) > 0 {
			return "a list of " + strings.Join(k.choices, ", ")
		}
		return "a list of strings"
	case kindTextMap:
		return "a mapping of names to strings"
	}
	return "a string"
}

// Help describes every key: its name, underlined, what it is for and what it
// wants. types are the output formats besides those of DIB.
func Help(types []string) string {
	var b strings.Builder
	for i, k := range keyTable(types) {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(k.name + "\n" + strings.Repeat("-", len(k.name)) + "\n")
		b.WriteString(strings.ToUpper(k.help[:1]) + k.help[1:] + ".\n(" + k.wants() + ")\n")
	}
	return b.String()
}
