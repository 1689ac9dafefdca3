package intarget

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/test/commandtest"
)

// recorder is a program that writes down how it was called, one line a call,
// and does as the file /status.NAME says.
const recorder = `#!/bin/bash
{
    printf '%s' "${0##*/}"
    [ $# -eq 0 ] || printf ' <%s>' "$@"
    [ -z "${SHOW:-}" ] || printf ' %s=%s' "$SHOW" "${!SHOW-unset}"
    echo
} >> /calls
if [ -e "/do.${0##*/}" ]; then . "/do.${0##*/}"; fi
`

// packageTarget is a tree of fake-os with an element's commands and with
// programs that record their calls.
func packageTarget(t *testing.T, element string, programs ...string) string {
	t.Helper()
	target := t.TempDir()
	if out, err := hostHook(t, "fake-os/root.d/10-fake-os", t.TempDir(), target); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files := map[string]string{
		"dev/null": "", "proc/mounts": "none /dev/shm tmpfs rw 0 0\n", "proc/self/mounts": "",
		"usr/local/bin/pkg-map!": "#!/bin/bash\n[ \"$2\" = known ] || exit 1\nshift 2\nfor n; do [ \"$n\" = nothing ] || echo \"mapped-$n second-$n\"; done\n",
	}
	commands, err := filepath.Glob("../../elements/" + element + "/bin/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commands {
		files["usr/local/bin/"+filepath.Base(c)+"!"] = commandtest.Read(t, c)
	}
	for _, p := range programs {
		files["usr/bin/"+p+"!"] = recorder
	}
	commandtest.Write(t, target, files)
	return target
}

// calls runs a script in the target and returns what it printed, its failure,
// and the calls that it made.
func calls(t *testing.T, target, script string) (out, made string, err error) {
	t.Helper()
	if err := os.RemoveAll(target + "/calls"); err != nil {
		t.Fatal(err)
	}
	out, err = commandtest.Chroot(t, target, "/bin/bash", "-c", script)
	data, readErr := os.ReadFile(target + "/calls")
	if readErr != nil && !os.IsNotExist(readErr) {
		t.Fatal(readErr)
	}
	return out, string(data), err
}

// installCase is one call of install-packages.
type installCase struct {
	name   string
	env    string // assignments before the command
	args   string
	files  map[string]string // added to the target for this case
	calls  string
	out    string // part of the output; "=" before it: all of it
	status string // empty: 0
}

func (c installCase) run(t *testing.T, target string) {
	t.Helper()
	commandtest.Write(t, target, c.files)
	defer func() {
		for name := range c.files {
			if err := os.Remove(target + "/" + strings.TrimSuffix(name, "!")); err != nil {
				t.Error(err)
			}
		}
	}()
	out, made, err := calls(t, target, c.env+" install-packages "+c.args)
	status := ""
	if err != nil {
		status = err.Error()
	}
	if made != c.calls || status != c.status {
		t.Errorf("status %q, calls\n%s\nwant %q,\n%s\noutput: %s", status, made, c.status, c.calls, out)
	}
	if all, exact := strings.CutPrefix(c.out, "="); exact && out != all || !exact && !strings.Contains(out, c.out) {
		t.Errorf("output %q, want %q", out, c.out)
	}
}

// common is what install-packages of every family does alike.
func common(verb string) []installCase {
	return []installCase{
		{name: "help", args: "-h", out: "Usage: install-packages"},
		{name: "unknown option", args: "-r x", out: "unknown option -r", status: "exit status 1"},
		{name: "option without value", args: "x -m", out: "option -m needs a value", status: "exit status 1"},
		{name: "map that fails", args: "-m other a b", out: "cannot map the names of element other: a b", status: "exit status 1"},
		{name: "mapped to nothing", args: "-m known nothing", out: verb},
		{name: "no names", args: "", out: verb},
	}
}

