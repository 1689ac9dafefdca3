package intarget

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/command"
)

// asCommand makes the test binary act as the dib binary, for hooks under test.
const asCommand = "DIB_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		f := Commands()[os.Args[1]]
		if f == nil {
			fmt.Fprintf(os.Stderr, "no command %q\n", os.Args[1])
			os.Exit(99)
		}
		os.Exit(f(context.Background(), command.IO{
			In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Environ: os.Environ,
		}, os.Args[2:]))
	}
	os.Exit(m.Run())
}

// call runs a command and returns what it printed and its exit status.
func call(t *testing.T, env map[string]string, name string, args ...string) (out, errs string, status int) {
	t.Helper()
	var o, e bytes.Buffer
	environ := []string{}
	for k, v := range env {
		environ = append(environ, k+"="+v)
	}
	status = Commands()[name](t.Context(), command.IO{
		Out: &o, Err: &e, Environ: func() []string { return environ },
		Getenv: func(k string) string { return env[k] },
	}, args)
	return o.String(), e.String(), status
}

// write makes files below dir; a name ending in "!" is executable.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		mode := os.FileMode(0o644)
		if short, ok := strings.CutSuffix(name, "!"); ok {
			name, mode = short, 0o755
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// hostHook runs a hook of the element library as the build does on the host,
// with sudo standing for nothing, and returns its output.
func hostHook(t *testing.T, hook, hooks, target string, env ...string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	stand := t.TempDir()
	write(t, stand, map[string]string{"sudo!": "#!/bin/bash\nif [ \"$1\" = -E ]; then shift; fi\nexec \"$@\"\n"})
	write(t, hooks, map[string]string{".dib!": "#!/bin/bash\n" + asCommand + "=1 exec " + self + " \"$@\"\n"})
	source, err := filepath.Abs(filepath.Join("../../elements", hook))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/bash", source)
	cmd.Env = append([]string{
		"PATH=" + stand + ":/usr/bin:/bin", "LC_ALL=C", "TMP_HOOKS_PATH=" + hooks,
		"TMP_MOUNT_PATH=" + target, "TARGET_ROOT=" + target, "HOME=" + stand,
	}, env...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), err
}
