package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sourcesOf makes what test/elements/sources fetches, owned by the actor, and
// returns where and the commits of main and side.
func (b *workbench) sourcesOf() (dir, main, side string) {
	b.t.Helper()
	needProgram(b.t, "git", "xz")
	dir = b.dir("sources")
	script := `set -eu
		export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a
		mkdir top top/sub; echo archived > top/sub/f; tar --owner=12345 --group=12345 -cJf archive.tar.xz top; echo single > single
		git init -q -b main repo; cd repo
		echo main > f; git add f; git commit -qm 1; git rev-parse HEAD
		git checkout -q -b side; echo side > f; git commit -qam 2; git rev-parse HEAD; git checkout -q main`
	cmd := exec.Command("/bin/bash", "-c", script)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, b.actor.UID, b.actor.GID)
	})
	if err != nil {
		b.t.Fatal(err)
	}
	commits := strings.Fields(string(out))
	return dir, commits[0], commits[1]
}

func TestSourceRepositories(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		dir, main, side := b.sourcesOf()
		var got []string
		once := func(env map[string]string) {
			t.Helper()
			env["TEST_SOURCES"] = dir
			o := b.mustBuild(build{args: []string{"-n", "-o", "sources", "fake-os", "sources"}, env: env})
			got = nil
			for _, line := range strings.Split(o.Stdout, "\n") {
				if text, ok := strings.CutPrefix(strings.TrimSpace(line), "SOURCE"); ok {
					got = append(got, strings.Join(strings.Fields(text), " "))
				}
			}
		}
		want := []string{
			"repo/f 644:0:0 side", "all/f 644:0:0 main", "archive/sub/f 644:0:0 archived", "deep/single 600:0:0 single",
			"url = " + dir + "/repo", "/opt/repo", "/opt/all", "/opt/archive", "/opt/deep/single",
			"repo git /opt/repo " + dir + "/repo " + side, "all git /opt/all " + dir + "/repo " + main,
		}
		check := func(when string) {
			t.Helper()
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("%s:\n%s\nwant\n%s", when, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
		once(map[string]string{})
		check("first build")
		for _, name := range []string{"repo", "archive.tar.xz", "single"} {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		once(map[string]string{"DIB_OFFLINE": "1"})
		check("offline")
		// The manifest is also outside of the image.
		if text := b.read("sources.d/dib-manifests/dib-manifest-git-sources"); !strings.Contains(text, side) {
			t.Errorf("manifest: %s", text)
		}
	})
}

// TestFromImage takes an image of ours apart and builds another from it.
func TestFromImage(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		b.mustBuild(build{args: []string{"-n", "-o", "first", "fake-os"}})
		image := filepath.Join(b.out, "first.qcow2")
		args := []string{"-n", "-o", "second", "from-image"}
		o := b.mustBuild(build{args: args, env: map[string]string{"DIB_LOCAL_IMAGE": image}})
		mustContain(t, "second build", o.Stdout, `FROM PRETTY_NAME="Fake OS 1" 1777:0:0 700:0:0 644:0:0`, "reading "+image, "unpacking ")
		o = b.mustBuild(build{args: args, env: map[string]string{"DIB_LOCAL_IMAGE": image}})
		if strings.Contains(o.Stdout, "reading "+image) {
			t.Error("the archive of the first time was not used")
		}
		if b.actor.UID == 0 {
			return
		}
		// What takes the kernel takes root, and the user is told so.
		needProgram(t, "/usr/sbin/mkfs.xfs")
		xfs := filepath.Join(b.out, "xfs.raw")
		output(t, "truncate", "-s", "320M", xfs)
		output(t, "mkfs.xfs", "-q", xfs)
		o = b.run(build{args: args, env: map[string]string{"DIB_LOCAL_IMAGE": xfs}})
		if o.Exit == 0 {
			t.Error("an ordinary user built from xfs")
		}
		mustContain(t, "build from xfs", o.Stdout+o.Stderr, "a filesystem of type xfs can be read by the kernel only.*: run the build as root, or use an image with ext4")
	})
}
