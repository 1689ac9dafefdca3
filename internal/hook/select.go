package hook

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// DefaultNames is what hook names must match unless RUN_PARTS_REGEX says
// otherwise: no dots, so that backups and files with a suffix never run.
const DefaultNames = `^[0-9A-Za-z_-]+$`

// environmentNames is what names of environment files must match. Hidden files
// match it but are left out all the same: nobody means a .gitignore to be sourced.
var environmentNames = regexp.MustCompile(`^[0-9A-Za-z_-][0-9A-Za-z_.-]*$`)

// Ignored is a file beside the hooks of a phase that will not run.
type Ignored struct {
	Name   string
	Reason string
	Cure   string
}

// Warning is the line that tells the user about it.
func (i Ignored) Warning(dir string) string {
	return fmt.Sprintf("%s/%s %s: it will not run: %s", strings.TrimSuffix(dir, "/"), i.Name, i.Reason, i.Cure)
}

// Names compiles the pattern for hook names; "" is DefaultNames.
func Names(pattern string) (*regexp.Regexp, error) {
	if pattern == "" {
		pattern = DefaultNames
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("cannot use RUN_PARTS_REGEX %q: %w", pattern, err)
	}
	return re, nil
}

// candidate is an entry of a phase's directory, links followed.
type candidate struct {
	name                          string
	dangling, regular, executable bool
}

func pick(candidates []candidate, names *regexp.Regexp) (hooks []string, ignored []Ignored) {
	for _, c := range candidates {
		reason, cure := "", ""
		switch {
		case c.dangling:
			reason, cure = "is a dangling link", "correct or remove it"
		case !c.regular:
			continue // directories hold variants and data
		case !names.MatchString(c.name):
			reason, cure = fmt.Sprintf("has a name that does not match %s", names), "rename it, or move it to another directory if it is no hook"
		case !c.executable:
			reason, cure = "is not executable", "chmod +x it, or move it to another directory if it is no hook"
		default:
			hooks = append(hooks, c.name)
			continue
		}
		// Hidden files and version 1 package lists are no hooks by design.
		if !strings.HasPrefix(c.name, ".") && !strings.HasPrefix(c.name, "package-installs-") {
			ignored = append(ignored, Ignored{c.name, reason, cure})
		}
	}
	slices.SortFunc(hooks, Compare)
	slices.SortFunc(ignored, func(a, b Ignored) int { return strings.Compare(a.Name, b.Name) })
	return hooks, ignored
}

// Select finds the hooks of a directory, in the order in which they run, and
// what lies beside them and will not run: hooks are regular files or links to
// them that this process may execute and whose names match the pattern
// ("" for DefaultNames).
func Select(dir, pattern string) (hooks []string, ignored []Ignored, err error) {
	names, err := Names(pattern)
	if err != nil {
		return nil, nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot list hooks: %w", err)
	}
	candidates := make([]candidate, len(entries))
	for i, entry := range entries {
		full := filepath.Join(dir, entry.Name())
		st, err := os.Stat(full)
		candidates[i] = candidate{
			name:       entry.Name(),
			dangling:   errors.Is(err, fs.ErrNotExist),
			regular:    err == nil && st.Mode().IsRegular(),
			executable: err == nil && unix.Access(full, unix.X_OK) == nil,
		}
	}
	hooks, ignored = pick(candidates, names)
	return hooks, ignored, nil
}

// Select is like the function of that name, for a first-level directory of the
// tree such as "install.d". A directory that is not there has no hooks.
func (t *Tree) Select(dir, pattern string) (hooks []string, ignored []Ignored, err error) {
	names, err := Names(pattern)
	if err != nil {
		return nil, nil, err
	}
	var candidates []candidate
	for _, name := range t.list(dir) {
		n, err := t.follow(dir + "/" + name)
		c := candidate{name: name, dangling: errors.Is(err, fs.ErrNotExist), regular: err == nil && n.mode.IsRegular()}
		if c.regular {
			if c.executable, err = n.executable(); err != nil {
				return nil, nil, fmt.Errorf("cannot read %s: %w", n.where(), err)
			}
		}
		candidates = append(candidates, c)
	}
	hooks, ignored = pick(candidates, names)
	return hooks, ignored, nil
}

// list returns the names directly in a directory of the tree, in byte order.
func (t *Tree) list(dir string) []string {
	var names []string
	for p := range t.nodes {
		if name, ok := strings.CutPrefix(p, dir+"/"); ok && !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// EnvironmentFiles lists the files of an environment.d directory that are
// sourced, in byte order of their names: not numerically, as hooks are, because
// elements have come to rely on it ("100-x" comes before "20-y"). They need not
// be executable. A directory that does not exist has none.
func EnvironmentFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list environment files: %w", err)
	}
	var names []string
	for _, entry := range entries {
		st, err := os.Stat(filepath.Join(dir, entry.Name()))
		if err == nil && st.Mode().IsRegular() && environmentNames.MatchString(entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// EnvironmentFiles is like the function of that name, for the tree.
func (t *Tree) EnvironmentFiles() []string {
	var names []string
	for _, name := range t.list(EnvironmentDir) {
		n, err := t.follow(EnvironmentDir + "/" + name)
		if err == nil && n.mode.IsRegular() && environmentNames.MatchString(name) {
			names = append(names, name)
		}
	}
	return names
}
