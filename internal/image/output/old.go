package output

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// checksumSuffixes are the endings of the checksum files that go with an
// image; their lines are those of md5sum and its like.
var checksumSuffixes = []string{".md5", ".sha256", ".sha512", ".blake3"}

// maxChecksumFile bounds what is read of a checksum file, in bytes.
const maxChecksumFile = 64 << 10

// OldName is the name under which an existing file is kept: the time stands
// before the last extension. n above 1 makes further names for the same second.
func OldName(path string, at time.Time, n int) string {
	dir, base := filepath.Split(path)
	ext := filepath.Ext(base)
	if ext == base {
		ext = "" // a leading dot hides a file, it does not begin an extension
	}
	stem := strings.TrimSuffix(base, ext) + "-" + at.Format("2006.01.02-15.04.05")
	if n > 1 {
		stem += fmt.Sprintf("-%d", n)
	}
	return dir + stem + ext
}

// moveAside renames path to its first free OldName. A path that is gone by
// now is no error: the result is "".
func moveAside(path string, at time.Time) (string, error) {
	if st, err := os.Lstat(path); err == nil && st.IsDir() {
		return "", fmt.Errorf("%q is a directory", path)
	}
	for n := 1; ; n++ {
		name := OldName(path, at, n)
		err := renameNew(path, name)
		switch {
		case err == nil:
			return name, nil
		case errors.Is(err, fs.ErrNotExist):
			return "", nil
		case !errors.Is(err, fs.ErrExist):
			return "", fmt.Errorf("cannot keep the old file: %w", err)
		}
	}
}

// moveChecksums lets the checksum files of path follow it to its new name,
// also in what they say.
func moveChecksums(path, to string) error {
	for _, suffix := range checksumSuffixes {
		if err := moveChecksum(path+suffix, to+suffix, filepath.Base(path), filepath.Base(to)); err != nil {
			return fmt.Errorf("cannot keep the old checksum file: %w", err)
		}
	}
	return nil
}

func moveChecksum(from, to, oldBase, newBase string) error {
	st, err := os.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Size() > maxChecksumFile {
		return os.Rename(from, to) // not one of ours: move it as it is
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxChecksumFile))
	f.Close()
	if err != nil {
		return err
	}
	if err := WriteFile(to, renameInChecksums(data, oldBase, newBase)); err != nil {
		return err
	}
	return os.Remove(from)
}

// renameInChecksums replaces the base name oldBase in the lines of md5sum's
// output. Lines about other files stay as they are.
func renameInChecksums(data []byte, oldBase, newBase string) []byte {
	lines := bytes.SplitAfter(data, []byte("\n"))
	for i, line := range lines {
		text, newline := bytes.CutSuffix(line, []byte("\n"))
		// A line that begins with a backslash has its file name escaped.
		from, to := oldBase, newBase
		if bytes.HasPrefix(text, []byte(`\`)) {
			from, to = escapeName(oldBase), escapeName(newBase)
		}
		head, ok := bytes.CutSuffix(text, []byte(from))
		if !ok || len(head) == 0 || !bytes.ContainsRune([]byte("/ *"), rune(head[len(head)-1])) {
			continue
		}
		out := append(bytes.Clone(head), to...)
		if newline {
			out = append(out, '\n')
		}
		lines[i] = out
	}
	return bytes.Join(lines, nil)
}

func escapeName(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(s)
}

func removeChecksums(path string) error {
	for _, suffix := range checksumSuffixes {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// WriteFile publishes a small file, replacing one of the same name.
func WriteFile(path string, data []byte) error {
	p, err := create(path, openUnnamed)
	if err != nil {
		return err
	}
	defer p.Abort()
	if _, err := p.file.Write(data); err != nil {
		return fmt.Errorf("cannot write %q: %w", path, err)
	}
	if err := p.file.Sync(); err != nil {
		return fmt.Errorf("cannot write %q: %w", path, err)
	}
	if err := p.replace(); err != nil {
		return fmt.Errorf("cannot write %q: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}
