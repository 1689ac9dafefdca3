// Package archive fetches the suites of a Debian archive, from the mirror of
// the build, and verifies them.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ProtonMail/go-crypto/openpgp"

	"github.com/dib-builder/dib/internal/deb"
	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/fetch"
)

// maxInRelease bounds a signed index of a suite; Debian's have 150 KB.
const maxInRelease = 16 << 20

// ExpiredError is a Release file past its Valid-Until: an old copy that a
// mirror still serves, or that somebody replays.
type ExpiredError struct {
	URL        string
	ValidUntil time.Time
	Now        time.Time

	codename string
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("cannot trust %s: it was valid until %s and it is %s now; check this machine's clock, name another mirror, or, to use an archived state on purpose, set DIB_DEBIAN_CHECK_VALID_UNTIL=0",
		e.URL, e.ValidUntil.Format(time.RFC3339), e.Now.Format(time.RFC3339))
}

// Suite is one verified suite of an archive.
type Suite struct {
	FetchURI string // root of the archive that it was fetched from
	Name     string // as the source names it
	Release  *deb.Release
	Signed   []byte    // the InRelease file as served
	Modified time.Time // of the InRelease file as the server said; zero when it did not
	Indexes  []Index   // one for each component of the source, in its order

	uri string // root of the archive as the image names it
	dir string // below dists of the mirror: Name, or the code name that it stands for
}

// Index is a Packages file of a suite.
type Index struct {
	Name string // relative to the suite, such as "main/binary-amd64/Packages"
	Path string // of the decompressed file, in the cache
}

// Client fetches suites and verifies them. All fields are needed.
type Client struct {
	Fetch   *fetch.Client
	Keys    openpgp.EntityList // any of them may have signed a suite
	Mirrors Mirrors
	Arch    string // Debian architecture whose indexes are fetched
	// CheckValidUntil makes a Release file past its Valid-Until an error
	// instead of a warning.
	CheckValidUntil bool
	Now             func() time.Time
	Events          event.Sink
}

