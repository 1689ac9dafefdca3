package lint

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

var (
	bashShebang  = regexp.MustCompile(`^#!.*bash`)
	errexit      = regexp.MustCompile(`^set -[a-zA-Z]*e`)
	nounset      = regexp.MustCompile(`^set -[a-zA-Z]*u`)
	pipefail     = regexp.MustCompile(`^set (-\S+ )*-[a-zA-Z]*o pipefail`)
	exportOutput = regexp.MustCompile(`export .*\$\(`)
	trace        = regexp.MustCompile(`\bset -[a-wyzA-Z]*x`)
	// A command stands at the start of a line, after what separates commands,
	// and after words that take one.
	whichCommand = regexp.MustCompile("(^|[;&|(`{!]|\\b(if|elif|then|else|while|until|do|sudo|exec|env|xargs|command))\\s*which\\s")
)

// hostPhases are the directories of hooks that run on the build host, where a
// careless sudo changes the host. finalise.d is none of them: it runs in the
// image.
var hostPhases = []string{"root.d", "extra-data.d", "post-root.d", "block-device.d", "pre-finalise.d", "cleanup.d"}

var safeSudo = regexp.MustCompile(`install-packages|TARGET_ROOT|IMAGE_BLOCK_DEVICE|TMP_MOUNT_PATH|TMP_IMAGE_PATH`)

// contents makes the checks of files that are neither documentation, YAML nor
// Python modules.
func (l *linter) contents(f *file) {
	if strings.Contains(f.base(), "source-repository-") && len(f.data) > 0 && f.data[len(f.data)-1] != '\n' {
		l.report(f, len(f.lines), checkSourceRepository, "the file does not end in a newline")
	}
	if f.script() {
		l.script(f)
	}
	if f.base() == "element-deps" {
		l.depsOrder(f)
	}
	components := strings.Split(path.Dir(f.path), "/")
	environment := slices.Contains(components, "environment.d")
	if environment && f.executable {
		l.report(f, 0, checkEnvironment, "the file is executable; files of environment.d are sourced (chmod -x)")
	}
	host := slices.ContainsFunc(components, func(dir string) bool { return slices.Contains(hostPhases, dir) })
	for i, line := range f.lines {
		if comment := strings.HasPrefix(strings.TrimSpace(line), "#"); comment {
			continue
		}
		if environment && trace.MatchString(line) {
			l.report(f, i+1, checkEnvironment, "set -x in environment.d would show credentials in the log")
		}
		if exportOutput.MatchString(line) {
			l.report(f, i+1, checkExport, "export of the output of a command hides its failure; assign first, then export")
		}
		if host && strings.Contains(line, "sudo ") && !safeSudo.MatchString(line) && !marked(line, checkSudo) {
			l.report(f, i+1, checkSudo, `sudo on the build host: name TARGET_ROOT or another path of the build in the line, or mark it with "# dib-lint: safe_sudo"`)
		}
		if whichCommand.MatchString(line) && !marked(line, checkWhich) {
			l.report(f, i+1, checkWhich, "which need not be installed and fails without reason; use command -v or type -P")
		}
	}
}

// script makes the checks of files that start with #!.
func (l *linter) script(f *file) {
	first := f.firstLine()
	if !f.executable {
		l.report(f, 1, checkExecutable, "a script that is not executable (chmod +x)")
	}
	if strings.Contains(first, "python") {
		l.result.Python = append(l.result.Python, f.name())
	} else {
		for i, line := range f.lines {
			rest := strings.TrimLeft(line, " ")
			if n := len(line) - len(rest); n%4 != 0 && strings.TrimSpace(rest) != "" {
				l.report(f, i+1, checkIndent, "indented by %d spaces; want a multiple of 4", n)
			}
		}
	}
	if bashShebang.MatchString(first) && first != "#!/bin/bash" {
		l.report(f, 1, checkShell, "%q: want #!/bin/bash exactly", first)
	}
	if first != "#!/bin/bash" {
		return
	}
	for _, want := range []struct {
		check, what string
		line        *regexp.Regexp
	}{
		{checkSetE, "set -e", errexit},
		{checkSetU, "set -u", nounset},
		{checkPipefail, "set -o pipefail", pipefail},
	} {
		if !slices.ContainsFunc(f.lines, want.line.MatchString) {
			l.report(f, 0, want.check, "no line starts with %s", want.what)
		}
	}
	if !strings.Contains(string(f.data), "DIB_DEBUG_TRACE") {
		l.report(f, 0, checkTrace, "the script does not look at DIB_DEBUG_TRACE")
	}
}

// depsOrder wants the names sorted, as a user's sort would sort them: by bytes,
// or as languages do, where only letters and digits count.
func (l *linter) depsOrder(f *file) {
	var names []string
	for _, line := range f.lines {
		if trimmed := strings.TrimSpace(line); trimmed != "" && trimmed[0] != '#' {
			names = append(names, trimmed)
		}
	}
	letters := func(name string) string {
		return strings.Map(func(r rune) rune {
			if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
				return -1
			}
			return unicode.ToLower(r)
		}, name)
	}
	if !slices.IsSorted(names) && !slices.IsSortedFunc(names, func(a, b string) int { return strings.Compare(letters(a), letters(b)) }) {
		l.report(f, 0, checkDepsOrder, "the names are not sorted")
	}
}

// layout makes the checks of indentation and of the last line.
func (l *linter) layout(f *file) {
	if path.Ext(f.path) == ".go" {
		return // gofmt's business
	}
	for i, line := range f.lines {
		if indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]; strings.Contains(indent, "\t") {
			l.report(f, i+1, checkTab, "tab in the indentation")
		}
	}
	if n := len(f.data); f.lines != nil && n > 0 && f.data[n-1] != '\n' {
		l.report(f, len(f.lines), checkNewline, "the file does not end in a newline")
	}
}
