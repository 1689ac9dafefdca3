package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/image/checksum"
)

// destSuffix ends the name of the file beside a staged file that holds the
// path where it is to go.
const destSuffix = ".dest"

// publishFiles moves what hooks staged below files/ to its places, by the rules
// for images: ramdisks and kernels, for instance (D74).
func (b *builder) publishFiles(ctx context.Context) error {
	dir := filepath.Join(b.hostOnly["DIB_STAGED_OUTPUTS"], "files")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot publish what hooks left: %w", err)
	}
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		dest, err := os.ReadFile(file + destSuffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it says where another file goes
		}
		if err != nil {
			return fmt.Errorf("cannot publish %s: %w", e.Name(), err)
		}
		path := strings.TrimSuffix(string(dest), "\n")
		if err := b.publishFile(ctx, file, path); err != nil {
			return fmt.Errorf("cannot publish %s: %w", path, err)
		}
		b.sink.Emit(event.Event{Kind: event.Artifact, Path: path})
	}
	return nil
}

func (b *builder) publishFile(ctx context.Context, file, path string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	return b.save(ctx, path, func(out *checksum.File) error {
		_, err := io.Copy(out, in)
		return err
	})
}
