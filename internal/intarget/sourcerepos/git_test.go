package sourcerepos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/test/commandtest"
)

func TestGitRefs(t *testing.T) {
	repo, commits := upstream(t, "master")
	b := newBench(t)
	refs := map[string]string{
		"": "one", "master": "one", "stable/1": "two", "v1": "three", "v2": "four", "refs/changes/1/1": "five",
		"refs/heads/stable/1": "two", commits["zero"]: "zero", commits["five"]: "five", commits["four"][:10]: "four",
	}
	for _, offline := range []bool{false, true} {
		if offline {
			if err := os.Rename(repo, repo+".away"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Rename(repo+".away", repo) })
			b.env["DIB_OFFLINE"] = "1"
		}
		for ref, content := range refs {
			t.Run(fmt.Sprintf("%s offline %v", ref, offline), func(t *testing.T) {
				b.t = t
				b.newTree()
				b.list(line("n git /opt/n", repo, ref))
				b.mustRun()
				dest := b.tree + "/opt/n"
				if got := b.inImage("/opt/n/f"); got != content {
					t.Errorf("content %q", got)
				}
				if ref == "" {
					ref = "master"
				}
				if got := git(t, dest, "rev-parse", "HEAD", "refs/heads/fetch_"+ref); got != commits[content]+"\n"+commits[content] {
					t.Errorf("HEAD and branch: %s", got)
				}
				if got := git(t, dest, "symbolic-ref", "HEAD"); got != "refs/heads/master" {
					t.Errorf("on %s", got)
				}
				if got := git(t, dest, "status", "--porcelain"); got != "" {
					t.Errorf("not clean: %s", got)
				}
				if got, want := b.inImage("etc/dib-manifests/dib-manifest-git-my-image"), "n git /opt/n "+repo+" "+commits[content]+"\n"; got != want {
					t.Errorf("manifest %q, want %q", got, want)
				}
				if got := b.inImage("etc/dib-source-repositories"); got != "/opt/n\n" {
					t.Errorf("list %q", got)
				}
			})
		}
	}
}

func TestGitAllRefs(t *testing.T) {
	repo, commits := upstream(t, "trunk")
	b := newBench(t)
	b.list(line("n git /n", repo, "*"))
	out := b.mustRun()
	if !strings.Contains(out, "(0001 / 0001) n: git "+repo+" to /n") {
		t.Errorf("progress:\n%s", out)
	}
	if got := git(t, b.tree+"/n", "for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags"); got != "refs/heads/stable/1\nrefs/heads/trunk\nrefs/tags/v1\nrefs/tags/v2" {
		t.Errorf("refs:\n%s", got)
	}
	if got := git(t, b.tree+"/n", "rev-parse", "HEAD"); got != commits["one"] || b.inImage("n/f") != "one" {
		t.Errorf("HEAD %s", got)
	}
	t.Run("M44 origin is the location", func(t *testing.T) {
		if got := git(t, b.tree+"/n", "remote", "get-url", "origin"); got != repo {
			t.Errorf("origin %s", got)
		}
		git(t, b.tree+"/n", "fetch", "-q", "origin")
	})
	t.Run("M39 what was known for one line does not count for the next", func(t *testing.T) {
		b.newTree()
		next := commitFile(t, repo, "next")
		git(t, repo, "branch", "-f", "new")
		b.list(line("n git /a", repo, commits["zero"]), line("n git /b", repo, "*"))
		b.mustRun()
		if got := git(t, b.tree+"/b", "rev-parse", "HEAD", "new"); got != next+"\n"+next {
			t.Errorf("all refs after a commit that was known: %s, want %s", got, next)
		}
	})
}

func TestGitDefaultIsTheMainBranch(t *testing.T) {
	repo, commits := upstream(t, "main")
	b := newBench(t)
	b.list(line("n git /n", repo))
	if out := b.mustRun(); !strings.Contains(out, "has no branch master; taking its main branch, main") {
		t.Errorf("says\n%s", out)
	}
	if got := git(t, b.tree+"/n", "rev-parse", "fetch_main"); got != commits["one"] {
		t.Errorf("at %s", got)
	}
	if err := os.Rename(repo, repo+".away"); err != nil {
		t.Fatal(err)
	}
	b.env["DIB_OFFLINE"] = "1"
	b.newTree()
	b.mustRun()
	b.list(line("n git /n", repo, "master"))
	b.newTree()
	b.mustFail("cannot fetch")
}

