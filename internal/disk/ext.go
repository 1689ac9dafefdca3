package disk

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/run"
)

// makeExt makes an ext2, ext3 or ext4 filesystem inside the file image and
// fills it with the directory dir; an empty dir leaves it empty.
func (t *tools) makeExt(ctx context.Context, image string, fs blockdev.Filesystem, dir string, owner [2]int) error {
	opts, extended := splitExtended(fs.Opts)
	extended = append([]string{
		"offset=" + strconv.FormatInt(fs.Offset, 10),
		"hash_seed=" + fs.HashSeed,
		fmt.Sprintf("root_owner=%d:%d", owner[0], owner[1]),
	}, extended...)
	if !less(t.version, mke2fsPrezeroed) {
		// The file is fresh: what is not written reads as zeros. Without this
		// inode tables and journal would either be written out as zeros, or
		// left for the kernel to zero at the first mount.
		extended = append(extended, "assume_storage_prezeroed=1")
	}
	argv := append(slices.Clone(t.mke2fs), "-q", "-F", "-t", fs.Type)
	argv = append(argv, opts...)
	argv = append(argv, "-L", fs.Label, "-U", fs.UUID, "-E", strings.Join(extended, ","))
	if dir != "" {
		argv = append(argv, "-d", dir)
	}
	argv = append(argv, image, fmt.Sprintf("%dk", fs.Length/1024))
	if err := t.run(ctx, argv...); err != nil {
		return fmt.Errorf("cannot make filesystem %s (%s, %d MiB): %w", fs.Node, fs.Type, fs.Length>>20, err)
	}
	return nil
}

// splitExtended takes the -E options out of opts: mke2fs heeds only the last
// -E, so they all have to go into one.
func splitExtended(opts []string) (rest, extended []string) {
	for i := 0; i < len(opts); i++ {
		switch {
		case opts[i] == "-E" && i+1 < len(opts):
			i++
			extended = append(extended, opts[i])
		case strings.HasPrefix(opts[i], "-E") && len(opts[i]) > 2:
			extended = append(extended, opts[i][2:])
		default:
			rest = append(rest, opts[i])
		}
	}
	return rest, extended
}

// at names a filesystem inside an image file as debugfs takes it.
func at(image string, fs blockdev.Filesystem) string {
	return fmt.Sprintf("%s?offset=%d", image, fs.Offset)
}

// debug runs a file of debugfs commands and returns what they print. debugfs
// exits with status 0 whatever happens, but apart from its version it writes
// nothing to standard error when all is well.
func (t *tools) debug(ctx context.Context, image string, fs blockdev.Filesystem, file string, write bool) (string, error) {
	argv := slices.Clone(t.debugfs)
	if write {
		argv = append(argv, "-w")
	}
	argv = append(argv, "-f", file, at(image, fs))
	var out bytes.Buffer
	var complaint string
	cmd := run.Cmd{Argv: argv, Env: t.env, Stdout: &out, Log: func(line []byte) {
		if complaint == "" && len(line) > 0 && !bytes.HasPrefix(line, []byte("debugfs ")) {
			complaint = string(line)
		}
	}}
	if err := cmd.Run(ctx); err != nil {
		return "", fmt.Errorf("cannot edit filesystem %s: %w", fs.Node, err)
	}
	if complaint != "" {
		return "", fmt.Errorf("cannot edit filesystem %s: debugfs: %s", fs.Node, complaint)
	}
	return out.String(), nil
}
