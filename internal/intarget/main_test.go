package intarget

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/test/commandtest"
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

// hostHook runs a hook of the element library as the build does on the host,
// with sudo standing for nothing, and returns its output.
func hostHook(t *testing.T, hook, hooks, target string, env ...string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	stand := t.TempDir()
	commandtest.Write(t, stand, map[string]string{"sudo!": "#!/bin/bash\nif [ \"$1\" = -E ]; then shift; fi\nexec \"$@\"\n"})
	commandtest.Write(t, hooks, map[string]string{".dib!": "#!/bin/bash\n" + asCommand + "=1 exec " + self + " \"$@\"\n"})
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