func TestGitFollowsTheRepository(t *testing.T) {
	repo, _ := upstream(t, "master")
	b := newBench(t)
	b.list(line("n git /n", repo))
	b.mustRun()
	git(t, repo, "commit", "-q", "--amend", "-m", "rewritten")
	want := git(t, repo, "rev-parse", "HEAD")
	b.newTree()
	b.mustRun()
	if got := git(t, b.tree+"/n", "rev-parse", "HEAD"); got != want {
		t.Errorf("at %s, want %s", got, want)
	}
	b.env["DIB_REPOREF_n"] = "no-such"
	b.newTree()
	b.mustFail("cannot fetch n (source-repository-test:1): ", `has no branch, tag or commit "no-such"`, "DIB_REPOREF_n")
	if _, err := os.Stat(b.tree + "/n"); err == nil {
		t.Error("the destination was made")
	}
}

func TestGitErrors(t *testing.T) {
	b := newBench(t)
	b.list(line("n git /n", "/no/such/repo"))
	b.mustFail("cannot fetch n (source-repository-test:1): cannot clone /no/such/repo")
	b.env["PATH"] = t.TempDir()
	b.mustFail("cannot run git, which is needed on the build host for git repositories; install it")
	b.env["PATH"] = "/usr/bin:/bin"
	repo, _ := upstream(t, "master")
	b.list(line("n git /n", repo))
	commandtest.Write(t, b.tree, map[string]string{"n/x": ""})
	b.mustFail("the image has a /n already that is not a clone of " + repo)
	b.newTree()
	if err := os.MkdirAll(b.tree+"/n", 0o755); err != nil {
		t.Fatal(err)
	}
	b.mustRun() // into an empty directory
	b.mustRun() // again: it is there
	b.list(line("n git /n", repo, "v1"))
	b.mustFail(`the image has a /n already, which is not at "v1"`)
}

// A build asks nobody, and what it says has no password.
func TestGitSecrets(t *testing.T) {
	b := newBench(t)
	b.env["DIB_OFFLINE"] = ""
	b.list("n git /n https://user:geheim@127.0.0.1:9/repo.git")
	builder := func() string {
		env := map[string]string{}
		for k, v := range b.env {
			env[k] = v
		}
		wrapper := t.TempDir()
		// The wrapper fails as if the network were down; only the first try counts.
		commandtest.Write(t, wrapper, map[string]string{"git!": "#!/bin/bash\ncase $1 in --version) exit 0 ;; esac\necho \"fatal: couldn't find remote ref on $*; $GIT_TERMINAL_PROMPT $SSH_ASKPASS_REQUIRE $SSH_ASKPASS\" >&2\nexit 128\n"})
		b.env["PATH"] = wrapper + ":/usr/bin:/bin"
		out, status := b.run()
		if status != 1 {
			t.Errorf("status %d", status)
		}
		return out
	}
	out := builder()
	if strings.Contains(out, "geheim") || !strings.Contains(out, "https://user@127.0.0.1:9/repo.git") {
		t.Errorf("says:\n%s", out)
	}
	if !strings.Contains(out, "0 force /bin/false") {
		t.Errorf("git could ask: %s", out)
	}
}

func TestRetries(t *testing.T) {
	repo, _ := upstream(t, "master")
	b := newBench(t)
	wrapper, count := t.TempDir(), filepath.Join(t.TempDir(), "count")
	commandtest.Write(t, wrapper, map[string]string{"git!": `#!/bin/bash
case " $* " in *" clone "*"example.invalid"*)
	echo x >> ` + count + `
	if [ "$(wc -l < ` + count + `)" -lt 4 ]; then echo "fatal: early EOF" >&2; exit 128; fi ;;
esac
args=("${@/#https:\/\/example.invalid/` + strings.ReplaceAll(repo, "/", `\/`) + `}")
exec /usr/bin/git "${args[@]}"
`})
	b.env["PATH"] = wrapper + ":/usr/bin:/bin"
	b.list("n git /n https://example.invalid")
	var waits []time.Duration
	sources, err := read(b.env)
	if err != nil {
		t.Fatal(err)
	}
	builder := &builder{env: b.env, tree: b.tree, cache: b.cache + "/source-repositories", say: t.Logf}
	for k, v := range b.env {
		builder.environ = append(builder.environ, k+"="+v)
	}
	builder.wait = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
	if err := builder.all(t.Context(), sources); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(waits) != "[5s 5s 5s]" {
		t.Errorf("waits %v", waits)
	}
}

