package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/recipe"
)

// helperVariable makes the test binary play a program that a signal interrupts.
const helperVariable = "DIB_TEST_WAITS_FOR_SIGNALS"

func TestMain(m *testing.M) {
	if os.Getenv(helperVariable) != "" {
		waitForSignals()
	}
	os.Exit(m.Run())
}

// waitForSignals stops at the first signal if its input is closed by then, and
// otherwise hangs in stopping, so that only a second signal can end it.
func waitForSignals() {
	ctx, stop := WithSignals(context.Background())
	defer stop()
	fmt.Println("waiting")
	<-ctx.Done()
	fmt.Println("stopping")
	_, _ = os.Stdin.Read(make([]byte, 1))
	os.Exit(ExitStatus(ctx, 1))
}

// program is a Program whose build prints the recipe's elements.
func program() Program {
	return Program{
		Create: func(_ context.Context, std command.IO, rec recipe.Recipe) int {
			_, _ = fmt.Fprintln(std.Out, "building", rec.ImageName, "of", rec.Elements)
			return 7
		},
		Commands: map[string]command.Func{
			"pkg-map": func(_ context.Context, std command.IO, args []string) int {
				_, _ = fmt.Fprintf(std.Out, "pkg-map %q\n", args)
				return 3
			},
		},
	}
}

func TestMainDispatch(t *testing.T) {
	for _, tc := range []struct {
		argv        []string
		status      int
		out, stderr string // what must be in it; empty for silence
	}{
		{[]string{"/usr/bin/disk-image-create", "-o", "x", "vm"}, 7, "building x of [vm]\n", ""},
		{[]string{"dib", "create", "-o", "x", "vm"}, 7, "building x of [vm]\n", ""},
		{[]string{"./dib-linux", "disk-image-create", "vm"}, 7, "building image of [vm]\n", ""},
		{[]string{"disk-image-create", "--version"}, 0, "3.42.0\n", ""},
		{[]string{"ramdisk-image-create", "--version"}, 0, "3.42.0\n", ""},
		{[]string{"ramdisk-image-create", "-h"}, 0, "Usage: ramdisk-image-create", ""},
		{[]string{"dib", "ramdisk-image-create", "x"}, 7, "building image of [x]\n", ""},
		{[]string{"disk-image-create"}, 1, "", "disk-image-create: cannot build: no elements given"},
		{[]string{"disk-image-create", "-z", "--bogus"}, 1, "",
			"disk-image-create: invalid option -- 'z'\ndisk-image-create: unrecognized option '--bogus'\n"},
		{[]string{"/tmp/in_target.d/.dib", "pkg-map", "-x"}, 3, `pkg-map ["-x"]`, ""},
		{[]string{"pkg-map", "create"}, 3, `pkg-map ["create"]`, ""},
		{[]string{"dib-lint", "--format=xml"}, 2, "", "dib-lint: unknown format \"xml\": want text or json"},
		{[]string{"dib-lint", "no/such/place"}, 1, "", "dib-lint: cannot list elements: "},
		{[]string{"dib", "lint", "-h"}, 0, "safe_sudo", ""},
		{[]string{"dib-block-device", "init"}, 2, "", "dib-block-device: no parameters: give --params FILE"},
		{[]string{"dib"}, 2, "", "Usage: dib COMMAND"},
		{nil, 2, "", "Usage: dib COMMAND"},
		{[]string{"dib", "help"}, 0, "element-info ", ""},
		{[]string{"dib", "--help"}, 0, "Usage: dib COMMAND", ""},
		{[]string{"dib", "help", "create"}, 0, "Usage: disk-image-create [OPTION]", ""},
		{[]string{"dib", "help", "nonsense"}, 2, "", `dib: unknown command "nonsense"; "dib help"`},
		{[]string{"dib", "version"}, 0, "dib " + Version + " (compatible with diskimage-builder 3.42.0)\n", ""},
		{[]string{"dib", "--version"}, 0, "dib " + Version, ""},
		{[]string{"dib", "crate", "vm"}, 2, "", `dib: unknown command "crate" (did you mean "create"?)`},
		{[]string{"dib", "install-links"}, 2, "", "Usage: dib install-links"},
		{[]string{"dib", "install-links", "--help"}, 0, "Usage: dib install-links", ""},
	} {
		t.Run(strings.Join(tc.argv, " "), func(t *testing.T) {
			status, out, stderr := call(t, program(), map[string]string{"HOME": t.TempDir()}, tc.argv...)
			if status != tc.status || !has(out, tc.out) || !has(stderr, tc.stderr) {
				t.Errorf("status %d, want %d\nstdout %q, want %q\nstderr %q, want %q", status, tc.status, out, tc.out, stderr, tc.stderr)
			}
		})
	}
}

func has(got, want string) bool {
	return want == "" && got == "" || want != "" && strings.Contains(got, want)
}

// call runs a command with the given environment and the caller's PATH.
func call(t *testing.T, p Program, env map[string]string, argv ...string) (status int, out, stderr string) {
	t.Helper()
	return callContext(t.Context(), t, p, env, argv...)
}

