package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/run"
)

// stampName is the file in apt's lists directory that says of which sources
// the lists are. An update by apt itself removes it, as it does every file
// there that it does not know.
const stampName = "dib-stamp"

// UpdateMain is the command apt-update, run inside the tree: "apt-get update",
// but only when the sources or the lists are not as they were after the last
// one. "--stamp TREE" declares the lists of a tree to be up to date.
func UpdateMain(ctx context.Context, stdio command.IO, args []string) int {
	var err error
	switch {
	case len(args) == 0:
		err = aptUpdate(ctx, stdio, "/")
	case len(args) == 2 && args[0] == "--stamp":
		err = writeStamp(args[1])
	default:
		fmt.Fprintln(stdio.Err, "usage: apt-update [--stamp TREE]")
		return 2
	}
	if err != nil {
		fmt.Fprintln(stdio.Err, "apt-update:", err)
		return 1
	}
	return 0
}

func aptUpdate(ctx context.Context, stdio command.IO, root string) error {
	fresh, err := listsFresh(root)
	if err != nil {
		return err
	}
	if fresh {
		fmt.Fprintln(stdio.Out, "apt's lists are up to date: sources and lists are unchanged")
		return nil
	}
	err = run.Cmd{
		Argv: []string{"apt-get", "-y", "update"}, Env: stdio.Environ(), Stdout: stdio.Out,
		Log: func(line []byte) { fmt.Fprintf(stdio.Err, "%s\n", line) },
	}.Run(ctx)
	if err != nil {
		return err
	}
	return writeStamp(root)
}

func listsFresh(root string) (bool, error) {
	have, err := os.ReadFile(filepath.Join(root, listsDir, stampName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	want, err := listsDigest(root)
	return err == nil && strings.TrimSpace(string(have)) == want, err
}

func writeStamp(root string) error {
	sum, err := listsDigest(root)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, listsDir, stampName), []byte(sum+"\n"), 0o644); err != nil {
		return fmt.Errorf("cannot note the state of apt's lists: %w", err)
	}
	return nil
}

// listsDigest stands for the sources and keys of a tree by their content and
// for its lists by name and size.
func listsDigest(root string) (string, error) {
	sum := sha256.New()
	for _, top := range []string{"etc/apt/sources.list", "etc/apt/sources.list.d", "etc/apt/trusted.gpg", "etc/apt/trusted.gpg.d", "etc/apt/keyrings", listsDir} {
		err := filepath.WalkDir(filepath.Join(root, top), func(name string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if d.IsDir() {
				if d.Name() == "partial" {
					return fs.SkipDir
				}
				return nil
			}
			rel, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			if top == listsDir {
				if d.Name() == stampName || d.Name() == "lock" {
					return nil
				}
				st, err := d.Info()
				if err != nil {
					return err
				}
				fmt.Fprintf(sum, "%q %d\n", rel, st.Size())
				return nil
			}
			data, err := os.ReadFile(name)
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a link to nowhere, which apt passes over too
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(sum, "%q %x\n", rel, sha256.Sum256(data))
			return nil
		})
		if err != nil {
			return "", fmt.Errorf("cannot look at the state of apt: %w", err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
