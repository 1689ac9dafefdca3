// Package tempfile makes the files that are renamed when they are complete.
package tempfile

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// CreateBeside creates a file with a new name in the directory of path. Unlike
// os.CreateTemp it applies perm and the umask, as for a file made under its
// final name. The caller renames or removes it.
func CreateBeside(path string, perm fs.FileMode) (*os.File, error) {
	for range 100 {
		name := filepath.Join(filepath.Dir(path), fmt.Sprintf(".download.%08x", rand.Uint32()))
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
	return nil, fmt.Errorf("cannot create a temporary file in %s: all names are taken", filepath.Dir(path))
}
