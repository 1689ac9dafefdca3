package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dib-builder/dib/internal/event"
)

// content is long enough to be sent in several pieces.
var content = bytes.Repeat([]byte("0123456789abcdef"), 1<<14)

func blobOf(data []byte, urls ...string) Blob {
	sum := sha256.Sum256(data)
	return Blob{URLs: urls, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data))}
}

// recorder keeps events and the waits that the client asked for.
type recorder struct {
	mu     sync.Mutex
	events []event.Event
	waits  []time.Duration
}

func (r *recorder) Emit(e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) sleep(ctx context.Context, d time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waits = append(r.waits, d)
	return ctx.Err()
}

func (r *recorder) warned(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Kind == event.Warning && strings.Contains(string(e.Line), text) {
			return true
		}
	}
	return false
}

func newClient(t *testing.T, dir string, change func(*Options)) (*Client, *recorder) {
	t.Helper()
	rec := &recorder{}
	o := Options{Dir: dir, Stall: 5 * time.Second, Sleep: rec.sleep, Events: rec}
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c, rec
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func sendContent(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Unix(1e9, 0), bytes.NewReader(content))
}

func wantContent(t *testing.T, path string, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, content) {
		t.Fatalf("%s holds %d bytes (%v)", path, len(data), err)
	}
}

func TestBlobIsDownloadedOnce(t *testing.T) {
	var requests atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { requests.Add(1); sendContent(w, r) })
	dir := t.TempDir()
	for range 3 {
		c, _ := newClient(t, dir, nil)
		path, err := c.Blob(t.Context(), blobOf(content, url))
		wantContent(t, path, err)
		if want := filepath.Join(dir, "blobs/sha256"); !strings.HasPrefix(path, want) {
			t.Errorf("%s is not below %s", path, want)
		}
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "blobs/partial")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestResumeAfterBrokenConnection(t *testing.T) {
	var ranges []string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		if len(ranges) == 1 { // promise everything, send a part
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			w.Write(content[:100000])
			return
		}
		sendContent(w, r)
	})
	c, rec := newClient(t, t.TempDir(), nil)
	path, err := c.Blob(t.Context(), blobOf(content, url))
	wantContent(t, path, err)
	if got := strings.Join(ranges, ","); got != ",bytes=100000-" {
		t.Errorf("ranges %q", got)
	}
	if len(rec.waits) != 1 || rec.waits[0] != firstBackOff {
		t.Errorf("waits %v", rec.waits)
	}
}

func TestResumeWithAnotherClient(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"ranges":    sendContent,
		"no ranges": func(w http.ResponseWriter, r *http.Request) { w.Write(content) },
	} {
		for part, kept := range map[string][]byte{"good": content[:5000], "damaged": []byte("xxx")} {
			t.Run(name+" "+part, func(t *testing.T) {
				url, dir := serve(t, h), t.TempDir()
				b := blobOf(content, url)
				if err := os.MkdirAll(filepath.Join(dir, "blobs/partial"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "blobs/partial", b.SHA256), kept, 0o644); err != nil {
					t.Fatal(err)
				}
				c, _ := newClient(t, dir, nil)
				path, err := c.Blob(t.Context(), b)
				if part == "damaged" && name == "ranges" {
					// The damage shows at the end; it must not spoil the next try.
					var mismatch *MismatchError
					if !errors.As(err, &mismatch) {
						t.Fatalf("%v", err)
					}
					path, err = c.Blob(t.Context(), b)
				}
				wantContent(t, path, err)
			})
		}
	}
}

func TestRetryAndBackOff(t *testing.T) {
	var requests atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) <= 3 {
			http.Error(w, "later", http.StatusServiceUnavailable)
			return
		}
		sendContent(w, r)
	})
	c, rec := newClient(t, t.TempDir(), nil)
	path, err := c.Blob(t.Context(), blobOf(content, url))
	wantContent(t, path, err)
	if got := fmt.Sprint(rec.waits); got != "[500ms 1s 2s]" {
		t.Errorf("waits %s", got)
	}
}

func TestNextAddress(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gone" {
			http.NotFound(w, r)
			return
		}
		sendContent(w, r)
	})
	c, rec := newClient(t, t.TempDir(), nil)
	path, err := c.Blob(t.Context(), blobOf(content, url+"/gone", url+"/here"))
	wantContent(t, path, err)
	if len(rec.waits) != 0 {
		t.Errorf("a missing file was tried again: %v", rec.waits)
	}
}

func TestFailures(t *testing.T) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/missing":
			http.NotFound(w, r)
		case "/changed":
			w.Write(bytes.Replace(content, []byte("0"), []byte("1"), 1))
		case "/longer":
			w.Write(append(content[:len(content):len(content)], 'x'))
		case "/stalled", "/silent":
			if r.URL.Path == "/stalled" {
				w.Write(content[:1000])
				w.(http.Flusher).Flush()
			}
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}
	})
	for path, is := range map[string]func(error) bool{
		"/missing": func(err error) bool { var e *StatusError; return errors.As(err, &e) && e.Code == 404 },
		"/changed": func(err error) bool { var e *MismatchError; return errors.As(err, &e) && e.What == "sha256" },
		"/longer":  func(err error) bool { var e *MismatchError; return errors.As(err, &e) && e.What == "size" },
		"/stalled": func(err error) bool { var e *StalledError; return errors.As(err, &e) },
		"/silent":  func(err error) bool { var e *StalledError; return errors.As(err, &e) },
	} {
		t.Run(path, func(t *testing.T) {
			c, _ := newClient(t, t.TempDir(), func(o *Options) { o.Stall = 30 * time.Millisecond; o.Retries = 1 })
			b := blobOf(content, url+path)
			_, err := c.Blob(t.Context(), b)
			if err == nil || !is(err) || !strings.Contains(err.Error(), url+path) {
				t.Errorf("%v", err)
			}
			if c.HasBlob(b) {
				t.Error("the cache took it")
			}
		})
	}
}

