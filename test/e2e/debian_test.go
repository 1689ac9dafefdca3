package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dib-builder/dib/test/imagetree"
	"github.com/dib-builder/dib/test/lab"
)

// devPassword is the password of the development user in every test image.
const devPassword = "correct horse 9"

// fullElements is the image that most tests look at.
var fullElements = []string{"vm", "debian-minimal", "growroot", "openssh-server", "devuser", "dhcp-all-interfaces", "ensure-venv"}

// debian is one finished Debian image of this run.
type debian struct {
	dir     string // has NAME.qcow2, NAME.raw, NAME.d
	name    string
	log     string
	elapsed time.Duration
	failed  bool
}

func (d *debian) path(suffix string) string { return filepath.Join(d.dir, d.name+suffix) }

// The images of a run, each built at most once, in the order they are asked for.
var (
	rootImage  = onceImage(func(t *testing.T) *debian { return buildFull(t, lab.Root()) })
	userImage  = onceImage(func(t *testing.T) *debian { return buildFull(t, ordinary(t)) })
	plainImage = onceImage(buildPlain)
)

func onceImage(build func(*testing.T) *debian) func(*testing.T) *debian {
	var once sync.Once
	d := &debian{failed: true}
	return func(t *testing.T) *debian {
		t.Helper()
		openLab(t)
		once.Do(func() { d = build(t) })
		if d.failed {
			t.Fatal("the image that this test looks at could not be built; see the first test that failed")
		}
		return d
	}
}

