package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	for line := range strings.Lines(output(t, "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages")) {
		f := strings.Fields(line)
		if len(f) == 2 && !strings.Contains(f[1], "-") && strings.HasSuffix(strings.TrimSuffix(f[0], "/"), "/debian") {
			return strings.TrimSuffix(f[0], "/"), f[1]
		}
	}
	// apt knows of no mirror before it has been updated.
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			return "http://ftp.debian.org/debian", name
		}
	}
	t.Fatal("cannot tell the host's release of Debian")
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

// TestForeignTreeGPT is the same with a GUID partition table.
func TestForeignTreeGPT(t *testing.T) {
	if !full() {
		t.Skip("takes long: DIB_TEST_FULL=1")
	}
	b, _ := foreign(t, lab.Root(), "debian-minimal", "vm", "block-device-gpt")
	image := filepath.Join(b.out, "foreign.raw")
	mustContain(t, "sgdisk -v", output(t, "sgdisk", "-v", image), `No problems found`)
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

// visits reads the lines of the element visitor: the first word is a key.
func visits(log string) map[string]string {
	found := map[string]string{}
	for line := range strings.Lines(log) {
		if rest, ok := strings.CutPrefix(line, "VISITOR "); ok {
			key, value, _ := strings.Cut(strings.TrimSpace(rest), " ")
			if key == "sudo" {
				k, v, _ := strings.Cut(value, " ")
				key, value = "sudo "+k, v
			}
			found[key] = value
		}
	}
	return found
}

// TestVisitor runs what elements of others do outside of the image.
func TestVisitor(t *testing.T) {
	needProgram(t, "perl", "python3")
	asEach(t, func(t *testing.T, b *workbench) {
		elements := b.dir("elements")
		// Hooks that are programs, one on each side: they print their environment.
		for _, phase := range []string{"extra-data", "install"} {
			dir := filepath.Join(elements, "compiled", phase+".d")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			program, err := os.ReadFile("/usr/bin/env")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "70-env"), program, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		o := b.mustBuild(build{args: []string{"-n", "-t", "raw", "-o", "visit.raw", "--checksum", "fake-os", "visitor", "compiled"},
			env: map[string]string{"ELEMENTS_PATH": b.env["ELEMENTS_PATH"] + ":" + elements}})
		got := visits(o.Stdout)
		for key, want := range map[string]string{
			"python": "True visit 0", "perl": "tree unset " + b.out, "sh": "unset 0 /", "added": "from-a-hook 0027 " + lineCount(t, "../../lib/img-functions"),
			"tool-host": "/.dib/build/hooks/bin/visitor-tool", "tool-beside": "/.dib/build/hooks/extra-data.d/../bin/visitor-tool",
			"tool-target": "/usr/local/bin/visitor-tool", "list": "4",
			"sudo plain": "0 gone", "sudo -E": "kept", "sudo VAR": "a b", "sudo VAR-E": "x kept", "sudo -H": "/root",
			"sudo -u": b.actor.Name + " 0", "sudo -u-root": "0", "sudo -i": "0", "sudo status": "7", "sudo stdin": "0", "sudo chroot": "text",
			"getval": "cloudimg-rootfs /.dib/image/image0.raw", "info": "fake-os install-bin", "info-env": "fake-os install-bin 2", "functions": "-o dib-run-parts",
		} {
			if got[key] != want {
				t.Errorf("%s: %q, want %q", key, got[key], want)
			}
		}
		mustContain(t, "the log", o.Stdout, `^TMP_MOUNT_PATH=/\.dib/build/mnt$`, `^PWD=/$`, `^HOME=/root$`)
		names := []string{"visit.dir", "visit.hostname", "visit.hostname.md5", "visit.plain", "visit.raw", "visit.raw.md5", "visit.raw.sha256", "visit.touched"}
		if got := b.outputs(); !slices.Equal(got, names) {
			t.Errorf("outputs %v, want %v", got, names)
		}
		for _, name := range append(names, "visit.dir/file") {
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(b.out, name), &st); err != nil || int(st.Uid) != b.actor.UID || int(st.Gid) != b.actor.GID {
				t.Errorf("%s belongs to %d:%d (%v), want %d:%d", name, st.Uid, st.Gid, err, b.actor.UID, b.actor.GID)
			}
		}
	})
}

func lineCount(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(strings.Count(string(text), "\n"))
}