func TestDamagedCacheIsNoticed(t *testing.T) {
	url := serve(t, sendContent)
	dir := t.TempDir()
	c, rec := newClient(t, dir, nil)
	b := blobOf(content, url)
	for _, damage := range [][]byte{content[:10], bytes.Replace(content, []byte("7"), []byte("8"), 1)} {
		path, err := c.Blob(t.Context(), b)
		wantContent(t, path, err)
		os.Chmod(path, 0o644)
		if err := os.WriteFile(path, damage, 0o644); err != nil {
			t.Fatal(err)
		}
		path, err = c.Blob(t.Context(), b)
		wantContent(t, path, err)
		if !rec.warned("damaged") {
			t.Error("no warning")
		}
	}
}

func TestOffline(t *testing.T) {
	dir := t.TempDir()
	url := serve(t, sendContent)
	on, _ := newClient(t, dir, nil)
	off, _ := newClient(t, dir, func(o *Options) { o.Offline = true })
	b := blobOf(content, url)
	if _, err := off.Blob(t.Context(), b); !errors.Is(err, ErrOffline) {
		t.Errorf("%v", err)
	}
	if _, err := off.Document(t.Context(), url, 1<<20); !errors.Is(err, ErrOffline) {
		t.Errorf("%v", err)
	}
	path, err := on.Blob(t.Context(), b)
	wantContent(t, path, err)
	if _, err := on.Document(t.Context(), url, 1<<20); err != nil {
		t.Fatal(err)
	}
	path, err = off.Blob(t.Context(), b)
	wantContent(t, path, err)
	if doc, err := off.Document(t.Context(), url, 1<<20); err != nil || !bytes.Equal(doc.Data, content) || !doc.Cached {
		t.Errorf("%v", err)
	}
}

func TestDocumentIsConfirmed(t *testing.T) {
	var sent atomic.Int32
	text := []byte("first")
	modified := time.Unix(1e9, 0)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		sent.Add(1)
		http.ServeContent(w, r, "", modified, bytes.NewReader(text))
	})
	c, _ := newClient(t, t.TempDir(), nil)
	get := func(want string, cached bool) {
		t.Helper()
		doc, err := c.Document(t.Context(), url, 100)
		if err != nil || string(doc.Data) != want || doc.Cached != cached || !doc.Modified.Equal(modified) {
			t.Errorf("%+v, %v; want %q, cached %v", doc, err, want, cached)
		}
	}
	get("first", false)
	get("first", true)
	text, modified = []byte("second"), modified.Add(time.Hour)
	get("second", false)
	c.ForgetDocument(url)
	get("second", false)
	if sent.Load() != 4 {
		t.Errorf("%d requests", sent.Load())
	}
	if _, err := c.Document(t.Context(), url+"/other", 3); err == nil {
		t.Error("a document over the limit was taken")
	}
}

func TestPutBlob(t *testing.T) {
	c, _ := newClient(t, t.TempDir(), nil)
	write := func(data []byte) func(io.Writer) error {
		return func(w io.Writer) error { _, err := w.Write(data); return err }
	}
	var mismatch *MismatchError
	if _, err := c.PutBlob(t.Context(), blobOf(content), write([]byte("wrong"))); !errors.As(err, &mismatch) {
		t.Errorf("%v", err)
	}
	path, err := c.PutBlob(t.Context(), blobOf(content), write(content))
	wantContent(t, path, err)
	path, err = c.PutBlob(t.Context(), blobOf(content), func(io.Writer) error { return errors.New("made again") })
	wantContent(t, path, err)
}

func TestAllSharesTheCacheAndReports(t *testing.T) {
	var requests atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Write([]byte(r.URL.Path))
	})
	dir := t.TempDir()
	var blobs []Blob
	for i := range 20 {
		name := fmt.Sprintf("/file%d", i)
		blobs = append(blobs, blobOf([]byte(name), url+name))
	}
	var wg sync.WaitGroup
	for range 3 { // as parallel builds would
		wg.Go(func() {
			// Real, short sleeps: the lock of another client is waited for.
			c, rec := newClient(t, dir, func(o *Options) { o.Sleep = nil })
			var got atomic.Int32
			err := c.All(t.Context(), "packages", blobs, func(i int, path string) error {
				data, err := os.ReadFile(path)
				if want := fmt.Sprintf("/file%d", i); string(data) != want {
					t.Errorf("%q for %q", data, want)
				}
				got.Add(1)
				return err
			})
			if err != nil || got.Load() != 20 {
				t.Errorf("%d files, %v", got.Load(), err)
			}
			last := rec.events[len(rec.events)-1]
			if last.Kind != event.Progress || last.Done != last.Total || last.Total == 0 || last.Unit != "bytes" {
				t.Errorf("last event %+v", last)
			}
		})
	}
	wg.Wait()
	if n := requests.Load(); n != 20 {
		t.Errorf("%d requests for 20 files", n)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write(content[:100])
		w.(http.Flusher).Flush()
		cancel()
		<-r.Context().Done()
	})
	c, rec := newClient(t, t.TempDir(), nil)
	if _, err := c.Blob(ctx, blobOf(content, url)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if len(rec.waits) != 0 {
		t.Errorf("tried again after being cancelled: %v", rec.waits)
	}
}