func callContext(ctx context.Context, t *testing.T, p Program, env map[string]string, argv ...string) (status int, out, stderr string) {
	t.Helper()
	var outBuf, errBuf bytes.Buffer
	environ := []string{"PATH=" + os.Getenv("PATH")}
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	std := command.IO{In: strings.NewReader(""), Out: &outBuf, Err: &errBuf,
		Getenv: func(name string) string { return env[name] }, Environ: func() []string { return environ }}
	status = p.Main(ctx, std, argv)
	return status, outBuf.String(), errBuf.String()
}

func TestProgramWithoutCreate(t *testing.T) {
	if status, _, stderr := call(t, Program{}, nil, "disk-image-create", "vm"); status != 2 || !has(stderr, "not part of this version") {
		t.Errorf("status %d, %q", status, stderr)
	}
}

func TestCreateMakesCacheDirectories(t *testing.T) {
	home := t.TempDir()
	call(t, program(), map[string]string{"HOME": home}, "disk-image-create", "vm")
	for _, dir := range []string{".cache/image-create", ".cache/dib/lockfiles"} {
		if st, err := os.Stat(filepath.Join(home, dir)); err != nil || !st.IsDir() {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if err := os.WriteFile(filepath.Join(home, "file"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	status, out, stderr := call(t, program(), map[string]string{"HOME": home}, "disk-image-create", "--image-cache", filepath.Join(home, "file/x"), "vm")
	if status != 1 || out != "" || !has(stderr, "disk-image-create: cannot create cache directory: ") {
		t.Errorf("status %d, %q, %q", status, out, stderr)
	}
}

func TestElementInfo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "with blank")
	for name, text := range map[string]string{
		"myos/element-provides": "operating-system\n", "myos/element-deps": "tools\n", "tools/README": "", "alone/README": "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{"ELEMENTS_PATH": dir}
	for _, tc := range []struct {
		args        []string
		status      int
		out, stderr string
	}{
		{[]string{"alone myos", ""}, 0, "alone myos tools\n", ""},
		{[]string{"--help"}, 0, "Usage: element-info", ""},
		{nil, 2, "", "Usage: element-info"},
		{[]string{"--bogus"}, 2, "", "element-info: unrecognized option '--bogus'\n"},
		{[]string{"alone"}, 1, "", "element-info: "},
		{[]string{"myos", "absent"}, 1, "", `"absent"`},
	} {
		status, out, stderr := call(t, program(), env, append([]string{"element-info"}, tc.args...)...)
		if status != tc.status || !has(out, tc.out) || !has(stderr, tc.stderr) {
			t.Errorf("%q: status %d, %q, %q", tc.args, status, out, stderr)
		}
	}
	t.Run("D01 it is a command that people find", func(t *testing.T) {
		if !slices.Contains(dibNames, "element-info") || summaries["element-info"] == "" {
			t.Error("it is not")
		}
	})
	traced := map[string]string{"ELEMENTS_PATH": dir, "DIB_DEBUG_TRACE": "1"}
	if status, out, stderr := call(t, program(), traced, "element-info", "myos"); status != 0 || out != "myos tools\n" ||
		stderr != "element-info: debug: myos: "+dir+"/myos (requested)\nelement-info: debug: tools: "+dir+"/tools (needed by myos)\n" {
		t.Errorf("with a trace: status %d, %q, %q", status, out, stderr)
	}
	for _, tc := range []struct{ path, want string }{
		{dir + ":", `element-info: cannot use entry "" of ELEMENTS_PATH `},
		{dir + "/none", `element-info: cannot use entry "` + dir + `/none" of ELEMENTS_PATH `},
	} {
		status, out, stderr := call(t, program(), map[string]string{"ELEMENTS_PATH": tc.path}, "element-info", "myos")
		if status != 1 || out != "" || !has(stderr, tc.want) {
			t.Errorf("%s: status %d, %q, %q", tc.path, status, out, stderr)
		}
	}
	if status, out, _ := call(t, program(), env, "element-info", "-e", "myos"); status != 0 || !has(out, "export -f get_image_element_array\n") {
		t.Errorf("-e: status %d, %q", status, out)
	}
	// The shell code is for bash, so let bash judge it.
	_, code, _ := call(t, program(), env, "element-info", "--env", "myos")
	out, err := exec.Command("bash", "-euc", code+`
		eval declare -A array=($(get_image_element_array))
		printf '%s|%s|%s' "$IMAGE_ELEMENT" "$IMAGE_ELEMENT_YAML" "${array[tools]}"
		bash -c get_image_element_array >/dev/null`).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	parts := strings.Split(string(out), "|")
	if len(parts) != 3 || parts[0] != "myos tools" || !strings.HasPrefix(parts[1], "myos: ") || parts[2] != dir+"/tools" {
		t.Errorf("bash got %q", parts)
	}
}

// Names that YAML takes for something else and paths with quotes survive both
// the shell and YAML (D28, M02), as do links under another name (M01).
func TestElementInfo_D28_M01_M02(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's \"$HOME\" `x`")
	for _, name := range []string{"yes", "1.5", "os", "a b"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "os/element-provides"), []byte("operating-system"), 0o666),
		os.WriteFile(filepath.Join(dir, "os/element-deps"), []byte("a b"), 0o666), os.Symlink("1.5", filepath.Join(dir, "alias"))); err != nil {
		t.Fatal(err)
	}
	status, code, stderr := call(t, program(), map[string]string{"ELEMENTS_PATH": dir}, "element-info", "--env", "yes", "os", "1.5", "alias")
	if status != 0 || stderr != "" {
		t.Fatalf("status %d, %q", status, stderr)
	}
	out, err := exec.Command("bash", "-euc", code+`
		eval declare -A array=($(get_image_element_array))
		printf '%s\0' "$IMAGE_ELEMENT" "$IMAGE_ELEMENT_YAML"
		for name in yes os 1.5 alias "a b"; do printf '%s\0' "${array[$name]}"; done`).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got := strings.Split(string(out), "\x00")
	want := []string{dir + "/yes", dir + "/os", dir + "/1.5", dir + "/1.5", dir + "/a b"}
	if got[0] != "yes os 1.5 alias a b" || !slices.Equal(got[2:7], want) {
		t.Errorf("bash got %q", got)
	}
	var read map[string]string
	if err := yaml.Unmarshal([]byte(got[1]), &read); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"yes", "os", "1.5", "alias", "a b"} {
		if read[name] != want[i] {
			t.Errorf("YAML says %s is %q, want %q", name, read[name], want[i])
		}
	}
}

