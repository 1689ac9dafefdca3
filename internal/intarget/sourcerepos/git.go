package sourcerepos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dib-builder/dib/internal/run"
	"github.com/dib-builder/dib/internal/sourcerepo"
)

const (
	attempts   = 5 // at the network
	retryDelay = 5 * time.Second
)

// repository is a git repository being brought into the image.
type repository struct {
	*builder
	sourcerepo.Source
	dir string // the clone in the cache, which has a .git directory
}

func (b *builder) git(ctx context.Context, s sourcerepo.Source) error {
	r := &repository{builder: b, Source: s}
	if _, err := r.run(ctx, r.hostGit(), "--version"); err != nil {
		return fmt.Errorf("cannot run git, which is needed on the build host for git repositories; install it: %w", err)
	}
	e, err := b.open(ctx, s)
	if err != nil {
		return err
	}
	defer e.close()
	r.dir = e.path
	want, err := r.update(ctx)
	if err != nil {
		return err
	}
	// From here on the entry is read only.
	if err := e.share(); err != nil {
		return fmt.Errorf("cannot lock %s: %w", e.path, err)
	}
	commit, err := r.place(ctx, want)
	if err != nil {
		return err
	}
	b.manifest = append(b.manifest, fmt.Sprintf("%s git %s %s %s\n", s.Name, s.Dest, s.Public(), commit))
	return nil
}

// revision is what a ref means.
type revision struct {
	ref    string // as asked for, or the branch that stands for the default
	commit string // empty for "*"
}

// update brings the cache up to date as far as the ref asks for it. A cache
// entry that turns out to be damaged is made anew.
func (r *repository) update(ctx context.Context) (revision, error) {
	if err := os.RemoveAll(r.dir + ".tmp"); err != nil {
		return revision{}, err
	}
	fresh := false
	if _, err := os.Stat(r.dir); errors.Is(err, fs.ErrNotExist) {
		if err := r.clone(ctx); err != nil {
			return revision{}, err
		}
		fresh = true
	}
	want, err := r.refresh(ctx, fresh)
	if err == nil || fresh || ctx.Err() != nil || !r.damaged(ctx) {
		return want, err
	}
	r.say("WARNING: the cached repository %s is damaged (%v); it is cloned again", r.dir, err)
	if err := r.clone(ctx); err != nil {
		return revision{}, err
	}
	return r.refresh(ctx, true)
}

