package cacheurl

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/test/commandtest"
)

// origin is a web server with one file, whose behaviour tests change.
type origin struct {
	*httptest.Server
	handler  http.HandlerFunc
	requests []*http.Request
}

func newOrigin(t *testing.T) *origin {
	o := &origin{}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.requests = append(o.requests, r)
		o.handler(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

// fetchFrom runs a download without waiting between attempts.
func fetchFrom(t *testing.T, address, dest string, change func(*download)) error {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	d := &download{
		url: u, dest: dest, client: newClient(), tmpDir: t.TempDir(), stall: stallTimeout,
		say: t.Logf, trace: t.Logf,
		wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
	if change != nil {
		change(d)
	}
	return d.run(t.Context())
}

func exitOf(err error) int {
	var exit *cmdline.ExitError
	if errors.As(err, &exit) {
		return exit.Code
	}
	if err != nil {
		return 1
	}
	return 0
}

func TestCacheURLConditional(t *testing.T) {
	o := newOrigin(t)
	dest := filepath.Join(t.TempDir(), "sub", "file")
	content, etag := "one", `"1"`
	o.handler = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", etag)
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		if r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, content)
	}
	get := func(change func(*download)) {
		t.Helper()
		if err := fetchFrom(t, o.URL+"/f", dest, change); err != nil {
			t.Fatal(err)
		}
	}
	get(nil)
	if got := commandtest.Read(t, dest); got != "one" {
		t.Fatalf("got %q", got)
	}
	before, err := os.Stat(dest)
	if err != nil {
		t.Fatal(err)
	}
	content = "same tag, so not fetched"
	get(nil)
	if after, err := os.Stat(dest); err != nil || !after.ModTime().Equal(before.ModTime()) || commandtest.Read(t, dest) != "one" {
		t.Errorf("an unchanged file was touched (%v)", err)
	}
	t.Run("M56 the server went back to an older file", func(t *testing.T) {
		content, etag = "older", `"0"`
		get(nil)
		if got := commandtest.Read(t, dest); got != "older" {
			t.Errorf("got %q after a rollback", got)
		}
	})
	if st, err := os.Stat(dest); err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	content = "forced"
	get(func(d *download) { d.force = true })
	last := o.requests[len(o.requests)-1]
	if commandtest.Read(t, dest) != "forced" || last.Header.Get("Pragma") != "no-cache, must-revalidate" ||
		last.Header.Get("Cache-Control") != "no-cache, must-revalidate" || last.Header.Get("If-None-Match") != "" {
		t.Errorf("-f: content %q, headers %v", commandtest.Read(t, dest), last.Header)
	}
	// A file from elsewhere is asked for by its own time.
	if err := os.WriteFile(dest, []byte("foreign"), 0o644); err != nil {
		t.Fatal(err)
	}
	stamp := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := os.Chtimes(dest, stamp, stamp); err != nil {
		t.Fatal(err)
	}
	get(nil)
	if got := o.requests[len(o.requests)-1].Header.Get("If-Modified-Since"); got != "Thu, 02 Jan 2020 03:04:05 GMT" {
		t.Errorf("If-Modified-Since: %q", got)
	}
	t.Run("M57 nothing else is left", func(t *testing.T) {
		leftovers(t, filepath.Dir(dest), "file", ".file.cache-url")
	})
}

// leftovers fails if a directory holds other names than those wanted.
func leftovers(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(want, e.Name()) {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

func TestCacheURLStatus(t *testing.T) {
	for _, tt := range []struct {
		name     string
		statuses []int // answers in turn, the last one repeated
		dest     string
		exit     int
		requests int
	}{
		{"not found", []int{404}, "old", 44, 1},
		{"forbidden", []int{403}, "old", 1, 1},
		{"no content", []int{204}, "old", 1, 1},
		{"passes", []int{503, 429, 200}, "new", 0, 3},
		{"gives up", []int{500}, "old", 1, 4},
		{"unchanged", []int{304}, "old", 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := newOrigin(t)
			o.handler = func(w http.ResponseWriter, _ *http.Request) {
				status := tt.statuses[min(len(o.requests), len(tt.statuses))-1]
				w.WriteHeader(status)
				if status == 200 {
					fmt.Fprint(w, "new")
				}
			}
			dest := filepath.Join(t.TempDir(), "f")
			commandtest.Write(t, filepath.Dir(dest), map[string]string{"f": "old"})
			err := fetchFrom(t, o.URL, dest, nil)
			if exitOf(err) != tt.exit || len(o.requests) != tt.requests || commandtest.Read(t, dest) != tt.dest {
				t.Errorf("exit %d (%v), %d requests, content %q", exitOf(err), err, len(o.requests), commandtest.Read(t, dest))
			}
			leftovers(t, filepath.Dir(dest), "f")
		})
	}
}

func TestCacheURLEmptyBody(t *testing.T) {
	o := newOrigin(t)
	o.handler = func(http.ResponseWriter, *http.Request) {}
	dest := filepath.Join(t.TempDir(), "f")
	if err := fetchFrom(t, o.URL, dest, nil); err != nil || commandtest.Read(t, dest) != "" {
		t.Errorf("an empty file is a file: %v", err)
	}
	commandtest.Write(t, filepath.Dir(dest), map[string]string{"f": "old"})
	if err := fetchFrom(t, o.URL, dest, nil); err != nil || commandtest.Read(t, dest) != "old" {
		t.Errorf("nothing, as answer to a conditional request, keeps the file: %v, %q", err, commandtest.Read(t, dest))
	}
}

func TestCacheURLPartial(t *testing.T) {
	o := newOrigin(t)
	o.handler = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		if len(o.requests) == 1 {
			fmt.Fprint(w, "01234")
			return // the server closes the connection
		}
		fmt.Fprint(w, "abcdefghij")
	}
	dest := filepath.Join(t.TempDir(), "f")
	if err := fetchFrom(t, o.URL, dest, nil); err != nil || commandtest.Read(t, dest) != "abcdefghij" {
		t.Errorf("%v, %q", err, commandtest.Read(t, dest))
	}
}

func TestCacheURLChecksum(t *testing.T) {
	o := newOrigin(t)
	o.handler = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "content") }
	dest := filepath.Join(t.TempDir(), "f")
	good := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("content")))
	expect := func(sum string) func(*download) {
		return func(d *download) {
			if err := d.expect(sum); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := fetchFrom(t, o.URL, dest, expect(fmt.Sprintf("sha256:%x", sha256.Sum256(nil)))); err == nil {
		t.Error("wrong content accepted")
	}
	leftovers(t, filepath.Dir(dest))
	t.Run("M57 a checksum can be asked for", func(t *testing.T) {
		if err := fetchFrom(t, o.URL, dest, expect(good)); err != nil {
			t.Error(err)
		}
	})
	t.Run("M57 a damaged copy is fetched again", func(t *testing.T) {
		o.handler = func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-Modified-Since") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			fmt.Fprint(w, "content")
		}
		if err := os.WriteFile(dest, []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := fetchFrom(t, o.URL, dest, expect(good)); err != nil || commandtest.Read(t, dest) != "content" {
			t.Error(err)
		}
	})
	for _, bad := range []string{"md5:00", "sha256:xyz", "sha256:00", ""} {
		if err := new(download).expect(bad); err == nil {
			t.Errorf("checksum %q accepted", bad)
		}
	}
}

func TestCacheURLFileAndFailures(t *testing.T) {
	dir := t.TempDir()
	commandtest.Write(t, dir, map[string]string{"src": "from disk", "plain/x": ""})
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	secure.Config.ErrorLog = nil
	for _, tt := range []struct {
		name, url, dest string
		exit            int
	}{
		{"file", "file://" + dir + "/src", "out/a", 0},
		{"no such file", "file://" + dir + "/none", "out/b", exitReadFile},
		{"unknown protocol", "gopher://x/", "out/c", 1},
		{"refused", closed.URL, "out/d", exitConnect},
		{"unknown authority", secure.URL, "out/e", exitCertificate},
		{"directory cannot be made", "file://" + dir + "/src", "src/f", exitWrite},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := fetchFrom(t, tt.url, filepath.Join(dir, tt.dest), nil)
			if exitOf(err) != tt.exit {
				t.Errorf("exit %d (%v), want %d", exitOf(err), err, tt.exit)
			}
		})
	}
	if got := commandtest.Read(t, dir+"/out/a"); got != "from disk" {
		t.Errorf("got %q", got)
	}
	t.Run("M57 failures leave nothing", func(t *testing.T) { leftovers(t, dir+"/out", "a", ".a.cache-url") })
	before, err := os.Stat(dir + "/out/a")
	if err != nil {
		t.Fatal(err)
	}
	for i, content := range []string{"from disk", "changed"} {
		if i > 0 {
			commandtest.Write(t, dir, map[string]string{"src": content})
		}
		if err := fetchFrom(t, "file://"+dir+"/src", dir+"/out/a", nil); err != nil || commandtest.Read(t, dir+"/out/a") != content {
			t.Errorf("%v", err)
		}
		if after, err := os.Stat(dir + "/out/a"); err != nil || os.SameFile(before, after) != (i == 0) {
			t.Errorf("replaced the copy of a file that did not change, or kept that of one that did (%d, %v)", i, err)
		}
	}
}

