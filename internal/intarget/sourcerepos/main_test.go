package sourcerepos

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/intarget/cacheurl"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/test/commandtest"
)

// asCommand makes the test binary act as one of the commands of the build.
const asCommand = "DIB_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if name := os.Getenv(asCommand); name != "" {
		do := map[string]cmdline.Func{"cache-url": cacheurl.Run, "source-repositories": Run}[name]
		os.Exit(cmdline.Command(name, do)(context.Background(), command.IO{
			In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Environ: os.Environ,
		}, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// bench is a build as far as the command sees one: a hooks tree, an image and a
// cache.
type bench struct {
	t                  *testing.T
	hooks, tree, cache string
	env                map[string]string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed; scripts/install-test-deps does that")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, hooks: t.TempDir(), tree: t.TempDir(), cache: t.TempDir()}
	commandtest.Write(t, b.hooks, map[string]string{
		"bin/cache-url!": "#!/bin/bash\n" + asCommand + "=cache-url exec " + self + " \"$@\"\n",
	})
	home := t.TempDir()
	b.env = map[string]string{
		"PATH": "/usr/bin:/bin", "HOME": home, "TMP_HOOKS_PATH": b.hooks, "TMP_MOUNT_PATH": b.tree, "DIB_IMAGE_CACHE": b.cache,
		"IMAGE_NAME": "out/my-image", "DIB_MANIFEST_IMAGE_DIR": "/etc/dib-manifests", "NO_PROXY": "*",
	}
	return b
}

// list makes the lines of one element's file the only ones.
func (b *bench) list(lines ...string) {
	b.t.Helper()
	commandtest.Write(b.t, b.hooks, map[string]string{"source-repository-test": strings.Join(lines, "\n")})
}

// newTree starts another build with the same cache.
func (b *bench) newTree() {
	b.t.Helper()
	b.tree = b.t.TempDir()
	b.env["TMP_MOUNT_PATH"] = b.tree
}

// run calls the command in this process.
func (b *bench) run() (out string, status int) {
	b.t.Helper()
	out, errs, status := commandtest.Call(b.t, cmdline.Command("source-repositories", Run), b.env)
	return out + errs, status
}

func (b *bench) mustRun() string {
	b.t.Helper()
	out, status := b.run()
	if status != 0 {
		b.t.Fatalf("status %d:\n%s", status, out)
	}
	return out
}

func (b *bench) mustFail(says ...string) {
	b.t.Helper()
	out, status := b.run()
	if status != 1 {
		b.t.Errorf("status %d, want 1", status)
	}
	for _, text := range says {
		if !strings.Contains(out, text) {
			b.t.Errorf("does not say %q:\n%s", text, out)
		}
	}
}

// process is the command as a process of its own.
func (b *bench) process() (*exec.Cmd, *bytes.Buffer) {
	b.t.Helper()
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = []string{asCommand + "=source-repositories"}
	for k, v := range b.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

// inImage is a file of the image.
func (b *bench) inImage(name string) string {
	b.t.Helper()
	return commandtest.Read(b.t, filepath.Join(b.tree, name))
}

// git runs git in a directory and returns what it prints.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "protocol.file.allow=always"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// commitFile adds a commit that changes the file "f".
func commitFile(t *testing.T, repo, content string) string {
	t.Helper()
	commandtest.Write(t, repo, map[string]string{"f": content})
	git(t, repo, "add", "f")
	git(t, repo, "commit", "-q", "-m", content)
	return git(t, repo, "rev-parse", "HEAD")
}

// upstream is a repository with these commits, by what leads to them:
// branch "master" (or main) "one", branch stable/1 "two", tag v1 and annotated
// tag v2 "three" and "four", ref refs/changes/1/1 "five", and "zero", the first.
func upstream(t *testing.T, main string) (repo string, commits map[string]string) {
	t.Helper()
	repo = t.TempDir()
	git(t, repo, "init", "-q", "-b", main)
	commits = map[string]string{"zero": commitFile(t, repo, "zero"), "one": commitFile(t, repo, "one")}
	for i, name := range []string{"two", "three", "four", "five"} {
		git(t, repo, "checkout", "-q", "--detach", main)
		commits[name] = commitFile(t, repo, name)
		git(t, repo, [][]string{
			{"branch", "stable/1"}, {"tag", "v1"}, {"tag", "-a", "-m", "x", "v2"}, {"update-ref", "refs/changes/1/1", "HEAD"},
		}[i]...)
	}
	git(t, repo, "checkout", "-q", main)
	return repo, commits
}

func line(words ...any) string { return strings.TrimSpace(fmt.Sprintln(words...)) }
