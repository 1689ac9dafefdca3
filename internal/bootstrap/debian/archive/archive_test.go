package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/dib-builder/dib/internal/deb"
	"github.com/dib-builder/dib/internal/deb/debtest"
	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/fetch"
)

// now is the time of all tests.
var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestBuiltInKeysAreThePublishedOnes(t *testing.T) {
	want := map[string]string{
		"B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8": "12 archive",
		"05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0": "12 security",
		"4D64FEC119C2029067D6E791F8D2585B8783D481": "12 release",
		"04B54C3CDCA79751B16BC6B5225629DF75B188BD": "13 archive",
		"5E04A1E3223A19A20706E20F9904613D4CCE68C6": "13 security",
		"41587F7DB8C774BCCF131416762F67A0B2C39DE4": "13 release",
	}
	keys, err := LoadKeyring("")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		fpr := strings.ToUpper(hex.EncodeToString(k.PrimaryKey.Fingerprint))
		if want[fpr] == "" {
			t.Errorf("unknown key %s", fpr)
		}
		delete(want, fpr)
	}
	if len(want) > 0 {
		t.Errorf("missing keys: %v", want)
	}
}

func newKey(t *testing.T) *openpgp.Entity {
	t.Helper()
	k, err := openpgp.NewEntity("test archive", "", "test@example.org", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return now.Add(-24 * time.Hour) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t *testing.T, text string, keys ...*openpgp.Entity) []byte {
	t.Helper()
	var private []*packet.PrivateKey
	for _, k := range keys {
		private = append(private, k.PrivateKey)
	}
	var out bytes.Buffer
	w, err := clearsign.EncodeMulti(&out, private, &packet.Config{Time: func() time.Time { return now.Add(-time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return append(out.Bytes(), '\n')
}

func TestVerifyInRelease(t *testing.T) {
	ours, theirs := newKey(t), newKey(t)
	ring := openpgp.EntityList{ours}
	const text = "Suite: stable\n- dash\n"
	good := sign(t, text, ours)
	for name, c := range map[string]struct {
		data []byte
		ok   bool
	}{
		"good":                       {good, true},
		"second of two signatures":   {sign(t, text, theirs, ours), true},
		"first of two signatures":    {sign(t, text, ours, theirs), true},
		"other key":                  {sign(t, text, theirs), false},
		"changed text":               {bytes.Replace(good, []byte("stable"), []byte("staple"), 1), false},
		"text behind":                {append(bytes.Clone(good), "Suite: evil\n"...), false},
		"not signed":                 {[]byte(text), false},
		"signature cut off":          {good[:bytes.Index(good, []byte("-----BEGIN PGP SIGNATURE"))], false},
		"signed message inside text": {append([]byte("Suite: evil\n\n"), good...), true},
	} {
		got, err := verifyInRelease(c.data, ring, now)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		// Whatever surrounds the signed text never counts as signed.
		if c.ok && strings.TrimSpace(string(got)) != strings.TrimSpace(text) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func FuzzVerifyInRelease(f *testing.F) {
	f.Add([]byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nx\n-----BEGIN PGP SIGNATURE-----\n\nwsB=\n-----END PGP SIGNATURE-----\n"))
	keys, err := LoadKeyring("")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := verifyInRelease(data, keys, now); err == nil {
			t.Error("a signature of Debian's keys, found by chance")
		}
	})
}

func TestLoadKeyring(t *testing.T) {
	k := newKey(t)
	var binary, armoured bytes.Buffer
	if err := k.Serialize(&binary); err != nil {
		t.Fatal(err)
	}
	w, err := armor.Encode(&armoured, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(binary.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"binary": binary.Bytes(), "armoured": armoured.Bytes()} {
		file := filepath.Join(t.TempDir(), "keyring")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		keys, err := LoadKeyring(file)
		if err != nil || len(keys) != 1 || !bytes.Equal(keys[0].PrimaryKey.Fingerprint, k.PrimaryKey.Fingerprint) {
			t.Errorf("%s: %v, %v", name, keys, err)
		}
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{empty, empty + "-missing"} {
		if _, err := LoadKeyring(file); err == nil {
			t.Errorf("%s: no error", file)
		}
	}
}

// repository is an archive in memory: files by path below its address.
type repository struct {
	url   string
	files map[string][]byte
	key   *openpgp.Entity
}

// newRepository serves an archive with one suite that holds the packages. The
// Release file is as release makes it from its default.
func newRepository(t *testing.T, packages []debtest.Package, release func(string) string) *repository {
	t.Helper()
	r := &repository{files: map[string][]byte{}, key: newKey(t)}
	var index bytes.Buffer
	for i, p := range packages {
		data := p.Build()
		name := fmt.Sprintf("pool/p%d.deb", i)
		r.files[name] = data
		fmt.Fprintf(&index, "%sFilename: %s\nSize: %d\nSHA256: %x\n\n", p.Control, name, len(data), sha256.Sum256(data))
	}
	compressed := debtest.Compress(".xz", index.Bytes())
	const dir = "dists/trixie/"
	r.files[dir+"main/binary-amd64/Packages.xz"] = compressed
	text := fmt.Sprintf("Suite: stable\nCodename: trixie\nDate: Sat, 21 Nov 2026 09:15:44 UTC\nValid-Until: Sat, 28 Nov 2026 09:15:44 UTC\n"+
		"Components: main\nArchitectures: all amd64\nSHA256:\n %x %d main/binary-amd64/Packages\n %x %d main/binary-amd64/Packages.xz\n",
		sha256.Sum256(index.Bytes()), index.Len(), sha256.Sum256(compressed), len(compressed))
	if release != nil {
		text = release(text)
	}
	r.files[dir+"InRelease"] = sign(t, text, r.key)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		data, ok := r.files[strings.TrimPrefix(req.URL.Path, "/debian/")]
		if !ok {
			http.NotFound(w, req)
			return
		}
		http.ServeContent(w, req, "", now, bytes.NewReader(data))
	}))
	t.Cleanup(server.Close)
	r.url = server.URL + "/debian"
	return r
}

func (r *repository) client(t *testing.T, dir string, offline bool) *Client {
	t.Helper()
	client, err := fetch.New(fetch.Options{Dir: dir, Offline: offline, Retries: -1, Stall: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return &Client{
		Fetch: client, Keys: openpgp.EntityList{r.key}, Arch: "amd64", CheckValidUntil: true,
		Mirrors: Mirrors{OfficialArchive: r.url}, Now: func() time.Time { return now }, Events: event.Discard,
	}
}

func source(suite string) []deb.Source {
	return []deb.Source{{URIs: []string{OfficialArchive}, Suites: []string{suite}, Components: []string{"main"}}}
}

func TestLoadSuite(t *testing.T) {
	r := newRepository(t, []debtest.Package{simplePackage("hello", "")}, nil)
	dir := t.TempDir()
	for _, offline := range []bool{false, true} {
		a := r.client(t, dir, offline)
		suites, err := a.Load(t.Context(), source("trixie"))
		if err != nil {
			t.Fatal(err)
		}
		s := suites[0]
		if s.uri != OfficialArchive || s.FetchURI != r.url || s.Release.Codename != "trixie" || len(s.Indexes) != 1 {
			t.Errorf("%+v", s)
		}
		data, err := os.ReadFile(s.Indexes[0].Path)
		if err != nil {
			t.Fatal(err)
		}
		packages, err := deb.ParseIndex(string(data))
		if err != nil || len(packages) != 1 || packages[0].Name != "hello" {
			t.Errorf("%+v, %v", packages, err)
		}
	}
}

func simplePackage(name, more string) debtest.Package {
	return debtest.Package{Control: "Package: " + name + "\nVersion: 1.0\nArchitecture: amd64\n" + more}
}

func TestLoadRefuses(t *testing.T) {
	replace := func(old, new string) func(string) string {
		return func(s string) string { return strings.Replace(s, old, new, 1) }
	}
	for name, c := range map[string]struct {
		release func(string) string
		suite   string
		change  func(*Client, *repository)
		is      func(error) bool
		says    string
	}{
		"wrong key": {
			change: func(a *Client, r *repository) { a.Keys = openpgp.EntityList{newKey(t)} },
			is:     func(err error) bool { var e *SignatureError; return errors.As(err, &e) },
			says:   "DIB_APT_KEYRING",
		},
		"expired": {
			release: replace("28 Nov", "22 Nov"),
			is:      func(err error) bool { var e *ExpiredError; return errors.As(err, &e) },
			says:    "DIB_DEBIAN_CHECK_VALID_UNTIL",
		},
		"unknown release": {
			suite: "trixi",
			is:    func(err error) bool { var e *UnknownReleaseError; return errors.As(err, &e) },
			says:  "did you mean trixie",
		},
		"other suite": {release: replace("Suite: stable\nCodename: trixie", "Suite: stable\nCodename: forky"), says: `describes suite "stable" (forky)`},
		"no such architecture": {
			change: func(a *Client, r *repository) { a.Arch = "sparc" }, says: "its architectures: all amd64",
		},
		"index changed": {
			change: func(a *Client, r *repository) {
				r.files["dists/trixie/main/binary-amd64/Packages.xz"][20] ^= 1
			},
			is:   func(err error) bool { var e *fetch.MismatchError; return errors.As(err, &e) && e.What == "sha256" },
			says: "Packages.xz",
		},
		"index too long": {
			change: func(a *Client, r *repository) {
				const f = "dists/trixie/main/binary-amd64/Packages.xz"
				r.files[f] = append(r.files[f], 0)
			},
			is: func(err error) bool { var e *fetch.MismatchError; return errors.As(err, &e) && e.What == "size" },
		},
		"index missing": {
			change: func(a *Client, r *repository) { delete(r.files, "dists/trixie/main/binary-amd64/Packages.xz") },
			is:     func(err error) bool { var e *fetch.StatusError; return errors.As(err, &e) && e.Code == 404 },
			says:   "main/binary-amd64/Packages",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepository(t, []debtest.Package{simplePackage("hello", "")}, c.release)
			a := r.client(t, t.TempDir(), false)
			if c.change != nil {
				c.change(a, r)
			}
			suite := c.suite
			if suite == "" {
				suite = "trixie"
			}
			_, err := a.Load(t.Context(), source(suite))
			if err == nil || !strings.Contains(err.Error(), c.says) || c.is != nil && !c.is(err) {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
}

func TestExpiredOnPurpose(t *testing.T) {
	r := newRepository(t, nil, func(s string) string { return strings.Replace(s, "28 Nov", "22 Nov", 1) })
	a := r.client(t, t.TempDir(), false)
	a.CheckValidUntil = false
	if _, err := a.Load(t.Context(), source("trixie")); err != nil {
		t.Error(err)
	}
	a.CheckValidUntil = true
	s := source("trixie")
	s[0].IgnoreValidUntil = true
	if _, err := a.Load(t.Context(), s); err != nil {
		t.Error(err)
	}
}

// A mirror keeps an old copy of an alias while that of its code name is current;
// the cache must hold enough of both for a build without the network.
func TestExpiredAlias(t *testing.T) {
	r := newRepository(t, []debtest.Package{simplePackage("hello", "")}, nil)
	current := string(unsigned(r.files["dists/trixie/InRelease"]))
	stale := strings.NewReplacer("21 Nov", "1 Nov", "28 Nov", "8 Nov").Replace(current)
	r.files["dists/stable/InRelease"] = sign(t, stale, r.key)
	dir := t.TempDir()
	for _, offline := range []bool{false, true} {
		suites, err := r.client(t, dir, offline).Load(t.Context(), source("stable"))
		if err != nil {
			t.Fatalf("offline %v: %v", offline, err)
		}
		if got := suites[0].Release.Date.Day(); got != 21 {
			t.Errorf("offline %v: the release of day %d is used, want 21", offline, got)
		}
	}
	later := r.client(t, dir, true)
	later.Now = func() time.Time { return now.AddDate(0, 1, 0) }
	if _, err := later.Load(t.Context(), source("stable")); !errors.As(err, new(*ExpiredError)) {
		t.Errorf("a month later: %v, want an ExpiredError", err)
	}
	later.CheckValidUntil = false
	suites, err := later.Load(t.Context(), source("stable"))
	if err != nil {
		t.Fatal(err)
	}
	if got := suites[0].Release.Date.Day(); got != 21 {
		t.Errorf("a month later: the release of day %d is used, want the newest, 21", got)
	}
}

func TestTrustedSource(t *testing.T) {
	r := newRepository(t, nil, nil)
	a := r.client(t, t.TempDir(), false)
	a.Keys = openpgp.EntityList{newKey(t)}
	warnings := 0
	a.Events = event.SinkFunc(func(e event.Event) {
		if e.Kind == event.Warning {
			warnings++
		}
	})
	s := source("trixie")
	s[0].Trusted = true
	if _, err := a.Load(t.Context(), s); err != nil || warnings != 1 {
		t.Errorf("%v, %d warnings", err, warnings)
	}
}

func TestSuiteNames(t *testing.T) {
	r := &deb.Release{Suite: "stable-security", Codename: "trixie-security"}
	for name, want := range map[string]bool{"stable-security": true, "trixie-security": true, "trixie-security/updates": true, "trixie": false, "bookworm-security": false} {
		if got := sameSuite(name, r); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for suite, want := range map[string]string{
		"bokworm":            `there is no release "bokworm" at U (DIB_RELEASE); did you mean bookworm?`,
		"bullseyee-security": `there is no release "bullseyee" at U (DIB_RELEASE); did you mean bullseye?`,
		"jammy":              `there is no release "jammy" at U (DIB_RELEASE); known are bookworm, trixie, forky, duke, sid, oldstable, stable, testing, unstable, experimental`,
		"trixie-nothing":     `there is no release "trixie-nothing" at U; if this mirror has no such suite, state the sources in DIB_APT_SOURCES_CONF`,
	} {
		if got := (&UnknownReleaseError{suite, "U"}).Error(); got != want {
			t.Errorf("%s: %s, want %s", suite, got, want)
		}
	}
}
