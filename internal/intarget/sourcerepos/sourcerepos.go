// Package sourcerepos is the command source-repositories: it fetches the git
// repositories, archives and files that elements list in source-repository
// files, through a cache on the build host, and places them in the image.
package sourcerepos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/sourcerepo"
)

// listFile is where the image lists what it got, one destination a line.
const listFile = "/etc/dib-source-repositories"

// Run is the command source-repositories. It takes no arguments; the
// environment of the build says the rest.
func Run(ctx context.Context, io command.IO, args []string) error {
	if len(args) > 0 {
		return cmdline.Exitf(1, "unexpected argument %q", args[0])
	}
	env := cmdline.EnvironmentOf(io)
	if env["NO_SOURCE_REPOSITORIES"] != "" {
		fmt.Fprintln(io.Out, "NO_SOURCE_REPOSITORIES is set: no source repositories are fetched")
		return nil
	}
	for _, name := range []string{"TMP_HOOKS_PATH", "TMP_MOUNT_PATH"} {
		if env[name] == "" {
			return fmt.Errorf("%s is not set: this command runs during a build only", name)
		}
	}
	sources, err := read(env)
	if err != nil {
		return fmt.Errorf("cannot read source repositories: %w", err)
	}
	b := &builder{
		env: env, environ: io.Environ(), tree: env["TMP_MOUNT_PATH"],
		cache: filepath.Join(cacheDir(env), "source-repositories"), offline: env["DIB_OFFLINE"] != "",
		say:  func(format string, args ...any) { fmt.Fprintf(io.Out, format+"\n", args...) },
		wait: pause,
	}
	return b.all(ctx, sources)
}

func cacheDir(env cmdline.Environment) string {
	if dir := env["DIB_IMAGE_CACHE"]; dir != "" {
		return dir
	}
	return filepath.Join(env["HOME"], ".cache", "image-create")
}

// pause waits, or ends early with the context.
func pause(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// read reads every file of the hooks tree, so that nothing is fetched before
// all of it is known to be right.
func read(env cmdline.Environment) ([]sourcerepo.Source, error) {
	entries, err := os.ReadDir(env["TMP_HOOKS_PATH"])
	if err != nil {
		return nil, err
	}
	dirs, err := env.ElementDirs()
	if err != nil {
		return nil, err
	}
	lookup := func(name string) (string, bool) { value, ok := env[name]; return value, ok }
	var sources []sourcerepo.Source
	var errs []error
	for _, entry := range entries {
		if !sourcerepo.IsFile(entry.Name()) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(env["TMP_HOOKS_PATH"], entry.Name()))
		if err != nil {
			return nil, err
		}
		element := owner(dirs, entry.Name())
		name := entry.Name()
		if element != "" {
			name = filepath.Join(element, name)
		}
		lines, err := sourcerepo.Parse(name, data, lookup)
		errs = append(errs, err)
		for _, line := range lines {
			source, err := line.Resolve(element, lookup)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			sources = append(sources, source)
		}
	}
	sources, err = sourcerepo.Unique(sources)
	return sources, errors.Join(append(errs, err)...)
}

// owner finds the element that brought a file to the top of the hooks tree.
func owner(dirs map[string]string, file string) string {
	for _, element := range slices.Sorted(maps.Keys(dirs)) {
		if st, err := os.Stat(filepath.Join(dirs[element], file)); err == nil && st.Mode().IsRegular() {
			return element
		}
	}
	return ""
}

// builder places sources in one image.
type builder struct {
	env     cmdline.Environment
	environ []string
	tree    string // root of the image
	cache   string // directory of all cached sources
	offline bool

	say  func(format string, args ...any)
	wait func(context.Context, time.Duration) error

	manifest []string // a line for each git repository
}

func (b *builder) all(ctx context.Context, sources []sourcerepo.Source) error {
	if len(sources) == 0 {
		return nil
	}
	if err := b.migrate(); err != nil {
		return fmt.Errorf("cannot prepare the cache of source repositories: %w", err)
	}
	// DIB takes this lock for as long as it is at work in the cache; builds of
	// ours share it and lock single entries.
	shared, err := b.lock(ctx, filepath.Join(b.cache, "repositories_flock"), false, "the cache of source repositories")
	if err != nil {
		return err
	}
	defer shared.Close()
	for i, s := range sources {
		progress := fmt.Sprintf("(%04d / %04d)", i+1, len(sources))
		for _, w := range s.Warnings {
			b.say("WARNING: %s", w)
		}
		if s.Skip != "" {
			b.say("%s skipping %s: %s", progress, s.Name, s.Skip)
			continue
		}
		b.say("%s %s: %s %s to %s", progress, s.Name, s.Type, s.Public(), s.Dest)
		if err := b.one(ctx, s); err != nil {
			return fmt.Errorf("cannot fetch %s (%s): %w", s.Name, s.At(), err)
		}
	}
	return b.writeManifest()
}

func (b *builder) one(ctx context.Context, s sourcerepo.Source) error {
	var err error
	switch s.Type {
	case sourcerepo.Git:
		err = b.git(ctx, s)
	case sourcerepo.Tar:
		err = b.archive(ctx, s)
	case sourcerepo.File:
		err = b.file(ctx, s)
	}
	if err != nil {
		return err
	}
	return b.appendTo(listFile, s.Dest+"\n")
}

// appendTo adds to a file of the image.
func (b *builder) appendTo(name, text string) error {
	path, err := b.inTree(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func (b *builder) writeManifest() error {
	if len(b.manifest) == 0 {
		return nil
	}
	dir := b.env["DIB_MANIFEST_IMAGE_DIR"]
	if dir == "" {
		dir = "/etc/dib-manifests"
	}
	image := filepath.Base(b.env["IMAGE_NAME"])
	if b.env["IMAGE_NAME"] == "" {
		image = "image"
	}
	if err := b.appendTo(filepath.Join(dir, "dib-manifest-git-"+image), strings.Join(b.manifest, "")); err != nil {
		return fmt.Errorf("cannot write the manifest of git repositories: %w", err)
	}
	return nil
}
