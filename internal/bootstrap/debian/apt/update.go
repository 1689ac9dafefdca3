package apt

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

// Stamps are files in apt's lists directory that hold the digest of a state of
// sources and lists. An update by apt itself removes them, as it does every
// file there that it does not know.
const (
	freshStamp    = "dib-stamp"    // the lists are what the sources offer
	upgradedStamp = "dib-upgraded" // every package is at the version that the lists offer
)

// UpdateMain is the command apt-update, run inside the tree: "apt-get update",
// but only when the sources or the lists are not as they were after the last
// one. Its options are for the hooks that know more:
//
//	--stamp TREE     lists and packages of a tree are up to date
//	--is-upgraded    exit status 0 when an upgrade would find nothing to do
//	--mark-upgraded  an upgrade has been done
func UpdateMain(ctx context.Context, stdio command.IO, args []string) int {
	var err error
	switch {
	case len(args) == 0:
		err = aptUpdate(ctx, stdio, "/")
	case len(args) == 2 && args[0] == "--stamp":
		err = errors.Join(writeStamp(args[1], freshStamp), writeStamp(args[1], upgradedStamp))
	case len(args) == 1 && args[0] == "--mark-upgraded":
		err = writeStamp("/", upgradedStamp)
	case len(args) == 1 && args[0] == "--is-upgraded":
		var same bool
		if same, err = stamped("/", upgradedStamp); err == nil && !same {
			return 1
		}
	default:
		fmt.Fprintln(stdio.Err, "usage: apt-update [--stamp TREE | --is-upgraded | --mark-upgraded]")
		return 2
	}
	if err != nil {
		fmt.Fprintln(stdio.Err, "apt-update:", err)
		return 1
	}
	return 0
}

func aptUpdate(ctx context.Context, stdio command.IO, root string) error {
	fresh, err := stamped(root, freshStamp)
	if err != nil {
		return err
	}
	if fresh {
		fmt.Fprintln(stdio.Out, "apt's lists are up to date: sources and lists are unchanged")
		return nil
	}
	err = run.Cmd{
		Argv: []string{"apt-get", "-o", "Acquire::Retries=3", "-y", "update"}, Env: stdio.Environ(), Stdout: stdio.Out,
		Log: func(line []byte) { fmt.Fprintf(stdio.Err, "%s\n", line) },
	}.Run(ctx)
	if err != nil {
		return err
	}
	return writeStamp(root, freshStamp)
}

func stamped(root, stamp string) (bool, error) {
	have, err := os.ReadFile(filepath.Join(root, listsDir, stamp))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	want, err := listsDigest(root)
	return err == nil && strings.TrimSpace(string(have)) == want, err
}

func writeStamp(root, stamp string) error {
	sum, err := listsDigest(root)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, listsDir, stamp), []byte(sum+"\n"), 0o644); err != nil {
		return fmt.Errorf("cannot note the state of apt's lists: %w", err)
	}
	return nil
}

// aptInputs are what decides what apt offers, beside its lists.
var aptInputs = []string{
	"etc/apt/sources.list", "etc/apt/sources.list.d", "etc/apt/preferences", "etc/apt/preferences.d",
	"etc/apt/trusted.gpg", "etc/apt/trusted.gpg.d", "etc/apt/keyrings", "var/lib/dpkg/arch",
}

// listsDigest stands for apt's inputs by their content and for its lists by
// name and size.
func listsDigest(root string) (string, error) {
	sum := sha256.New()
	for _, top := range aptInputs {
		err := walkFiles(root, top, func(rel string, d fs.DirEntry) error {
			data, err := os.ReadFile(filepath.Join(root, rel))
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a link to nowhere, which apt passes over too
			}
			fmt.Fprintf(sum, "%q %x\n", rel, sha256.Sum256(data))
			return err
		})
		if err != nil {
			return "", err
		}
	}
	err := walkFiles(root, listsDir, func(rel string, d fs.DirEntry) error {
		if name := d.Name(); name == freshStamp || name == upgradedStamp || name == "lock" {
			return nil
		}
		st, err := d.Info()
		if err == nil {
			fmt.Fprintf(sum, "%q %d\n", rel, st.Size())
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// walkFiles calls use for each file at or below top, which need not exist,
// leaving out directories of partial downloads.
func walkFiles(root, top string, use func(rel string, d fs.DirEntry) error) error {
	err := filepath.WalkDir(filepath.Join(root, top), func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "partial":
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		return use(rel, d)
	})
	if err != nil {
		return fmt.Errorf("cannot look at the state of apt: %w", err)
	}
	return nil
}
