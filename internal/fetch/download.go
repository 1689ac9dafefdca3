package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/dib-builder/dib/internal/event"
)

// download fills part with the blob, trying its addresses in turn and each of
// them again after failures that may pass.
func (c *Client) download(ctx context.Context, b Blob, part *os.File, count func(int64)) error {
	if len(b.URLs) == 0 {
		return fmt.Errorf("cannot get %s: no address is known for it", b.name())
	}
	var errs []error
	for _, url := range b.URLs {
		err := c.retrying(ctx, url, func() error { return c.resume(ctx, url, b, part, count) })
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		errs = append(errs, fmt.Errorf("cannot download %s: %w", url, err))
	}
	return errors.Join(errs...)
}

// retrying runs try until it succeeds, fails for good, or the tries are used up.
func (c *Client) retrying(ctx context.Context, url string, try func() error) error {
	wait := firstBackOff
	for n := 0; ; n++ {
		err := try()
		if err == nil || ctx.Err() != nil || n >= c.o.Retries || !mayPass(err) {
			return err
		}
		c.o.Events.Emit(event.LogLine(fmt.Sprintf("download of %s failed: %v; trying again in %v", url, err, wait)))
		if err := c.o.Sleep(ctx, wait); err != nil {
			return err
		}
		wait *= 2
	}
}

// mayPass tells failures of the moment from those that the next try would meet again.
func mayPass(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		switch status.Code {
		case http.StatusRequestTimeout, http.StatusTooManyRequests:
			return true
		}
		return status.Code >= 500
	}
	var mismatch *MismatchError
	if errors.As(err, &mismatch) {
		return false
	}
	var path *os.PathError // the cache's disk, not the network
	return !errors.As(err, &path)
}

// resume continues part with one request and checks the whole when it is
// complete. After a mismatch part is emptied: bytes of an earlier run, or of
// another version of the file, must not spoil the next try.
func (c *Client) resume(ctx context.Context, url string, b Blob, part *os.File, count func(int64)) error {
	have, sum, err := rehash(part)
	if err != nil {
		return err
	}
	if have > b.Size {
		have, sum = 0, sha256.New()
	}
	if have < b.Size || have == 0 {
		count(have)
		got, err := c.transfer(ctx, url, have, b.Size, part, &sum, count)
		if err != nil {
			count(-got)
			return err
		}
		have = got
	}
	if err := b.verify(have, sum); err != nil {
		count(-have)
		if terr := part.Truncate(0); terr != nil {
			return terr
		}
		return err
	}
	return nil
}

// rehash reads what an earlier try left.
func rehash(part *os.File) (int64, hash.Hash, error) {
	sum := sha256.New()
	if _, err := part.Seek(0, io.SeekStart); err != nil {
		return 0, nil, err
	}
	n, err := io.Copy(sum, part)
	return n, sum, err
}

// transfer requests url from byte have on and appends to part and *sum. It
// returns the number of bytes that part then holds; *sum is replaced when the
// server sends the file from its beginning.
func (c *Client) transfer(ctx context.Context, url string, have, want int64, part *os.File, sum *hash.Hash, count func(int64)) (int64, error) {
	ctx, watch := c.watchdog(ctx, url)
	defer watch.stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return have, err
	}
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	resp, err := c.o.HTTP.Do(req)
	if err != nil {
		return have, watch.cause(err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusPartialContent:
		var from int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &from); err != nil || from != have {
			return have, &StatusError{URL: url, Code: http.StatusRequestedRangeNotSatisfiable}
		}
	case http.StatusOK, http.StatusRequestedRangeNotSatisfiable:
		count(-have)
		have, *sum = 0, sha256.New()
		if err := part.Truncate(0); err != nil {
			return 0, err
		}
		if resp.StatusCode != http.StatusOK {
			return 0, errors.New("the server refused to continue a partial download")
		}
	default:
		return have, &StatusError{URL: url, Code: resp.StatusCode}
	}
	if _, err := part.Seek(have, io.SeekStart); err != nil {
		return have, err
	}
	body := &watched{r: io.LimitReader(resp.Body, want-have+1), watch: watch, count: count}
	n, err := io.Copy(io.MultiWriter(part, *sum), body)
	have += n
	if err == nil && have < want {
		err = io.ErrUnexpectedEOF
	}
	return have, watch.cause(err)
}

