// Package lab runs builds under observation: as root or as an ordinary user,
// on a host that lacks chosen programs, with every process they start in
// sight, so that a test can kill any of them and see that nothing is left.
package lab

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// UserName is the account that stands for a person without root.
const UserName = "dibtest"

// Lab is a scratch directory that both actors may enter, with the binary under test.
type Lab struct {
	Checkout string // top of the source tree
	Dir      string // scratch, mode 0755, removed by Close
	Dib      string // the binary under test
}

// Open builds the binary of the checkout around the working directory into a
// new scratch directory.
func Open() (*Lab, error) {
	checkout, err := findCheckout()
	if err != nil {
		return nil, err
	}
	// Not below TMPDIR: "go test" may have made that private to root.
	dir, err := os.MkdirTemp("/var/tmp", "dib-lab-")
	if err != nil {
		return nil, err
	}
	l := &Lab{Checkout: checkout, Dir: dir, Dib: filepath.Join(dir, "bin", "dib")}
	if err := l.build(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) build() error {
	if err := os.Chmod(l.Dir, 0o755); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", l.Dib, "./cmd/dib")
	cmd.Dir = l.Checkout
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build dib: %w\n%s", err, out)
	}
	// The elements of the tests: an ordinary user need not be able to read the checkout.
	return CopyTree(filepath.Join(l.Checkout, "test", "elements"), l.Elements())
}

// Elements is the directory of the elements that only tests use.
func (l *Lab) Elements() string { return filepath.Join(l.Dir, "elements") }

// Close removes the scratch directory.
func (l *Lab) Close() error { return os.RemoveAll(l.Dir) }

// NewDir makes a directory that belongs to a.
func (l *Lab) NewDir(a Actor, name string) (string, error) {
	var suffix [4]byte
	if _, err := rand.Read(suffix[:]); err != nil {
		return "", err
	}
	dir := filepath.Join(l.Dir, name+"-"+a.Name+"-"+hex.EncodeToString(suffix[:]))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.Chown(dir, a.UID, a.GID)
}

func findCheckout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d, nil
		}
		if d == "/" {
			return "", fmt.Errorf("no go.mod at or above %s", dir)
		}
	}
}

// Actor is somebody who builds images.
type Actor struct {
	Name     string
	UID, GID int
	Home     string
}

// Root is the super-user.
func Root() Actor { return Actor{Name: "root", Home: "/root"} }

// Ordinary returns the account UserName, which it creates, with subordinate
// ids, when it is missing. Only root can do that.
func Ordinary() (Actor, error) {
	u, err := user.Lookup(UserName)
	if errors.As(err, new(user.UnknownUserError)) {
		if out, err := exec.Command("useradd", "-m", "-s", "/bin/bash", UserName).CombinedOutput(); err != nil {
			return Actor{}, fmt.Errorf("cannot create the user %s: %w: %s", UserName, err, out)
		}
		u, err = user.Lookup(UserName)
	}
	if err != nil {
		return Actor{}, fmt.Errorf("cannot find the user %s: %w", UserName, err)
	}
	if err := ensureSubordinateIDs(UserName); err != nil {
		return Actor{}, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return Actor{}, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return Actor{}, err
	}
	return Actor{Name: u.Username, UID: uid, GID: gid, Home: u.HomeDir}, nil
}

// ensureSubordinateIDs covers systems whose useradd gives out none.
func ensureSubordinateIDs(name string) error {
	highest := 100000
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if strings.Contains("\n"+string(text), "\n"+name+":") {
			return nil
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Split(strings.TrimSpace(line), ":")
			if len(fields) != 3 {
				continue
			}
			start, err1 := strconv.Atoi(fields[1])
			count, err2 := strconv.Atoi(fields[2])
			if err1 == nil && err2 == nil {
				highest = max(highest, start+count)
			}
		}
	}
	ids := fmt.Sprintf("%d-%d", highest, highest+65535)
	out, err := exec.Command("usermod", "--add-subuids", ids, "--add-subgids", ids, name).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot give %s subordinate ids: %w: %s", name, err, out)
	}
	return nil
}

// Environment is what a build gets: little, so that nothing of the tester's
// session has a say, but with the proxies that the machine may need.
func (a Actor) Environment(extra map[string]string) []string {
	env := map[string]string{
		"HOME": a.Home, "USER": a.Name, "LOGNAME": a.Name, "TERM": "dumb", "LANG": "C.UTF-8",
		"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
	}
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"} {
		if v, ok := os.LookupEnv(name); ok {
			env[name] = v
		}
	}
	maps.Copy(env, extra)
	var list []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// CopyTree copies directories, regular files with their modes, and symlinks.
func CopyTree(src, dst string) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dst, rel)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(target, to)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, data, info.Mode().Perm())
	})
}

// ChownTree gives everything below dir to a.
func ChownTree(dir string, a Actor) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, a.UID, a.GID)
	})
}