// clone makes the cache entry; under its name there is all of it or nothing.
func (r *repository) clone(ctx context.Context) error {
	tmp := r.dir + ".tmp"
	err := r.retrying(ctx, func() error {
		if err := os.RemoveAll(tmp); err != nil {
			return err
		}
		_, err := r.run(ctx, r.hostGit(), "clone", "-q", "--no-checkout", "--no-hardlinks", "--template=", "--origin", "origin", "--", r.Location, tmp)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot clone %s: %w", r.Public(), err)
	}
	if err := os.RemoveAll(r.dir); err != nil {
		return err
	}
	return os.Rename(tmp, r.dir)
}

// damaged looks at the entry as a whole, which takes a while.
func (r *repository) damaged(ctx context.Context) bool {
	_, err := r.inCache(ctx, "fsck", "--connectivity-only", "--no-dangling", "--no-progress")
	var failed *run.Error
	return errors.As(err, &failed)
}

var objectID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// refresh fetches what the ref asks for and returns its commit.
func (r *repository) refresh(ctx context.Context, fresh bool) (revision, error) {
	if !fresh {
		if err := r.removeStaleLocks(); err != nil {
			return revision{}, err
		}
	}
	if r.Ref == sourcerepo.RefAll {
		if !r.offline || fresh {
			if err := r.fetchAll(ctx); err != nil {
				return revision{}, err
			}
		}
		return revision{ref: sourcerepo.RefAll}, nil
	}
	if want, ok := r.known(ctx, r.Ref); ok && (r.offline || objectID.MatchString(r.Ref)) {
		return r.keep(ctx, want)
	}
	if r.offline && r.RefDefault {
		if main, err := r.mainBranch(ctx, fresh); err == nil {
			if want, ok := r.known(ctx, main); ok {
				return r.keep(ctx, want)
			}
		}
	}
	want, err := r.fetchRevision(ctx, r.Ref)
	if isMissing(err) && r.RefDefault {
		var main string
		if main, err = r.mainBranch(ctx, fresh); err == nil {
			r.say("%s has no branch %s; taking its main branch, %s", r.Public(), r.Ref, main)
			want, err = r.fetchRevision(ctx, main)
		}
	}
	if err == nil {
		return r.keep(ctx, want)
	}
	if err := r.fetchAll(ctx); err != nil {
		return revision{}, err
	}
	// What the server has, not what it had when it was asked last.
	for _, full := range []string{"refs/heads/" + r.Ref, "refs/tags/" + r.Ref, r.Ref} {
		if commit, err := r.commit(ctx, full); err == nil {
			return r.keep(ctx, revision{r.Ref, commit})
		}
	}
	return revision{}, fmt.Errorf("%s has no branch, tag or commit %q; check the ref there and in DIB_REPOREF_%s", r.Public(), r.Ref, sourcerepo.VariablePart(r.Name))
}

// known finds what the cache has of a name.
func (r *repository) known(ctx context.Context, name string) (revision, bool) {
	for _, full := range []string{"refs/heads/" + name, "refs/tags/" + name, keptRef(name), name} {
		if commit, err := r.commit(ctx, full); err == nil {
			return revision{name, commit}, true
		}
	}
	return revision{}, false
}

func (r *repository) fetchRevision(ctx context.Context, name string) (revision, error) {
	full, err := r.fetchRef(ctx, name)
	if err != nil {
		return revision{}, err
	}
	commit, err := r.commit(ctx, full)
	if err != nil {
		return revision{}, fmt.Errorf("the ref %q of %s is no commit: %w", name, r.Public(), err)
	}
	return revision{name, commit}, nil
}

// keptRef names a ref of ours in the cache, out of the way of what git shows.
func keptRef(name string) string { return "refs/dib/" + strings.TrimPrefix(name, "refs/") }

// keep holds on to a commit, which the branch may leave behind while it is read.
func (r *repository) keep(ctx context.Context, want revision) (revision, error) {
	_, err := r.inCache(ctx, "update-ref", keptCommit(want.commit), want.commit)
	return want, err
}

func keptCommit(commit string) string { return "refs/dib-commits/" + commit }

// mainBranch is the one that the repository shows when none is asked for.
func (r *repository) mainBranch(ctx context.Context, fresh bool) (string, error) {
	if !r.offline && !fresh {
		if out, err := r.run(ctx, r.hostGit(), "ls-remote", "--symref", "--", r.Location, "HEAD"); err == nil {
			line, _, _ := strings.Cut(out, "\n")
			if target, ok := strings.CutPrefix(line, "ref: refs/heads/"); ok {
				name, _, _ := strings.Cut(target, "\t")
				return name, nil
			}
		}
	}
	out, err := r.inCache(ctx, "symbolic-ref", "refs/remotes/origin/HEAD")
	return strings.TrimPrefix(out, "refs/remotes/origin/"), err
}

func (r *repository) commit(ctx context.Context, ref string) (string, error) {
	return r.inCache(ctx, "rev-parse", "--verify", "-q", ref+"^{commit}")
}

// fetchRef fetches a branch, tag, full ref or commit, and returns where in the
// cache it is.
func (r *repository) fetchRef(ctx context.Context, name string) (string, error) {
	specs := [][2]string{{"refs/heads/" + name, "refs/heads/" + name}, {"refs/tags/" + name, "refs/tags/" + name}}
	if strings.HasPrefix(name, "refs/") || name == "HEAD" || objectID.MatchString(name) {
		specs = [][2]string{{name, keptRef(name)}}
	}
	var err error
	for _, spec := range specs {
		if err = r.fetch(ctx, "+"+spec[0]+":"+spec[1]); err == nil {
			return spec[1], nil
		}
		if !isMissing(err) {
			break
		}
	}
	return "", err
}

func (r *repository) fetchAll(ctx context.Context) error {
	return r.fetch(ctx, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
}

func (r *repository) fetch(ctx context.Context, refspecs ...string) error {
	err := r.retrying(ctx, func() error {
		_, err := r.inCache(ctx, append([]string{"fetch", "-q", "--prune", "--update-head-ok", "--", r.Location}, refspecs...)...)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot fetch from %s: %w", r.Public(), err)
	}
	return nil
}

// isMissing tells that a server was reached and does not have what was asked for.
func isMissing(err error) bool {
	var failed *run.Error
	return errors.As(err, &failed) && slices.ContainsFunc(failed.Tail, func(line string) bool {
		for _, text := range []string{"couldn't find remote ref", "not our ref", "unadvertised object", "invalid refspec"} {
			if strings.Contains(line, text) {
				return true
			}
		}
		return false
	})
}

// retrying repeats what may fail because of the network.
func (r *repository) retrying(ctx context.Context, do func() error) error {
	for n := 1; ; n++ {
		err := do()
		if err == nil || ctx.Err() != nil || n == attempts || isMissing(err) || isLocal(r.Location) {
			return err
		}
		r.say("%v; trying again in %v", err, retryDelay)
		if err := r.wait(ctx, retryDelay); err != nil {
			return err
		}
	}
}

// isLocal tells a path from an address such as https://host/path or host:path.
func isLocal(location string) bool {
	before, _, found := strings.Cut(location, ":")
	return !found || strings.Contains(before, "/") || before == "file"
}

// removeStaleLocks removes lock files that a killed git has left. Nobody else
// works in the entry while its lock is held.
func (r *repository) removeStaleLocks() error {
	git := filepath.Join(r.dir, ".git")
	return filepath.WalkDir(git, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && path == filepath.Join(git, "objects"):
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, ".lock"):
			return os.Remove(path)
		}
		return nil
	})
}

