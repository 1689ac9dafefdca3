package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Unneeded are the programs that image builders usually want of their host
// and that dib must do without.
var Unneeded = []string{
	"cdebootstrap", "curl", "debootstrap", "dnsmasq", "dosfslabel", "fsck.vfat", "fuse2fs", "fuseext2", "gdisk",
	"genisoimage", "guestfish", "kpartx", "lvm", "mkfs.fat", "mkfs.vfat", "mksquashfs", "mmdebstrap", "multistrap",
	"parted", "partprobe", "perl", "python3", "qemu-img", "qemu-nbd", "rsync", "sfdisk", "sgdisk", "sudo", "wget",
	"xorriso",
}

// Mke2fs are the names under which the host may have the maker of ext
// filesystems; dib uses it when present and the image's own otherwise.
var Mke2fs = []string{"mke2fs", "mkfs.ext2", "mkfs.ext3", "mkfs.ext4", "debugfs", "tune2fs", "e2fsck"}

// plainPackages are the Debian packages whose programs a build may find on its
// host: what an essential system has, and uidmap for builds without root.
var plainPackages = []string{
	"bash", "coreutils", "dash", "findutils", "grep", "gzip", "hostname", "login", "mount", "sed", "tar", "uidmap",
	"util-linux", "e2fsprogs",
}

// PlainPath makes a directory of symlinks to what plainPackages bring, minus
// every name of without, and returns it: the whole PATH of a build.
func (l *Lab) PlainPath(name string, without []string) (string, error) {
	dir := filepath.Join(l.Dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	out, err := exec.Command("dpkg-query", append([]string{"-L"}, plainPackages...)...).Output()
	if err != nil {
		return "", fmt.Errorf("cannot list the programs of a plain Debian host: %w", err)
	}
	for path := range strings.Lines(string(out)) {
		path = strings.TrimSpace(path)
		base := filepath.Base(path)
		if d := filepath.Base(filepath.Dir(path)); d != "bin" && d != "sbin" || slices.Contains(without, base) {
			continue
		}
		if err := os.Symlink(path, filepath.Join(dir, base)); err != nil && !os.IsExist(err) {
			return "", err
		}
	}
	// sh is a diversion, not a file of a package.
	if err := os.Symlink("/bin/sh", filepath.Join(dir, "sh")); err != nil && !os.IsExist(err) {
		return "", err
	}
	return dir, nil
}

// Where finds every file that the usual directories have under the given names.
func Where(names []string) []string {
	var found []string
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		for _, name := range names {
			path, err := filepath.EvalSymlinks(filepath.Join(dir, name))
			if err == nil && !slices.Contains(found, path) {
				found = append(found, path)
			}
		}
	}
	return found
}
