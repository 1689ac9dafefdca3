package build

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/plan"
	"github.com/dib-builder/dib/internal/recipe"
	"github.com/dib-builder/dib/internal/secret"
)

// maxSecret bounds a secret file in bytes: what is larger was given by mistake.
const maxSecret = 1 << 20

// engineInput is what the engine gets from the supervisor, in memory. The plan
// itself has no secrets in it.
type engineInput struct {
	Plan        *plan.Plan
	SecretEnv   plan.Env
	SecretFiles map[string][]byte
	Hidden      []string // further secrets, which only the log has to do with
}

// readSecrets reads the files of --secret. This happens on the supervisor's
// side, where names such as /dev/fd/3 mean what the caller meant.
func readSecrets(secrets []recipe.Secret) (map[string][]byte, error) {
	contents := map[string][]byte{}
	var problems []error
	for _, s := range secrets {
		content, err := readSecret(s.File)
		if err != nil {
			problems = append(problems, fmt.Errorf("cannot read secret %q: %w", s.Name, err))
			continue
		}
		contents[s.Name] = content
	}
	return contents, errors.Join(problems...)
}

func readSecret(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch {
	case err != nil:
		return nil, err
	case len(content) == 0:
		return nil, fmt.Errorf("%s is empty", file)
	case len(content) > maxSecret:
		return nil, fmt.Errorf("%s is larger than %d bytes", file, maxSecret)
	}
	return content, nil
}

// inArguments are the secrets that only a command line holds.
func inArguments(args []string) []string {
	var values []string
	for _, arg := range args {
		values = append(values, secret.Assigned(arg)...)
	}
	return values
}

// newRedactor knows every secret that is known before the first hook runs.
func newRedactor(env map[string]string, files map[string][]byte, more []string) *secret.Redactor {
	r := secret.NewRedactor(env)
	r.Add(more...)
	for _, content := range files {
		r.Add(string(content))
	}
	return r
}

// shortSecrets warns about what is given as a secret but cannot be kept out of
// the log.
func shortSecrets(env map[string]string, files map[string][]byte) []string {
	var names []string
	for name, value := range secretFiles(env, files) {
		if len(strings.TrimSpace(string(value))) < secret.MinLength {
			names = append(names, fmt.Sprintf("secret %q has less than %d bytes: if a hook prints it, the log will show it", name, secret.MinLength))
		}
	}
	return names
}

// redacting takes secrets out of every text of an event.
func redacting(sink event.Sink, r *secret.Redactor) event.Sink {
	return event.SinkFunc(func(e event.Event) {
		e.Line = r.Bytes(e.Line)
		e.Step, e.Path, e.Hook = r.String(e.Step), r.String(e.Path), r.String(e.Hook)
		if e.Failure != nil {
			f := *e.Failure
			f.Message, f.Hook = r.String(f.Message), r.String(f.Hook)
			f.Tail, f.Hints = r.Strings(f.Tail), r.Strings(f.Hints)
			e.Failure = &f
		}
		sink.Emit(e)
	})
}

// secretFiles are the secrets that hooks find as files, by name: those given as
// files and the variables DIB_SECRET_*.
func secretFiles(env map[string]string, files map[string][]byte) map[string][]byte {
	all := map[string][]byte{}
	for name, value := range env {
		if file, ok := strings.CutPrefix(name, secret.Prefix); ok && name != secret.NamesVariable && file != "" && value != "" {
			all[file] = []byte(value)
		}
	}
	for name, content := range files {
		all[name] = content
	}
	return all
}

// placeSecrets shows secrets to hooks as read-only files in memory, whatever
// medium the build is on.
func placeSecrets(dir string, files map[string][]byte) error {
	if len(files) == 0 {
		return nil
	}
	if err := os.Mkdir(dir, 0o500); err != nil {
		return fmt.Errorf("cannot make the place for secrets: %w", err)
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	// Root can keep them out of the swap space too (Linux 6.4).
	err := unix.Mount("tmpfs", dir, "tmpfs", flags, "mode=0500,noswap")
	if err != nil {
		err = unix.Mount("tmpfs", dir, "tmpfs", flags, "mode=0500")
	}
	if err != nil {
		return fmt.Errorf("cannot make the place for secrets: %w", err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o400); err != nil {
			return fmt.Errorf("cannot place secret %q: %w", name, errors.Unwrap(err))
		}
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|flags, ""); err != nil {
		return fmt.Errorf("cannot make the place for secrets read-only: %w", err)
	}
	return nil
}

// bindSecrets shows the secrets inside the chroot. Nothing of them is in the
// tree itself but the directory, which goes when they are unmounted.
func bindSecrets(tree string) error {
	if _, err := os.Stat(place.SecretsDir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return bindReadOnly(place.SecretsDir, filepath.Join(tree, place.InTargetSecrets), "the secrets")
}

func unbindSecrets(tree string) error {
	return unbind(filepath.Join(tree, place.InTargetSecrets), "secrets")
}