// watchdog cancels a request whose server is silent for too long.
type watchdog struct {
	timer  *time.Timer
	limit  time.Duration
	cancel context.CancelCauseFunc
	ctx    context.Context
}

func (c *Client) watchdog(parent context.Context, url string) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(parent)
	w := &watchdog{limit: c.o.Stall, cancel: cancel, ctx: ctx}
	w.timer = time.AfterFunc(w.limit, func() { cancel(&StalledError{URL: url, After: w.limit}) })
	return ctx, w
}

func (w *watchdog) alive() { w.timer.Reset(w.limit) }

func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// cause prefers the reason of a cancellation to "context canceled".
func (w *watchdog) cause(err error) error {
	var stalled *StalledError
	if err != nil && errors.As(context.Cause(w.ctx), &stalled) {
		return stalled
	}
	return err
}

// watched tells the watchdog and the progress about every read.
type watched struct {
	r     io.Reader
	watch *watchdog
	count func(int64)
}

func (r *watched) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if n > 0 {
		r.watch.alive()
		r.count(int64(n))
	}
	return n, err
}

// Document is a file that may change in place.
type Document struct {
	Data     []byte
	Modified time.Time // as the server says; zero when it does not
	Cached   bool      // the server said that the cached copy is current, or was not asked
}

// Document returns the file at url, of at most limit bytes. A copy is kept in
// DIR/documents and confirmed with the server by its modification time; when
// offline, the copy is the answer.
func (c *Client) Document(ctx context.Context, url string, limit int64) (*Document, error) {
	path := filepath.Join(c.o.Dir, "documents", sumName(url))
	old, err := readDocument(path)
	if err != nil && !notExist(err) {
		return nil, fmt.Errorf("cannot read the cached copy of %s: %w", url, err)
	}
	if c.o.Offline {
		if old == nil {
			return nil, fmt.Errorf("cannot get %s: %w", url, ErrOffline)
		}
		return old, nil
	}
	var doc *Document
	err = c.retrying(ctx, url, func() (err error) {
		doc, err = c.document(ctx, url, limit, old)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot download %s: %w", url, err)
	}
	if !doc.Cached {
		mtime := doc.Modified
		if mtime.IsZero() {
			mtime = noTime
		}
		if err := writeAtomic(path, doc.Data, mtime); err != nil {
			return nil, fmt.Errorf("cannot keep %s in the cache: %w", url, err)
		}
	}
	return doc, nil
}

// ForgetDocument drops the cached copy of url, for a caller that found it unusable.
func (c *Client) ForgetDocument(url string) {
	_ = os.Remove(filepath.Join(c.o.Dir, "documents", sumName(url)))
}

func (c *Client) document(ctx context.Context, url string, limit int64, old *Document) (*Document, error) {
	ctx, watch := c.watchdog(ctx, url)
	defer watch.stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if old != nil && !old.Modified.IsZero() {
		req.Header.Set("If-Modified-Since", old.Modified.UTC().Format(http.TimeFormat))
	}
	resp, err := c.o.HTTP.Do(req)
	if err != nil {
		return nil, watch.cause(err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && old != nil:
		return old, nil
	case resp.StatusCode != http.StatusOK:
		return nil, &StatusError{URL: url, Code: resp.StatusCode}
	}
	data, err := io.ReadAll(&watched{r: io.LimitReader(resp.Body, limit+1), watch: watch, count: func(int64) {}})
	if err != nil {
		return nil, watch.cause(err)
	}
	if int64(len(data)) > limit {
		return nil, &MismatchError{What: "size", Want: fmt.Sprintf("at most %d", limit), Got: "more"}
	}
	doc := &Document{Data: data}
	if t, err := http.ParseTime(resp.Header.Get("Last-Modified")); err == nil {
		doc.Modified = t
	}
	return doc, nil
}

// noTime marks cached documents whose server named no modification time.
var noTime = time.Unix(0, 0)

func readDocument(path string) (*Document, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	doc := &Document{Data: data, Cached: true}
	if m := st.ModTime(); m.After(noTime) {
		doc.Modified = m
	}
	return doc, nil
}

func sumName(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:])
}

// Unreachable says whether a download failed because there was no connection to
// the server, rather than because of what it answered.
func Unreachable(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &op) || errors.As(err, &dns)
}