// place clones the cache into the image.
func (r *repository) place(ctx context.Context, want revision) (commit string, err error) {
	dest, err := r.inTree(r.Dest)
	if err != nil {
		return "", err
	}
	branch := "refs/heads/fetch_" + want.ref
	if occupied(dest) {
		return r.alreadyThere(ctx, dest, branch, want)
	}
	if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
		return "", err
	}
	env := r.imageGit()
	if _, err := r.run(ctx, env, "clone", "-q", "--no-checkout", "--no-hardlinks", "--template=", "--origin", "origin", "--", r.dir, dest); err != nil {
		return "", fmt.Errorf("cannot clone into the image: %w", err)
	}
	in := func(args ...string) {
		if err == nil {
			_, err = r.run(ctx, env, append([]string{"-C", dest}, args...)...)
		}
	}
	if want.ref == sourcerepo.RefAll {
		in("fetch", "-q", "--update-head-ok", "origin", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
		in("reset", "-q", "--hard", "HEAD")
	} else {
		in("fetch", "-q", "--no-tags", "origin", "+"+keptCommit(want.commit)+":"+branch)
		in("reset", "-q", "--hard", want.commit)
	}
	// The cache is nowhere when the image runs.
	in("remote", "set-url", "origin", r.Public())
	if err != nil {
		return "", fmt.Errorf("cannot check out %q in the image: %w", want.ref, err)
	}
	return r.run(ctx, env, "-C", dest, "rev-parse", "--verify", "HEAD^{commit}")
}

