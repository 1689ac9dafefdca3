package cacheurl

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/dib-builder/dib/internal/intarget/cmdline"
)

// newClient makes an HTTP client that uses the proxies of the environment and
// gives up on servers that cannot be reached.
func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSHandshakeTimeout: connectTimeout,
		DisableCompression:  true, // the file as it lies on the server, even if it is a .gz
	}}
}

// retryStatuses are the answers worth a second try, as curl sees it.
var retryStatuses = []int{408, 429, 500, 502, 503, 504}

func (d *download) fetchHTTP(ctx context.Context, tmp io.Writer, known validators) (fetched, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url.String(), nil)
	if err != nil {
		return fetched{}, &cmdline.ExitError{Code: exitURL, Err: err}
	}
	req.Header.Set("User-Agent", "dib")
	if d.force {
		req.Header.Set("Pragma", "no-cache, must-revalidate")
		req.Header.Set("Cache-Control", "no-cache, must-revalidate")
	}
	if known.ETag != "" {
		req.Header.Set("If-None-Match", known.ETag)
	}
	if known.LastModified != "" {
		req.Header.Set("If-Modified-Since", known.LastModified)
	}
	d.trace("> GET %s %v", d.url.Redacted(), req.Header)
	watch := time.AfterFunc(d.stall, func() { cancel(os.ErrDeadlineExceeded) })
	defer watch.Stop()
	res, err := d.client.Do(req)
	if err != nil && errors.Is(context.Cause(ctx), os.ErrDeadlineExceeded) {
		return fetched{}, d.stalled()
	}
	if err != nil {
		return fetched{}, d.networkError(err, exitReceive)
	}
	defer res.Body.Close()
	d.trace("< %s %v", res.Status, res.Header)
	if err := d.statusError(res.StatusCode); err != nil {
		return fetched{}, err
	}
	conditional := known.ETag != "" || known.LastModified != ""
	if res.StatusCode == http.StatusNotModified {
		return fetched{unchanged: true}, nil
	}
	n, err := io.Copy(tmp, &watched{res.Body, watch, d.stall})
	var write *os.PathError
	switch {
	case errors.As(err, &write):
		return fetched{}, cmdline.Exitf(exitWrite, "cannot write download: %w", err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fetched{}, &transient{cmdline.Exitf(exitPartial, "cannot download %s: the server ended after %d bytes", d.url.Redacted(), n)}
	case err != nil && errors.Is(context.Cause(ctx), os.ErrDeadlineExceeded):
		return fetched{}, d.stalled()
	case err != nil:
		return fetched{}, d.networkError(err, exitReceive)
	case n == 0 && conditional:
		return fetched{unchanged: true}, nil
	}
	return fetched{validators: validators{
		URL: d.url.String(), ETag: res.Header.Get("ETag"), LastModified: res.Header.Get("Last-Modified"),
	}}, nil
}

func (d *download) stalled() error {
	return &transient{cmdline.Exitf(exitTimeout, "cannot download %s: no data for %v", d.url.Redacted(), d.stall)}
}

// watched puts off a timer with every read.
type watched struct {
	r     io.Reader
	timer *time.Timer
	limit time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.timer.Reset(w.limit)
	return n, err
}

// statusError judges a status code of HTTP.
func (d *download) statusError(code int) error {
	switch {
	case code == http.StatusOK, code == http.StatusNotModified:
		return nil
	case code == http.StatusNotFound:
		return cmdline.Exitf(exitNotFound, "cannot download %s: not found (404); check the address", d.url.Redacted())
	case slices.Contains(retryStatuses, code):
		return &transient{cmdline.Exitf(1, "cannot download %s: server answered %d %s", d.url.Redacted(), code, http.StatusText(code))}
	}
	return cmdline.Exitf(1, "cannot download %s: server answered %d %s", d.url.Redacted(), code, http.StatusText(code))
}

// networkError gives a failed exchange the exit status that curl would have.
func (d *download) networkError(err error, fallback int) error {
	var (
		dns     *net.DNSError
		op      *net.OpError
		timeout net.Error
		record  tls.RecordHeaderError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	wrapped := fmt.Errorf("cannot download %s: %w", d.url.Redacted(), err)
	code, again := fallback, false
	switch {
	case errors.Is(err, context.Canceled):
		return wrapped
	case errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid):
		code = exitCertificate
	case errors.As(err, &record):
		code = exitTLS
	case errors.As(err, &dns):
		code, again = exitResolve, dns.IsTimeout || dns.IsTemporary
	case errors.As(err, &timeout) && timeout.Timeout():
		code, again = exitTimeout, true
	case errors.As(err, &op) && op.Op == "dial", errors.Is(err, syscall.ECONNREFUSED):
		code = exitConnect
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		again = true
	}
	failed := &cmdline.ExitError{Code: code, Err: wrapped}
	if again {
		return &transient{failed}
	}
	return failed
}
