package apt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/dib-builder/dib/internal/bootstrap/debian/archive"
	"github.com/dib-builder/dib/internal/command"
)

// MirrorsFile is the file in the hooks directory that names the mirrors of the build.
const MirrorsFile = ".apt-mirrors"

// swappedFile is the same inside the tree, for as long as its sources name the
// mirrors: it travels with the tree when a later build takes that from its cache.
const swappedFile = "etc/apt/.dib-mirrors"

// mirrorState is the content of both files.
type mirrorState struct {
	Mirrors archive.Mirrors `json:"mirrors"`         // official address -> mirror of the build
	Files   []string        `json:"files,omitempty"` // sources that were changed, relative to the tree
}

// NoteMirrors writes the mirrors of the build to the file at name, where the
// command apt-mirror looks for them.
func NoteMirrors(name string, m archive.Mirrors) error {
	return (&mirrorState{Mirrors: m}).write(name)
}

func (s *mirrorState) write(name string) error {
	data, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(name, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("cannot note the mirrors of the build: %w", err)
	}
	return nil
}

func readMirrorState(name string) (*mirrorState, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &mirrorState{}, nil
	}
	if err != nil {
		return nil, err
	}
	s := &mirrorState{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	return s, nil
}

// MirrorMain is the command apt-mirror: "swap TREE" makes apt in the tree
// fetch from the mirrors of the build, "restore TREE" makes its sources name
// the official hosts again. Both may be repeated.
func MirrorMain(_ context.Context, stdio command.IO, args []string) int {
	if len(args) != 2 || (args[0] != "swap" && args[0] != "restore") {
		fmt.Fprintln(stdio.Err, "usage: apt-mirror swap|restore TREE")
		return 2
	}
	var err error
	if args[0] == "swap" {
		err = swapMirrors(filepath.Join(stdio.Getenv("TMP_HOOKS_PATH"), MirrorsFile), args[1])
	} else {
		err = restoreMirrors(args[1])
	}
	if err != nil {
		fmt.Fprintln(stdio.Err, "apt-mirror:", err)
		return 1
	}
	return 0
}

func swapMirrors(mapping, tree string) error {
	want, err := readMirrorState(mapping)
	if err != nil {
		return err
	}
	if len(want.Mirrors) == 0 {
		return nil
	}
	state, err := readMirrorState(filepath.Join(tree, swappedFile))
	if err != nil {
		return err
	}
	state.Mirrors = want.Mirrors
	files, err := sourceFiles(tree)
	if err != nil {
		return err
	}
	changed := map[string]bool{}
	for _, f := range state.Files {
		changed[f] = true
	}
	// The note is written first: a run cut short in between can be restored.
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(tree, f))
		if err != nil {
			return err
		}
		if replaceAddresses(string(text), swapPairs(want.Mirrors, false)) != string(text) {
			changed[f] = true
		}
	}
	if len(changed) == 0 {
		return nil
	}
	state.Files = slices.Sorted(maps.Keys(changed))
	if err := state.write(filepath.Join(tree, swappedFile)); err != nil {
		return err
	}
	return rewrite(tree, state.Files, swapPairs(want.Mirrors, false))
}

func restoreMirrors(tree string) error {
	note := filepath.Join(tree, swappedFile)
	state, err := readMirrorState(note)
	if err != nil {
		return err
	}
	if err := rewrite(tree, state.Files, swapPairs(state.Mirrors, true)); err != nil {
		return err
	}
	if err := os.Remove(note); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// rewrite replaces addresses in files of the tree. A file that has gone since is no error.
func rewrite(tree string, files []string, pairs []string) error {
	for _, f := range files {
		name := filepath.Join(tree, f)
		st, err := os.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !st.Mode().IsRegular() {
			return fmt.Errorf("cannot change the addresses in %s: not a regular file", name)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if changed := replaceAddresses(string(text), pairs); changed != string(text) {
			if err := os.WriteFile(name, []byte(changed), st.Mode().Perm()); err != nil {
				return err
			}
		}
	}
	return nil
}

// sourceFiles lists the tree's apt sources, relative to it.
func sourceFiles(tree string) ([]string, error) {
	var files []string
	for _, pattern := range []string{"etc/apt/sources.list", "etc/apt/sources.list.d/*.list", "etc/apt/sources.list.d/*.sources"} {
		names, err := filepath.Glob(filepath.Join(tree, pattern))
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if st, err := os.Lstat(n); err != nil || !st.Mode().IsRegular() {
				continue
			}
			rel, err := filepath.Rel(tree, n)
			if err != nil {
				return nil, err
			}
			files = append(files, rel)
		}
	}
	sort.Strings(files)
	return files, nil
}

// swapPairs lists old and new address in turn, for replaceAddresses, the
// longest old address first: http://h/debian is the beginning of
// http://h/debian-security.
func swapPairs(m archive.Mirrors, invert bool) []string {
	var pairs [][2]string
	for official, fetch := range m {
		if invert {
			official, fetch = fetch, official
		}
		pairs = append(pairs, [2]string{official, fetch})
	}
	sort.Slice(pairs, func(i, j int) bool {
		a, b := pairs[i][0], pairs[j][0]
		if len(a) != len(b) {
			return len(a) > len(b)
		}
		return a < b
	})
	var flat []string
	for _, p := range pairs {
		flat = append(flat, p[0], p[1])
	}
	return flat
}

// replaceAddresses replaces whole addresses, given in turn old and new: one
// followed by a blank, a slash, or the end. http://host/debian does not occur
// in http://host/debian-security.
func replaceAddresses(text string, pairs []string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		n := 0
		for j := 0; j < len(pairs) && n == 0; j += 2 {
			if strings.HasPrefix(text[i:], pairs[j]) && addressEnds(text[i+len(pairs[j]):]) {
				b.WriteString(pairs[j+1])
				n = len(pairs[j])
			}
		}
		if n == 0 {
			b.WriteByte(text[i])
			n = 1
		}
		i += n
	}
	return b.String()
}

func addressEnds(rest string) bool {
	return rest == "" || strings.IndexByte(" \t\r\n/", rest[0]) >= 0
}
