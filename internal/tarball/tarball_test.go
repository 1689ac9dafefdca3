package tarball

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// member is one entry of an archive under test.
type member struct {
	tar.Header
	content string
}

func archive(t *testing.T, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		m.Size = int64(len(m.content))
		if m.ModTime.IsZero() && m.Typeflag != tar.TypeXGlobalHeader {
			m.ModTime = time.Unix(1e9, 0)
		}
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name, content string) member {
	return member{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, content}
}

func link(name, target string) member {
	return member{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}, ""}
}

func TestDecompress(t *testing.T) {
	const text = "some text, repeated, repeated, repeated"
	with := func(open func(io.Writer) (io.WriteCloser, error)) []byte {
		var b bytes.Buffer
		w, err := open(&b)
		if err == nil {
			_, err = io.WriteString(w, text)
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	bzip2 := exec.Command("bzip2")
	bzip2.Stdin = strings.NewReader(text)
	bzipped, err := bzip2.Output()
	if err != nil {
		t.Fatal(err)
	}
	gz := with(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
	for name, data := range map[string][]byte{
		"plain": []byte(text), "gzip": gz, "bzip2": bzipped, "empty": nil, "short": []byte("x"),
		"xz":   with(func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }),
		"zstd": with(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }),
	} {
		r, err := Decompress(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := io.ReadAll(r)
		want := text
		if len(data) < 2 {
			want = string(data)
		}
		if err := errors.Join(err, r.Close()); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := Decompress(strings.NewReader("\x1f\x8bxx")); err == nil {
		t.Error("a damaged gzip header was taken")
	}
}

func TestExtractSources(t *testing.T) {
	dir := t.TempDir()
	old := time.Unix(1e9, 0)
	err := Extract(t.Context(), bytes.NewReader(archive(t,
		member{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, ""},
		member{tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o2775, Uid: 1234, Gid: 1234}, ""},
		member{tar.Header{Name: "d/tool", Typeflag: tar.TypeReg, Mode: 0o4777, Uid: 1234}, "x"},
		file("deep/er/without/directories", "y"),
		member{tar.Header{Name: "d/same", Typeflag: tar.TypeLink, Linkname: "d/tool"}, ""},
		link("d/link", "tool"),
		file("/absolute", "z"), file("../../outside", "o"), file("d/tool2", "first"), file("d/tool2", "second"),
		file("zeros", strings.Repeat("\x00", 1<<20)),
	)), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"d/tool": "x 755", "d/same": "x 755", "d/link": "x 755", "deep/er/without/directories": "y 644",
		"absolute": "z 644", "outside": "o 644", "d/tool2": "second 644",
	} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		st, err := os.Stat(filepath.Join(dir, name))
		if got := fmt.Sprintf("%s %o", data, st.Mode()); err != nil || got != want || !st.ModTime().Equal(old) {
			t.Errorf("%s: %q of %v, want %q", name, got, st.ModTime(), want)
		}
	}
	st, err := os.Stat(dir + "/d")
	if err != nil || st.Mode() != os.ModeDir|0o755 || !st.ModTime().Equal(old) {
		t.Errorf("d: %v %v %v", st.Mode(), st.ModTime(), err)
	}
	var zeros unix.Stat_t
	if err := unix.Stat(dir+"/zeros", &zeros); err != nil || zeros.Size != 1<<20 || zeros.Blocks > 8 {
		t.Errorf("zeros: %d bytes in %d blocks (%v)", zeros.Size, zeros.Blocks, err)
	}
	for name, members := range map[string][]member{
		"a device":                {{tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, ""}},
		"a link out and through":  {link("out", "/etc"), file("out/x", "")},
		"a relative link out":     {link("out", "../.."), file("out/x", "")},
		"a file over a directory": {{tar.Header{Name: "a/", Typeflag: tar.TypeDir}, ""}, file("a", "")},
		"a hard link out":         {{tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "../../../../etc/passwd"}, ""}},
	} {
		dir := t.TempDir()
		if err := Extract(t.Context(), bytes.NewReader(archive(t, members...)), dir, Options{}); err == nil {
			t.Errorf("%s: no error", name)
		} else if !strings.Contains(err.Error(), "cannot unpack") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Extract(t.Context(), strings.NewReader("no archive at all, but longer than one block"+strings.Repeat(".", 600)), dir, Options{}); err == nil || !strings.Contains(err.Error(), "not a tar archive") {
		t.Errorf("%v", err)
	}
	whole := archive(t, file("a", strings.Repeat("x", 5000)))
	if err := Extract(t.Context(), bytes.NewReader(whole[:3000]), t.TempDir(), Options{}); err == nil {
		t.Error("half an archive was taken")
	}
}

func TestExtractSystem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners and device nodes take root")
	}
	dir := t.TempDir()
	attrs := map[string]string{xattrPrefix + "user.x": "v", xattrPrefix + "security.selinux": "label", xattrPrefix + "security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	err := Extract(t.Context(), bytes.NewReader(archive(t,
		member{tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755, Gid: 5}, ""},
		member{tar.Header{Name: "d", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 10, Gid: 20, PAXRecords: map[string]string{xattrPrefix + "user.d": "w"}}, ""},
		member{tar.Header{Name: "d/ping", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 1, Gid: 2, PAXRecords: attrs}, "x"},
		member{tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666}, ""},
		member{tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o640, Gid: 7}, ""},
		member{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/nowhere", Uid: 3}, ""},
	)), dir, Options{System: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		".": "040755 0:5", "d": "041777 10:20", "d/ping": "0104755 1:2", "null": "020666 0:0 1:3", "fifo": "010640 0:7", "l": "0120777 3:0",
	} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil {
			t.Error(err)
			continue
		}
		got := fmt.Sprintf("%#o %d:%d", st.Mode, st.Uid, st.Gid)
		if st.Rdev != 0 {
			got += fmt.Sprintf(" %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		if got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	buf := make([]byte, 200)
	n, err := unix.Listxattr(dir+"/d/ping", buf)
	if list := string(buf[:max(n, 0)]); err != nil || !strings.Contains(list, "user.x\x00") || !strings.Contains(list, "security.capability\x00") || strings.Contains(list, "selinux") {
		t.Errorf("attributes of ping: %q, %v", list, err)
	}
	if n, err := unix.Getxattr(dir+"/d", "user.d", buf); err != nil || string(buf[:n]) != "w" {
		t.Errorf("attribute of d: %v", err)
	}
}

func FuzzExtract(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "d/l", Typeflag: tar.TypeSymlink, Linkname: "../../x"}, {Name: "d/l/y", Typeflag: tar.TypeReg},
	} {
		if err := w.WriteHeader(&h); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "in")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if r, err := Decompress(bytes.NewReader(data)); err == nil {
			_ = Extract(t.Context(), io.LimitReader(r, 1<<20), dir, Options{})
		}
		if entries, err := os.ReadDir(parent); err != nil || len(entries) != 1 {
			t.Errorf("something is outside: %v, %v", entries, err)
		}
	})
}