func TestInstallLinks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "bin")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // again over the links of the first time
		if status, out, stderr := call(t, Program{}, nil, "dib", "install-links", dir); status != 0 || out+stderr != "" {
			t.Fatalf("status %d, %q, %q", status, out, stderr)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != len(dibNames) {
			t.Fatalf("%v, %v", entries, err)
		}
		for _, name := range dibNames {
			if to, err := os.Readlink(filepath.Join(dir, name)); to != self || err != nil {
				t.Errorf("%s leads to %q (%v)", name, to, err)
			}
		}
	}
	victim := filepath.Join(dir, "dib-lint")
	if err := os.Remove(victim); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(victim, []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := call(t, Program{}, nil, "dib", "install-links", dir); status != 1 || !has(stderr, "cannot link "+victim) {
		t.Errorf("status %d, %q", status, stderr)
	}
	if text, err := os.ReadFile(victim); string(text) != "mine" {
		t.Errorf("the file is gone: %q, %v", text, err)
	}
}

// TestLaunchers holds the names in bin/ to the names that the program answers to.
func TestLaunchers(t *testing.T) {
	const dir = "../../bin"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(dibNames, e.Name()) {
			t.Errorf("bin/%s is no command of DIB", e.Name())
		}
	}
	for _, name := range dibNames {
		path, err := filepath.EvalSymlinks(filepath.Join(dir, name))
		if err != nil || filepath.Base(path) != "dib" {
			t.Errorf("bin/%s leads to %q (%v)", name, path, err)
		}
	}
}

func TestSignals(t *testing.T) {
	for _, tc := range []struct {
		summary string
		second  bool
		want    string
	}{
		{"one signal lets the program stop", false, "exit status 143"},
		{"a second one ends it", true, "signal: terminated"},
	} {
		t.Run(tc.summary, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), helperVariable+"=1")
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(stdout)
			for _, want := range []string{"waiting", "stopping"} {
				if !lines.Scan() || lines.Text() != want {
					t.Fatalf("got %q, want %q", lines.Text(), want)
				}
				if want == "waiting" || tc.second {
					if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
						t.Fatal(err)
					}
				}
			}
			if !tc.second {
				_ = stdin.Close()
			}
			if err := cmd.Wait(); err == nil || err.Error() != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func TestExitStatus(t *testing.T) {
	interrupted, cancel := context.WithCancelCause(context.Background())
	cancel(Interrupt{syscall.SIGINT})
	for _, tc := range []struct {
		ctx          context.Context
		status, want int
	}{
		{context.Background(), 0, 0}, {context.Background(), 5, 5},
		{interrupted, 1, 130}, {interrupted, 0, 0},
	} {
		if got := ExitStatus(tc.ctx, tc.status); got != tc.want {
			t.Errorf("status %d gives %d, want %d", tc.status, got, tc.want)
		}
	}
}

func TestArchOfMachine(t *testing.T) {
	for machine, want := range map[string]string{
		"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf", "ppc64le": "ppc64le", "s390x": "s390x", "i686": "i686",
	} {
		if got := archOfMachine(machine); got != want {
			t.Errorf("%s: got %s, want %s", machine, got, want)
		}
	}
}

func TestBashQuote(t *testing.T) {
	for _, value := range []string{"", "plain", `"$HOME" `, "back\\slash`", "new\nline\ttab", "\x01\x7f'", "ä\xff"} {
		out, err := exec.Command("bash", "-c", "printf %s "+bashQuote(value)).Output()
		if err != nil || string(out) != value {
			t.Errorf("%q: bash reads %s as %q (%v)", value, bashQuote(value), out, err)
		}
	}
}
