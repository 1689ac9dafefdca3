package tarball

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/image/tree"
	"github.com/dib-builder/dib/internal/sidetable"
)

const epoch = 1_700_000_000

var longName = strings.Repeat("a-long-name/", 30) + "file"

// sample is a tree with one of everything. Owners are set afterwards: an
// ordinary user cannot give files away.
func sample(t testing.TB) *tree.Tree {
	t.Helper()
	dir := t.TempDir()
	put := func(name string, data []byte) {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put("etc/passwd", []byte("root:x:0:0::/:/bin/sh\n"))
	put("usr/ü/\xff-not-utf8", []byte("bytes"))
	put(longName, []byte("deep"))
	put("proc/cpuinfo", []byte("of the host"))
	put("sys/kernel", []byte("of the host"))
	put("usr/proc/kept", []byte("kept"))
	put("dev/null", nil)
	put("dev/sda", nil)
	put("empty", nil)
	dense := bytes.Repeat([]byte("dense "), 500_000)
	put("dense", dense)
	holes := make([]byte, 5<<20+123)
	copy(holes[1<<20:], "island")
	copy(holes[len(holes)-3:], "end")
	put("holes", holes)
	put("all-hole", make([]byte, 2<<20))
	for _, err := range []error{
		os.Symlink("../etc/passwd", filepath.Join(dir, "usr/link")),
		os.Symlink(strings.Repeat("x", 150), filepath.Join(dir, "usr/long-link")),
		os.Link(filepath.Join(dir, "etc/passwd"), filepath.Join(dir, "usr/hard")),
		os.Link(filepath.Join(dir, "proc/cpuinfo"), filepath.Join(dir, "usr/of-proc")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600),
		os.Chmod(filepath.Join(dir, "empty"), 0o755|os.ModeSetuid|os.ModeSticky),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	tr, err := tree.Read(context.Background(), dir, tree.Options{Epoch: epoch, Side: []sidetable.Entry{
		{Path: "dev/null", Node: &sidetable.Node{Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 3}, UID: 0, GID: 0},
		{Path: "dev/sda", Node: &sidetable.Node{Mode: unix.S_IFBLK | 0o660, Major: 259, Minor: 1 << 19}, UID: 0, GID: 6},
		{Path: "dense", Xattrs: map[string][]byte{"security.capability": {1, 0, 0, 2, 0}, "user.a=b%": []byte("\n=")}, Flags: sidetable.FlagImmutable},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range tr.Entries {
		e := &tr.Entries[i]
		if e.Path == "dev/sda" {
			continue
		}
		e.UID, e.GID = 0, 0
		if e.Path == "holes" {
			e.UID, e.GID = 3_000_000, 1234
		}
		e.Xattrs = slices.DeleteFunc(e.Xattrs, func(x tree.Xattr) bool { return x.Name == "security.selinux" })
	}
	return tr
}

// buffer is an Output in memory.
type buffer struct{ data []byte }

func (b *buffer) Write(p []byte) (int, error) { b.data = append(b.data, p...); return len(p), nil }

func (b *buffer) WriteAt(p []byte, off int64) (int, error) { return copy(b.data[off:], p), nil }

func write(t testing.TB, f tree.Format, tr *tree.Tree, set tree.Settings) []byte {
	t.Helper()
	var b buffer
	if err := f.Write(context.Background(), tr, &b, set, nil); err != nil {
		t.Fatal(err)
	}
	return b.data
}

func format(t testing.TB, name string) tree.Format {
	t.Helper()
	for _, f := range Formats() {
		if f.Name() == name {
			return f
		}
	}
	t.Fatalf("there is no format %s", name)
	return nil
}

type member struct {
	tar.Header
	data []byte
}

func members(t testing.TB, archive []byte) (map[string]member, []string) {
	t.Helper()
	found := map[string]member{}
	var order []string
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found, order
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		if _, twice := found[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		found[h.Name] = member{*h, data}
		order = append(order, h.Name)
	}
}

func TestTar(t *testing.T) {
	tr := sample(t)
	var warned []string
	archive := write(t, format(t, "tar"), tr, tree.Settings{Warn: func(s string) { warned = append(warned, s) }})
	if len(archive)%recordSize != 0 {
		t.Errorf("the archive has %d bytes, no multiple of a record", len(archive))
	}
	found, order := members(t, archive)
	if order[0] != "./" {
		t.Errorf("the first member is %q", order[0])
	}
	for name, m := range found {
		if m.Uname != "" || m.Gname != "" {
			t.Errorf("D54: %s has owner names %q, %q", name, m.Uname, m.Gname)
		}
		if m.ModTime.Unix() != epoch && m.ModTime.Unix() != 0 {
			t.Errorf("%s has the time %v", name, m.ModTime)
		}
	}
	t.Run("D53 nothing of proc and sys", func(t *testing.T) {
		for _, name := range order {
			if strings.HasPrefix(name, "./proc") || strings.HasPrefix(name, "./sys") {
				t.Errorf("%s is archived", name)
			}
		}
		if string(found["./usr/proc/kept"].data) != "kept" {
			t.Error("usr/proc is not archived")
		}
		// Its other name is left out, so this is the file itself.
		if m := found["./usr/of-proc"]; m.Typeflag != tar.TypeReg || string(m.data) != "of the host" {
			t.Errorf("usr/of-proc is %+v", m.Header)
		}
	})
	for name, want := range map[string]tar.Header{
		"./usr/link":            {Typeflag: tar.TypeSymlink, Linkname: "../etc/passwd", Mode: 0o777},
		"./usr/long-link":       {Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("x", 150), Mode: 0o777},
		"./usr/hard":            {Typeflag: tar.TypeLink, Linkname: "./etc/passwd", Mode: 0o644},
		"./fifo":                {Typeflag: tar.TypeFifo, Mode: 0o600},
		"./dev/null":            {Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666},
		"./dev/sda":             {Typeflag: tar.TypeBlock, Devmajor: 259, Devminor: 1 << 19, Mode: 0o660, Gid: 6},
		"./empty":               {Typeflag: tar.TypeReg, Mode: 0o5755},
		"./usr/ü/\xff-not-utf8": {Typeflag: tar.TypeReg, Mode: 0o644, Size: 5},
		"./" + longName:         {Typeflag: tar.TypeReg, Mode: 0o644, Size: 4},
		"./holes":               {Typeflag: tar.TypeReg, Mode: 0o644, Uid: 3_000_000, Gid: 1234, Size: 5<<20 + 123},
		"./all-hole":            {Typeflag: tar.TypeReg, Mode: 0o644, Size: 2 << 20},
	} {
		m, ok := found[name]
		if !ok {
			t.Errorf("%s is missing", name)
			continue
		}
		if m.Typeflag != want.Typeflag || m.Linkname != want.Linkname || m.Mode != want.Mode || m.Uid != want.Uid || m.Gid != want.Gid ||
			m.Devmajor != want.Devmajor || m.Devminor != want.Devminor || m.Size != want.Size {
			t.Errorf("%s is %+v, want %+v", name, m.Header, want)
		}
	}
	wantSame(t, tr, found)
	records := found["./dense"].PAXRecords
	if records["SCHILY.xattr.security.capability"] != "\x01\x00\x00\x02\x00" || records["SCHILY.xattr.user.a%3Db%25"] != "\n=" || records["SCHILY.fflags"] != "schg" {
		t.Errorf("dense has records %q", records)
	}
	if n := len(archive); n > 4<<20 {
		t.Errorf("the archive has %d bytes: holes are stored", n)
	}
	if len(warned) != 0 {
		t.Errorf("warnings: %q", warned)
	}
}

// wantSame compares the contents of regular files.
func wantSame(t *testing.T, tr *tree.Tree, found map[string]member) {
	t.Helper()
	for i := range tr.Entries {
		e := &tr.Entries[i]
		m, ok := found["./"+e.Path]
		if e.Type() != unix.S_IFREG || !ok || m.Typeflag == tar.TypeLink {
			continue
		}
		f, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(f)
		f.Close()
		if err != nil || !bytes.Equal(m.data, want) {
			t.Errorf("%s differs: %d bytes, want %d (%v)", e.Path, len(m.data), len(want), err)
		}
	}
}

func TestGNUTar(t *testing.T) {
	tr := sample(t)
	file := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(file, write(t, format(t, "tar"), tr, tree.Settings{}), 0o600); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	args := []string{"--warning=no-unknown-keyword", "--exclude=./dev/*", "--no-same-owner", "-C", out, "-xf", file}
	if text, err := exec.Command("tar", args...).CombinedOutput(); err != nil || len(text) > 0 {
		t.Fatalf("tar -x: %v: %s", err, text)
	}
	for i := range tr.Entries {
		e := &tr.Entries[i]
		if e.Type() != unix.S_IFREG || e.Below("proc") || e.Below("sys") {
			continue
		}
		f, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(out, e.Path)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v; want %d", e.Path, len(got), err, len(want))
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(out, "holes"), &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("holes occupies %d bytes (%v): it is not sparse", st.Blocks*512, err)
	}
	list, err := exec.Command("tar", "--warning=no-unknown-keyword", "-tvf", file).Output()
	if err != nil || !strings.Contains(string(list), "3000000/1234") || !strings.Contains(string(list), "259,524288") {
		t.Errorf("tar -t: %v:\n%s", err, list)
	}
}

func TestCompressed(t *testing.T) {
	tr := sample(t)
	plain := write(t, format(t, "tar"), tr, tree.Settings{})
	for name, unpack := range map[string]func(io.Reader) (io.Reader, error){
		"tgz":     func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"tar.zst": func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
	} {
		var first []byte
		for _, workers := range []int{1, 2, 7} {
			packed := write(t, format(t, name), tr, tree.Settings{Workers: workers})
			if first == nil {
				first = packed
			} else if !bytes.Equal(packed, first) {
				t.Errorf("%s: the bytes depend on the number of workers", name)
			}
		}
		r, err := unpack(bytes.NewReader(first))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s does not hold the tar: %v", name, err)
		}
	}
}

func TestOtherGzip(t *testing.T) {
	tr := sample(t)
	set := func(f func(in io.Reader, out io.Writer) error) tree.Settings {
		return tree.Settings{Gzip: func(_ context.Context, in io.Reader, out io.Writer) error { return f(in, out) }}
	}
	got := write(t, format(t, "tgz"), tr, set(func(in io.Reader, out io.Writer) error {
		_, err := io.Copy(out, in)
		return err
	}))
	if !bytes.Equal(got, write(t, format(t, "tar"), tr, tree.Settings{})) {
		t.Error("the compressor does not get the tar")
	}
	broken := errors.New("no space")
	for name, f := range map[string]func(in io.Reader, out io.Writer) error{
		"fails at once":    func(io.Reader, io.Writer) error { return broken },
		"fails half-way":   func(in io.Reader, _ io.Writer) error { _, _ = io.CopyN(io.Discard, in, 5000); return broken },
		"fails at the end": func(in io.Reader, _ io.Writer) error { _, _ = io.Copy(io.Discard, in); return broken },
	} {
		t.Run("D59 "+name, func(t *testing.T) {
			if err := format(t, "tgz").Write(context.Background(), tr, &buffer{}, set(f), nil); !errors.Is(err, broken) {
				t.Errorf("error is %v", err)
			}
		})
	}
	err := format(t, "tgz").Write(context.Background(), tr, &buffer{}, set(func(io.Reader, io.Writer) error { return nil }), nil)
	if err == nil || !strings.Contains(err.Error(), "ended before its input") {
		t.Errorf("a compressor that reads nothing: %v", err)
	}
	if err := os.Remove(filepath.Join(dirOf(t, tr), "dense")); err != nil {
		t.Fatal(err)
	}
	err = format(t, "tgz").Write(context.Background(), tr, &buffer{}, tree.Settings{}, nil)
	if err == nil || !strings.Contains(err.Error(), `cannot archive "dense"`) {
		t.Errorf("a file that is gone: %v", err)
	}
}

func dirOf(t *testing.T, tr *tree.Tree) string {
	t.Helper()
	for i := range tr.Entries {
		if e := &tr.Entries[i]; e.Path == "dense" {
			f, err := e.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			return filepath.Dir(f.Name())
		}
	}
	return ""
}

func TestACI(t *testing.T) {
	tr := sample(t)
	var warned []string
	set := tree.Settings{Manifest: []byte(`{"acKind":"ImageManifest"}`), Warn: func(s string) { warned = append(warned, s) }}
	found, order := members(t, write(t, format(t, "aci"), tr, set))
	if order[0] != "rootfs/" || order[len(order)-1] != "manifest" || string(found["manifest"].data) != string(set.Manifest) {
		t.Errorf("members are %q", order)
	}
	if found["rootfs/usr/hard"].Linkname != "rootfs/etc/passwd" || found["rootfs/usr/link"].Linkname != "../etc/passwd" {
		t.Errorf("links lead to %q and %q", found["rootfs/usr/hard"].Linkname, found["rootfs/usr/link"].Linkname)
	}
	set.Manifest = nil
	if found, _ := members(t, write(t, format(t, "aci"), tr, set)); len(warned) != 1 || found["manifest"].data != nil {
		t.Errorf("without a manifest: warnings %q", warned)
	}
}

func TestDocker(t *testing.T) {
	tr := sample(t)
	archive := write(t, Docker{}, tr, tree.Settings{Tag: "Registry.example:5000/a/b", Arch: "x86_64"})
	found, _ := members(t, archive)
	var manifest []manifestItem
	if err := json.Unmarshal(found["manifest.json"].data, &manifest); err != nil || len(manifest) != 1 {
		t.Fatalf("manifest.json is %s (%v)", found["manifest.json"].data, err)
	}
	m := manifest[0]
	if len(found) != 3 || len(m.Layers) != 1 || !slices.Equal(m.RepoTags, []string{"Registry.example:5000/a/b:latest"}) {
		t.Errorf("%d members, manifest %+v", len(found), m)
	}
	config, layer := found[m.Config].data, found[m.Layers[0]].data
	if sum := sha256.Sum256(config); m.Config != hex.EncodeToString(sum[:])+".json" {
		t.Errorf("the configuration's name %s is not its digest", m.Config)
	}
	sum := sha256.Sum256(layer)
	if !strings.Contains(string(config), `"diff_ids":["sha256:`+hex.EncodeToString(sum[:])+`"]`) || !strings.Contains(string(config), `"architecture":"amd64"`) {
		t.Errorf("the configuration is %s", config)
	}
	inside, _ := members(t, layer)
	wantSame(t, tr, inside)
	for name, m := range inside {
		if m.PAXRecords["GNU.sparse.major"] != "" {
			t.Errorf("%s is sparse, in a layer", name)
		}
	}
	if !bytes.Equal(archive, write(t, Docker{}, tr, tree.Settings{Tag: "Registry.example:5000/a/b", Arch: "x86_64"})) {
		t.Error("two images differ")
	}
}

func TestOCI(t *testing.T) {
	tr := sample(t)
	set := tree.Settings{Tag: "registry.example/a/b:v1", Arch: "aarch64", Workers: 1}
	archive := write(t, OCI{}, tr, set)
	found, _ := members(t, archive)
	blob := func(d descriptor) []byte {
		t.Helper()
		data := found["blobs/sha256/"+strings.TrimPrefix(d.Digest, "sha256:")].data
		if sum := sha256.Sum256(data); d.Digest != "sha256:"+hex.EncodeToString(sum[:]) || d.Size != int64(len(data)) {
			t.Errorf("%+v has %d bytes", d, len(data))
		}
		return data
	}
	var top index
	if err := json.Unmarshal(found["index.json"].data, &top); err != nil || len(top.Manifests) != 1 || len(found) != 5 {
		t.Fatalf("%d members, index.json is %s (%v)", len(found), found["index.json"].data, err)
	}
	if d := top.Manifests[0]; d.Annotations["org.opencontainers.image.ref.name"] != "v1" || d.Platform.Architecture != "arm64" {
		t.Errorf("the index has %+v", d)
	}
	var m manifest
	if err := json.Unmarshal(blob(top.Manifests[0]), &m); err != nil || len(m.Layers) != 1 {
		t.Fatalf("manifest %+v (%v)", m, err)
	}
	z, err := gzip.NewReader(bytes.NewReader(blob(m.Layers[0])))
	if err != nil {
		t.Fatal(err)
	}
	layer, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(layer)
	if config := string(blob(m.Config)); !strings.Contains(config, `"diff_ids":["sha256:`+hex.EncodeToString(sum[:])+`"]`) {
		t.Errorf("the configuration is %s", config)
	}
	inside, _ := members(t, layer)
	wantSame(t, tr, inside)
	set.Workers = 4
	if !bytes.Equal(archive, write(t, OCI{}, tr, set)) {
		t.Error("two images differ")
	}
}

func TestLargeHeaders(t *testing.T) {
	large := header{name: "x", typ: typeRegular, size: 1 << 40, modTime: -5, uid: 1 << 31}
	h, err := tar.NewReader(bytes.NewReader(large.encode())).Next()
	if err != nil || h.Size != 1<<40 || h.ModTime.Unix() != -5 || h.Uid != 1<<31 {
		t.Errorf("%+v, %v", h, err)
	}
	block := header{name: "x", typ: typeRegular, size: 1 << 40}.single()
	if h, err := tar.NewReader(bytes.NewReader(block)).Next(); len(block) != blockSize || err != nil || h.Size != 1<<40 {
		t.Errorf("%d bytes, %+v, %v", len(block), h, err)
	}
}

func TestParseTag(t *testing.T) {
	for in, want := range map[string]string{
		"image": "image:latest", "a/b:c": "a/b:c", "host:5000/x": "host:5000/x:latest", "host:5000/x:1.0": "host:5000/x:1.0",
		"": "", "My": "", "my img": "", "a:": "", "a:b c": "", "-a": "", "a//b": "", "a:b:c": "", "a@sha256:00": "",
	} {
		if got, err := ParseTag(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v; want %q", in, got, err, want)
		}
	}
}

// FuzzHeader writes any header and reads it with the standard library.
func FuzzHeader(f *testing.F) {
	f.Add("./etc/passwd", "", "security.capability", []byte("v"), int64(5), int64(epoch), uint32(0))
	f.Add("./"+strings.Repeat("ü/", 90), strings.Repeat("l", 200), "user.=%", []byte("\n\x00="), int64(1)<<40, int64(-1), uint32(1)<<31)
	f.Add("./\xff", "\xfe", "x", []byte{}, int64(0), int64(1)<<40, uint32(1000))
	f.Fuzz(func(t *testing.T, name, link, attr string, value []byte, size, modTime int64, id uint32) {
		if strings.ContainsRune(name+link+attr, 0) || name == "" || attr == "" || size < 0 || strings.HasSuffix(name, "/") || len(name)+len(link)+len(attr)+len(value) > 1<<16 {
			return
		}
		h := header{name: name, typ: typeRegular, size: size, modTime: modTime, uid: id, gid: id, records: []record{{xattrKey(attr), string(value)}}}
		if link != "" {
			h.typ, h.link, h.size = typeSymlink, link, 0
		}
		got, err := tar.NewReader(bytes.NewReader(h.encode())).Next()
		if err != nil {
			t.Fatal(err)
		}
		if got.Name != name || got.Linkname != link || got.Size != h.size || got.ModTime.Unix() != modTime || uint32(got.Uid) != id {
			t.Errorf("%+v becomes %+v", h, got)
		}
		if v, ok := got.PAXRecords[xattrKey(attr)]; len(value) > 0 && (!ok || v != string(value)) {
			t.Errorf("attribute %q is %q", attr, got.PAXRecords)
		}
	})
}

// FuzzSparse stores files of any pattern of holes and reads them back.
func FuzzSparse(f *testing.F) {
	f.Add([]byte{0, 20, 1, 3, 0, 20}, uint16(0))
	f.Add([]byte{1, 1, 0, 40}, uint16(123))
	f.Add([]byte{0, 16}, uint16(1))
	f.Fuzz(func(t *testing.T, pattern []byte, tail uint16) {
		var content []byte
		for i := 0; i+1 < len(pattern) && len(content) < 8<<20; i += 2 {
			run := make([]byte, int(pattern[i+1])*16<<10)
			if pattern[i] != 0 {
				for j := range run {
					run[j] = pattern[i]
				}
			}
			content = append(content, run...)
		}
		content = append(content, bytes.Repeat([]byte{9}, int(tail%5000))...)
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "f"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		tr, err := tree.Read(context.Background(), dir, tree.Options{})
		if err != nil {
			t.Fatal(err)
		}
		found, _ := members(t, write(t, format(t, "tar"), tr, tree.Settings{}))
		if !bytes.Equal(found["./f"].data, content) {
			t.Errorf("%d bytes become %d", len(content), len(found["./f"].data))
		}
	})
}

func BenchmarkTar(b *testing.B) {
	tr := sample(b)
	for _, f := range Formats() {
		b.Run(fmt.Sprint(f.Name()), func(b *testing.B) {
			for b.Loop() {
				write(b, f, tr, tree.Settings{Tag: "x"})
			}
		})
	}
}
