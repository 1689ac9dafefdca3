package debian

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

// suite is one verified suite of an archive.
type suite struct {
	uri      string // as the image names it
	fetchURI string
	name     string // as the source names it
	dir      string // below dists of the mirror: name, or the code name that it stands for
	release  *deb.Release
	signed   []byte    // the InRelease file as served
	modified time.Time // as the server said
	indexes  []index
}

// index is a Packages file of a suite.
type index struct {
	name string // relative to the suite, such as "main/binary-amd64/Packages"
	path string // of the decompressed file, in the cache
}

// archive fetches suites and verifies them.
type archive struct {
	client          *fetch.Client
	keys            openpgp.EntityList
	mirrors         Mirrors
	arch            string
	checkValidUntil bool
	now             func() time.Time
	events          event.Sink
}

// load fetches and verifies every suite of the sources with its indexes. The
// result is in the order of the sources.
func (a *archive) load(ctx context.Context, sources []deb.Source) ([]*suite, error) {
	var suites []*suite
	var jobs []func(context.Context) error
	for _, s := range sources {
		for _, uri := range s.URIs {
			for _, name := range s.Suites {
				st := &suite{uri: uri, fetchURI: a.mirrors.Fetch(uri), name: name}
				suites = append(suites, st)
				jobs = append(jobs, func(ctx context.Context) error { return a.loadSuite(ctx, st, s) })
			}
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, job := range jobs {
		g.Go(func() error { return job(ctx) })
	}
	return suites, g.Wait()
}

func (a *archive) loadSuite(ctx context.Context, s *suite, src deb.Source) error {
	if strings.HasSuffix(s.name, "/") {
		return fmt.Errorf("cannot bootstrap from the flat repository %s %s: add it in a later phase", s.uri, s.name)
	}
	s.dir = s.name
	codename, err := a.loadRelease(ctx, s, src)
	if errors.As(err, new(*ExpiredError)) && codename != "" && codename != s.name {
		// Caching mirrors keep an alias such as stable-updates longer than its
		// code name. What is found there has to pass the same checks.
		s.dir = codename
		if _, again := a.loadRelease(ctx, s, src); again == nil {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	for _, c := range src.Components {
		ix := index{name: c + "/binary-" + a.arch + "/Packages"}
		if ix.path, err = a.index(ctx, s, ix.name); err != nil {
			return err
		}
		s.indexes = append(s.indexes, ix)
	}
	return nil
}

// loadRelease fetches and verifies a suite's InRelease file from s.dir. The code
// name of an expired one is returned too.
func (a *archive) loadRelease(ctx context.Context, s *suite, src deb.Source) (codename string, err error) {
	url := s.fetchURI + "/dists/" + s.dir + "/InRelease"
	doc, err := a.client.Document(ctx, url, maxInRelease)
	var status *fetch.StatusError
	switch {
	case errors.As(err, &status) && status.Code == http.StatusNotFound:
		return "", &UnknownReleaseError{Suite: s.name, URL: s.fetchURI}
	case err != nil:
		return "", err
	}
	if err := a.verify(s, url, doc, src); err != nil {
		a.client.ForgetDocument(url) // or the server would be asked whether this copy is current
		var expired *ExpiredError
		if errors.As(err, &expired) {
			codename = expired.codename
		}
		return codename, err
	}
	return s.release.Codename, nil
}

// verify reads a suite's InRelease file, after checking who signed it, that it
// is of the suite asked for, and that it is not out of date.
func (a *archive) verify(s *suite, url string, doc *fetch.Document, src deb.Source) error {
	text, err := verifyInRelease(doc.Data, a.keys, a.now())
	if err != nil {
		if !src.Trusted {
			return &SignatureError{URL: url, Reason: err}
		}
		a.events.Emit(event.Warn(fmt.Sprintf("%s is not verified (%v): its source says trusted=yes", url, err)))
		text = unsigned(doc.Data)
	}
	r, err := deb.ParseRelease(string(text))
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", url, err)
	}
	if !sameSuite(s.name, r) {
		return fmt.Errorf("cannot use %s: it describes suite %q (%s), not %q: the mirror serves the wrong file", url, r.Suite, r.Codename, s.name)
	}
	if !r.ValidUntil.IsZero() && a.now().After(r.ValidUntil) {
		err := &ExpiredError{URL: url, ValidUntil: r.ValidUntil, Now: a.now(), codename: r.Codename}
		if a.checkValidUntil && !src.IgnoreValidUntil {
			return err
		}
		a.events.Emit(event.Warn(fmt.Sprintf("%s was valid until %s; used all the same, as asked", url, r.ValidUntil.Format(time.RFC3339))))
	}
	s.release, s.signed, s.modified = r, doc.Data, doc.Modified
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
func (a *archive) index(ctx context.Context, s *suite, name string) (string, error) {
	sum, ok := s.release.Files[name]
	if !ok {
		return "", fmt.Errorf("cannot use suite %s of %s: it has no %s (its components: %s; its architectures: %s)", s.name, s.fetchURI, name,
			strings.Join(s.release.Components, " "), strings.Join(s.release.Architectures, " "))
	}
	plain := fetch.Blob{SHA256: sum.SHA256, Size: sum.Size, URLs: s.urls(name, sum)}
	if a.client.HasBlob(plain) {
		return a.client.Blob(ctx, plain)
	}
	for _, ext := range []string{".xz", ".gz"} {
		sum, ok := s.release.Files[name+ext]
		if !ok {
			continue
		}
		file, err := a.client.Blob(ctx, fetch.Blob{SHA256: sum.SHA256, Size: sum.Size, URLs: s.urls(name+ext, sum)})
		var status *fetch.StatusError
		if errors.As(err, &status) && status.Code == http.StatusNotFound || errors.Is(err, fetch.ErrOffline) {
			continue // listed, but this mirror or the cache does not have that form
		}
		if err != nil {
			return "", err
		}
		return a.client.PutBlob(ctx, plain, func(w io.Writer) error { return decompressFile(file, ext, w) })
	}
	return a.client.Blob(ctx, plain)
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
func (s *suite) urls(name string, sum deb.FileSum) []string {
	base := s.fetchURI + "/dists/" + s.dir + "/"
	urls := []string{base + name}
	if s.release.ByHash {
		urls = append(urls, base+path.Dir(name)+"/by-hash/SHA256/"+sum.SHA256)
	}
	return urls
}
