// Package debian makes the first root filesystem of a Debian image from the
// packages of an archive, verified, without debootstrap, apt or dpkg on the
// host. dpkg configures the packages inside the tree; everything up to there
// is done here.
//
// It also holds the two helpers that the Debian elements need for the time of
// a build: apt-mirror, which lets apt in the tree fetch from the host's
// mirror, and apt-update, which refreshes apt's lists only when they changed.
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
		o.mirrorsFile = filepath.Join(dir, mirrorsName)
	}
	var include, includeFrom string
	fs := flag.NewFlagSet("bootstrap-debian", flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.StringVar(&o.arch, "arch", "", "Debian `architecture` of the image")
	fs.StringVar(&o.release, "release", "stable", "suite or code `name`")
	fs.StringVar(&o.components, "components", "main", "`list` of components, separated by commas")
	fs.StringVar(&o.mirror, "mirror", OfficialArchive, "`address` of the archive")
	fs.StringVar(&o.security, "security-mirror", OfficialSecurity, "`address` of the security archive")
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
	keys, err := loadKeyring(o.keyring)
	if err != nil {
		return err
	}
	client, err := fetch.New(fetch.Options{Dir: o.cache, Offline: o.offline, Events: events, Now: now})
	if err != nil {
		return err
	}
	mirrors := chooseMirrors(hostSources(hostRoot, events),
		strings.Contains(o.defaulted, "archive"), strings.Contains(o.defaulted, "security"))
	a := &archive{client: client, keys: keys, mirrors: mirrors, arch: o.arch, checkValidUntil: o.checkValidUntil, now: now, events: events}
	var suites []*suite
	var res *resolution
	err = step(events, "resolve", func() error {
		if suites, err = a.load(ctx, sources); err != nil {
			return err
		}
		res, err = choose(suites, o.arch, o.include)
		return err
	})
	if err != nil {
		return err
	}
	for _, w := range res.warnings {
		events.Emit(event.Warn(w))
	}
	epoch, err := o.sourceDate(suites)
	if err != nil {
		return err
	}
	in := &installer{
		root: o.target, arch: o.arch, codename: suites[0].release.Codename, res: res, client: client, events: events,
		stager: &stager{cache: filepath.Join(o.cache, "debdata")},
		chroot: &chroot{root: o.target, epoch: epoch, events: events},
	}
	if err := in.install(ctx); err != nil {
		return err
	}
	return o.finish(suites, res, mirrors, epoch)
}

func step(events event.Sink, name string, work func() error) error {
	events.Emit(event.Event{Kind: event.StepStart, Step: name})
	defer events.Emit(event.Event{Kind: event.StepEnd, Step: name})
	return work()
}

// sourceList is DIB_APT_SOURCES_CONF, or by default what debian-minimal's
// environment would put there.
func (o *options) sourceList() ([]deb.Source, error) {
	text := o.sources
	if strings.TrimSpace(text) == "" {
		components := strings.Join(strings.FieldsFunc(o.components, func(r rune) bool { return r == ',' || r == ' ' }), " ")
		text = fmt.Sprintf("default:deb %s %s %s\n", o.mirror, o.release, components)
		switch o.release {
		case "testing", "unstable", "sid", "experimental":
		default:
			text += fmt.Sprintf("updates:deb %s %s-updates %s\n", o.mirror, o.release, components)
			text += fmt.Sprintf("security:deb %s %s-security %s\n", o.security, o.release, components)
		}
	}
	sources, err := parseSourcesConf(text)
	if err == nil && len(sources) == 0 {
		err = errors.New("DIB_APT_SOURCES_CONF names no source of binary packages")
	}
	return sources, err
}

// choose reads the indexes and chooses the packages.
func choose(suites []*suite, arch string, include []string) (*resolution, error) {
	var owners []*suite
	var files []string
	for _, s := range suites {
		for _, ix := range s.indexes {
			owners, files = append(owners, s), append(files, ix.path)
		}
	}
	lists := make([][]deb.Package, len(files))
	var g errgroup.Group
	for i, name := range files {
		g.Go(func() error {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			if lists[i], err = deb.ParseIndex(string(data)); err != nil {
				return fmt.Errorf("cannot read the package index of suite %s: %w", owners[i].name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	u, err := newUniverse(owners, lists, arch)
	if err != nil {
		return nil, err
	}
	return resolve(u, required, include)
}

// sourceDate is the time that stands for the state of the archive: that of its
// newest Release file, unless SOURCE_DATE_EPOCH says otherwise.
func (o *options) sourceDate(suites []*suite) (time.Time, error) {
	if o.epoch != "" {
		n, err := strconv.ParseInt(o.epoch, 10, 64)
		if err != nil || n < 0 {
			return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is %q, not a number of seconds since 1970", o.epoch)
		}
		return time.Unix(n, 0), nil
	}
	var newest time.Time
	for _, s := range suites {
		if s.release.Date.After(newest) {
			newest = s.release.Date
		}
	}
	return newest, nil
}

// finish writes what later phases go by.
func (o *options) finish(suites []*suite, res *resolution, mirrors Mirrors, epoch time.Time) error {
	if err := writeLists(o.target, suites); err != nil {
		return fmt.Errorf("cannot write apt's lists: %w", err)
	}
	if err := os.WriteFile(filepath.Join(o.target, "var/lib/apt/extended_states"), []byte(extendedStates(res, o.arch)), 0o644); err != nil {
		return fmt.Errorf("cannot write apt's package states: %w", err)
	}
	// The sources are written by the element that knows them.
	for _, name := range []string{"etc/apt/sources.list", "etc/apt/sources.list.d"} {
		if err := os.RemoveAll(filepath.Join(o.target, name)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(o.target, "etc/apt/sources.list.d"), 0o755); err != nil {
		return err
	}
	if err := tidy(o.target); err != nil {
		return fmt.Errorf("cannot tidy the new root filesystem: %w", err)
	}
	if o.mirrorsFile != "" {
		if err := (&mirrorState{Mirrors: mirrors}).write(o.mirrorsFile); err != nil {
			return err
		}
	}
	if o.epochFile != "" {
		if err := os.WriteFile(o.epochFile, []byte(strconv.FormatInt(epoch.Unix(), 10)+"\n"), 0o644); err != nil {
			return fmt.Errorf("cannot note the date of the sources: %w", err)
		}
	}
	return nil
}
