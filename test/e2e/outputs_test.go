package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/test/imagetree"
	"github.com/dib-builder/dib/test/lab"
)

// epoch is the SOURCE_DATE_EPOCH of builds whose bytes are compared.
const epoch = "1700000000"

// unpacked extracts an archive with GNU tar, as root, and reads what comes out.
func unpacked(t *testing.T, argv ...string) imagetree.Tree {
	t.Helper()
	dir := t.TempDir()
	output(t, append([]string{"tar", "--warning=no-unknown-keyword", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-C", dir, "-xpf"}, argv...)...)
	tree, err := imagetree.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// withoutKernelDirs is what an archive holds of a tree.
func withoutKernelDirs(tree imagetree.Tree) imagetree.Tree {
	for path := range tree {
		for _, dir := range []string{"proc", "sys", "lost+found"} {
			if path == dir || strings.HasPrefix(path, dir+"/") {
				delete(tree, path)
			}
		}
	}
	return tree
}

func wantSameTree(t *testing.T, what string, got, want imagetree.Tree) {
	t.Helper()
	for _, d := range imagetree.Compare(want, got) {
		t.Errorf("%s: %+v", what, d)
	}
}

// TestArchives builds every format that is made of files, beside a raw disk:
// what the kernel finds on the disk must come out of each archive.
func TestArchives(t *testing.T) {
	needProgram(t, "skopeo", "b3sum", "zstd", "md5sum", "sha256sum", "sha512sum")
	archives := map[string][]byte{}
	asEach(t, func(t *testing.T, b *workbench) {
		manifest := filepath.Join(b.out, "aci.json")
		if err := os.WriteFile(manifest, []byte(`{"acKind": "ImageManifest"}`), 0o644); err != nil {
			t.Fatal(err)
		}
		o := b.mustBuild(build{
			args: []string{"-n", "-t", "tgz,tar,raw,squashfs,tar.zst,aci,docker,oci", "-o", "an image", "--docker-target", "lab/an-image:1", "fake-os", "kernel-favours"},
			env: map[string]string{
				"SOURCE_DATE_EPOCH": epoch, "DIB_CHECKSUM": "md5,sha256,sha512,blake3", "ACI_MANIFEST": "aci.json",
			},
			path: "/usr/bin:/bin", // no docker
			hide: []string{"docker", "podman"},
		})
		mustContain(t, "the log", o.Stdout, `no docker or podman answers: docker image lab/an-image:1 goes to an image\.docker\.tar`,
			`Image file an image\.tgz created`, `Build completed successfully$`)
		want := []string{"aci.json"}
		for _, ext := range []string{"aci", "docker.tar", "oci.tar", "raw", "squash", "tar", "tar.zst", "tgz"} {
			name := "an image." + ext
			want = append(want, name, name+".blake3", name+".md5", name+".sha256", name+".sha512")
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(b.out, name), &st); err != nil || int(st.Uid) != b.actor.UID || st.Mode&0o777 != 0o644 {
				t.Errorf("%s belongs to %d and has the mode %o (%v)", name, st.Uid, st.Mode, err)
			}
			for _, sum := range []string{"md5", "sha256", "sha512", "blake3"} {
				judge := map[string]string{"blake3": "b3sum"}[sum]
				if judge == "" {
					judge = sum + "sum"
				}
				output(t, "sh", "-ec", `cd "$1" && exec "$2" -c "$3"`, "sh", b.out, judge, name+"."+sum)
			}
		}
		slices.Sort(want)
		if got := b.outputs(); !slices.Equal(got, want) {
			t.Errorf("outputs: %q, want %q", got, want)
		}
		at := func(ext string) string { return filepath.Join(b.out, "an image."+ext) }

		disk, err := imagetree.Read(mounted(t, at("raw")))
		if err != nil {
			t.Fatal(err)
		}
		withoutKernelDirs(disk)
		wantSameTree(t, "tar", unpacked(t, at("tar")), disk)
		aci := unpacked(t, at("aci"), "--strip-components=1", "rootfs")
		wantSameTree(t, "aci", aci, disk)
		for ext, transport := range map[string]string{"docker.tar": "docker-archive:%s:lab/an-image:1", "oci.tar": "oci-archive:%s:1"} {
			wantSameTree(t, ext, unpacked(t, layer(t, at(ext), transport)), disk)
		}
		t.Run("D55 D56 squashfs anywhere in the list, of the caller", func(t *testing.T) {
			dir := t.TempDir()
			output(t, "mount", "-t", "squashfs", "-o", "loop,ro", at("squash"), dir)
			defer output(t, "umount", dir)
			got, err := imagetree.Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			wantSameTree(t, "squashfs", withoutKernelDirs(got), disk)
		})
		plain := []byte(b.read("an image.tar"))
		for ext, unpack := range map[string]string{"tgz": "gzip", "tar.zst": "zstd"} {
			if got := output(t, unpack, "-dc", at(ext)); got != string(plain) {
				t.Errorf("%s does not hold the bytes of the tar", ext)
			}
		}
		list := output(t, "tar", "--warning=no-unknown-keyword", "-tvf", at("tar"))
		t.Run("D53 nothing of the host in dev", func(t *testing.T) {
			if m := regexp.MustCompile(`(?m)^.*\./dev/.+$`).FindAllString(list, -1); len(m) > 0 {
				t.Errorf("the archive has %q", m)
			}
			if regexp.MustCompile(`(?m) \./(proc|sys)/?$`).MatchString(list) {
				t.Errorf("the archive has ./proc or ./sys")
			}
		})
		t.Run("D54 owners are numbers", func(t *testing.T) {
			if !strings.Contains(list, " 1234/2345 ") || strings.Contains(list, "root/root") {
				t.Errorf("the list is\n%s", list)
			}
		})
		for _, ext := range []string{"aci", "docker.tar", "oci.tar", "squash", "tar", "tar.zst", "tgz"} {
			data := []byte(b.read("an image." + ext))
			if other, ok := archives[ext]; ok && !bytes.Equal(other, data) {
				t.Errorf("%s: root's and the user's differ", ext)
			}
			archives[ext] = data
		}
	})
}

// layer has skopeo read an archive with an image, as podman would, and returns
// the one layer as a tar, compressed or not.
func layer(t *testing.T, archive, transport string) string {
	t.Helper()
	// Names of images in archives may not have blanks or colons for skopeo.
	plain := filepath.Join(t.TempDir(), "image.tar")
	if err := os.Symlink(archive, plain); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "copied")
	output(t, "skopeo", "--insecure-policy", "copy", fmt.Sprintf(transport, plain), "dir:"+dir)
	var manifest struct {
		Layers []struct{ Digest string }
	}
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err == nil {
		err = json.Unmarshal(text, &manifest)
	}
	if err != nil || len(manifest.Layers) != 1 {
		t.Fatalf("the copied manifest is %s (%v)", text, err)
	}
	return filepath.Join(dir, strings.TrimPrefix(manifest.Layers[0].Digest, "sha256:"))
}

// TestDockerEngine has a program in docker's place that keeps what it is given.
func TestDockerEngine(t *testing.T) {
	b := newWorkbench(t, openLab(t), ordinary(t))
	bin := b.dir("bin")
	script := `#!/bin/sh
case "$1" in
version) exit 0 ;;
load) test "$2" = -i && cp "$3" "` + b.out + `/taken.tar" && id -u > "` + b.out + `/taken.uid" && exit "${ENGINE_FAILS:-0}" ;;
esac
exit 1
`
	if err := os.WriteFile(filepath.Join(bin, "docker"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	build := build{args: []string{"-n", "-t", "docker", "-o", "D04-Name", "fake-os"}, path: bin + ":/usr/bin:/bin"}
	o := b.mustBuild(build)
	t.Run("D04 the name is that of the output", func(t *testing.T) {
		mustContain(t, "the log", o.Stdout, `^Docker image d04-name loaded into docker$`, `^Build completed successfully$`)
	})
	if strings.Contains(o.Stdout, "writing the disk") {
		t.Error("a disk is written that nobody wants")
	}
	if got := b.outputs(); !slices.Equal(got, []string{"taken.tar", "taken.uid"}) {
		t.Errorf("outputs: %v", got)
	}
	if list := output(t, "tar", "-tf", filepath.Join(b.out, "taken.tar")); !strings.Contains(list, "manifest.json") {
		t.Errorf("the engine got %s", list)
	}
	build.env = map[string]string{"ENGINE_FAILS": "7"}
	o = b.run(build)
	t.Run("D59 a failing engine fails the build", func(t *testing.T) {
		if o.Exit != 1 || strings.Contains(o.Stdout, "Build completed successfully") {
			t.Errorf("exit status %d", o.Exit)
		}
		mustContain(t, "the output", o.Stdout+o.Stderr, `cannot load docker image d04-name into docker`)
	})
}

func TestNoFinalImage(t *testing.T) {
	b := newWorkbench(t, openLab(t), ordinary(t))
	o := b.mustBuild(build{args: []string{"-n", "-t", "qcow2,tgz", "-o", "x", "fake-os", "no-final-image"},
		env: map[string]string{"DIB_GZIP_BIN": "gzip -n"}})
	t.Run("D57 tgz is delivered", func(t *testing.T) {
		if got := b.outputs(); !slices.Equal(got, []string{"x.tgz"}) {
			t.Errorf("outputs: %v", got)
		}
		if list := output(t, "tar", "-tzf", filepath.Join(b.out, "x.tgz")); !strings.Contains(list, "./etc/fstab\n") {
			t.Error("no fstab is in the archive")
		}
	})
	t.Run("D07 no disk is made", func(t *testing.T) {
		if strings.Contains(o.Stdout, "writing the disk") {
			t.Error("a disk is written that nobody wants")
		}
	})
	o = b.run(build{args: []string{"-n", "-t", "tgz", "-o", "y", "fake-os"}, env: map[string]string{"DIB_GZIP_BIN": "no-such-gzip"}})
	mustContain(t, "the output", o.Stdout+o.Stderr, `DIB_GZIP_BIN="no-such-gzip".*not found on PATH`)
	if o.Exit != 1 || len(b.outputs()) != 1 {
		t.Errorf("exit status %d, outputs %v", o.Exit, b.outputs())
	}
	o = b.run(build{args: []string{"-n", "-t", "tgz", "-o", "x", "fake-os"}, env: map[string]string{"DIB_GZIP_BIN": "false"}})
	t.Run("D13 a failing compressor leaves the old file alone", func(t *testing.T) {
		if got := b.outputs(); o.Exit != 1 || !slices.Equal(got, []string{"x.tgz"}) {
			t.Errorf("exit status %d, outputs: %v", o.Exit, got)
		}
	})
}

func TestSavingProcedure(t *testing.T) {
	b := newWorkbench(t, openLab(t), ordinary(t))
	args := []string{"-n", "--checksum", "-t", "tar,tgz", "-o", "D15 [odd]*", "fake-os"}
	b.mustBuild(build{args: args})
	first := b.read("D15 [odd]*.tar")
	o := b.mustBuild(build{args: args})
	mustContain(t, "the log", o.Stdout, `^Old image found\. Renaming it to .*\.tar$`, `^Old image found\. Renaming it to .*\.tgz$`)
	old := ""
	for _, name := range b.outputs() {
		if regexp.MustCompile(`^D15 \[odd\]\*-\d{4}\.\d\d\.\d\d-\d\d\.\d\d\.\d\d\.tar$`).MatchString(name) {
			old = name
		}
	}
	t.Run("D13 an archive is kept like any image", func(t *testing.T) {
		if got := b.outputs(); old == "" || len(got) != 12 || b.read(old) != first {
			t.Errorf("outputs: %q", got)
		}
	})
	t.Run("D14 checksums follow", func(t *testing.T) {
		output(t, "sh", "-ec", `cd "$1" && md5sum -c *.md5 && sha256sum -c *.sha256`, "sh", b.out)
		if sums := b.read(old + ".md5"); !strings.HasSuffix(sums, "  "+old+"\n") {
			t.Errorf("the old checksum file says %q", sums)
		}
	})
	b.mustBuild(build{args: append([]string{args[0]}, args[2:]...), env: map[string]string{"OVERWRITE_OLD_IMAGE": "yes"}})
	if got := b.outputs(); len(got) != 8 {
		t.Errorf("after overwriting: %q", got)
	}
}

// TestDiskFormats writes every disk format at once; QEMU finds the same disk in
// each.
func TestDiskFormats(t *testing.T) {
	needProgram(t, "qemu-img")
	b := newWorkbench(t, openLab(t), ordinary(t))
	o := b.mustBuild(build{args: []string{"-n", "--checksum", "-t", "vhd,vmdk,vdi,vhdx,raw.gz,raw.zst,qcow2,raw,vmdk", "-o", "all", "--qemu-img-options", "compat=0.10", "fake-os"}})
	at := func(ext string) string { return filepath.Join(b.out, "all."+ext) }
	for ext, format := range map[string]string{"vhd": "vpc", "vmdk": "vmdk", "vdi": "vdi", "vhdx": "vhdx", "qcow2": "qcow2"} {
		output(t, "qemu-img", "compare", "-f", "raw", "-F", format, at("raw"), at(ext))
	}
	output(t, "sh", "-ec", `gzip -dc "$1.gz" | cmp - "$1"; zstd -dc "$1.zst" | cmp - "$1"`, "sh", at("raw"))
	t.Run("D58 qcow2 is compressed whatever comes before", func(t *testing.T) {
		if info := output(t, "qemu-img", "check", at("qcow2")); strings.Contains(info, ", 0.00% compressed") {
			t.Error(info)
		}
	})
	t.Run("D59 options go to the format that knows them, and types are made once", func(t *testing.T) {
		mustContain(t, "info", output(t, "qemu-img", "info", at("vmdk")), `create type: monolithicSparse`)
		mustContain(t, "info", output(t, "qemu-img", "info", at("qcow2")), `compat: 0\.10`)
		if strings.Contains(o.Stdout, "Old image found") || len(b.outputs()) != 24 {
			t.Errorf("outputs: %q", b.outputs())
		}
	})
	output(t, "sh", "-ec", `cd "$1" && md5sum -c *.md5 && sha256sum -c *.sha256`, "sh", b.out)
	b.mustBuild(build{args: []string{"-n", "-t", "vmdk,qcow2", "-o", "some", "--qemu-img-options", "subformat=streamOptimized,compat=0.10", "fake-os"}})
	mustContain(t, "info", output(t, "qemu-img", "info", filepath.Join(b.out, "some.vmdk")), `create type: streamOptimized`, `filename: .*some\.vmdk`)
	mustContain(t, "info", output(t, "qemu-img", "info", filepath.Join(b.out, "some.qcow2")), `compat: 0\.10`)
}

// TestUmask: hooks always have the same umask, outputs that of the caller.
func TestUmask(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		c := lab.Command{
			Actor: b.actor, Dir: b.out, Env: b.actor.Environment(b.env),
			Argv: []string{"/bin/bash", "-c", `umask 077 && exec "$0" create -n -t qcow2,tar --checksum -o private fake-os recorder`, b.lab.Dib},
		}
		o, err := c.Run(t.Context())
		if err != nil || o.Exit != 0 {
			t.Fatalf("%v, exit status %d\n%s", err, o.Exit, tail(o.Stdout))
		}
		for _, r := range records(o.Stdout) {
			if r["umask"] != "0022" {
				t.Errorf("phase %s has the umask %s", r["phase"], r["umask"])
			}
		}
		for _, suffix := range []string{"qcow2", "qcow2.md5", "tar", "tar.sha256"} {
			info, err := os.Stat(filepath.Join(b.out, "private."+suffix))
			if err != nil {
				t.Error(err)
			} else if info.Mode().Perm() != 0o600 {
				t.Errorf("private.%s has the mode %o", suffix, info.Mode().Perm())
			}
		}
	})
}