func TestYum(t *testing.T) {
	target := packageTarget(t, "yum", "yum", "dnf-3", "dnf5", "rpm", "yumdownloader", "alternatives", "map-packages")
	for _, link := range []string{"dnf"} {
		if err := os.Symlink("dnf-3", target+"/usr/bin/"+link); err != nil {
			t.Fatal(err)
		}
	}
	commandtest.Write(t, target, map[string]string{"do.map-packages": "printf '%s\\n' \"$@\"\n"})
	const mapped = "map-packages <a> <b>\n"
	cases := append(common("="),
		installCase{name: "yum", args: "a b", calls: mapped + "yum <-y> <-v> <install> <a> <b>\n"},
		installCase{name: "dnf", env: "YUM=dnf", args: "a b", calls: mapped + "dnf <-y> <-v> <install> <a> <b>\ndnf <-y> <mark> <install> <a> <b>\n"},
		installCase{name: "dnf5", env: "YUM=dnf5", args: "a b", calls: mapped + "dnf5 <-y> <install> <a> <b>\ndnf5 <-y> <mark> <user> <a> <b>\n"},
		installCase{name: "flags", env: "YUM=dnf5 YUM_FLAGS='-y -v --nogpgcheck'", args: "a b", calls: mapped + "dnf5 <-y> <--nogpgcheck> <install> <a> <b>\ndnf5 <-y> <mark> <user> <a> <b>\n"},
		installCase{name: "removal", env: "YUM=dnf", args: "-e a b", calls: mapped + "dnf <-y> <-v> <remove> <a> <b>\n"},
		installCase{name: "update ends at once", env: "YUM=dnf", args: "-e -u a", calls: "dnf <-y> <update>\n"},
		installCase{name: "map", env: "YUM=dnf", args: "-m known a b", calls: "dnf <-y> <-v> <install> <mapped-a> <second-a> <mapped-b> <second-b>\ndnf <-y> <mark> <install> <mapped-a> <second-a> <mapped-b> <second-b>\n"},
		installCase{name: "several names in one word", args: "'a b'", calls: mapped + "yum <-y> <-v> <install> <a> <b>\n"},
		installCase{name: "M34 download", env: "YUM=dnf", args: "-d /tmp/d a b", calls: mapped + "dnf <download> <--destdir=/tmp/d> <a> <b>\n"},
		installCase{name: "M34 download with yum", args: "-d /tmp/d a b", calls: mapped + "yumdownloader <--destdir=/tmp/d> <a> <b>\n"},
		installCase{name: "M33 whole names are blacklisted", args: "foo bar 'c++' .",
			files: map[string]string{"tmp/yum-blacklist": "foobar bar\nc++x\n.."}, out: "=Skipping bar: it is in /tmp/yum-blacklist\n",
			calls: "map-packages <foo> <bar> <c++> <.>\nyum <-y> <-v> <install> <foo> <c++> <.>\n"},
		installCase{name: "M33 mapped to nothing is not unavailable", args: "-m known nothing",
			files: map[string]string{"tmp/yum-blacklist": "foobar\n"}, out: "="},
		installCase{name: "M33 all blacklisted", args: "a b", files: map[string]string{"tmp/yum-blacklist": "a\nb"}, out: "Skipping b", calls: mapped},
		installCase{name: "key of Red Hat", args: "a b", files: map[string]string{"etc/pki/rpm-gpg/RPM-GPG-KEY-redhat-release": "key"},
			calls: mapped + "rpm <--import> </etc/pki/rpm-gpg/RPM-GPG-KEY-redhat-release>\nyum <-y> <-v> <install> <a> <b>\n"},
		installCase{name: "python-pip", args: "python-pip",
			calls: "map-packages <python-pip>\nyum <-y> <-v> <install> <python-pip>\nalternatives <--install> </usr/bin/pip> <pip> </usr/bin/pip-python> <10>\n"},
		installCase{name: "only names are marked", env: "YUM=dnf", args: "'a*' /x.rpm http://y/z.rpm @group b",
			calls: "map-packages <a*> </x.rpm> <http://y/z.rpm> <@group> <b>\ndnf <-y> <-v> <install> <a*> </x.rpm> <http://y/z.rpm> <@group> <b>\ndnf <-y> <mark> <install> <b>\n"},
		installCase{name: "failure of the package manager", env: "YUM=dnf", args: "a b", files: map[string]string{"do.dnf": "exit 7\n"},
			calls: mapped + "dnf <-y> <-v> <install> <a> <b>\n", status: "exit status 7"},
		installCase{name: "proxies reach it", env: "YUM=dnf SHOW=https_proxy https_proxy=http://p", args: "-u", calls: "dnf <-y> <update> https_proxy=http://p\n"},
	)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, target) })
	}
	// Without redhat-common there is no table of names.
	if err := os.Remove(target + "/usr/bin/map-packages"); err != nil {
		t.Fatal(err)
	}
	installCase{args: "apache2", calls: "yum <-y> <-v> <install> <apache2>\n"}.run(t, target)
	if err := os.Remove(target + "/usr/bin/yumdownloader"); err != nil {
		t.Fatal(err)
	}
	installCase{args: "-d /d a", calls: "yum <-y> <install> <yum-utils>\n", out: "yumdownloader: command not found", status: "exit status 127"}.run(t, target)
}

