package sourcerepos

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/test/commandtest"
)

// tarOf makes an archive of names and contents; names ending in "/" are
// directories. Everything belongs to user 1234.
func tarOf(t *testing.T, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f[0], Typeflag: tar.TypeReg, Mode: 0o755, Uid: 1234, Gid: 1234, Size: int64(len(f[1]))}
		if strings.HasSuffix(f[0], "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o750
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// server serves files that tests change, and counts what it sends.
type server struct {
	*httptest.Server
	files map[string][]byte
	sent  int
}

func newServer(t *testing.T) *server {
	s := &server{files: map[string][]byte{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := s.files[r.URL.Path]
		tag := fmt.Sprintf(`"%x"`, sha256.Sum256(data))
		switch {
		case !ok:
			http.NotFound(w, r)
		case r.Header.Get("If-None-Match") == tag:
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("ETag", tag)
			s.sent++
			w.Write(data)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

var example = [][2]string{
	{"top-1/", ""}, {"top-1/a", "a"}, {"top-1/sub/", ""}, {"top-1/sub/b", "b"}, {"top-2/c", "c"}, {"README", "r"},
}

func TestTarRefs(t *testing.T) {
	s := newServer(t)
	s.files["/x.tgz"] = gzipped(t, tarOf(t, example...))
	b := newBench(t)
	for ref, want := range map[string]string{
		".":         "README top-1/ top-1/a top-1/sub/ top-1/sub/b top-2/ top-2/c",
		"*":         "a c sub/ sub/b",
		"":          "a c sub/ sub/b",
		"top-1":     "a sub/ sub/b",
		"top-1/sub": "b", "./top-1/sub/": "b",
	} {
		b.newTree()
		b.list(line("x tar /opt/x", s.URL+"/x.tgz", ref))
		out := b.mustRun()
		var names []string
		err := filepath.WalkDir(b.tree+"/opt/x", func(path string, d os.DirEntry, err error) error {
			name := strings.TrimPrefix(strings.TrimPrefix(path, b.tree+"/opt/x"), "/")
			if d != nil && d.IsDir() {
				name += "/"
			}
			if name != "/" {
				names = append(names, name)
			}
			return err
		})
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("ref %q: %s (%v), want %s", ref, got, err, want)
		}
		if strings.Contains(out, "deprecated") != (ref == "") {
			t.Errorf("ref %q: %s", ref, out)
		}
		if left, err := os.ReadDir(b.tree + "/tmp"); err != nil || len(left) != 0 {
			t.Errorf("left in /tmp: %v, %v", left, err)
		}
		if got := b.inImage("etc/dib-source-repositories"); got != "/opt/x\n" {
			t.Errorf("list %q", got)
		}
	}
	if s.sent != 1 {
		t.Errorf("downloaded %d times", s.sent)
	}
	for ref, says := range map[string]string{"no-such": `there is no directory "no-such" (the ref) at the top (README, top-1, top-2)`, "README": "a single file of an archive cannot be had", "../x": "there is no directory"} {
		b.newTree()
		b.list(line("x tar /opt/x", s.URL+"/x.tgz", ref))
		b.mustFail("cannot fetch x (source-repository-test:1): ", says)
	}
	s.files["/flat.tar"] = tarOf(t, [2]string{"a", "a"})
	b.list(line("x tar /opt/x", s.URL+"/flat.tar *"))
	b.mustFail(`use "." for the whole`)
	s.files["/no.tar"] = []byte("<html>an error page of a proxy</html>")
	b.list(line("x tar /opt/x", s.URL+"/no.tar *"))
	b.mustFail("not a tar archive")
}

func TestCompressions(t *testing.T) {
	t.Run("M45 every usual compression", func(t *testing.T) {
		s := newServer(t)
		plain := tarOf(t, example...)
		s.files["/plain"] = plain
		for _, program := range []string{"gzip", "bzip2", "xz", "zstd"} {
			cmd := exec.Command(program, "-c")
			cmd.Stdin = bytes.NewReader(plain)
			out, err := cmd.Output()
			if err != nil {
				t.Skipf("%s: %v; scripts/install-test-deps installs it", program, err)
			}
			s.files["/"+program] = out
		}
		b := newBench(t)
		for name := range s.files {
			b.newTree()
			b.list(line("x tar /x", s.URL+name, "."))
			b.mustRun()
			if got := b.inImage("x/top-1/sub/b"); got != "b" {
				t.Errorf("%s: %q", name, got)
			}
		}
	})
}

func TestOwnership(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners take root")
	}
	t.Run("M43 everything belongs to root", func(t *testing.T) {
		s := newServer(t)
		s.files["/x"] = tarOf(t, example...)
		b := newBench(t)
		b.list(line("x tar /opt/x", s.URL+"/x", "top-1"), line("f file /opt/f", s.URL+"/x"))
		b.mustRun()
		for name, mode := range map[string]uint32{"x": 0o40750, "x/a": 0o100755, "x/sub": 0o40750, "f": 0o100600} {
			var st unix.Stat_t
			if err := unix.Lstat(b.tree+"/opt/"+name, &st); err != nil || st.Uid != 0 || st.Gid != 0 || st.Mode != mode {
				t.Errorf("%s: %d:%d %o (%v)", name, st.Uid, st.Gid, st.Mode, err)
			}
		}
	})
}

func TestTarMerges(t *testing.T) {
	s := newServer(t)
	s.files["/x"] = tarOf(t, [2]string{"lib/mod", "new"}, [2]string{"etc/conf", "new"}, [2]string{"abs/f", "new"})
	b := newBench(t)
	commandtest.Write(t, b.tree, map[string]string{"usr/lib/kept": "old", "etc/conf": "old", "etc/kept": "old", "real/x": "old"})
	outside := t.TempDir()
	for link, target := range map[string]string{"lib": "usr/lib", "abs": "/real"} {
		if err := os.Symlink(target, b.tree+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	b.list(line("x tar /", s.URL+"/x", "."))
	b.mustRun()
	for name, want := range map[string]string{"usr/lib/mod": "new", "usr/lib/kept": "old", "etc/conf": "new", "etc/kept": "old", "real/f": "new"} {
		if got := b.inImage(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	// A link of the image that would lead out of it, on the build host.
	if err := os.Symlink(outside, b.tree+"/out"); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"tar", "file"} {
		b.list(line("x", kind, "/out/sub/x", s.URL+"/x", "."))
		if out, status := b.run(); status != 1 || !strings.Contains(out, "leads nowhere") {
			t.Errorf("%s through a link: status %d\n%s", kind, status, out)
		}
	}
	if found, _ := os.ReadDir(outside); len(found) != 0 {
		t.Errorf("written outside of the image: %v", found)
	}
	b.list(line("x file /etc", s.URL+"/x"))
	b.mustFail("the destination /etc is a directory")
	b.list(line("x tar /etc/conf", s.URL+"/x", "."))
	b.mustFail("/etc/conf of the image is not a directory")
}

func TestFile(t *testing.T) {
	s := newServer(t)
	s.files["/f"] = []byte("one")
	b := newBench(t)
	commandtest.Write(t, b.tree, map[string]string{"old": "o"})
	b.list(line("f file /deep/er/f", s.URL+"/f"), line("old file /old", s.URL+"/f"))
	b.mustRun()
	st, err := os.Stat(b.tree + "/old")
	if err != nil || st.Mode() != 0o644 || b.inImage("old") != "one" || b.inImage("deep/er/f") != "one" {
		t.Errorf("%v, %v", st, err)
	}
	// The cache is asked about changes, and used when nobody can be asked.
	s.files["/f"] = []byte("two")
	b.newTree()
	b.mustRun()
	if got := b.inImage("old"); got != "two" {
		t.Errorf("after a change: %q", got)
	}
	delete(s.files, "/f")
	b.newTree()
	b.mustFail("cannot fetch f (source-repository-test:1): ", "not found (404)")
	b.env["DIB_OFFLINE"] = "1"
	b.mustRun()
	if got := b.inImage("deep/er/f"); got != "two" {
		t.Errorf("offline: %q", got)
	}
	b.list(line("g file /g", s.URL+"/g"))
	b.mustFail("404") // never seen: offline or not, there is no other way
	// A path of the host will do.
	commandtest.Write(t, b.cache, map[string]string{"local file#": "here"})
	b.list("h file /h ${PLACE}")
	if err := os.Rename(b.cache+"/local file#", b.cache+"/local#file"); err != nil {
		t.Fatal(err)
	}
	b.env["PLACE"] = b.cache + "/local#file"
	b.mustRun()
	if got := b.inImage("h"); got != "here" {
		t.Errorf("path: %q", got)
	}
}

func TestChecksums(t *testing.T) {
	s := newServer(t)
	s.files["/f"] = []byte("good")
	good := fmt.Sprintf("%x", sha256.Sum256([]byte("good")))
	b := newBench(t)
	cached := func() int { return len(must(filepath.Glob(b.cache + "/source-repositories/f_*[0-9a-f]"))) }
	t.Run("M45 right", func(t *testing.T) {
		b.list(line("f file /f", s.URL+"/f#sha256="+good))
		b.mustRun()
	})
	t.Run("M45 the cache is damaged", func(t *testing.T) {
		for _, path := range must(filepath.Glob(b.cache + "/source-repositories/f_*[0-9a-f]")) {
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("evil"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, st.ModTime(), st.ModTime()); err != nil {
				t.Fatal(err)
			}
		}
		b.newTree()
		b.env["DIB_OFFLINE"] = "1"
		b.mustFail("the checksum of " + s.URL)
		b.env["DIB_OFFLINE"] = ""
		if out := b.mustRun(); !strings.Contains(out, "downloading it anew") || b.inImage("f") != "good" {
			t.Errorf("says\n%s", out)
		}
	})
	t.Run("M45 the server has something else", func(t *testing.T) {
		s.files["/f"] = []byte("evil")
		b.newTree()
		for range 2 {
			b.mustFail("the checksum of "+s.URL, "expected sha256:"+good)
			if n := cached(); n != 0 {
				t.Errorf("%d files stayed in the cache", n)
			}
		}
		if _, err := os.Stat(b.tree + "/f"); err == nil {
			t.Error("it reached the image")
		}
	})
	t.Run("M45 in a variable", func(t *testing.T) {
		b.list(line("f file /f", s.URL+"/f"))
		b.env["DIB_REPOCHECKSUM_f"] = "sha256:" + good
		b.mustFail("expected sha256:" + good)
		s.files["/f"] = []byte("good")
		b.mustRun()
	})
}

func TestPlanning(t *testing.T) {
	b := newBench(t)
	lib := t.TempDir()
	commandtest.Write(t, lib, map[string]string{"an-element/source-repository-x": "", "an-element/source-repository-x~": ""})
	b.env["IMAGE_ELEMENT_YAML"] = "an-element: " + lib + "/an-element\n"
	commandtest.Write(t, b.hooks, map[string]string{
		"source-repository-x":  "a file /a $NO\nb file /b\nc file /c file:///no # comment",
		"source-repository-x~": "not read", "other": "not read",
	})
	b.mustFail("an-element/source-repository-x:1: the variable NO is not set", "an-element/source-repository-x:2: b needs a location")
	t.Run("M41 two files for one destination", func(t *testing.T) {
		commandtest.Write(t, b.hooks, map[string]string{"source-repository-x": "a file /a file:///a", "source-repository-y": "\nb tar /a file:///b ."})
		b.mustFail("source-repository-y:2: b: the destination /a is also that of a (an-element/source-repository-x:1), from elsewhere")
	})
	t.Run("M37 packages need nothing", func(t *testing.T) {
		commandtest.Write(t, b.hooks, map[string]string{"source-repository-x": "a package", "source-repository-y": ""})
		if out := b.mustRun(); !strings.Contains(out, "(0001 / 0001) skipping a: packages come with package-installs") {
			t.Errorf("says\n%s", out)
		}
	})
	t.Run("M46 the element's type counts", func(t *testing.T) {
		commandtest.Write(t, b.hooks, map[string]string{"source-repository-x": "glean file /x file:///etc/hostname"})
		b.env["DIB_INSTALLTYPE_an_element"] = "package"
		if out := b.mustRun(); !strings.Contains(out, "skipping glean: the install type is \"package\" (DIB_INSTALLTYPE_an_element)") {
			t.Errorf("says\n%s", out)
		}
	})
	if entries, err := os.ReadDir(b.tree); err != nil || len(entries) != 0 {
		t.Errorf("the image has %v (%v)", entries, err)
	}
	b.env["NO_SOURCE_REPOSITORIES"] = "1"
	commandtest.Write(t, b.hooks, map[string]string{"source-repository-x": "broken"})
	b.mustRun()
	b.env["NO_SOURCE_REPOSITORIES"] = ""
	b.mustFail("a name and a type are needed")
}

func TestReadme(t *testing.T) {
	t.Run("M47 the documentation is that of the program", func(t *testing.T) {
		text := commandtest.Read(t, "../../../elements/source-repositories/README.rst")
		for _, name := range []string{
			"NO_SOURCE_REPOSITORIES", "DIB_OFFLINE", "DIB_GITREPOBASE", "DIB_REPOTYPE_NAME", "DIB_REPOLOCATION_NAME", "DIB_REPOREF_NAME",
			"DIB_REPOCHECKSUM_NAME", "DIB_INSTALLTYPE_NAME", "DIB_INSTALLTYPE_ELEMENT", "DIB_DEFAULT_INSTALLTYPE", "dib-manifest-git-", "/etc/dib-source-repositories",
		} {
			if !strings.Contains(text, name) {
				t.Errorf("README.rst does not mention %s", name)
			}
		}
		for _, gone := range []string{"source-repositories-environment", "DIB_REPONAMES"} {
			if strings.Contains(text, gone) {
				t.Errorf("README.rst promises %s", gone)
			}
		}
	})
}