func TestCacheURLStall(t *testing.T) {
	release := make(chan struct{})
	o := newOrigin(t)
	t.Cleanup(func() { close(release) })
	o.handler = func(w http.ResponseWriter, r *http.Request) {
		switch len(o.requests) {
		case 1: // nothing at all
		case 2:
			w.Header().Set("Content-Length", "10")
			fmt.Fprint(w, "01234")
			w.(http.Flusher).Flush()
		default:
			fmt.Fprint(w, "at last")
			return
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
	t.Run("M57 a silent server is given up", func(t *testing.T) {
		dest := filepath.Join(t.TempDir(), "f")
		if err := fetchFrom(t, o.URL, dest, func(d *download) { d.stall = 100 * time.Millisecond }); err != nil || commandtest.Read(t, dest) != "at last" {
			t.Errorf("%v", err)
		}
	})
}

func TestCacheURLPipe(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	commandtest.Write(t, dir, map[string]string{"src": "through a pipe"})
	got := make(chan string)
	go func() {
		f, err := os.Open(pipe)
		if err != nil {
			got <- err.Error()
			return
		}
		defer f.Close()
		data, err := io.ReadAll(f)
		got <- fmt.Sprint(string(data), err)
	}()
	if err := fetchFrom(t, "file://"+dir+"/src", pipe, nil); err != nil {
		t.Fatal(err)
	}
	if text := <-got; text != "through a pipe<nil>" {
		t.Errorf("got %q", text)
	}
}

func TestCacheURLUsage(t *testing.T) {
	for _, tt := range []struct {
		args   []string
		status int
	}{
		{[]string{"-h"}, 0}, {nil, 1}, {[]string{"http://x"}, 1}, {[]string{"-z", "a", "b"}, 1}, {[]string{"--checksum", "x", "file:///", "b"}, 1},
	} {
		if _, errs, status := commandtest.Call(t, cmdline.Command("cache-url", Run), nil, tt.args...); status != tt.status {
			t.Errorf("%q: status %d, %s", tt.args, status, errs)
		}
	}
}

// ftpServer serves one file to one client at a time.
func ftpServer(t *testing.T, name, content string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			ftpSession(conn, name, content)
		}
	}()
	return listener.Addr().String()
}

