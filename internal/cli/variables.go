package cli

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/recipe"
	"github.com/dib-builder/dib/internal/secret"
)

// variables are the shell variables of a build. Options and defaults are
// defined as assignments to them, and whether hooks see an assignment depends
// on its being exported, by the option or by the caller.
type variables struct {
	value    map[string]string
	exported map[string]bool
}

// newVariables imports an environment.
func newVariables(env map[string]string) *variables {
	v := &variables{value: maps.Clone(env), exported: map[string]bool{}}
	if v.value == nil {
		v.value = map[string]string{}
	}
	for name := range env {
		v.exported[name] = true
	}
	return v
}

// set assigns; the variable is exported if it was before.
func (v *variables) set(name, value string) { v.value[name] = value }

// export assigns and exports.
func (v *variables) export(name, value string) {
	v.value[name] = value
	v.exported[name] = true
}

// exportDefault exports name, with value if it was unset or empty.
func (v *variables) exportDefault(name, value string) {
	if v.value[name] != "" {
		value = v.value[name]
	}
	v.export(name, value)
}

func (v *variables) unset(names ...string) {
	for _, name := range names {
		delete(v.value, name)
		delete(v.exported, name)
	}
}

// environment returns what child processes inherit.
func (v *variables) environment() map[string]string {
	env := map[string]string{}
	for name := range v.exported {
		env[name] = v.value[name]
	}
	return env
}

// kept are the variables that survive -c: who the caller is and where programs
// and terminals are found.
var kept = []string{"PATH", "HOME", "USER", "LOGNAME", "TERM"}

// clearedEnv is what -c leaves of an environment.
func clearedEnv(env map[string]string) map[string]string {
	left := map[string]string{}
	for _, name := range kept {
		if value, ok := env[name]; ok {
			left[name] = value
		}
	}
	return left
}

// assignStart assigns what holds before the first option is looked at.
func (v *variables) assignStart(args []string) {
	// Output of the core itself, or inputs that exist as options only.
	v.unset("_LIB", "IMAGE_BLOCK_DEVICE", varTypes, varPackages, varSecrets, "LOGFILE", "DOCKER_TARGET")
	if v.exported["COMPRESS_IMAGE"] {
		v.set("COMPRESS_IMAGE", "true")
	}
	v.export("LC_ALL", "C")
	v.exportDefault("DIB_PYTHON_EXEC", "python3")
	// Elements keep these two in the image and beside it (D21, M54).
	redactor := secret.NewRedactor(v.environment())
	v.export("DIB_ARGS", redactor.Arguments(args))
	v.export("DIB_ENV", declarations(redactor.Env(v.environment())))
}

// assignDefaults assigns what neither the environment nor an option gave.
func (v *variables) assignDefaults(name string, host Host) error {
	if name == ramdiskCommand {
		// A ramdisk is put together inside the image, in memory again: that
		// would be needed twice (D72).
		v.exportDefault("DIB_NO_TMPFS", "1")
		v.exportDefault("DIB_MIN_TMPFS", "1")
		v.exportDefault("RAMDISK_ELEMENT", "ramdisk")
	}
	v.exportDefault("ARCH", host.Arch)
	v.exportDefault("IMAGE_NAME", "image")
	v.exportDefault("IMAGE_TYPE", "qcow2")
	v.exportDefault("FS_TYPE", "ext4")
	v.exportDefault("DIB_DEBUG_TRACE", "0")
	v.exportDefault("DIB_CHECKSUM", "0")
	v.exportDefault("DIB_NO_TMPFS", "0")
	v.exportDefault("DIB_MIN_TMPFS", "2")
	v.exportDefault("DIB_OFFLINE", "")
	v.exportDefault("DIB_DEFAULT_INSTALLTYPE", "source")
	v.export("PATH", withSystemDirs(v.value["PATH"]))
	if err := v.exportDir("DIB_IMAGE_CACHE", ".cache/image-create", host); err != nil {
		return fmt.Errorf("%w; set HOME or give --image-cache", err)
	}
	if err := v.exportDir("DIB_LOCKFILES", ".cache/dib/lockfiles", host); err != nil {
		return fmt.Errorf("%w; set HOME or DIB_LOCKFILES", err)
	}
	return nil
}

