// Package fetch downloads files and keeps them in a content-addressed cache.
//
// A file whose SHA-256 sum is known beforehand is a Blob: it is downloaded
// once, with resume and retry, checked while it arrives, and served from
// DIR/blobs/sha256/ab/abcd… ever after. A file that changes in place, such as
// a signed index, is a document: it is asked for again each time, with
// If-Modified-Since. Only http and https are spoken.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dib-builder/dib/internal/event"
)

// Defaults of Options.
const (
	DefaultJobs    = 8                // what mirrors tolerate from one client
	DefaultRetries = 4                // with the back-off below: about 8 s of trying
	DefaultStall   = 30 * time.Second // apt's own limit
)

// firstBackOff doubles with every further try.
const firstBackOff = 500 * time.Millisecond

// ErrOffline is the reason when something is not in the cache and the network may not be used.
var ErrOffline = errors.New("not in the cache, and DIB_OFFLINE forbids the network")

// StatusError is an answer other than the file.
type StatusError struct {
	URL  string
	Code int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the server answered %d %s", e.Code, http.StatusText(e.Code))
}

// StalledError is a server that stopped sending.
type StalledError struct {
	URL   string
	After time.Duration
}

func (e *StalledError) Error() string {
	return fmt.Sprintf("the server sent nothing for %v: it is overloaded or a firewall drops its packets; name another mirror or try later", e.After)
}

// MismatchError is a file that is not what its index promised.
type MismatchError struct {
	What      string // "size" or "sha256"
	Want, Got string
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s is %s instead of %s: the mirror is inconsistent (being updated?) or something on the way changed the file", e.What, e.Got, e.Want)
}

// Options says how a Client works. Zero values mean the defaults.
type Options struct {
	Dir     string // root of the cache (DIB_IMAGE_CACHE); made when missing
	Offline bool   // answer from the cache alone
	Jobs    int    // connections at a time
	Retries int    // further tries after a failure that may pass
	Stall   time.Duration
	HTTP    *http.Client // default: proxies from the environment
	Now     func() time.Time
	Sleep   func(context.Context, time.Duration) error
	Events  event.Sink
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("internal error: fetch: no cache directory")
	}
	if o.Jobs <= 0 {
		o.Jobs = DefaultJobs
	}
	if o.Retries == 0 {
		o.Retries = DefaultRetries
	}
	if o.Stall <= 0 {
		o.Stall = DefaultStall
	}
	if o.HTTP == nil {
		o.HTTP = &http.Client{Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 20 * time.Second}).DialContext,
			TLSHandshakeTimeout: 20 * time.Second,
			MaxIdleConnsPerHost: o.Jobs,
			DisableCompression:  true, // sums are of the bytes as stored
		}}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	if o.Events == nil {
		o.Events = event.Discard
	}
	return o, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Client downloads into one cache. It is safe for concurrent use, and several
// processes may share the cache.
type Client struct{ o Options }

// New returns a client.
func New(o Options) (*Client, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Client{o: o}, nil
}

// Blob names a file by its content and says where it may be had.
type Blob struct {
	URLs   []string // tried in this order
	SHA256 string   // lower-case hex
	Size   int64    // in bytes
}

// All makes every blob available, several at a time, and calls ready with the
// index of each blob and its path in the cache as it comes in. Ready is called
// from several goroutines. The progress of the whole is reported as step.
func (c *Client) All(ctx context.Context, step string, blobs []Blob, ready func(i int, path string) error) error {
	p := &progress{c: c, step: step}
	for _, b := range blobs {
		p.total += b.Size
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.o.Jobs)
	for i, b := range blobs {
		g.Go(func() error {
			path, err := c.blob(ctx, b, p.add)
			if err != nil {
				return err
			}
			return ready(i, path)
		})
	}
	err := g.Wait()
	if err == nil {
		p.report()
	}
	return err
}

// progress sums up the bytes of several downloads and reports them now and then.
type progress struct {
	c    *Client
	step string

	mu          sync.Mutex
	done, total int64
	last        time.Time
}

// reportEvery spaces the reports: often enough for an eye.
const reportEvery = 200 * time.Millisecond

// add counts n bytes; n is negative when a download starts again.
func (p *progress) add(n int64) {
	p.mu.Lock()
	p.done += n
	now := p.c.o.Now()
	due := now.Sub(p.last) >= reportEvery
	if due {
		p.last = now
	}
	p.mu.Unlock()
	if due {
		p.report()
	}
}

func (p *progress) report() {
	p.mu.Lock()
	e := event.Event{Kind: event.Progress, Step: p.step, Done: p.done, Total: p.total, Unit: "bytes"}
	p.mu.Unlock()
	p.c.o.Events.Emit(e)
}
