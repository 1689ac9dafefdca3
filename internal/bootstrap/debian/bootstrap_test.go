package debian

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dib-builder/dib/internal/bootstrap/debian/archive"
	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/run"
)

// TestBootstrap makes real root filesystems from the mirror of this machine
// and lets Debian's own programs judge them.
func TestBootstrap(t *testing.T) {
	if testing.Short() {
		t.Skip("downloads from a mirror and installs two releases")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, for owners and mounts")
	}
	// A mount namespace of its own keeps everything that is mounted from the
	// machine. It is a property of a thread, so the whole test starts again in it.
	const inside = "DIB_TEST_IN_NAMESPACE"
	if os.Getenv(inside) == "" {
		out, err := run.Cmd{
			Argv: []string{"unshare", "--mount", "--propagation", "private", os.Args[0], "-test.run=^TestBootstrap$", "-test.v"},
			Env:  append(os.Environ(), inside+"=1"),
		}.Output(t.Context())
		t.Logf("%s", out)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	cache := os.Getenv("DIB_TEST_CACHE") // a directory to keep downloads in; default: none
	if cache == "" {
		cache = t.TempDir()
	}
	for _, release := range []string{"bookworm", "trixie"} {
		root := t.TempDir()
		o := &options{
			target: root, arch: runtime.GOARCH, release: release, components: "main", mirror: archive.OfficialArchive,
			security: archive.OfficialSecurity, defaulted: "archive security", cache: cache, checkValidUntil: true,
			include: []string{"systemd-sysv", "python3-minimal", "no-such-package"},
		}
		var warnings []string
		events := event.SinkFunc(func(e event.Event) {
			if e.Kind == event.Warning {
				warnings = append(warnings, string(e.Line))
			}
		})
		if err := bootstrap(t.Context(), o, events, time.Now, "/"); err != nil {
			t.Fatalf("%s: %v", release, err)
		}
		if len(warnings) != 1 || !strings.Contains(warnings[0], "no-such-package") {
			t.Errorf("%s: warnings %q", release, warnings)
		}
		for _, argv := range [][]string{
			{"/usr/bin/dpkg", "--audit"},
			{"/usr/bin/dpkg", "--verify"},
			{"/usr/bin/apt-get", "-q", "-q", "check"},
			{"/bin/sh", "-c", "dpkg-query -W -f '${db:Status-Status} ${Package}\n' | grep -v '^installed '; test -x /usr/bin/python3"},
		} {
			out, err := run.Cmd{Argv: argv, Root: root, Env: []string{"PATH=/usr/bin:/usr/sbin:/bin:/sbin", "LC_ALL=C"}}.Output(t.Context())
			if err != nil || len(out) > 0 {
				t.Errorf("%s: %v: %v\n%s", release, argv, err, out)
			}
		}
		for _, gone := range []string{".dib-staging", "usr/sbin/policy-rc.d", "var/lib/dpkg/tmp.ci", "proc/self"} {
			if _, err := os.Lstat(filepath.Join(root, gone)); err == nil {
				t.Errorf("%s: %s was left behind", release, gone)
			}
		}
	}
}