func TestGitRepoBase(t *testing.T) {
	t.Run("M38 the cache is where it always is", func(t *testing.T) {
		repo, _ := upstream(t, "master")
		b := newBench(t)
		b.env["DIB_GITREPOBASE"] = "file://" + filepath.Dir(repo) + "/"
		b.list("n git /n https://example.com/~user/" + filepath.Base(repo))
		b.mustRun()
		entries, err := filepath.Glob(b.cache + "/source-repositories/n_*/.git")
		if err != nil || len(entries) != 1 {
			t.Errorf("cache: %v, %v", entries, err)
		}
		if found, _ := os.ReadDir(b.env["HOME"]); len(found) != 0 {
			t.Errorf("in the home directory: %v", found)
		}
	})
}

func TestChildrenHaveNoInput(t *testing.T) {
	t.Run("M42 git cannot swallow lines", func(t *testing.T) {
		repo, _ := upstream(t, "master")
		b := newBench(t)
		wrapper := t.TempDir()
		commandtest.Write(t, wrapper, map[string]string{"git!": "#!/bin/bash\ncat >> " + wrapper + "/stdin\nexec /usr/bin/git \"$@\"\n"})
		b.env["PATH"] = wrapper + ":/usr/bin:/bin"
		b.list(line("a git /a", repo), line("b git /b", repo)) // no newline at the end
		cmd, out := b.process()
		cmd.Stdin = strings.NewReader("input of the build\n")
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if got := commandtest.Read(t, wrapper+"/stdin"); got != "" {
			t.Errorf("git read %q", got)
		}
		if got := b.inImage("etc/dib-source-repositories"); got != "/a\n/b\n" {
			t.Errorf("fetched %q", got)
		}
	})
}