// Load fetches and verifies every suite of the sources with its indexes. The
// result is in the order of the sources. Errors that a caller may tell apart
// are *SignatureError, *ExpiredError, *UnknownReleaseError and those of package
// fetch.
func (c *Client) Load(ctx context.Context, sources []deb.Source) ([]*Suite, error) {
	var suites []*Suite
	var jobs []func(context.Context) error
	for _, s := range sources {
		for _, uri := range s.URIs {
			for _, name := range s.Suites {
				st := &Suite{uri: uri, FetchURI: c.Mirrors.Fetch(uri), Name: name}
				suites = append(suites, st)
				jobs = append(jobs, func(ctx context.Context) error { return c.loadSuite(ctx, st, s) })
			}
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, job := range jobs {
		g.Go(func() error { return job(ctx) })
	}
	return suites, g.Wait()
}

func (c *Client) loadSuite(ctx context.Context, s *Suite, src deb.Source) error {
	if strings.HasSuffix(s.Name, "/") {
		return fmt.Errorf("cannot bootstrap from the flat repository %s %s: add it in a later phase", s.uri, s.Name)
	}
	if err := c.loadNewestRelease(ctx, s, src); err != nil {
		return err
	}
	var err error
	for _, component := range src.Components {
		ix := Index{Name: component + "/binary-" + c.Arch + "/Packages"}
		if ix.Path, err = c.index(ctx, s, ix.Name); err != nil {
			return err
		}
		s.Indexes = append(s.Indexes, ix)
	}
	return nil
}

// loadNewestRelease loads a suite's Release file and sets s.dir. Caching mirrors
// keep an alias such as stable-updates longer than its code name, so when the
// one has expired the other is tried. Only when both have, and that is no
// reason to refuse them, is an expired one used.
func (c *Client) loadNewestRelease(ctx context.Context, s *Suite, src deb.Source) error {
	s.dir = s.Name
	codename, err := c.loadRelease(ctx, s, src, true)
	if !errors.As(err, new(*ExpiredError)) {
		return err
	}
	if codename != "" && codename != s.Name {
		s.dir = codename
		_, again := c.loadRelease(ctx, s, src, true)
		if again == nil {
			return nil
		}
		if !errors.As(again, new(*ExpiredError)) {
			s.dir = s.Name // there is nothing better under the code name
		}
	}
	if c.CheckValidUntil && !src.IgnoreValidUntil {
		return err
	}
	_, err = c.loadRelease(ctx, s, src, false)
	return err
}

// loadRelease fetches and verifies a suite's InRelease file from s.dir. The code
// name of an expired one is returned too.
func (c *Client) loadRelease(ctx context.Context, s *Suite, src deb.Source, checkValidUntil bool) (codename string, err error) {
	url := s.FetchURI + "/dists/" + s.dir + "/InRelease"
	doc, err := c.Fetch.Document(ctx, url, maxInRelease)
	var status *fetch.StatusError
	switch {
	case errors.As(err, &status) && status.Code == http.StatusNotFound:
		return "", &UnknownReleaseError{Suite: s.Name, URL: s.FetchURI}
	case err != nil:
		return "", err
	}
	if err := c.verify(s, url, doc, src, checkValidUntil); err != nil {
		var expired *ExpiredError
		if errors.As(err, &expired) {
			return expired.codename, err
		}
		c.Fetch.ForgetDocument(url) // or the server would be asked whether this copy is current
		return "", err
	}
	return s.Release.Codename, nil
}

// verify reads a suite's InRelease file, after checking who signed it, that it
// is of the suite asked for, and that it is not out of date.
func (c *Client) verify(s *Suite, url string, doc *fetch.Document, src deb.Source, checkValidUntil bool) error {
	text, err := verifyInRelease(doc.Data, c.Keys, c.Now())
	if err != nil {
		if !src.Trusted {
			return &SignatureError{URL: url, Reason: err}
		}
		c.Events.Emit(event.Warn(fmt.Sprintf("%s is not verified (%v): its source says trusted=yes", url, err)))
		text = unsigned(doc.Data)
	}
	r, err := deb.ParseRelease(string(text))
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", url, err)
	}
	if !sameSuite(s.Name, r) {
		return fmt.Errorf("cannot use %s: it describes suite %q (%s), not %q: the mirror serves the wrong file", url, r.Suite, r.Codename, s.Name)
	}
	if !r.ValidUntil.IsZero() && c.Now().After(r.ValidUntil) {
		err := &ExpiredError{URL: url, ValidUntil: r.ValidUntil, Now: c.Now(), codename: r.Codename}
		if checkValidUntil {
			return err
		}
		c.Events.Emit(event.Warn(fmt.Sprintf("%s was valid until %s; used all the same, as asked", url, r.ValidUntil.Format(time.RFC3339))))
	}
	s.Release, s.Signed, s.Modified = r, doc.Data, doc.Modified
	return nil
}

// unsigned returns the text of a Release file whose signature does not count.
func unsigned(data []byte) []byte {
	text := string(data)
	if rest, ok := strings.CutPrefix(text, "-----BEGIN PGP SIGNED MESSAGE-----\n"); ok {
		_, text, _ = strings.Cut(rest, "\n\n")
		text, _, _ = strings.Cut(text, "-----BEGIN PGP SIGNATURE-----")
	}
	return []byte(text)
}

// sameSuite tells whether a Release file is that of the suite a source names,
// by alias or by code name. Some archives put a path before it ("updates/…")
// or a part after it ("…/updates").
func sameSuite(name string, r *deb.Release) bool {
	for _, have := range []string{r.Suite, r.Codename} {
		if have != "" && (name == have || strings.HasPrefix(name, have+"/") || strings.HasSuffix(have, "/"+name)) {
			return true
		}
	}
	// "unstable" is Suite, "sid" Codename; archives without either name cannot be told apart.
	return r.Suite == "" && r.Codename == ""
}

// index makes the decompressed Packages file of a suite available and returns
// its path. The decompressed file is a blob of its own, so that only the first
// build decompresses it.
func (c *Client) index(ctx context.Context, s *Suite, name string) (string, error) {
	sum, ok := s.Release.Files[name]
	if !ok {
		return "", fmt.Errorf("cannot use suite %s of %s: it has no %s (its components: %s; its architectures: %s)", s.Name, s.FetchURI, name,
			strings.Join(s.Release.Components, " "), strings.Join(s.Release.Architectures, " "))
	}
	plain := fetch.Blob{SHA256: sum.SHA256, Size: sum.Size, URLs: s.urls(name, sum)}
	if c.Fetch.HasBlob(plain) {
		return c.Fetch.Blob(ctx, plain)
	}
	for _, ext := range []string{".xz", ".gz"} {
		sum, ok := s.Release.Files[name+ext]
		if !ok {
			continue
		}
		file, err := c.Fetch.Blob(ctx, fetch.Blob{SHA256: sum.SHA256, Size: sum.Size, URLs: s.urls(name+ext, sum)})
		var status *fetch.StatusError
		if errors.As(err, &status) && status.Code == http.StatusNotFound || errors.Is(err, fetch.ErrOffline) {
			continue // listed, but this mirror or the cache does not have that form
		}
		if err != nil {
			return "", err
		}
		return c.Fetch.PutBlob(ctx, plain, func(w io.Writer) error { return decompressFile(file, ext, w) })
	}
	return c.Fetch.Blob(ctx, plain)
}

func decompressFile(file, ext string, w io.Writer) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	r, done, err := deb.Decompress("index"+ext, f)
	if err != nil {
		return fmt.Errorf("cannot decompress %s: %w", file, err)
	}
	defer done()
	if _, err := io.Copy(w, r); err != nil {
		return fmt.Errorf("cannot decompress %s: %w", file, err)
	}
	return nil
}

// urls lists where a file of the suite may be had: under its name, and under
// its sum, which stays right while the mirror is being updated.
func (s *Suite) urls(name string, sum deb.FileSum) []string {
	base := s.FetchURI + "/dists/" + s.dir + "/"
	urls := []string{base + name}
	if s.Release.ByHash {
		urls = append(urls, base+path.Dir(name)+"/by-hash/SHA256/"+sum.SHA256)
	}
	return urls
}
