package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The image's own resolv.conf waits under this name while the build uses the
// host's; hooks may replace it, so the name is public (spec/01 section 3.8).
const (
	resolvConf     = "etc/resolv.conf"
	resolvConfOrig = "etc/resolv.conf.ORIG"
)

// borrowResolvConf puts the host's resolv.conf into the tree, keeping the
// image's own aside.
func borrowResolvConf(root *os.Root, host string) error {
	if _, err := root.Lstat(resolvConf); err == nil {
		if err := root.Rename(resolvConf, resolvConfOrig); err != nil {
			return fmt.Errorf("cannot keep the image's resolv.conf aside: %w", err)
		}
	}
	text, err := os.ReadFile(host)
	if errors.Is(err, fs.ErrNotExist) {
		text = []byte("nameserver 8.8.8.8\n")
	} else if err != nil {
		return fmt.Errorf("cannot read the host's resolv.conf: %w", err)
	}
	if err := root.WriteFile(resolvConf, text, 0o644); err != nil {
		return fmt.Errorf("cannot write the image's resolv.conf: %w", err)
	}
	return nil
}

// returnResolvConf undoes borrowResolvConf, unless a hook made the image's
// resolv.conf a symlink or immutable, by which it says that it is to stay.
func returnResolvConf(root *os.Root, immutable bool) error {
	st, err := root.Lstat(resolvConf)
	if err == nil && (st.Mode()&fs.ModeSymlink != 0 || immutable) {
		return ignoreMissing(root.Remove(resolvConfOrig))
	}
	if err := ignoreMissing(root.Remove(resolvConf)); err != nil {
		return fmt.Errorf("cannot remove the host's resolv.conf from the image: %w", err)
	}
	if _, err := root.Lstat(resolvConfOrig); err == nil {
		if err := root.Rename(resolvConfOrig, resolvConf); err != nil {
			return fmt.Errorf("cannot put the image's resolv.conf back: %w", err)
		}
	}
	return nil
}

// cleanTree empties /tmp, truncates logs and drops root's log files, as every
// image is left (spec/01 section 3.8). Missing directories are fine.
func cleanTree(tree string) error {
	if err := emptyDir(filepath.Join(tree, "tmp")); err != nil {
		return err
	}
	err := walkRegular(filepath.Join(tree, "var/log"), func(path string, d fs.DirEntry) error {
		return truncateNoFollow(path)
	})
	if err != nil {
		return err
	}
	return walkRegular(filepath.Join(tree, "root"), func(path string, d fs.DirEntry) error {
		if strings.HasSuffix(d.Name(), ".log") {
			return os.Remove(path)
		}
		return nil
	})
}

func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot clean the image: %w", err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("cannot clean the image: %w", err)
		}
	}
	return nil
}

func walkRegular(dir string, f func(path string, d fs.DirEntry) error) error {
	st, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir() {
		return nil
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return f(path, d)
	})
	if err != nil {
		return fmt.Errorf("cannot clean the image: %w", err)
	}
	return nil
}

func truncateNoFollow(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// treeIsDeployed tells whether root.d left anything: names that merely belong
// to an empty filesystem do not count.
func treeIsDeployed(tree string) (bool, error) {
	entries, err := os.ReadDir(tree)
	if err != nil {
		return false, fmt.Errorf("cannot read the image tree: %w", err)
	}
	for _, e := range entries {
		if n := e.Name(); !strings.HasPrefix(n, "lost+found") && !strings.HasSuffix(n, "tmp") {
			return true, nil
		}
	}
	return false, nil
}