func TestOldCacheNames(t *testing.T) {
	repo, _ := upstream(t, "master")
	b := newBench(t)
	b.list(line("a.b git /n", repo))
	b.mustRun()
	now, err := filepath.Glob(b.cache + "/source-repositories/a_b_*")
	if err != nil || len(now) != 2 { // with its lock
		t.Fatalf("%v, %v", now, err)
	}
	name := filepath.Base(now[0])
	if err := os.MkdirAll(b.cache+"/repository-sources", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(now[0], b.cache+"/repository-sources/"+strings.TrimPrefix(name, "a_b_")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(b.cache + "/source-repositories"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(repo, repo+".away"); err != nil {
		t.Fatal(err)
	}
	b.env["DIB_OFFLINE"] = "1"
	b.newTree()
	b.mustRun()
	if _, err := os.Stat(b.cache + "/source-repositories/" + name + "/.git"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(b.cache + "/repository-sources"); err == nil {
		t.Error("the old directory is still there")
	}
}

func TestDamagedCache(t *testing.T) {
	if testing.Short() {
		t.Skip("starts git a hundred times")
	}
	repo, commits := upstream(t, "master")
	b := newBench(t)
	b.list(line("n git /n", repo))
	b.mustRun()
	found, err := filepath.Glob(b.cache + "/source-repositories/n_*/.git")
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	cached := found[0]
	for what, damage := range map[string]func() error{
		"locks of a killed git": func() error {
			return errors.Join(os.WriteFile(cached+"/HEAD.lock", nil, 0o644), os.WriteFile(cached+"/packed-refs.lock", nil, 0o644),
				os.WriteFile(cached+"/refs/heads/master.lock", nil, 0o644), os.WriteFile(cached+"/shallow.lock", nil, 0o644))
		},
		"half a clone": func() error { return os.MkdirAll(filepath.Dir(cached)+".tmp/.git/objects", 0o755) },
		"no objects":   func() error { return os.RemoveAll(cached + "/objects/pack") },
		"no HEAD":      func() error { return os.Remove(cached + "/HEAD") },
		"an empty ref": func() error { return os.WriteFile(cached+"/refs/heads/master", nil, 0o644) },
		"an empty directory": func() error {
			return errors.Join(os.RemoveAll(cached), os.Mkdir(cached, 0o755))
		},
	} {
		t.Run(what, func(t *testing.T) {
			b.t = t
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			commits["one"] = commitFile(t, repo, what)
			b.newTree()
			b.mustRun()
			if got := git(t, b.tree+"/n", "rev-parse", "HEAD"); got != commits["one"] {
				t.Errorf("at %s, want %s", got, commits["one"])
			}
			git(t, filepath.Dir(cached), "fsck", "--no-dangling")
		})
	}
}

func TestLocks(t *testing.T) {
	if testing.Short() {
		t.Skip("starts git a hundred times")
	}
	repo, _ := upstream(t, "master")
	other, _ := upstream(t, "master")
	b := newBench(t)
	b.list(line("n git /n", repo))
	b.mustRun()
	locks, err := filepath.Glob(b.cache + "/source-repositories/n_*.lock")
	if err != nil || len(locks) != 1 {
		t.Fatalf("%v, %v", locks, err)
	}
	hold := func(path string) *os.File {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		return f
	}
	t.Run("M40 builds wait for what they share", func(t *testing.T) {
		for _, path := range []string{locks[0], b.cache + "/source-repositories/repositories_flock"} {
			held := hold(path)
			b.newTree()
			cmd, out := b.process()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(300 * time.Millisecond)
			if _, err := os.Stat(b.tree + "/n"); err == nil {
				t.Errorf("it did not wait for %s", path)
			}
			held.Close()
			if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "waiting for another build") {
				t.Errorf("%v\n%s", err, out)
			}
		}
	})
	t.Run("M40 and for nothing else", func(t *testing.T) {
		held := hold(locks[0])
		defer held.Close()
		b.newTree()
		b.list(line("n git /n", other))
		if out := b.mustRun(); strings.Contains(out, "waiting") {
			t.Errorf("says\n%s", out)
		}
	})
}

// TestSideBySide has several builds fill one cache at once.
func TestSideBySide(t *testing.T) {
	if testing.Short() {
		t.Skip("starts git a hundred times")
	}
	b := newBench(t)
	repo, commits := upstream(t, "master")
	var lines []string
	for i, ref := range []string{"master", "stable/1", "v1", "*", "refs/changes/1/1"} {
		lines = append(lines, line("n git", fmt.Sprintf("/n%d", i), repo, ref))
	}
	b.list(lines...)
	type build struct {
		cmd  *exec.Cmd
		out  fmt.Stringer
		tree string
	}
	var builds []build
	for range 3 {
		b.newTree()
		cmd, out := b.process()
		builds = append(builds, build{cmd, out, b.tree})
	}
	for _, one := range builds {
		if err := one.cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, one := range builds {
		if err := one.cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, one.out)
			continue
		}
		for i, want := range []string{"one", "two", "three", "one", "five"} {
			if got := git(t, fmt.Sprintf("%s/n%d", one.tree, i), "rev-parse", "HEAD"); got != commits[want] {
				t.Errorf("%d at %s, want %s", i, got, want)
			}
		}
	}
}

// TestKills kills builds at many moments, with everything they have started, as
// the end of their sandbox does.
func TestKills(t *testing.T) {
	if testing.Short() {
		t.Skip("kills thirty builds")
	}
	if os.Geteuid() != 0 {
		t.Skip("a PID namespace takes root")
	}
	repo, _ := upstream(t, "master")
	b := newBench(t)
	b.list(line("n git /n", repo, "v2"), line("n git /m", repo, "*"))
	for after := 2 * time.Millisecond; after < 300*time.Millisecond; after = after*6/5 + time.Millisecond {
		b.newTree()
		if after > 100*time.Millisecond {
			commitFile(t, repo, after.String()) // so that there is something to fetch
		}
		cmd, _ := b.process()
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	want := commitFile(t, repo, "last")
	b.newTree()
	b.mustRun()
	if got := git(t, b.tree+"/m", "rev-parse", "HEAD"); got != want {
		t.Errorf("at %s, want %s", got, want)
	}
	for _, cached := range must(filepath.Glob(b.cache + "/source-repositories/n_*/.git")) {
		git(t, filepath.Dir(cached), "fsck", "--no-dangling")
	}
	if left := must(filepath.Glob(b.cache + "/source-repositories/*.tmp")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