func ftpSession(conn net.Conn, name, content string) {
	defer conn.Close()
	data, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return
	}
	defer data.Close()
	say := func(s string) { fmt.Fprintf(conn, "%s\r\n", s) }
	say("220 ready")
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		verb, arg, _ := strings.Cut(lines.Text(), " ")
		switch verb {
		case "USER":
			say("331 password")
		case "PASS":
			say("230 in")
		case "TYPE":
			say("200 binary")
		case "MDTM":
			say("213 20200102030405")
		case "EPSV":
			say(fmt.Sprintf("229 Entering Extended Passive Mode (|||%d|)", data.Addr().(*net.TCPAddr).Port))
		case "RETR":
			c, err := data.Accept()
			if err != nil {
				return
			}
			if arg != name {
				c.Close()
				say("550 no such file")
				continue
			}
			say("150 here it comes")
			fmt.Fprint(c, content)
			c.Close()
			say("226 done")
		default:
			say("502 what")
		}
	}
}

func TestCacheURLFTP(t *testing.T) {
	address := "ftp://" + ftpServer(t, "pub/f", "by ftp")
	dest := filepath.Join(t.TempDir(), "f")
	t.Run("M57 downloads by FTP succeed", func(t *testing.T) {
		if err := fetchFrom(t, address+"/pub/f", dest, nil); err != nil || commandtest.Read(t, dest) != "by ftp" {
			t.Fatalf("%v", err)
		}
	})
	before, err := os.Stat(dest)
	if err != nil {
		t.Fatal(err)
	}
	if err := fetchFrom(t, address+"/pub/f", dest, nil); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(dest); err != nil || !os.SameFile(before, after) {
		t.Errorf("unchanged file fetched again (%v)", err)
	}
	if err := fetchFrom(t, address+"/none", dest+"2", nil); exitOf(err) != exitNotFound {
		t.Errorf("exit %d: %v", exitOf(err), err)
	}
}