// exportDir makes a directory variable absolute, by default a place in the
// home directory.
func (v *variables) exportDir(name, inHome string, host Host) error {
	dir := v.value[name]
	switch {
	case dir == "" && host.Home == "":
		return fmt.Errorf("cannot choose %s: the home directory is unknown", name)
	case dir == "":
		dir = filepath.Join(host.Home, inHome)
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(host.Cwd, dir)
	}
	v.export(name, filepath.Clean(dir))
	return nil
}

// withSystemDirs appends to a PATH the directories of administration commands
// that it lacks: mkfs and its like are there, and users seldom have them.
func withSystemDirs(path string) string {
	if path == "" {
		return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	dirs := filepath.SplitList(path)
	for _, dir := range []string{"/sbin", "/usr/sbin", "/usr/local/sbin"} {
		if !slices.ContainsFunc(dirs, func(d string) bool { return filepath.Clean(d) == dir }) {
			path += ":" + dir
		}
	}
	return path
}

// declarations prints the variables whose names begin with DIB_ as bash prints
// exported variables, sorted by name, and a comment with the names of those
// that were left out: the value of DIB_ENV.
func declarations(env map[string]string, leftOut []string) string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if strings.HasPrefix(name, "DIB_") {
			lines = append(lines, "declare -x "+name+"="+bashQuote(env[name]))
		}
	}
	leftOut = slices.DeleteFunc(leftOut, func(name string) bool { return !strings.HasPrefix(name, "DIB_") })
	if comment := secret.LeftOutComment(leftOut); comment != "" {
		lines = append(lines, comment)
	}
	return strings.Join(lines, "\n")
}

// bashQuote prints a value as bash does in the output of "export": in double
// quotes, or as $'...' when there are control characters in it.
func bashQuote(value string) string {
	var b strings.Builder
	if strings.IndexFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0 {
		b.WriteByte('"')
		for i := range len(value) {
			if strings.IndexByte("\"$`\\", value[i]) >= 0 {
				b.WriteByte('\\')
			}
			b.WriteByte(value[i])
		}
		b.WriteByte('"')
		return b.String()
	}
	b.WriteString("$'")
	for i := range len(value) {
		switch c := value[i]; {
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\%03o`, c)
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// reader turns variables into fields of a recipe and collects what is wrong
// with them, so that all mistakes are told at once.
type reader struct {
	vars     *variables
	problems []error
}

func (r *reader) problem(format string, a ...any) {
	r.problems = append(r.problems, fmt.Errorf(format, a...))
}

// number returns the named variable if it is unset or a number of its kind.
func (r *reader) number(name, option string, kind numberKind) string {
	value := r.vars.value[name]
	if value != "" && !kind.matches(value) {
		r.problem("cannot use %s=%q (option %s): want %s", name, value, option, kind.want)
	}
	return value
}

// assignSizes reads the numbers that say how large things are.
func (r *reader) assignSizes(rec *recipe.Recipe) {
	rec.ImageSizeGiB = r.number("DIB_IMAGE_SIZE", "--image-size", positiveDecimal("GiB"))
	rec.ExtraSizeMiB = r.number("DIB_IMAGE_EXTRA_SIZE", "--image-extra-size", decimal("MiB"))
	rec.JournalSizeMiB = r.number("DIB_JOURNAL_SIZE", "--mkfs-journal-size", positiveInteger("MiB"))
	rec.MaxOnline = r.number("MAX_ONLINE_RESIZE", "--max-online-resize", positiveInteger("blocks"))
	rec.MinTmpfs = atoi(r.number("DIB_MIN_TMPFS", "--min-tmpfs", integer("GiB")))
	rec.Trace = atoi(r.number("DIB_DEBUG_TRACE", "-x", integer("a trace level")))
}