func occupied(dest string) bool {
	entries, err := os.ReadDir(dest)
	return len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// alreadyThere accepts a destination that has what is wanted.
func (r *repository) alreadyThere(ctx context.Context, dest, branch string, want revision) (string, error) {
	env := r.imageGit()
	origin, err := r.run(ctx, env, "-C", dest, "config", "--local", "remote.origin.url")
	if err != nil || origin != r.dir && origin != r.Public() && origin != r.Location {
		return "", fmt.Errorf("the image has a %s already that is not a clone of %s", r.Dest, r.Public())
	}
	if want.ref != sourcerepo.RefAll {
		if _, err := r.run(ctx, env, "-C", dest, "rev-parse", "--verify", "-q", branch); err != nil {
			return "", fmt.Errorf("the image has a %s already, which is not at %q", r.Dest, want.ref)
		}
	}
	r.say("%s is in the image already", r.Dest)
	return r.run(ctx, env, "-C", dest, "rev-parse", "--verify", "HEAD^{commit}")
}

func (r *repository) inCache(ctx context.Context, args ...string) (string, error) {
	return r.run(ctx, r.hostGit(), append([]string{"--git-dir=" + filepath.Join(r.dir, ".git")}, args...)...)
}

// run runs git without input and returns what it prints, without a final
// newline. No password of the location is told to anybody.
func (r *repository) run(ctx context.Context, env []string, args ...string) (string, error) {
	public := func(text string) string {
		if r.Location == r.Public() {
			return text
		}
		return strings.ReplaceAll(text, r.Location, r.Public())
	}
	out, err := run.Cmd{
		Argv: append([]string{"git"}, args...), Env: env,
		Log: func(line []byte) { r.say("git: %s", public(string(line))) },
	}.Output(ctx)
	var failed *run.Error
	if errors.As(err, &failed) {
		for i := range failed.Argv {
			failed.Argv[i] = public(failed.Argv[i])
		}
		for i := range failed.Tail {
			failed.Tail[i] = public(failed.Tail[i])
		}
	}
	return strings.TrimRight(string(out), "\n"), err
}

// local are the variables that bind git to one repository, as the environment
// of a git hook has them.
var local = []string{
	"GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_DIR", "GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE",
	"GIT_INTERNAL_SUPER_PREFIX", "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE", "GIT_WORK_TREE",
}

// hostGit is the environment of git at work in the cache: that of the caller,
// with his configuration, but nothing can ask him, as a build runs by itself.
func (r *repository) hostGit() []string {
	env := slices.DeleteFunc(slices.Clone(r.environ), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(local, name)
	})
	env = append(env, "LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "SSH_ASKPASS_REQUIRE=force")
	if r.env["SSH_ASKPASS"] == "" {
		env = append(env, "SSH_ASKPASS=/bin/false")
	}
	count, err := strconv.Atoi(r.env["GIT_CONFIG_COUNT"])
	if err != nil {
		count = 0
	}
	return append(env, r.settings(count, [][2]string{
		{"gc.autoDetach", "false"}, {"maintenance.autoDetach", "false"}, // a lock is held meanwhile
		{"http.lowSpeedLimit", "1"}, {"http.lowSpeedTime", "300"},
	})...)
}

// imageGit is the environment of git at work in the image, where nobody's
// configuration counts.
func (r *repository) imageGit() []string {
	env := slices.DeleteFunc(r.hostGit(), func(kv string) bool { return strings.HasPrefix(kv, "GIT_CONFIG") })
	env = append(env, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	return append(env, r.settings(0, [][2]string{{"gc.auto", "0"}, {"maintenance.auto", "false"}, {"core.hooksPath", "/dev/null"}})...)
}

// settings are variables that add to the configuration, behind the first n
// settings that others have made so.
func (r *repository) settings(n int, settings [][2]string) []string {
	// The cache may belong to the user who called sudo, or be mounted from elsewhere.
	settings = append(settings, [2]string{"safe.directory", r.dir}, [2]string{"safe.directory", filepath.Join(r.dir, ".git")})
	var env []string
	for i, s := range settings {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", n+i, s[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", n+i, s[1]))
	}
	return append(env, fmt.Sprintf("GIT_CONFIG_COUNT=%d", n+len(settings)))
}
