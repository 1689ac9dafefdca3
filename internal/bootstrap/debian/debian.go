// Package debian makes the first root filesystem of a Debian image from the
// packages of an archive, verified, without debootstrap, apt or dpkg on the
// host. dpkg configures the packages inside the tree; everything up to there
// is done here.
//
// The work is that of the packages below: archive fetches and verifies the
// suites, resolve chooses the packages, install brings them into the tree by
// means of unpack and dpkg, apt leaves its state behind. This package is the
// command that asks for all that.
package debian

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dib-builder/dib/internal/bootstrap/debian/apt"
	"github.com/dib-builder/dib/internal/bootstrap/debian/archive"
	"github.com/dib-builder/dib/internal/bootstrap/debian/install"
	"github.com/dib-builder/dib/internal/bootstrap/debian/resolve"
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/deb"
	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/fetch"
)

// required are packages that are installed though nothing essential needs
// them: an image without apt cannot be worked on, and without tzdata its
// clock knows no zones. debootstrap's minbase and mmdebstrap have them too.
var required = []string{"apt", "tzdata"}

// options are what the hook asks for.
type options struct {
	target     string
	arch       string
	release    string
	components string
	mirror     string
	security   string
	defaulted  string // which of "archive" and "security" are the official hosts by default
	sources    string
	keyring    string
	include    []string
	cache      string
	offline    bool

	checkValidUntil bool
	epochFile       string
	mirrorsFile     string
	epoch           string
}

func parseOptions(args []string, getenv func(string) string, errOut io.Writer) (*options, error) {
	o := &options{
		offline:         getenv("DIB_OFFLINE") != "",
		checkValidUntil: getenv("DIB_DEBIAN_CHECK_VALID_UNTIL") != "0",
		epoch:           getenv("SOURCE_DATE_EPOCH"),
	}
	if dir := getenv("TMP_BUILD_DIR"); dir != "" {
		o.epochFile = filepath.Join(dir, "source-date-epoch")
	}
	if dir := getenv("TMP_HOOKS_PATH"); dir != "" {
		o.mirrorsFile = filepath.Join(dir, apt.MirrorsFile)
	}
	var include, includeFrom string
	fs := flag.NewFlagSet("bootstrap-debian", flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.StringVar(&o.arch, "arch", "", "Debian `architecture` of the image")
	fs.StringVar(&o.release, "release", "stable", "suite or code `name`")
	fs.StringVar(&o.components, "components", "main", "`list` of components, separated by commas")
	fs.StringVar(&o.mirror, "mirror", archive.OfficialArchive, "`address` of the archive")
	fs.StringVar(&o.security, "security-mirror", archive.OfficialSecurity, "`address` of the security archive")
	fs.StringVar(&o.defaulted, "defaulted", "", "which of \"archive security\" the user did not choose: fetched from the host's mirror")
	fs.StringVar(&o.sources, "sources", "", "`text` of the form of DIB_APT_SOURCES_CONF; default: release, updates and security")
	fs.StringVar(&o.keyring, "keyring", "", "`file` of the keys to trust instead of the built-in ones")
	fs.StringVar(&include, "include", "", "`names` of further packages, separated by commas or blanks")
	fs.StringVar(&includeFrom, "include-from", "", "`file` with names of further packages, one a line")
	fs.StringVar(&o.cache, "cache", "", "`directory` of the cache (DIB_IMAGE_CACHE)")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() != 1 || o.arch == "" || o.cache == "" {
		return nil, errors.New("usage: bootstrap-debian --arch ARCH --cache DIR [OPTION]... TARGET")
	}
	o.target = fs.Arg(0)
	o.include = strings.FieldsFunc(include, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
	if includeFrom != "" {
		data, err := os.ReadFile(includeFrom)
		if err != nil {
			return nil, fmt.Errorf("cannot read the list of packages: %w", err)
		}
		o.include = append(o.include, strings.Fields(string(data))...)
	}
	return o, nil
}

// Main is the command bootstrap-debian.
func Main(ctx context.Context, stdio command.IO, args []string) int {
	o, err := parseOptions(args, stdio.Getenv, stdio.Err)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stdio.Err, "bootstrap-debian:", err)
		return 2
	}
	events, done := eventSink(stdio)
	defer done()
	if err := bootstrap(ctx, o, events, time.Now, "/"); err != nil {
		fmt.Fprintln(stdio.Err, "bootstrap-debian:", err)
		if fetch.Unreachable(err) {
			fmt.Fprintln(stdio.Err, "bootstrap-debian: check the network, http_proxy and DIB_DISTRIBUTION_MIRROR; what an earlier build has downloaded serves without network: --offline")
		}
		return 1
	}
	return 0
}

