package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/cli/getopt"
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/recipe"
	"github.com/dib-builder/dib/internal/secret"
)

const ramdiskCommand = "ramdisk-image-create"

var (
	// ErrHelp reports that the command line asks for the help text.
	ErrHelp = errors.New("help requested")
	// ErrVersion reports that the command line asks for the version.
	ErrVersion = errors.New("version requested")
)

// Host is what ParseCreate needs to know of the machine and the caller.
type Host struct {
	Env  map[string]string // the caller's environment
	Arch string            // the machine's architecture as Debian names it, for example amd64
	Cwd  string            // absolute; relative cache directories start here
	Home string            // absolute; empty if unknown
}

// ParseCreate turns a command line of disk-image-create (or, by that name,
// ramdisk-image-create) into a recipe. It returns ErrHelp or ErrVersion when
// the line asks for one of them, a *getopt.Error for wrong syntax, and
// otherwise an error that joins everything wrong with the values.
func ParseCreate(name string, args []string, host Host) (recipe.Recipe, error) {
	_, posix := host.Env["POSIXLY_CORRECT"]
	matches, words, err := getopt.Parse(syntax(createOptions), args, posix)
	if err != nil {
		return recipe.Recipe{}, err
	}
	for _, m := range matches {
		switch m.Option.Long {
		case "help":
			return recipe.Recipe{}, ErrHelp
		case "version":
			return recipe.Recipe{}, ErrVersion
		}
	}

	env := host.Env
	cleared := slices.ContainsFunc(matches, func(m getopt.Match) bool { return m.Option.Short == 'c' }) ||
		env["CLEAR_ENV"] == "1" && host.Home != ""
	if cleared {
		env = clearedEnv(env)
	}
	vars := newVariables(env)
	vars.assignStart(args)
	if cleared {
		vars.export("CLEAR_ENV", "1")
	}
	for _, m := range matches {
		at := slices.IndexFunc(createOptions, func(o createOption) bool { return o.Option == m.Option })
		createOptions[at].assign(vars, m.Value)
	}
	if err := vars.assignDefaults(name, host); err != nil {
		return recipe.Recipe{}, err
	}
	return readRecipe(name, args, words, vars, host)
}

// readRecipe makes a recipe of the variables and checks it.
func readRecipe(name string, args, words []string, vars *variables, host Host) (recipe.Recipe, error) {
	r := &reader{vars: vars}
	v := vars.value
	rec := recipe.Recipe{
		Ramdisk:        name == ramdiskCommand,
		Args:           slices.Concat([]string{}, args),
		Elements:       slices.Concat(strings.Fields(v["IMAGE_ELEMENT"]), strings.Fields(strings.Join(words, " "))),
		SkipBase:       v["SKIP_BASE"] == "1",
		Packages:       splitList(v[varPackages]),
		Arch:           v["ARCH"],
		Types:          []string{"qcow2"},
		Compress:       !vars.exported["COMPRESS_IMAGE"] || v["COMPRESS_IMAGE"] != "",
		ClearEnv:       v["CLEAR_ENV"] == "1",
		Offline:        v["DIB_OFFLINE"] != "",
		LogFile:        v["LOGFILE"],
		Checksum:       v["DIB_CHECKSUM"],
		MkfsOptions:    v["MKFS_OPTS"],
		QemuImgOptions: v["QEMU_IMG_OPTIONS"],
		RootLabel:      v["ROOT_LABEL"],
		FSType:         v["FS_TYPE"],
		InstallType:    v["DIB_DEFAULT_INSTALLTYPE"],
		DockerTarget:   v["DOCKER_TARGET"],
		ImageCache:     v["DIB_IMAGE_CACHE"],
		Lockfiles:      v["DIB_LOCKFILES"],
		NoTmpfs:        v["DIB_NO_TMPFS"] != "0",
	}
	if rec.Ramdisk {
		rec.RamdiskElement = v["RAMDISK_ELEMENT"]
	}
	if types, given := v[varTypes]; given {
		rec.Types = splitList(types)
	}
	rec.ImageName = stripSuffix(v["IMAGE_NAME"], rec.Types)
	vars.export("IMAGE_NAME", rec.ImageName)
	if slices.Contains(rec.Types, "docker") || slices.Contains(rec.Types, "oci") {
		rec.DockerTarget = dockerTarget(rec.DockerTarget, rec.ImageName)
	}
	r.assignSizes(&rec)
	r.assignSecrets(&rec, host)
	if len(rec.Elements) == 0 {
		r.problem("cannot build: no elements given; name at least one operating-system element, for example: %s debian-minimal vm", name)
	}
	r.checkSupported(rec, host)
	if err := errors.Join(r.problems...); err != nil {
		return recipe.Recipe{}, err
	}
	rec.Env = vars.environment()
	return rec, nil
}

// splitList splits a list at commas and blanks, without empty words and
// repetitions.
func splitList(list string) []string {
	var words []string
	for _, w := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }) {
		if !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	return words
}

// stripSuffix removes one extension that repeats the only output format, so
// that "-o a.qcow2" does not end as a.qcow2.qcow2. With several formats the
// extension is taken as part of the name.
func stripSuffix(name string, types []string) string {
	if len(types) != 1 {
		return name
	}
	return strings.TrimSuffix(name, "."+types[0])
}

// createCommand is disk-image-create or, by that name, ramdisk-image-create.
func (p Program) createCommand(name string) command.Func {
	return func(ctx context.Context, std command.IO, args []string) int {
		host, err := hostFacts(ctx, std)
		if err != nil {
			complain(std.Err, name, err)
			return 1
		}
		rec, err := ParseCreate(name, args, host)
		switch {
		case errors.Is(err, ErrHelp):
			_, _ = io.WriteString(std.Out, createUsage(name))
			return 0
		case errors.Is(err, ErrVersion):
			_, _ = fmt.Fprintln(std.Out, recipe.CompatVersion)
			return 0
		case err != nil:
			complain(std.Err, name, err)
			return 1
		}
		for _, dir := range []string{rec.ImageCache, rec.Lockfiles} {
			if err := os.MkdirAll(dir, 0o777); err != nil {
				complain(std.Err, name, fmt.Errorf("cannot create cache directory: %w", err))
				return 1
			}
		}
		return p.Create(ctx, std, rec)
	}
}

// complain prints an error, every line of it with the name of the command as
// the C library's getopt does.
func complain(w io.Writer, name string, err error) {
	lines := strings.Split(err.Error(), "\n")
	var syntax *getopt.Error
	if errors.As(err, &syntax) {
		lines = syntax.Messages
	}
	for _, line := range lines {
		_, _ = fmt.Fprintf(w, "%s: %s\n", name, secret.MaskAssignments(line))
	}
}
