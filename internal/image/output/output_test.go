package output

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The test binary runs itself as the process that gets killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("OUTPUT_TEST_VICTIM"); path != "" {
		victim(path)
	}
	os.Exit(m.Run())
}

// victim writes half a file, says so, and waits to be killed.
func victim(path string) {
	unnamed := openUnnamed
	if os.Getenv("OUTPUT_TEST_HIDDEN") != "" {
		unnamed = noUnnamed
	}
	p, err := create(path, unnamed)
	if err == nil {
		_, err = p.File().Write(make([]byte, 1<<20))
	}
	fmt.Println("ready", err)
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(3)
}

func noUnnamed(string) (*os.File, error) { return nil, errNoUnnamed }

func clock() time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("here", 7200))
}

// ways are the two ways to write a file.
var ways = []struct {
	name    string
	unnamed func(string) (*os.File, error)
}{{"unnamed", openUnnamed}, {"hidden", noUnnamed}}

func publish(t *testing.T, path, data string, policy Policy, unnamed func(string) (*os.File, error)) string {
	t.Helper()
	p, err := create(path, unnamed)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	if _, err := io.WriteString(p.File(), data); err != nil {
		t.Fatal(err)
	}
	kept, err := p.Commit(policy)
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

// tree reads a directory into a map from path to contents; directories end
// with a slash and symbolic links hold "-> target".
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		switch {
		case e.IsDir():
			out[rel+"/"] = ""
		case e.Type()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			out[rel] = "-> " + target
			return err
		default:
			data, err := os.ReadFile(path)
			out[rel] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		path := filepath.Join(dir, name)
		var err error
		if target, ok := strings.CutPrefix(files[name], "-> "); ok {
			err = os.Symlink(target, path)
		} else if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o755)
		} else if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.WriteFile(path, []byte(files[name]), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestCommit(t *testing.T) {
	for _, tc := range []struct {
		summary       string
		before, after map[string]string
		policy        Policy
		kept          string
	}{{
		summary: "a new file",
		after:   map[string]string{"a.qcow2": "new"},
	}, {
		summary: "the old file is kept under a dated name, its checksums follow and say so",
		before: map[string]string{
			"a.qcow2":        "old",
			"a.qcow2.md5":    "0123  out/a.qcow2\n",
			"a.qcow2.sha256": "4567  a.qcow2\n89ab *other.qcow2\ncdef  /x/a.qcow2",
		},
		after: map[string]string{
			"a.qcow2":                            "new",
			"a-2026.01.02-03.04.05.qcow2":        "old",
			"a-2026.01.02-03.04.05.qcow2.md5":    "0123  out/a-2026.01.02-03.04.05.qcow2\n",
			"a-2026.01.02-03.04.05.qcow2.sha256": "4567  a-2026.01.02-03.04.05.qcow2\n89ab *other.qcow2\ncdef  /x/a-2026.01.02-03.04.05.qcow2",
		},
		kept: "a-2026.01.02-03.04.05.qcow2",
	}, {
		summary: "a second old file of the same second gets a name of its own",
		before:  map[string]string{"a.qcow2": "old", "a-2026.01.02-03.04.05.qcow2": "older", "a-2026.01.02-03.04.05-2.qcow2": "oldish"},
		after: map[string]string{
			"a.qcow2": "new", "a-2026.01.02-03.04.05.qcow2": "older",
			"a-2026.01.02-03.04.05-2.qcow2": "oldish", "a-2026.01.02-03.04.05-3.qcow2": "old",
		},
		kept: "a-2026.01.02-03.04.05-3.qcow2",
	}, {
		summary: "a symbolic link is renamed, not followed",
		before:  map[string]string{"a.qcow2": "-> target", "target": "precious"},
		after:   map[string]string{"a.qcow2": "new", "a-2026.01.02-03.04.05.qcow2": "-> target", "target": "precious"},
		kept:    "a-2026.01.02-03.04.05.qcow2",
	}, {
		summary: "overwriting keeps nothing, not even checksums of what is gone",
		before:  map[string]string{"a.qcow2": "old", "a.qcow2.md5": "0123  a.qcow2\n", "b.qcow2": "b"},
		after:   map[string]string{"a.qcow2": "new", "b.qcow2": "b"},
		policy:  Policy{Overwrite: true},
	}, {
		summary: "overwriting nothing",
		after:   map[string]string{"a.qcow2": "new"},
		policy:  Policy{Overwrite: true},
	}} {
		for _, way := range ways {
			t.Run(way.name+"/"+tc.summary, func(t *testing.T) {
				dir := t.TempDir()
				put(t, dir, tc.before)
				tc.policy.Now = clock
				kept := publish(t, filepath.Join(dir, "a.qcow2"), "new", tc.policy, way.unnamed)
				if kept != "" {
					kept = filepath.Base(kept)
				}
				if kept != tc.kept {
					t.Errorf("kept %q, want %q", kept, tc.kept)
				}
				if diff := cmp.Diff(tc.after, tree(t, dir)); diff != "" {
					t.Errorf("files (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestOldName(t *testing.T) {
	for _, tc := range []struct {
		path string
		n    int
		want string
	}{
		{"/x/a.qcow2", 1, "/x/a-2026.01.02-03.04.05.qcow2"},
		{"a.b.raw", 1, "a.b-2026.01.02-03.04.05.raw"},
		{"/x.d/image", 1, "/x.d/image-2026.01.02-03.04.05"},
		{".hidden", 2, ".hidden-2026.01.02-03.04.05-2"},
		{"my image*.raw", 12, "my image*-2026.01.02-03.04.05-12.raw"},
	} {
		if got := OldName(tc.path, clock(), tc.n); got != tc.want {
			t.Errorf("OldName(%q) is %q, want %q", tc.path, got, tc.want)
		}
	}
}

func TestRenameInChecksums(t *testing.T) {
	for _, tc := range []struct{ in, old, new, want string }{
		{"12  xa.raw\n", "a.raw", "b.raw", "12  xa.raw\n"},
		{"12 *a.raw\n", "a.raw", "b.raw", "12 *b.raw\n"},
		{"\\12  d/a\\nb.raw\n", "a\nb.raw", "a\nc.raw", "\\12  d/a\\nc.raw\n"},
		{"a.raw", "a.raw", "b.raw", "a.raw"},
		{"", "a.raw", "b.raw", ""},
	} {
		if got := string(renameInChecksums([]byte(tc.in), tc.old, tc.new)); got != tc.want {
			t.Errorf("%q becomes %q, want %q", tc.in, got, tc.want)
		}
	}
}

func TestAbortLeavesNothing(t *testing.T) {
	for _, way := range ways {
		dir := t.TempDir()
		put(t, dir, map[string]string{"a.raw": "old"})
		p, err := create(filepath.Join(dir, "a.raw"), way.unnamed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.File().Write([]byte("half")); err != nil {
			t.Fatal(err)
		}
		p.Abort()
		p.Abort()
		if diff := cmp.Diff(map[string]string{"a.raw": "old"}, tree(t, dir)); diff != "" {
			t.Errorf("%s: files (-want +got):\n%s", way.name, diff)
		}
	}
}

func TestModeFollowsUmask(t *testing.T) {
	old := syscall.Umask(0o027)
	defer syscall.Umask(old)
	for _, way := range ways {
		path := filepath.Join(t.TempDir(), "a.raw")
		publish(t, path, "new", Policy{}, way.unnamed)
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode() != 0o640 {
			t.Errorf("%s: mode is %v", way.name, st.Mode())
		}
	}
}

func TestCreateErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Create(filepath.Join(dir, "missing", "a.raw")); err == nil || !strings.HasPrefix(err.Error(), "cannot create ") {
		t.Errorf("missing directory: %v", err)
	}
	if _, err := Create(dir); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("directory: %v", err)
	}
	p, err := Create(filepath.Join(dir, "a.raw"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Commit(Policy{}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Commit(Policy{}); err == nil {
		t.Error("a second Commit succeeds")
	}
}

// TestKilled kills a process in the middle of writing.
func TestKilled(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "a.raw")
			put(t, dir, map[string]string{"a.raw": "old"})
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "OUTPUT_TEST_VICTIM="+path)
			if way.name == "hidden" {
				cmd.Env = append(cmd.Env, "OUTPUT_TEST_HIDDEN=1")
			}
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer stdin.Close()
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, _ := bufio.NewReader(stdout).ReadString('\n')
			if err := SweepStale(dir); err != nil { // must not hurt the living
				t.Error(err)
			}
			during := len(tree(t, dir))
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if line != "ready <nil>\n" {
				t.Fatalf("the victim says %q", line)
			}
			want := 1 // only the old file
			if way.name == "hidden" {
				want = 2
				if err := SweepStale(dir); err != nil {
					t.Error(err)
				}
			}
			if during != want {
				t.Errorf("%d files while writing, want %d", during, want)
			}
			if diff := cmp.Diff(map[string]string{"a.raw": "old"}, tree(t, dir)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSweepKeepsForeignFiles(t *testing.T) {
	dir := t.TempDir()
	keep := map[string]string{
		"a.dib-new-01234567":   "not hidden",
		".a.dib-new-0123456":   "too short",
		".a.dib-new-0123456g":  "not hexadecimal",
		".b.dib-new-01234567":  "-> elsewhere",
		".a.dib-new-012345678": "too long",
	}
	put(t, dir, keep)
	put(t, dir, map[string]string{".a.raw.dib-new-01234567": "stale", ".d.dib-new-89abcdef/x/y": "stale"})
	if err := SweepStale(dir); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(keep, tree(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestPublishDir(t *testing.T) {
	src := t.TempDir()
	put(t, src, map[string]string{"env": "e", "sub/file": "f", "sub/link": "-> file", "empty/": ""})
	if err := os.Chmod(filepath.Join(src, "env"), 0o755); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"env": "e", "sub/": "", "sub/file": "f", "sub/link": "-> file", "empty/": ""}

	parent := t.TempDir()
	dst := filepath.Join(parent, "image.d")
	if err := PublishDir(src, dst+"/"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, tree(t, dst)); diff != "" {
		t.Errorf("new directory (-want +got):\n%s", diff)
	}
	if st, err := os.Stat(filepath.Join(dst, "env")); err != nil || st.Mode()&0o100 == 0 {
		t.Errorf("execute bit is lost: %v, %v", st.Mode(), err)
	}

	put(t, dst, map[string]string{"sub/mine": "kept", "env": "stale"})
	if err := PublishDir(src, dst); err != nil {
		t.Fatal(err)
	}
	want["sub/mine"] = "kept"
	if diff := cmp.Diff(want, tree(t, dst)); diff != "" {
		t.Errorf("existing directory (-want +got):\n%s", diff)
	}

	if err := PublishDir(filepath.Join(src, "missing"), filepath.Join(parent, "other.d")); err == nil {
		t.Error("a missing source is published")
	}
	if err := PublishDir(src, filepath.Join(dst, "env")); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("onto a file: %v", err)
	}
	left, err := os.ReadDir(parent)
	if err != nil || len(left) != 1 {
		t.Errorf("beside the directory: %v, %v", left, err)
	}
}

func TestWriteFileReplaces(t *testing.T) {
	dir := t.TempDir()
	for _, data := range []string{"one", "two"} {
		if err := WriteFile(filepath.Join(dir, "a.md5"), []byte(data)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{"a.md5": data}, tree(t, dir)); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
	}
}

func TestAttachedChecksums(t *testing.T) {
	old := map[string]string{"a.tar": "old", "a.tar.md5": "0123  dir/a.tar\n", "a.tar.sha512": "89  a.tar\n"}
	const kept = "a-2026.01.02-03.04.05.tar"
	for _, c := range []struct {
		summary       string
		before, after map[string]string
		policy        Policy
	}{
		{"a new file", nil, map[string]string{"a.tar": "new", "a.tar.md5": "ff  a.tar\n"}, Policy{}},
		{"checksums of a file that is gone are replaced", map[string]string{"a.tar.md5": "stale"},
			map[string]string{"a.tar": "new", "a.tar.md5": "ff  a.tar\n"}, Policy{}},
		{"D14 the old checksum files name the old file", old, map[string]string{
			"a.tar": "new", "a.tar.md5": "ff  a.tar\n",
			kept: "old", kept + ".md5": "0123  dir/" + kept + "\n", kept + ".sha512": "89  " + kept + "\n",
		}, Policy{}},
		{"overwriting", old, map[string]string{"a.tar": "new", "a.tar.md5": "ff  a.tar\n"}, Policy{Overwrite: true}},
	} {
		for _, way := range ways {
			t.Run(way.name+"/"+c.summary, func(t *testing.T) {
				dir := t.TempDir()
				put(t, dir, c.before)
				p, err := create(filepath.Join(dir, "a.tar"), way.unnamed)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Abort()
				_, err = io.WriteString(p.File(), "new")
				if err == nil {
					err = p.Attach(".md5", []byte("ff  a.tar\n"))
				}
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(len(c.before), len(tree(t, dir))); way.name == "unnamed" && diff != "" {
					t.Errorf("something has appeared early: %s", diff)
				}
				c.policy.Now = clock
				if _, err := p.Commit(c.policy); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.after, tree(t, dir)); diff != "" {
					t.Errorf("files (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestAbortDropsChecksums(t *testing.T) {
	for _, way := range ways {
		dir := t.TempDir()
		p, err := create(filepath.Join(dir, "a.tar"), way.unnamed)
		if err == nil {
			err = p.Attach(".md5", []byte("x"))
		}
		if err != nil {
			t.Fatal(err)
		}
		p.Abort()
		if left := tree(t, dir); len(left) > 0 {
			t.Errorf("%s: %v is left", way.name, left)
		}
	}
}

func TestScratch(t *testing.T) {
	dir := t.TempDir()
	f, err := Scratch(filepath.Join(dir, "a.docker.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if err := SweepStale(dir); err != nil || len(tree(t, dir)) != 1 {
		t.Errorf("a sweep takes a file in use (%v)", err)
	}
	f.Close()
	if err := SweepStale(dir); err != nil || len(tree(t, dir)) != 0 {
		t.Errorf("a sweep leaves a file of the dead (%v)", err)
	}
}
