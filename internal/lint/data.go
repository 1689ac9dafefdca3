package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/distro"
	"github.com/dib-builder/dib/internal/finding"
	"github.com/dib-builder/dib/internal/hook"
	"github.com/dib-builder/dib/internal/intarget/pkglist"
	"github.com/dib-builder/dib/internal/intarget/pkgmap"
	"github.com/dib-builder/dib/internal/intarget/svcmap"
)

// phaseDir matches the directories of hooks.
var phaseDir = regexp.MustCompile(`^(root|extra-data|pre-install|install|post-install|post-root|block-device|pre-finalise|finalise|cleanup)\.d$`)

var hookName = regexp.MustCompile(hook.DefaultNames)

// inElement splits the path of a file into the directory of the element that
// it belongs to, functional tests being elements too, and the path in there.
func inElement(p string) (dir, rest string) {
	dir, rest, _ = strings.Cut(p, "/")
	if below, ok := strings.CutPrefix(rest, "test-elements/"); ok {
		if test, inside, ok := strings.Cut(below, "/"); ok {
			return dir + "/test-elements/" + test, inside
		}
	}
	return dir, rest
}

// data makes the checks of what is read by programs rather than run.
func (l *linter) data(f *file) {
	base := f.base()
	if path.Ext(base) == ".md" {
		l.report(f, 0, checkMarkdown, "documentation is written as reStructuredText (.rst), not Markdown")
	}
	parsed := true
	if path.Ext(base) == ".yaml" {
		parsed = l.yaml(f)
	}
	if base == "pkg-map" && !f.executable {
		l.pkgMap(f)
	}
	_, rest := inElement(f.path)
	dir, name, nested := strings.Cut(rest, "/")
	switch {
	case nested && phaseDir.MatchString(dir) && !strings.Contains(name, "/"):
		if f.executable && !hookName.MatchString(name) {
			l.report(f, 0, checkHookName, "no hook has a name like this (%s): it would never run", hook.DefaultNames)
		}
	case nested || !parsed:
	case rest == "package-installs.yaml" || rest == "package-installs.json":
		l.packageInstalls(f)
	case rest == "svc-map":
		l.svcMap(f)
	case strings.HasPrefix(rest, "block-device-") && strings.HasSuffix(rest, ".yaml"):
		_, err := blockdev.Parse(f.name(), f.data)
		l.reportList(f, checkBlockDevice, err)
	}
}

// yaml wants every document of the file to parse.
func (l *linter) yaml(f *file) bool {
	decoder := yaml.NewDecoder(bytes.NewReader(f.data))
	for {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			line, message := position("", strings.TrimPrefix(err.Error(), "yaml: "))
			l.report(f, line, checkYAML, "not YAML: %s", message)
			return false
		}
	}
}

var (
	atFileLine = regexp.MustCompile(`^:(\d+)(?::\d+)?: `)
	atLine     = regexp.MustCompile(`^line (\d+): `)
)

// position splits the place off a message that begins with it, as "FILE:LINE: "
// or "line LINE: ".
func position(name, message string) (line int, rest string) {
	for _, place := range []*regexp.Regexp{atFileLine, atLine} {
		text := message
		if place == atFileLine {
			text = strings.TrimPrefix(message, name)
		}
		if m := place.FindStringSubmatch(text); m != nil {
			line, _ = strconv.Atoi(m[1])
			return line, text[len(m[0]):]
		}
	}
	return 0, message
}

func (l *linter) packageInstalls(f *file) {
	_, warnings, err := pkglist.Parse(f.name(), "", f.data)
	l.reportList(f, checkPackageInstalls, warnings.Err())
	l.reportList(f, checkPackageInstalls, err)
}

// reportList reports what another package has found.
func (l *linter) reportList(f *file, check string, err error) {
	var list finding.List
	switch {
	case err == nil:
	case errors.As(err, &list):
		for _, one := range list {
			l.report(f, one.Pos.Line, check, "%s", one.Message)
		}
	default:
		l.report(f, 0, check, "%v", err)
	}
}

// pkgMap wants JSON, and in it nothing that no build would ever look at.
func (l *linter) pkgMap(f *file) {
	m, err := pkgmap.Parse(f.name(), f.data)
	if err != nil {
		line, message := position(f.name(), err.Error())
		check := checkPkgMapSchema
		if !json.Valid(f.data) {
			check = checkPkgMap
		}
		l.report(f, line, check, "%s", message)
		return
	}
	var sections map[string]json.RawMessage
	if err := json.Unmarshal(f.data, &sections); err != nil {
		l.report(f, 0, checkPkgMapSchema, "want an object with default, family, distro and release")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		if !slices.Contains([]string{"default", "family", "distro", "release"}, name) {
			l.report(f, lineOf(f, name), checkPkgMapSchema, "nothing reads section %q; known are default, family, distro, release", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Family)) {
		if known := distro.Families(); !slices.Contains(known, name) {
			l.report(f, lineOf(f, name), checkPkgMapSchema, "no distribution is of the family %q; known are %s", name, strings.Join(known, ", "))
		}
	}
}

// lineOf finds the line where a key of a JSON file stands, 0 if it is written
// in a way that a plain search does not find.
func lineOf(f *file, key string) int {
	quoted, err := json.Marshal(key)
	if err != nil {
		return 0
	}
	return slices.IndexFunc(f.lines, func(line string) bool { return strings.Contains(line, string(quoted)) }) + 1
}

// svcMap wants what the build can read.
func (l *linter) svcMap(f *file) {
	if _, err := svcmap.Parse(f.name(), f.data); err != nil {
		line, message := position(f.name(), err.Error())
		l.report(f, line, checkSvcMap, "%s", message)
	}
}