func TestZypper(t *testing.T) {
	target := packageTarget(t, "zypper", "zypper")
	const zypper = "zypper <--non-interactive> <--gpg-auto-import-keys> "
	for _, c := range append(common("No packages to install"),
		installCase{name: "install", args: "a 'b c'", calls: zypper + "<install> <--no-recommends> <a> <b> <c>\n"},
		installCase{name: "removal", args: "a -e", calls: zypper + "<remove> <--clean-deps> <a>\n"},
		installCase{name: "no removal", args: "-e", out: "No packages to remove"},
		installCase{name: "update ends at once", args: "-u a", calls: zypper + "<dist-upgrade> <--no-recommends>\n"},
		installCase{name: "map", args: "-m known a", calls: zypper + "<install> <--no-recommends> <mapped-a> <second-a>\n"},
		installCase{name: "a pattern is not one of files", args: "'us?' 'e*'", calls: zypper + "<install> <--no-recommends> <us?> <e*>\n"},
		installCase{name: "failure of the package manager", args: "a", files: map[string]string{"do.zypper": "exit 104\n"},
			calls: zypper + "<install> <--no-recommends> <a>\n", status: "exit status 104"},
	) {
		t.Run(c.name, func(t *testing.T) { c.run(t, target) })
	}
	t.Run("M34 download", func(t *testing.T) {
		commandtest.Write(t, target, map[string]string{"do.zypper": "mkdir -p \"$4/repo/noarch\" && echo x > \"$4/repo/noarch/a.rpm\" && echo y > \"$4/repo/b.txt\"\n"})
		out, made, err := calls(t, target, "install-packages -d /down a; cd /down; find . -type f")
		if err != nil || out != "./a.rpm\n" {
			t.Errorf("%v: %s", err, out)
		}
		if want := zypper + "<--pkg-cache-dir> </down/.download."; !strings.HasPrefix(made, want) || !strings.HasSuffix(made, "> <install> <--no-recommends> <--download-only> <a>\n") {
			t.Errorf("calls %q", made)
		}
	})
}

