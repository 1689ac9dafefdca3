package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/test/imagetree"
)

// elements of the image that is built: the one that the README starts with.
var elements = []string{"vm", "debian-minimal"}

// release is what both sides install.
const release = "trixie"

// reference is a finished image: its packages are what the other side gets.
type reference struct {
	raw, qcow2 string // paths
	packages   []string
	size       int64 // of the raw image, bytes
}

// reference builds the image once. This fills the caches of the warm pairs, and
// the mirror's own, so that no side pays for being the first.
func (b *bench) reference() (*reference, error) {
	r, image, err := b.dib("reference", b.warmCache(), append([]string{"-t", "qcow2,raw"}, elements...)...)
	if err != nil {
		return nil, err
	}
	fmt.Printf("reference: dib create -t qcow2,raw %s: %.1f s, largest dib process %d MiB\n", strings.Join(elements, " "), r.seconds, r.rss>>20)
	info, err := os.Stat(image + ".raw")
	if err != nil {
		return nil, err
	}
	packages, err := installed(image+".raw", filepath.Join(b.dir, "mnt"))
	if err != nil {
		return nil, err
	}
	return &reference{image + ".raw", image + ".qcow2", packages, info.Size()}, nil
}

func (b *bench) warmCache() string { return filepath.Join(b.dir, "cache") }

// installed lists the packages in an image.
func installed(raw, mountpoint string) ([]string, error) {
	if err := os.MkdirAll(mountpoint, 0o755); err != nil {
		return nil, err
	}
	unmount, err := imagetree.Mount(raw, mountpoint)
	if err != nil {
		return nil, err
	}
	names, err := packages(mountpoint)
	return names, errors.Join(err, unmount())
}

func packages(tree string) ([]string, error) {
	out, err := exec.Command("dpkg-query", "--admindir="+filepath.Join(tree, "var/lib/dpkg"), "-W", "-f", "${Package}\n").Output()
	if err != nil {
		return nil, fmt.Errorf("cannot list the packages in %s: %w", tree, err)
	}
	return strings.Fields(string(out)), nil
}

// builds compares whole builds with the classical tools: with cold caches,
// which is the fair figure because mmdebstrap keeps none, and with dib's caches
// warm. Each round runs dib cold, the classical tools, dib warm.
func (b *bench) builds(ref *reference) error {
	var cold, warm, classical []result
	for i := range b.pairs {
		cache := filepath.Join(b.dir, "cold-cache")
		c, _, err := b.dib("ours", cache, elements...)
		if err != nil {
			return err
		}
		if err := os.RemoveAll(cache); err != nil {
			return err
		}
		seconds, err := b.classical(ref)
		if err != nil {
			return err
		}
		w, _, err := b.dib("ours", b.warmCache(), elements...)
		if err != nil {
			return err
		}
		cold, warm, classical = append(cold, c), append(warm, w), append(classical, result{seconds: seconds})
		fmt.Printf("build, round %d: dib cold %.1f s, classical %.1f s, dib warm %.1f s\n", i+1, c.seconds, seconds, w.seconds)
	}
	summary("build, dib's cache cold", cold, classical)
	summary("build, dib's cache warm", warm, classical)
	return nil
}

// summary prints medians; the ratio is the median of the pairs' ratios.
func summary(what string, ours, theirs []result) {
	var a, b, ratios []float64
	var rss int64
	for i := range ours {
		a, b = append(a, ours[i].seconds), append(b, theirs[i].seconds)
		ratios = append(ratios, ours[i].seconds/theirs[i].seconds)
		rss = max(rss, ours[i].rss)
	}
	fmt.Printf("%s, median of %d pairs: dib %.1f s, classical %.1f s, ratio %.2f; largest dib process %d MiB\n",
		what, len(ours), median(a), median(b), median(ratios), rss>>20)
}

// classical makes an image of the same packages with the usual tools:
// mmdebstrap to a directory, mke2fs from it, qemu-img to a compressed qcow2.
// It does less than dib: no hooks, no partition table, no boot loader
// configured. Its tree and images are in memory, as those of dib are.
func (b *bench) classical(ref *reference) (seconds float64, err error) {
	dir := filepath.Join(b.dir, "classical")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
		return 0, fmt.Errorf("cannot mount a tmpfs for the classical tools: %w", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	tree, raw := filepath.Join(dir, "tree"), filepath.Join(dir, "image.raw")
	main, security := mirrors()
	for _, argv := range [][]string{
		{"mmdebstrap", "--quiet", "--variant=apt", "--include=" + strings.Join(ref.packages, ","), release, tree,
			fmt.Sprintf("deb %s %s main", main, release),
			fmt.Sprintf("deb %s %s-updates main", main, release),
			fmt.Sprintf("deb %s %s-security main", security, release)},
		{"truncate", "-s", fmt.Sprint(ref.size), raw},
		{"mke2fs", "-q", "-t", "ext4", "-i", "4096", "-d", tree, raw},
		{"qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, filepath.Join(dir, "image.qcow2")},
	} {
		r, err := b.timed(argv...)
		if err != nil {
			return 0, err
		}
		seconds += r.seconds
	}
	return seconds, samePackages(ref, tree)
}

// samePackages makes sure that the other side did the same work.
func samePackages(ref *reference, tree string) error {
	theirs, err := packages(tree)
	if err != nil {
		return err
	}
	ours := slices.Sorted(slices.Values(ref.packages))
	slices.Sort(theirs)
	if !slices.Equal(ours, theirs) {
		return fmt.Errorf("the two sides do not install the same: dib %v, mmdebstrap %v", ours, theirs)
	}
	return nil
}

var uri = regexp.MustCompile(`https?://[^\s\]]+/debian(-security)?/?(?:\s|$)`)

// mirrors are what the host's apt uses, as dib does, else the official hosts.
func mirrors() (main, security string) {
	main, security = "http://ftp.debian.org/debian", "http://security.debian.org/debian-security"
	files, _ := filepath.Glob("/etc/apt/sources.list.d/*")
	for _, file := range append(files, "/etc/apt/sources.list") {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "#") {
				continue
			}
			for _, m := range uri.FindAllStringSubmatch(line, -1) {
				if url := strings.TrimSuffix(strings.TrimSpace(m[0]), "/"); m[1] == "" {
					main = url
				} else {
					security = url
				}
			}
		}
	}
	return main, security
}

// mirror describes the mirror without giving its name away: it may be private.
func mirror() string {
	main, security := mirrors()
	if main == "http://ftp.debian.org/debian" && security == "http://security.debian.org/debian-security" {
		return "the official hosts"
	}
	return "that of the host's apt sources, for both sides"
}