// eventSink sends events to the build that listens at $DIB_EVENTS, or writes
// the readable ones to standard error.
func eventSink(stdio command.IO) (event.Sink, func()) {
	if name := stdio.Getenv("DIB_EVENTS"); name != "" {
		if conn, err := net.Dial("unix", name); err == nil {
			return event.NewEncoder(conn, time.Now), func() { conn.Close() }
		}
	}
	return event.SinkFunc(func(e event.Event) {
		switch e.Kind {
		case event.Log:
			fmt.Fprintf(stdio.Err, "%s\n", e.Line)
		case event.Warning:
			fmt.Fprintf(stdio.Err, "warning: %s\n", e.Line)
		case event.StepStart:
			fmt.Fprintf(stdio.Err, "%s ...\n", e.Step)
		}
	}), func() {}
}

// bootstrap does the whole work. The host's apt sources are read below hostRoot.
func bootstrap(ctx context.Context, o *options, events event.Sink, now func() time.Time, hostRoot string) error {
	sources, err := o.sourceList()
	if err != nil {
		return err
	}
	keys, err := archive.LoadKeyring(o.keyring)
	if err != nil {
		return err
	}
	client, err := fetch.New(fetch.Options{Dir: o.cache, Offline: o.offline, Events: events, Now: now})
	if err != nil {
		return err
	}
	mirrors := archive.ChooseMirrors(archive.HostSources(hostRoot, events),
		strings.Contains(o.defaulted, "archive"), strings.Contains(o.defaulted, "security"))
	a := &archive.Client{
		Fetch: client, Keys: keys, Mirrors: mirrors, Arch: o.arch, CheckValidUntil: o.checkValidUntil && !o.offline, Now: now, Events: events,
	}
	var suites []*archive.Suite
	var res *resolve.Resolution
	events.Emit(event.Event{Kind: event.StepStart, Step: "resolve"})
	if suites, err = a.Load(ctx, sources); err == nil {
		res, err = choose(suites, o.arch, o.include)
	}
	events.Emit(event.Event{Kind: event.StepEnd, Step: "resolve"})
	if err != nil {
		return err
	}
	for _, w := range res.Warnings {
		events.Emit(event.Warn(w))
	}
	epoch, err := o.sourceDate(suites)
	if err != nil {
		return err
	}
	in := &install.Installer{
		Root: o.target, Arch: o.arch, Codename: suites[0].Release.Codename, Resolution: res,
		Fetch: client, Cache: filepath.Join(o.cache, "debdata"), Epoch: epoch, Events: events,
	}
	if err := in.Install(ctx); err != nil {
		return err
	}
	return o.finish(suites, res, mirrors, epoch)
}

// choose reads the indexes and chooses the packages.
func choose(suites []*archive.Suite, arch string, include []string) (*resolve.Resolution, error) {
	var owners []*archive.Suite
	var files []string
	for _, s := range suites {
		for _, ix := range s.Indexes {
			owners, files = append(owners, s), append(files, ix.Path)
		}
	}
	indexes := make([]resolve.Index, len(files))
	var g errgroup.Group
	for i, name := range files {
		g.Go(func() error {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			packages, err := deb.ParseIndex(string(data))
			if err != nil {
				return fmt.Errorf("cannot read the package index of suite %s: %w", owners[i].Name, err)
			}
			indexes[i] = resolve.Index{Archive: owners[i].FetchURI, Packages: packages}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	u, err := resolve.NewUniverse(indexes, arch)
	if err != nil {
		return nil, err
	}
	return u.Resolve(required, include)
}

// sourceDate is the time that stands for the state of the archive: that of its
// newest Release file, unless SOURCE_DATE_EPOCH says otherwise.
func (o *options) sourceDate(suites []*archive.Suite) (time.Time, error) {
	if o.epoch != "" {
		n, err := strconv.ParseInt(o.epoch, 10, 64)
		if err != nil || n < 0 {
			return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is %q, not a number of seconds since 1970", o.epoch)
		}
		return time.Unix(n, 0), nil
	}
	var newest time.Time
	for _, s := range suites {
		if s.Release.Date.After(newest) {
			newest = s.Release.Date
		}
	}
	return newest, nil
}
