package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/test/imagetree"
	"github.com/dib-builder/dib/test/lab"
)

// foreignTree is the element tree of Debian's package python3-diskimage-builder:
// DIB 3.13 as other people wrote it. No test looks into it.
const foreignTree = "/usr/lib/python3/dist-packages/diskimage_builder/elements"

// mirror asks apt for the host's own mirror and release.
func mirror(t *testing.T) (uri, release string) {
	t.Helper()
	for line := range strings.Lines(output(t, "apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages")) {
		f := strings.Fields(line)
		if len(f) == 2 && !strings.Contains(f[1], "-") && strings.HasSuffix(strings.TrimSuffix(f[0], "/"), "/debian") {
			return strings.TrimSuffix(f[0], "/"), f[1]
		}
	}
	t.Fatal("the host's apt sources name no Debian mirror")
	return "", ""
}

// foreign builds with the foreign tree in front of the embedded one: each of its
// elements replaces ours, with its own root.d that runs the host's debootstrap,
// its own package-installs in Python and its own boot loader.
func foreign(t *testing.T, a lab.Actor, elements ...string) (*workbench, lab.Outcome) {
	t.Helper()
	l := openLab(t)
	if _, err := os.Stat(foreignTree); err != nil {
		t.Skip("python3-diskimage-builder is not installed; scripts/install-test-deps does that")
	}
	needProgram(t, "debootstrap", "python3")
	b := newWorkbench(t, l, a)
	uri, release := mirror(t)
	b.env["ELEMENTS_PATH"] = foreignTree
	b.env["DIB_IMAGE_CACHE"] = cache(t, l, a)
	b.env["DIB_RELEASE"] = release
	b.env["DIB_DISTRIBUTION_MIRROR"] = uri
	b.env["DIB_APT_SOURCES_CONF"] = "default:deb " + uri + " " + release + " main"
	o := b.mustBuild(build{args: append([]string{"-t", "raw", "-o", "foreign"}, elements...), hide: []string{"mmdebstrap"}, limit: 10 * time.Minute})
	t.Logf("built as %s in %v", a.Name, o.Elapsed.Round(time.Second))
	mustContain(t, "the log", o.Stdout, `^WARNING: element "debootstrap": using `+foreignTree+`/debootstrap instead of `, `^I: Base system installed successfully`)
	return b, o
}

// TestForeignTreeAsRoot builds debian-minimal and vm with their own hooks, on a
// loop device because their boot loader wants one, and boots the result.
func TestForeignTreeAsRoot(t *testing.T) {
	b, o := foreign(t, lab.Root(), "debian-minimal", "vm")
	mustContain(t, "the log", o.Stdout, `^The image is on /dev/loop\d+, its devices are \[image0\]=/dev/loop\d+  \[root\]=/dev/loop\d+p1$`)
	image := filepath.Join(b.out, "foreign.raw")
	offset, _, err := imagetree.RootPartition(image)
	if err != nil || offset == 0 {
		t.Fatalf("partition at %d, %v", offset, err)
	}
	output(t, "e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", image, offset))
	start(t, image)
}

// TestForeignTreeAsUser builds debian-minimal with the same hooks without root:
// they mount sysfs and run debootstrap, which makes device nodes.
func TestForeignTreeAsUser(t *testing.T) {
	b, _ := foreign(t, ordinary(t), "debian-minimal")
	image := filepath.Join(b.out, "foreign.raw")
	output(t, "e2fsck", "-fn", image)
	tree, err := imagetree.Read(mounted(t, image))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]imagetree.Entry{
		"dev/null":    {Mode: unix.S_IFCHR | 0o666, Device: unix.Mkdev(1, 3)},
		"dev/tty":     {Mode: unix.S_IFCHR | 0o666, Device: unix.Mkdev(5, 0)},
		"etc/shadow":  {Mode: unix.S_IFREG | 0o640, GID: 42},
		"usr/bin/apt": {Mode: unix.S_IFREG | 0o755},
	} {
		if e, ok := tree[path]; !ok || e.Mode != want.Mode || e.Device != want.Device || e.UID != want.UID || e.GID != want.GID {
			t.Errorf("%s: %+v, want %+v", path, e, want)
		}
	}
	if len(tree) < 5000 {
		t.Errorf("the tree has only %d files", len(tree))
	}
}