func TestGentoo(t *testing.T) {
	target := packageTarget(t, "gentoo", "emerge", "emerge-webrsync", "etc-update", "eselect", "mount", "umount")
	commandtest.Write(t, target, map[string]string{"tmp/portage-portdir/profiles/repo_name": "gentoo\n"})
	const env = "GENTOO_EMERGE_DEFAULT_OPTS='--quiet --jobs=2'"
	const emerge = "emerge <--quiet> <--jobs=2> "
	for _, c := range append(common("No packages to install"),
		installCase{name: "install", env: env, args: "cat/a 'cat/b cat/c'", calls: emerge + "<--noreplace> <--changed-use> <cat/a> <cat/b> <cat/c>\n"},
		installCase{name: "default options", args: "cat/a", calls: "emerge <--binpkg-respect-use> <--rebuilt-binaries=y> <--usepkg=y> <--with-bdeps=y> <--binpkg-changed-deps=y> <--verbose> <--jobs=2> <--autounmask=n> <--noreplace> <--changed-use> <cat/a>\n"},
		installCase{name: "removal", env: env, args: "-e a b", calls: emerge + "<--deselect> <a>\n" + emerge + "<--deselect> <b>\n" + emerge + "<--depclean>\n"},
		installCase{name: "update ends at once", env: env, args: "-u a", calls: emerge + "<--update> <--deep> <--changed-use> <@world>\n" + emerge + "<--depclean>\n" +
			emerge + "<--usepkg=n> <@preserved-rebuild>\netc-update <--automode> <-5>\neselect <news> <read> <new>\n"},
		installCase{name: "map", env: env, args: "-m known a", calls: emerge + "<--noreplace> <--changed-use> <mapped-a> <second-a>\n"},
		installCase{name: "environment", env: env + " SHOW=FEATURES", args: "a", calls: emerge + "<--noreplace> <--changed-use> <a> FEATURES=binpkg-multi-instance buildpkg parallel-fetch parallel-install\n"},
		installCase{name: "environment of the user", env: env + ` SHOW=USE GENTOO_EMERGE_ENV='USE="x -y" PORTDIR=/tmp/portage-portdir'`, args: "a", calls: emerge + "<--noreplace> <--changed-use> <a> USE=x -y\n"},
		installCase{name: "variables of the host", env: env + " SHOW=YACC YACC=byacc LEX=flex", args: "a", calls: emerge + "<--noreplace> <--changed-use> <a> YACC=unset\n"},
		installCase{name: "M34 download", env: env + " SHOW=DISTDIR", args: "-d /down a", calls: emerge + "<--fetchonly> <a> DISTDIR=/down\n"},
		installCase{name: "failure of the package manager", env: env, args: "a", files: map[string]string{"do.emerge": "exit 3\n"},
			calls: emerge + "<--noreplace> <--changed-use> <a>\n", status: "exit status 3"},
	) {
		t.Run(c.name, func(t *testing.T) { c.run(t, target) })
	}
	// M34: the tree of ebuilds is fetched when there is none, and only then.
	installCase{env: env + " GENTOO_EMERGE_ENV=PORTDIR=/nowhere", args: "a", calls: "emerge-webrsync <-q>\n" + emerge + "<--noreplace> <--changed-use> <a>\n"}.run(t, target)
	// Shared memory of the build is used; else it is made, and taken away.
	commandtest.Write(t, target, map[string]string{"proc/mounts": ""})
	const tmpfs = "mount <-t> <tmpfs> <-o> <mode=1777> <none> </dev/shm>\n"
	installCase{env: env, args: "a", calls: tmpfs + emerge + "<--noreplace> <--changed-use> <a>\numount </dev/shm>\n"}.run(t, target)
	installCase{env: env, args: "a", files: map[string]string{"do.emerge": "exit 3\n"}, calls: tmpfs + emerge + "<--noreplace> <--changed-use> <a>\numount </dev/shm>\n", status: "exit status 3"}.run(t, target)
	if err := os.Chmod(target+"/dev/shm", 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	installCase{env: env, args: "a", calls: emerge + "<--noreplace> <--changed-use> <a>\n"}.run(t, target)
}

func TestDpkg(t *testing.T) {
	target := packageTarget(t, "dpkg", "apt-get", "dpkg-query", "apt-mark", "awk")
	const apt = "apt-get <-o> <Acquire::Retries=3> <-o> <Dpkg::Options::=--force-confdef> <-o> <Dpkg::Options::=--force-confold> <--assume-yes> "
	const query = "dpkg-query <-W> <-f> <${db:Status-Status}\\n> "
	for _, c := range append(common("No packages to install"),
		installCase{name: "install", args: "a 'b c'", calls: query + "<a>\n" + apt + "<install> <a> <b> <c>\n"},
		installCase{name: "all there already", args: "a b", files: map[string]string{"do.dpkg-query": "echo installed\n"}, calls: query + "<a>\n" + query + "<b>\n", out: "Already installed: a b"},
		installCase{name: "there, but not on request", args: "a:amd64", files: map[string]string{"do.dpkg-query": "echo installed\n", "var/lib/apt/extended_states": "x", "do.awk": "echo a\n"},
			calls: query + "<a:amd64>\nawk <\n        NR == FNR { wanted[$1]; next }\n        $1 == \"Package:\" { name = $2 }\n        $1 == \"Auto-Installed:\" && $2 == 1 && name in wanted { print name }\n    > <-> </var/lib/apt/extended_states>\napt-mark <manual> <a>\n"},
		installCase{name: "patterns and versions are for apt", args: "'us*' b=1", calls: apt + "<install> <us*> <b=1>\n"},
		installCase{name: "removal", args: "-e a", calls: apt + "<remove> <a>\n"},
		installCase{name: "no removal", args: "-e", out: "No packages to remove"},
		installCase{name: "update ends at once", args: "-u a", calls: apt + "<dist-upgrade>\n"},
		installCase{name: "map", args: "-m known a", calls: query + "<mapped-a>\n" + apt + "<install> <mapped-a> <second-a>\n"},
		installCase{name: "M34 download", args: "-d /down a", calls: apt + "<--download-only> <-o> <Dir::Cache::archives=/down> <install> <a>\n"},
		installCase{name: "no questions", env: "SHOW=DEBIAN_FRONTEND", args: "-e a", calls: apt + "<remove> <a> DEBIAN_FRONTEND=noninteractive\n"},
		installCase{name: "failure of the package manager", args: "a", files: map[string]string{"do.apt-get": "exit 100\n"}, calls: query + "<a>\n" + apt + "<install> <a>\n", status: "exit status 100"},
	) {
		t.Run(c.name, func(t *testing.T) { c.run(t, target) })
	}
}
