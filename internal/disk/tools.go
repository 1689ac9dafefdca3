package disk

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/dib-builder/dib/internal/run"
	"github.com/dib-builder/dib/internal/treepath"
)

// minMke2fs is the oldest mke2fs whose -d copies trees as needed here.
var minMke2fs = [2]int{1, 45}

// mke2fsPrezeroed is the first mke2fs that can be told that the file holds
// zeros, so that it need not write them.
var mke2fsPrezeroed = [2]int{1, 47}

// tools are mke2fs and debugfs of one origin: the host, or the tree that is
// being written.
type tools struct {
	mke2fs, debugfs []string // beginnings of command lines
	env             []string
	version         [2]int
	log             func([]byte)
}

func (t *tools) run(ctx context.Context, argv ...string) error {
	return run.Cmd{Argv: argv, Env: t.env, Log: t.log}.Run(ctx)
}

// findTools prefers the host's tools. A host without them, or with too old
// ones, leaves those of the tree, run through the tree's own loader and
// libraries: whatever distribution the tree is of, they fit each other.
func findTools(ctx context.Context, tree string, env []string, log func([]byte)) (*tools, error) {
	base := toolEnv(env)
	host := &tools{mke2fs: []string{"mke2fs"}, debugfs: []string{"debugfs"}, env: base, log: log}
	hostErr := host.check(ctx)
	if hostErr == nil {
		return host, nil
	}
	own, treeErr := treeTools(tree, base)
	if treeErr == nil {
		own.log = log
		if treeErr = own.check(ctx); treeErr == nil {
			return own, nil
		}
	}
	return nil, fmt.Errorf("cannot find tools to make ext filesystems: install e2fsprogs %d.%d or later on the host or in the image (host: %w; image: %w)",
		minMke2fs[0], minMke2fs[1], hostErr, treeErr)
}

// toolEnv is the environment of the tools: what they read is stated, nothing
// else gets in.
func toolEnv(env []string) []string {
	out := []string{"LC_ALL=C", "TZ=UTC"}
	path := "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, kv := range env {
		switch name, val, _ := strings.Cut(kv, "="); name {
		case "PATH":
			// The tools live in sbin, which an ordinary user's PATH lacks.
			path = kv + ":/usr/sbin:/sbin"
		case "MKE2FS_CONFIG":
			out = append(out, kv)
		case "SOURCE_DATE_EPOCH":
			// The second name is the one versions before 1.47.1 know.
			out = append(out, kv, "E2FSPROGS_FAKE_TIME="+val)
		}
	}
	return append(out, path)
}

var versionForm = regexp.MustCompile(`mke2fs (\d+)\.(\d+)`)

// check finds out the version, and that debugfs runs too.
func (t *tools) check(ctx context.Context) error {
	var said strings.Builder
	cmd := run.Cmd{Argv: append(t.mke2fs[:len(t.mke2fs):len(t.mke2fs)], "-V"), Env: t.env, Log: func(line []byte) {
		said.Write(line)
		said.WriteByte('\n')
	}}
	if err := cmd.Run(ctx); err != nil {
		return err
	}
	m := versionForm.FindStringSubmatch(said.String())
	if m == nil {
		return fmt.Errorf("cannot understand the version of mke2fs: %q", said.String())
	}
	t.version[0], _ = strconv.Atoi(m[1])
	t.version[1], _ = strconv.Atoi(m[2])
	if less(t.version, minMke2fs) {
		return fmt.Errorf("mke2fs %d.%d is too old", t.version[0], t.version[1])
	}
	cmd.Argv, cmd.Log = append(t.debugfs[:len(t.debugfs):len(t.debugfs)], "-V"), nil
	return cmd.Run(ctx)
}

func less(a, b [2]int) bool { return a[0] < b[0] || a[0] == b[0] && a[1] < b[1] }

// treeTools finds the tools of the tree, its loader and its libraries.
func treeTools(tree string, env []string) (*tools, error) {
	find := func(patterns ...string) (string, error) {
		for _, p := range patterns {
			dir, base := filepath.Split(p)
			real, err := treepath.Resolve(tree, dir)
			if err != nil {
				continue
			}
			found, err := filepath.Glob(filepath.Join(real, base))
			if err != nil || len(found) == 0 {
				continue
			}
			rel, err := filepath.Rel(tree, found[0])
			if err != nil {
				continue
			}
			if file, err := treepath.Resolve(tree, rel); err == nil {
				return file, nil
			}
		}
		return "", fmt.Errorf("no %s in the image", patterns[0])
	}
	loader, err := find("lib64/ld-linux-*.so.*", "lib/ld-linux-*.so.*", "lib64/ld64.so.*", "lib/ld-musl-*.so.1")
	if err != nil {
		return nil, err
	}
	mke2fs, err := find("sbin/mke2fs", "usr/sbin/mke2fs", "usr/bin/mke2fs")
	if err != nil {
		return nil, err
	}
	debugfs, err := find("sbin/debugfs", "usr/sbin/debugfs", "usr/bin/debugfs")
	if err != nil {
		return nil, err
	}
	start := []string{loader, "--library-path", strings.Join(libraryDirs(tree), ":")}
	t := &tools{mke2fs: append(start[:len(start):len(start)], mke2fs), debugfs: append(start[:len(start):len(start)], debugfs), env: env}
	if conf, err := treepath.Resolve(tree, "etc/mke2fs.conf"); err == nil {
		t.env = append(env[:len(env):len(env)], "MKE2FS_CONFIG="+conf)
	}
	return t, nil
}

// libraryDirs lists the directories of the tree that hold shared libraries.
func libraryDirs(tree string) []string {
	var dirs []string
	for _, top := range []string{"lib64", "lib", "usr/lib64", "usr/lib"} {
		real, err := treepath.Resolve(tree, top)
		if err != nil {
			continue
		}
		multiarch, _ := filepath.Glob(filepath.Join(real, "*-linux-*"))
		dirs = append(append(dirs, multiarch...), real)
	}
	return dirs
}
