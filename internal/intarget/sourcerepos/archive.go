package sourcerepos

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/dib-builder/dib/internal/run"
	"github.com/dib-builder/dib/internal/sourcerepo"
	"github.com/dib-builder/dib/internal/tarball"
)

// download makes the cache entry of an archive or a file current, as far as
// offline allows. The entry is locked for changes when it returns.
func (b *builder) download(ctx context.Context, s sourcerepo.Source) (*entry, error) {
	e, err := b.open(ctx, s)
	if err != nil {
		return nil, err
	}
	cached := e.exists()
	fetch := func() error {
		if err := b.cacheURL(ctx, s, e.path); err != nil {
			return err
		}
		return verify(e.path, s)
	}
	var mismatch *checksumError
	if cached && b.offline {
		err = verify(e.path, s)
	} else if err = fetch(); errors.As(err, &mismatch) {
		// Neither this build nor a later one shall meet it again.
		err = errors.Join(err, os.Remove(e.path))
		if cached {
			b.say("%v; downloading it anew", mismatch)
			if err = fetch(); errors.As(err, &mismatch) {
				err = errors.Join(err, os.Remove(e.path))
			}
		}
	}
	if err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

// cacheURL calls the command of the element cache-url, which may be another
// than ours.
func (b *builder) cacheURL(ctx context.Context, s sourcerepo.Source, dest string) error {
	address := s.Address()
	if strings.HasPrefix(address, "/") {
		address = (&url.URL{Scheme: "file", Path: address}).String()
	}
	public := func(text string) string { return strings.ReplaceAll(text, s.Location, s.Public()) }
	err := run.Cmd{
		Argv: []string{filepath.Join(b.env["TMP_HOOKS_PATH"], "bin", "cache-url"), address, dest}, Env: b.environ,
		Log: func(line []byte) { b.say("%s", public(string(line))) },
	}.Run(ctx)
	var failed *run.Error
	if errors.As(err, &failed) {
		for i := range failed.Argv {
			failed.Argv[i] = public(failed.Argv[i])
		}
	}
	return err
}

// checksumError is content that is not the expected one.
type checksumError struct{ file, want, got string }

func (e *checksumError) Error() string {
	return fmt.Sprintf("the checksum of %s is %s, expected %s", e.file, e.got, e.want)
}

func verify(path string, s sourcerepo.Source) error {
	if s.Checksum == "" {
		return nil
	}
	algorithm, _, _ := strings.Cut(s.Checksum, ":")
	sum := map[string]func() hash.Hash{"sha256": sha256.New, "sha512": sha512.New}[algorithm]()
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if got := fmt.Sprintf("%s:%x", algorithm, sum.Sum(nil)); got != s.Checksum {
		return &checksumError{s.Public(), s.Checksum, got}
	}
	return nil
}

// file copies a file into the image. As with DIB, only root may read a new one.
func (b *builder) file(ctx context.Context, s sourcerepo.Source) error {
	e, err := b.download(ctx, s)
	if err != nil {
		return err
	}
	defer e.close()
	dest, err := b.inTree(s.Dest)
	if err != nil {
		return err
	}
	if st, err := os.Stat(dest); err == nil && st.IsDir() {
		return fmt.Errorf("the destination %s is a directory of the image; it must be the name of the file", s.Dest)
	}
	if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
		return err
	}
	in, err := os.Open(e.path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dest, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// archive unpacks an archive beside the destination, in the image's /tmp, and
// moves what the ref asks for.
func (b *builder) archive(ctx context.Context, s sourcerepo.Source) error {
	e, err := b.download(ctx, s)
	if err != nil {
		return err
	}
	defer e.close()
	tmp, err := b.inTree("/tmp")
	if err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o777|fs.ModeSticky); err == nil {
		err = os.Chmod(tmp, 0o777|fs.ModeSticky) // whatever the umask
		if err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir, err := os.MkdirTemp(tmp, "source-repositories-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := unpack(ctx, e.path, dir); err != nil {
		return fmt.Errorf("cannot unpack %s: %w", s.Public(), err)
	}
	parts, err := chosen(dir, s.Ref)
	if err != nil {
		return fmt.Errorf("cannot use the archive %s: %w", s.Public(), err)
	}
	for _, part := range parts {
		if err := b.merge(part, s.Dest, s.Ref != "."); err != nil {
			return err
		}
	}
	return nil
}

func unpack(ctx context.Context, file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := tarball.Decompress(f)
	if err != nil {
		return err
	}
	defer r.Close()
	return tarball.Extract(ctx, r, dir, tarball.Options{})
}

// chosen lists the directories of an unpacked archive that a ref means: "."
// all of it, "*" what is in its top-level directories, else one directory.
func chosen(dir, ref string) ([]string, error) {
	if ref == "." {
		return []string{dir}, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var parts, names []string
	for _, e := range entries {
		names = append(names, e.Name())
		if e.IsDir() {
			parts = append(parts, filepath.Join(dir, e.Name()))
		}
	}
	if ref == sourcerepo.RefAll {
		if len(parts) == 0 {
			return nil, errors.New(`the ref "*" means what is in top-level directories, and there is none; use "." for the whole`)
		}
		return parts, nil
	}
	part, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer part.Close()
	st, err := part.Lstat(strings.Trim(filepath.Clean("/"+ref), "/"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no directory %q (the ref) at the top (%s)", ref, strings.Join(names, ", "))
	case err != nil:
		return nil, err
	case !st.IsDir():
		return nil, fmt.Errorf("the ref %q is not a directory; a single file of an archive cannot be had", ref)
	}
	return []string{filepath.Join(dir, filepath.Clean("/"+ref))}, nil
}

// merge moves what is in the directory from to the path to of the image, over
// what is there. Links to directories of the image are followed.
func (b *builder) merge(from, to string, keepMode bool) error {
	dest, err := b.inTree(to)
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o755)
	if st, err := os.Stat(from); err != nil {
		return err
	} else if keepMode {
		mode = st.Mode().Perm()
	}
	switch st, err := os.Stat(dest); {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(dest, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(dest, mode); err != nil {
			return err
		}
	case err != nil:
		return err
	case !st.IsDir():
		return fmt.Errorf("%s of the image is not a directory", to)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		src, name := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		dst := filepath.Join(dest, e.Name())
		st, err := os.Lstat(dst)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = os.Rename(src, dst)
		case err != nil:
		case e.IsDir():
			err = b.merge(src, name, true)
		case st.IsDir():
			err = fmt.Errorf("%s is a directory of the image, and a file in the archive", name)
		default:
			err = os.Rename(src, dst)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
