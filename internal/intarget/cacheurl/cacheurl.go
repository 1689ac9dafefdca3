// Package cacheurl is the command cache-url: it downloads a file unless the copy
// at hand is current.
package cacheurl

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/intarget/tempfile"
)

const usage = `usage: cache-url [-f] [--checksum ALGORITHM:HEX] URL DEST

Download URL to DEST unless DEST is current. URL is http, https, ftp or file.

  -f                         download even if DEST is current, past caches
  --checksum ALGORITHM:HEX   refuse other content; sha256 or sha512
  -h                         show this text
`

// Exit statuses of cache-url: 44 stands for "404 not found", the others are
// those of curl, which callers know.
const (
	exitUsage       = 1
	exitProtocol    = 1
	exitURL         = 3
	exitResolve     = 6
	exitConnect     = 7
	exitPartial     = 18
	exitWrite       = 23
	exitTimeout     = 28
	exitTLS         = 35
	exitReadFile    = 37
	exitReceive     = 56
	exitCertificate = 60
	exitNotFound    = 44
	exitChecksum    = 1
)

const (
	connectTimeout = 10 * time.Second
	stallTimeout   = 60 * time.Second // without a single byte
	retryDelay     = 30 * time.Second
	retries        = 3 // after the first attempt
)

// download is one call of cache-url.
type download struct {
	url   *url.URL
	dest  string
	force bool
	sum   []byte           // expected digest; nil for any
	hash  func() hash.Hash // set with sum

	tmpDir string        // for a named pipe
	stall  time.Duration // how long a server may say nothing
	trace  func(format string, args ...any)
	say    func(format string, args ...any)
	wait   func(context.Context, time.Duration) error
	client *http.Client
}

// Run is the command cache-url [-f] [--checksum ALGORITHM:HEX] URL DEST. Its exit
// statuses are those of curl where curl has one, 44 for a file that the server
// does not have, and else 1.
func Run(ctx context.Context, io command.IO, args []string) error {
	d := &download{wait: pause, client: newClient(), tmpDir: io.Getenv("TMPDIR"), stall: stallTimeout}
	var checksum string
	var help bool
	operands, err := cmdline.Options{"-f": &d.force, "-h": &help, "--help": &help, "--checksum": &checksum}.Parse(args, false)
	if help {
		fmt.Fprint(io.Out, usage)
		return cmdline.ErrHelp
	}
	if err == nil && len(operands) != 2 {
		err = errors.New("a URL and a destination are needed")
	}
	if err != nil {
		fmt.Fprint(io.Err, usage)
		return &cmdline.ExitError{Code: exitUsage, Err: err}
	}
	if d.url, err = url.Parse(operands[0]); err != nil {
		return &cmdline.ExitError{Code: exitURL, Err: err}
	}
	d.dest = operands[1]
	if checksum != "" {
		if err := d.expect(checksum); err != nil {
			return &cmdline.ExitError{Code: exitUsage, Err: err}
		}
	}
	d.say = func(format string, args ...any) { fmt.Fprintf(io.Err, format+"\n", args...) }
	d.trace = func(string, ...any) {}
	if cmdline.EnvironmentOf(io).Trace() > 1 {
		d.trace = d.say
	}
	return d.run(ctx)
}

// pause waits, or ends early with the context.
func pause(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// expect reads a digest such as sha256:HEX.
func (d *download) expect(checksum string) error {
	algorithm, digits, _ := strings.Cut(checksum, ":")
	hashes := map[string]func() hash.Hash{"sha256": sha256.New, "sha512": sha512.New}
	d.hash = hashes[algorithm]
	if d.hash == nil {
		return fmt.Errorf("checksum %q: the algorithm must be sha256 or sha512", checksum)
	}
	sum, err := hex.DecodeString(digits)
	if err != nil || len(sum) != d.hash().Size() {
		return fmt.Errorf("checksum %q: not %d hexadecimal digits", checksum, 2*d.hash().Size())
	}
	d.sum = sum
	return nil
}

func (d *download) run(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(d.dest), 0o777); err != nil {
		return &cmdline.ExitError{Code: exitWrite, Err: fmt.Errorf("cannot create directory of %s: %w", d.dest, err)}
	}
	st, err := os.Stat(d.dest)
	pipe := err == nil && st.Mode()&fs.ModeNamedPipe != 0
	var known validators
	if err == nil && st.Mode().IsRegular() && st.Size() > 0 && !d.force {
		known = readValidators(d.dest, d.url.String(), st)
		if d.verify(d.dest) != nil {
			known = validators{} // whatever the server says of it, it is not what is wanted
		}
	}
	beside := d.dest
	if pipe {
		dir := d.tmpDir
		if dir == "" {
			dir = os.TempDir()
		}
		beside = filepath.Join(dir, "pipe")
	}
	tmp, err := tempfile.CreateBeside(beside, 0o600)
	if err != nil {
		return &cmdline.ExitError{Code: exitWrite, Err: fmt.Errorf("cannot create temporary file: %w", err)}
	}
	defer os.Remove(tmp.Name()) // gone already after a rename
	defer tmp.Close()

	got, err := d.fetchRetrying(ctx, tmp, known)
	if err != nil {
		return err
	}
	if got.unchanged {
		d.say("Server has not changed %s, keeping %s", d.url.Redacted(), d.dest)
		return d.verify(d.dest)
	}
	if err := d.verify(tmp.Name()); err != nil {
		return err
	}
	if pipe {
		return d.intoPipe(tmp)
	}
	return d.publish(tmp, got.validators)
}

