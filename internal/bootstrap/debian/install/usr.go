package install

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// mergedUsr lists the top-level directories that are links into /usr: those of
// the base system, and the ones that the release's other library
// architectures use.
func mergedUsr(arch string, codename string) []string {
	dirs := []string{"bin", "lib", "sbin"}
	lib64 := map[string]bool{"amd64": true, "ppc64el": true, "loong64": true, "s390x": false}
	if lib64[arch] {
		dirs = append(dirs, "lib64")
	}
	if codename == "bookworm" && arch == "amd64" {
		// Before trixie packages still name the directories at the top.
		dirs = append(dirs, "lib32", "libx32")
	}
	return dirs
}

// mergeUsr makes the links before anything is unpacked, so that everything
// lands in /usr.
func mergeUsr(root string, dirs []string) error {
	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Join(root, "usr", d), 0o755); err != nil {
			return err
		}
		err := os.Symlink("usr/"+d, filepath.Join(root, d))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}