// cache is where an actor keeps downloads for the length of the run (or longer,
// see DIB_TEST_CACHE). The first to fill it is root; others get a copy, because
// the mirror is to be asked once.
func cache(t *testing.T, l *lab.Lab, a lab.Actor) string {
	t.Helper()
	top := os.Getenv("DIB_TEST_CACHE")
	if top == "" {
		top = filepath.Join(l.Dir, "caches")
	}
	if err := os.MkdirAll(top, 0o755); err != nil {
		t.Fatal(err)
	}
	mine, roots := filepath.Join(top, a.Name), filepath.Join(top, "root")
	if _, err := os.Stat(mine); err == nil {
		return mine
	}
	if _, err := os.Stat(roots); err == nil {
		output(t, "cp", "-a", roots, mine)
	} else if err := os.Mkdir(mine, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := lab.ChownTree(mine, a); err != nil {
		t.Fatal(err)
	}
	return mine
}

// debianWorkbench is a workbench on a host that has nothing but its essential
// programs, for a build that may take long.
func debianWorkbench(t *testing.T, a lab.Actor, without []string) (*workbench, build) {
	t.Helper()
	l := openLab(t)
	// The images outlive the test that builds them; the lab removes them.
	dir, err := l.NewDir(a, "debian")
	if err != nil {
		t.Fatal(err)
	}
	tmp, err := l.NewDir(a, "tmp")
	if err != nil {
		t.Fatal(err)
	}
	b := &workbench{t: t, lab: l, actor: a, out: dir, tmp: tmp, env: map[string]string{
		"TMPDIR": tmp, "DIB_IMAGE_CACHE": cache(t, l, a), "DIB_LOCKFILES": filepath.Join(dir, ".locks"), "DIB_NO_TIMESTAMP": "1",
		"DIB_DEV_USER_PASSWORD": devPassword, "DIB_DEV_USER_PWDLESS_SUDO": "yes", "DIB_DEV_USER_AUTHORIZED_KEYS": "/dev/null",
	}}
	path, err := l.PlainPath("path-"+filepath.Base(dir), append(slices.Clone(lab.Unneeded), without...))
	if err != nil {
		t.Fatal(err)
	}
	return b, build{path: path, hide: append(slices.Clone(lab.Unneeded), without...), limit: 10 * time.Minute}
}

func buildFull(t *testing.T, a lab.Actor) *debian {
	t.Helper()
	b, bd := debianWorkbench(t, a, nil)
	bd.args = append([]string{"-t", "qcow2,raw", "-o", "debian"}, fullElements...)
	return b.debian(bd)
}

// buildPlain makes what the README starts with, as a user on a host that has
// not even mke2fs.
func buildPlain(t *testing.T) *debian {
	t.Helper()
	b, bd := debianWorkbench(t, ordinary(t), lab.Mke2fs)
	bd.args = []string{"-t", "qcow2,raw", "-o", "debian", "vm", "debian-minimal"}
	return b.debian(bd)
}

func (b *workbench) debian(bd build) *debian {
	b.t.Helper()
	o := b.mustBuild(bd)
	b.t.Logf("dib create %s as %s took %v", strings.Join(bd.args, " "), b.actor.Name, o.Elapsed.Round(100*time.Millisecond))
	return &debian{dir: b.out, name: "debian", log: o.Stdout, elapsed: o.Elapsed}
}

// TestHostIsPoor makes sure that the builds here really lack what they claim to.
func TestHostIsPoor(t *testing.T) {
	l := openLab(t)
	_, bd := debianWorkbench(t, lab.Root(), lab.Mke2fs)
	for _, name := range append(slices.Clone(lab.Unneeded), lab.Mke2fs...) {
		if _, err := os.Lstat(filepath.Join(bd.path, name)); err == nil {
			t.Errorf("%s is on the PATH of the builds", name)
		}
	}
	for _, name := range []string{"bash", "mount", "newuidmap", "grep", "tar"} {
		if _, err := exec.LookPath(filepath.Join(bd.path, name)); err != nil {
			t.Errorf("a plain host has %s: %v", name, err)
		}
	}
	hidden := lab.Where(bd.hide)
	if len(hidden) == 0 {
		t.Skip("this host has nothing to hide")
	}
	c := lab.Command{Actor: ordinary(t), Argv: []string{"/bin/bash", "-c", `for f; do if [ -x "$f" ] || [ -s "$f" ]; then echo "$f"; fi; done`, "bash"}, Dir: l.Dir, Hide: hidden}
	c.Argv = append(c.Argv, hidden...)
	o, err := c.Run(t.Context())
	if err != nil || o.Stdout != "" {
		t.Errorf("still there (%v):\n%s", err, o.Stdout)
	}
}

// TestSameTree compares what the kernel sees in the images of root and of an
// ordinary user.
func TestSameTree(t *testing.T) {
	read := func(d *debian) imagetree.Tree {
		tree, err := imagetree.Read(mounted(t, d.path(".raw")))
		if err != nil {
			t.Fatal(err)
		}
		if len(tree) < 5000 {
			t.Fatalf("the tree has only %d files", len(tree))
		}
		return tree
	}
	f, err := os.Open("testdata/tree-exceptions.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	exceptions, err := imagetree.ParseExceptions(f)
	if err != nil {
		t.Fatalf("tree-exceptions.txt: %v", err)
	}
	a, b := read(rootImage(t)), read(userImage(t))
	differences := imagetree.Compare(a, b)
	for _, d := range imagetree.Unexcused(differences, exceptions) {
		t.Error(d)
	}
	t.Logf("%d files, %d differences", len(a), len(differences))
}

func forEachImage(t *testing.T, test func(t *testing.T, d *debian)) {
	openLab(t)
	for _, c := range []struct {
		name  string
		image func(*testing.T) *debian
	}{{"root", rootImage}, {"user", userImage}, {"plain", plainImage}} {
		t.Run(c.name, func(t *testing.T) { test(t, c.image(t)) })
	}
}

// TestDisk asks other programs about partition table, filesystem and formats.
func TestDisk(t *testing.T) {
	needProgram(t, "qemu-img", "sfdisk", "e2fsck")
	forEachImage(t, func(t *testing.T, d *debian) {
		output(t, "qemu-img", "check", d.path(".qcow2"))
		output(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", d.path(".raw"), d.path(".qcow2"))
		if text := output(t, "sfdisk", "--verify", d.path(".raw")); !strings.Contains(text, "No errors detected") {
			t.Errorf("sfdisk --verify: %s", text)
		}
		offset, _, err := imagetree.RootPartition(d.path(".raw"))
		if err != nil {
			t.Fatal(err)
		}
		if offset == 0 {
			t.Error("the image of element vm has no partition table")
		}
		output(t, "e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", d.path(".raw"), offset))
	})
}

// TestTree looks for what a finished image must and must not have.
func TestTree(t *testing.T) {
	forEachImage(t, func(t *testing.T, d *debian) {
		tree := mounted(t, d.path(".raw"))
		read := func(path string) string {
			text, err := os.ReadFile(filepath.Join(tree, path))
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		list := func(pattern string) []string {
			found, err := filepath.Glob(filepath.Join(tree, pattern))
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
		if text := output(t, "dpkg", "--root="+tree, "--audit"); text != "" {
			t.Errorf("dpkg --audit: %s", text)
		}
		for line := range strings.Lines(output(t, "dpkg-query", "--admindir="+filepath.Join(tree, "var/lib/dpkg"), "-W", "-f", "${db:Status-Abbrev} ${Package}\n")) {
			if !strings.HasPrefix(line, "ii ") {
				t.Errorf("package state: %s", strings.TrimSpace(line))
			}
		}
		for line := range strings.Lines(output(t, "dpkg-divert", "--admindir", filepath.Join(tree, "var/lib/dpkg"), "--list")) {
			if strings.Contains(line, "local diversion") || regexp.MustCompile(`initramfs|start-stop|policy-rc`).MatchString(line) {
				t.Errorf("a diversion is left: %s", strings.TrimSpace(line))
			}
		}
		for _, pattern := range []string{
			"usr/sbin/policy-rc.d", "usr/sbin/*.dib*", "usr/sbin/*.distrib", "sbin/start-stop-daemon.*", "usr/sbin/update-initramfs.*",
			"tmp/*", "tmp/.[!.]*", "etc/ssh/ssh_host_*", "root/*.log", "etc/resolv.conf.ORIG", ".dib", "lost+found/*",
			"var/lib/dpkg/lock-frontend.*", "etc/apt/apt.conf.d/*dib*", "var/cache/apt/archives/*.deb", "etc/hostname.ORIG",
		} {
			if found := list(pattern); len(found) > 0 {
				t.Errorf("left in the image: %v", found)
			}
		}
		for _, line := range strings.Split(read("etc/fstab"), "\n") {
			if fields := strings.Fields(line); len(fields) >= 2 && fields[1] == "/" {
				mustContain(t, "the root line of fstab", line, `^(LABEL=cloudimg-rootfs|UUID=\S+)\s+/\s+ext4\s`)
			}
		}
		mustContain(t, "fstab", read("etc/fstab"), `\s/\s`)
		checkSources(t, list("etc/apt/sources.list.d/*"), filepath.Join(tree, "etc/apt/sources.list"))
		if got := read("etc/machine-id"); strings.TrimSpace(got) != "uninitialized" {
			t.Errorf("/etc/machine-id is %q, want uninitialized", got)
		}
		logsAreEmpty(t, filepath.Join(tree, "var/log"))
		checkManifests(t, d, tree)
		if info, err := os.Lstat(filepath.Join(tree, "etc/resolv.conf")); err == nil && info.Mode().IsRegular() {
			if host, err := os.ReadFile("/etc/resolv.conf"); err == nil && read("etc/resolv.conf") == string(host) {
				t.Error("the build host's resolv.conf is in the image")
			}
		}
		if n := len(regexp.MustCompile(`(?m)^update-initramfs: Generating `).FindAllString(d.log, -1)); n != 1 {
			t.Errorf("the log shows %d generations of an initramfs, want one", n)
		}
		if strings.Contains(d.log, devPassword) {
			t.Error("the password of the development user is in the log")
		}
	})
}

func logsAreEmpty(t *testing.T, dir string) {
	t.Helper()
	tree, err := imagetree.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	for path, e := range tree {
		if e.Size > 0 && e.Target == "" {
			t.Errorf("/var/log/%s has %d bytes", path, e.Size)
		}
	}
}

// checkSources wants every package source of an image to be an official one.
func checkSources(t *testing.T, files []string, extra string) {
	t.Helper()
	hosts := map[string]bool{}
	for _, file := range append(files, extra) {
		text, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`https?://([^/\s]+)`).FindAllStringSubmatch(string(text), -1) {
			hosts[m[1]] = true
		}
	}
	for host := range hosts {
		if host != "ftp.debian.org" && host != "security.debian.org" {
			t.Errorf("a package source of the image is on %s", host)
		}
	}
	if len(hosts) != 2 {
		t.Errorf("package sources are on %v, want both official hosts", hosts)
	}
}

func checkManifests(t *testing.T, d *debian, tree string) {
	t.Helper()
	for _, dir := range []string{d.path(".d/dib-manifests"), filepath.Join(tree, "etc/dib-manifests")} {
		for _, name := range []string{"dib_environment", "dib_arguments", "dib-manifest-dpkg-debian"} {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Errorf("manifest: %v", err)
			} else if len(text) == 0 || strings.Contains(string(text), devPassword) {
				t.Errorf("%s is empty or has a password in it: %d bytes", name, len(text))
			}
		}
	}
	info, err := os.Stat(d.path(".d/dib-manifests"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the saved manifests: %v, %v; want mode 0700", info, err)
	}
}

// TestVenv asks the Python of an image whether it can make virtual environments
// with pip in them, which on Debian takes the package of element ensure-venv.
func TestVenv(t *testing.T) {
	tree := mounted(t, rootImage(t).path(".raw"))
	version := output(t, "chroot", tree, "/usr/bin/python3", "-c", "import ensurepip, venv; print(ensurepip.version())")
	mustContain(t, "the version of pip", version, `^\d+\.\d+`)
}

// TestKillDebian is TestKill on a real distribution, where downloads,
// maintainer scripts and mkinitramfs are what is hit.
func TestKillDebian(t *testing.T) {
	typical := rootImage(t).elapsed
	random := seed(t)
	for i, a := range []lab.Actor{lab.Root(), ordinary(t), lab.Root(), ordinary(t), lab.Root()} {
		b, good := debianWorkbench(t, a, nil)
		good.args = []string{"-o", "debian", "vm", "debian-minimal"}
		killer := newAssassin(time.Duration(random.Int64N(int64(typical*9/10))), random)
		bad := good
		bad.started = killer.strike
		o := b.run(bad)
		victim := <-killer.victim
		t.Logf("kill %d as %s after %v: %s", i+1, a.Name, killer.after.Round(time.Millisecond), victim)
		b.outputsAreWhole("the killed build")
		if victim == "" {
			t.Log("the build was over before")
		} else if o.Exit == 0 {
			t.Log("the victim was not missed")
		}
		// Each successful build takes as long as the rest together: in a usual run
		// the last one speaks for all, because caches carry over from kill to kill.
		if full() || i == 4 {
			b.clearOutputs()
			b.mustBuild(good)
			b.outputsAreWhole("the build after the kill")
		}
	}
}