// publish gives the complete download its name.
func (d *download) publish(tmp *os.File, v validators) error {
	err := tmp.Close()
	if err == nil {
		err = os.Rename(tmp.Name(), d.dest)
	}
	if err != nil {
		return &cmdline.ExitError{Code: exitWrite, Err: fmt.Errorf("cannot write %s: %w", d.dest, err)}
	}
	if err := v.write(d.dest); err != nil {
		// The file is there; without validators the next call asks by its time.
		d.say("cannot note the state of %s: %v", d.dest, err)
	}
	d.say("Downloaded and cached %s in %s", d.url.Redacted(), d.dest)
	return nil
}

func (d *download) intoPipe(tmp *os.File) error {
	out, err := os.OpenFile(d.dest, os.O_WRONLY, 0)
	if err == nil {
		_, err = tmp.Seek(0, io.SeekStart)
		if err == nil {
			_, err = io.Copy(out, tmp)
		}
		err = errors.Join(err, out.Close())
	}
	if err != nil {
		return &cmdline.ExitError{Code: exitWrite, Err: fmt.Errorf("cannot write to pipe %s: %w", d.dest, err)}
	}
	return nil
}

// verify compares a file with the expected digest.
func (d *download) verify(file string) error {
	if d.sum == nil {
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("cannot verify download: %w", err)
	}
	defer f.Close()
	h := d.hash()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("cannot verify %s: %w", file, err)
	}
	if sum := h.Sum(nil); string(sum) != string(d.sum) {
		return cmdline.Exitf(exitChecksum, "cannot accept %s: its checksum is %x, expected %x", d.url.Redacted(), sum, d.sum)
	}
	return nil
}

// fetched is the result of one successful exchange.
type fetched struct {
	unchanged  bool
	validators validators
}

// transient is a failure that may pass by itself.
type transient struct{ err error }

func (t *transient) Error() string { return t.err.Error() }
func (t *transient) Unwrap() error { return t.err }

// fetchRetrying fetches into tmp, starting over after transient failures.
func (d *download) fetchRetrying(ctx context.Context, tmp *os.File, known validators) (fetched, error) {
	for attempt := 0; ; attempt++ {
		got, err := d.fetch(ctx, tmp, known)
		var again *transient
		if !errors.As(err, &again) || attempt == retries {
			return got, err
		}
		d.say("%v; trying again in %v", err, retryDelay)
		if err := d.wait(ctx, retryDelay); err != nil {
			return fetched{}, err
		}
		if err := restart(tmp); err != nil {
			return fetched{}, &cmdline.ExitError{Code: exitWrite, Err: err}
		}
	}
}

func restart(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}

func (d *download) fetch(ctx context.Context, tmp *os.File, known validators) (fetched, error) {
	switch d.url.Scheme {
	case "http", "https":
		return d.fetchHTTP(ctx, tmp, known)
	case "ftp":
		return d.fetchFTP(ctx, tmp, known)
	case "file":
		return d.fetchFile(tmp, known)
	}
	return fetched{}, cmdline.Exitf(exitProtocol, "cannot download %s: protocol %q is not one of http, https, ftp, file", d.url.Redacted(), d.url.Scheme)
}

func (d *download) fetchFile(tmp *os.File, known validators) (fetched, error) {
	if h := d.url.Host; h != "" && h != "localhost" {
		return fetched{}, cmdline.Exitf(exitURL, "cannot read %s: a file URL names no host, use file:///path", d.url)
	}
	in, err := os.Open(d.url.Path)
	if err != nil {
		return fetched{}, cmdline.Exitf(exitReadFile, "cannot read source: %w", err)
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return fetched{}, cmdline.Exitf(exitReadFile, "cannot read source: %w", err)
	}
	// Callers look at the time of DEST to see whether it is another file now.
	state := fmt.Sprintf("%s, %d bytes", st.ModTime().UTC().Format(time.RFC3339Nano), st.Size())
	if known.LastModified == state {
		return fetched{unchanged: true}, nil
	}
	if _, err := io.Copy(tmp, in); err != nil {
		return fetched{}, cmdline.Exitf(exitReadFile, "cannot copy %s: %w", d.url.Path, err)
	}
	return fetched{validators: validators{URL: d.url.String(), LastModified: state}}, nil
}

// validators is what a server said about a file, to ask it later whether the
// file has changed. It is kept beside the file, and counts only while size and
// time of the file are those noted.
type validators struct {
	URL          string    `json:"url"`
	ETag         string    `json:"etag,omitempty"`
	LastModified string    `json:"last_modified,omitempty"`
	Size         int64     `json:"size"`
	ModTime      time.Time `json:"mtime"`
}

func validatorsFile(dest string) string {
	return filepath.Join(filepath.Dir(dest), "."+filepath.Base(dest)+".cache-url")
}

// readValidators returns how to ask for changes of dest. A file that came from
// elsewhere, such as an older cache, is asked for by its own time.
func readValidators(dest, url string, st fs.FileInfo) validators {
	byTime := validators{URL: url, LastModified: st.ModTime().UTC().Format(http.TimeFormat)}
	data, err := os.ReadFile(validatorsFile(dest))
	if err != nil {
		return byTime
	}
	var v validators
	if json.Unmarshal(data, &v) != nil || v.Size != st.Size() || !v.ModTime.Equal(st.ModTime()) {
		return byTime
	}
	if v.URL != url {
		return validators{} // content of another address says nothing
	}
	return v
}

func (v validators) write(dest string) error {
	st, err := os.Stat(dest)
	if err != nil {
		return err
	}
	if v.ETag == "" && v.LastModified == "" {
		err := os.Remove(validatorsFile(dest))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	v.Size, v.ModTime = st.Size(), st.ModTime()
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := tempfile.CreateBeside(dest, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), validatorsFile(dest))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
