// Package extractimage is the command extract-image: it takes the operating
// system out of a cloud image and unpacks it as the root of an image under
// construction.
package extractimage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/run"
	"github.com/dib-builder/dib/internal/tarball"
)

const usage = `usage: extract-image BASE_IMAGE_FILE BASE_IMAGE_TAR IMAGE_LOCATION CACHED_IMAGE

Download IMAGE_LOCATION to CACHED_IMAGE, keep its files as BASE_IMAGE_TAR in the
cache, and unpack them to TARGET_ROOT.
`

// lockTimeout is how long another build may be at work on the same image.
const lockTimeout = 1200 * time.Second

// extraction is one call of the command.
type extraction struct {
	env     cmdline.Environment
	environ []string
	image   string // the cached or local image
	tar     string // the cached archive
	from    string // where the image comes from
	tmp     string
	say     func(format string, args ...any)
	timeout time.Duration
}

// Run is the command extract-image.
func Run(ctx context.Context, io command.IO, args []string) error {
	if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
		fmt.Fprint(io.Out, usage)
		return cmdline.ErrHelp
	}
	if len(args) != 4 {
		fmt.Fprint(io.Err, usage)
		return &cmdline.ExitError{Code: 1}
	}
	env := cmdline.EnvironmentOf(io)
	for _, name := range []string{"TMP_HOOKS_PATH", "TARGET_ROOT", "DIB_IMAGE_CACHE"} {
		if env[name] == "" {
			return fmt.Errorf("%s is not set: this command runs during a build only", name)
		}
	}
	x := &extraction{
		env: env, environ: io.Environ(), image: args[3], from: args[2], tmp: env["TMP_DIR"], timeout: lockTimeout,
		tar: filepath.Join(env["DIB_IMAGE_CACHE"], args[1]),
		say: func(format string, args ...any) { fmt.Fprintf(io.Out, format+"\n", args...) },
	}
	if x.tmp == "" {
		x.tmp = os.TempDir()
	}
	if err := x.run(ctx); err != nil {
		return fmt.Errorf("cannot extract %s: %w", args[0], err)
	}
	return nil
}

func (x *extraction) run(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(x.tar), 0o755); err != nil {
		return err
	}
	lock, err := x.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	if x.env["DIB_OFFLINE"] == "" || !exists(x.tar) {
		if x.env["DIB_LOCAL_IMAGE"] == "" {
			if err := x.download(ctx); err != nil {
				return err
			}
		}
		if err := x.refresh(ctx); err != nil {
			return err
		}
	}
	f, err := os.Open(x.tar)
	if err != nil {
		return err
	}
	defer f.Close()
	// The open archive stays what it is: others need not wait for its use.
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_UN); err != nil {
		return err
	}
	x.say("unpacking %s", x.tar)
	content, err := tarball.Decompress(f)
	if err == nil {
		defer content.Close()
		err = tarball.Extract(ctx, content, x.env["TARGET_ROOT"], tarball.Options{System: true})
	}
	if err != nil {
		return fmt.Errorf("cannot unpack %s: %w", x.tar, err)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// lock takes the lock that DIB takes for the same purpose.
func (x *extraction) lock(ctx context.Context) (*os.File, error) {
	f, err := os.OpenFile(x.tar+".lock", os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	for start := time.Now(); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Since(start) > x.timeout {
			f.Close()
			return nil, fmt.Errorf("cannot lock %s.lock within %v: another build is at work on the same image: %w", x.tar, x.timeout, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// download calls the command of the element cache-url. A mirror in the middle
// of an update may not have the file for a moment.
func (x *extraction) download(ctx context.Context) error {
	fetch := func() error {
		return run.Cmd{
			Argv: []string{filepath.Join(x.env["TMP_HOOKS_PATH"], "bin", "cache-url"), x.from, x.image}, Env: x.environ,
			Log: func(line []byte) { x.say("%s", line) },
		}.Run(ctx)
	}
	err := fetch()
	var failed *run.Error
	if errors.As(err, &failed) && failed.Exit == 44 {
		x.say("not found; trying once more")
		err = fetch()
	}
	if errors.As(err, &failed) {
		return &cmdline.ExitError{Code: failed.Exit, Err: fmt.Errorf("cannot download the image: %w", err)}
	}
	return err
}

// origin is what an archive was made of, kept beside it: two images of one
// name are not the same.
type origin struct {
	Image   string    `json:"image"`
	Size    int64     `json:"size"`
	ModTime time.Time `json:"mtime"`
}

func (x *extraction) originFile() string {
	return filepath.Join(filepath.Dir(x.tar), "."+filepath.Base(x.tar)+".extract-image")
}

// refresh makes the cached archive, if it is not that of the image.
func (x *extraction) refresh(ctx context.Context) error {
	st, err := os.Stat(x.image)
	if err != nil {
		return err
	}
	path, err := filepath.Abs(x.image)
	if err != nil {
		return err
	}
	now := origin{path, st.Size(), st.ModTime().UTC()}
	if made, err := os.Stat(x.tar); err == nil && !made.ModTime().Before(st.ModTime()) {
		var was origin
		data, err := os.ReadFile(x.originFile())
		// Without a note, as DIB leaves none, its time is all that is known.
		if err != nil || json.Unmarshal(data, &was) != nil || was == now {
			return nil
		}
	}
	x.say("reading %s", x.image)
	if err := os.Remove(x.originFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	out, err := os.CreateTemp(filepath.Dir(x.tar), "."+filepath.Base(x.tar)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // gone already after a rename
	defer out.Close()
	if err := x.convert(ctx, out); err != nil {
		return fmt.Errorf("cannot read the image %s: %w", x.image, err)
	}
	if err := errors.Join(out.Chmod(0o644), out.Close()); err != nil {
		return err
	}
	if err := os.Rename(out.Name(), x.tar); err != nil {
		return err
	}
	note, err := json.Marshal(now)
	if err != nil {
		return err
	}
	return os.WriteFile(x.originFile(), append(note, '\n'), 0o644)
}
