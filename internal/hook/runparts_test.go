package hook

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/run"
	"github.com/dib-builder/dib/internal/secret"
)

func needBash(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("needs bash")
	}
}

func TestSelect(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{
		"100-x": 0o755, "20-y": 0o755, "config": 0o755, "30-z.sh": 0o755, "40-no": 0o644, "50-x~": 0o644, ".hidden": 0o644, "package-installs-a": 0o644,
	} {
		writeFile(t, filepath.Join(dir, name), "#!/bin/sh\n", mode)
	}
	writeFile(t, filepath.Join(dir, "sub/10-x"), "", 0o755)
	for link, target := range map[string]string{"60-link": "20-y", "70-gone": "nowhere", "80-dir": "sub"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		summary, pattern string
		hooks, ignored   string
	}{
		{"default", "", "config 20-y 60-link 100-x", "30-z.sh 40-no 50-x~ 70-gone"},
		{"another pattern", `^[0-9]{2}-`, "20-y 30-z.sh 60-link", "100-x 40-no 50-x~ 70-gone config"},
	} {
		hooks, ignored, err := Select(dir, c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, i := range ignored {
			names = append(names, i.Name)
		}
		if got := strings.Join(hooks, " "); got != c.hooks {
			t.Errorf("%s: hooks are %s, want %s", c.summary, got, c.hooks)
		}
		if got := strings.Join(names, " "); got != c.ignored {
			t.Errorf("%s: ignored are %s, want %s", c.summary, got, c.ignored)
		}
	}
	if _, _, err := Select(dir, "("); err == nil || !strings.Contains(err.Error(), "RUN_PARTS_REGEX") {
		t.Errorf("error of a bad pattern is %v", err)
	}
}

func TestProfile(t *testing.T) {
	got := strings.Join(Profile("install.d", []Timing{{"20-b", 1.25}, {"100-a", 0.0004}}), "\n")
	want := `dib-run-parts ---------------------- PROFILING ----------------------
dib-run-parts ` + `
dib-run-parts Target: install.d
dib-run-parts ` + `
dib-run-parts Script                                     Seconds
dib-run-parts ---------------------------------------  ---------
dib-run-parts ` + `
dib-run-parts 100-a                                        0.000
dib-run-parts 20-b                                         1.250
dib-run-parts ` + `
dib-run-parts -------------------- END PROFILING --------------------`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestParseEnv0(t *testing.T) {
	data := "10-a.bash\x00B=two\nlines\x00A=\x00BASH_FUNC_f%%=() {  echo x=1\n}\x00=none\x00CUT=off"
	want := []string{"A=", "B=two\nlines", "BASH_FUNC_f%%=() {  echo x=1\n}"}
	if got := ParseEnv0([]byte(data)); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What one script prints for many files comes apart at the right places,
// whatever the values are.
func TestEffects(t *testing.T) {
	needBash(t)
	dir := t.TempDir()
	texts := map[string]string{
		"10-a": "export A=1\n", "20-b": "export B=$'10-a\\n20-b' A=2\nC=no\n", "30-c": "unset A\nexport 'D=30-c=x'\nreturn\n",
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := run.Cmd{Env: []string{"PATH=" + os.Getenv("PATH"), "Z=10-a"}, Log: func([]byte) {}}
	before, effects, err := Effects(context.Background(), c, dir, []string{"10-a", "20-b", "30-c"})
	if err != nil {
		t.Fatal(err)
	}
	clean := func(env []string) string {
		var kept []string
		for _, kv := range env {
			switch name, _, _ := strings.Cut(kv, "="); name {
			case "PATH", "SHLVL", "PWD", "OLDPWD":
			default:
				kept = append(kept, kv)
			}
		}
		return strings.Join(kept, "|")
	}
	got := []string{clean(before)}
	for _, e := range effects {
		got = append(got, e.File+": "+clean(e.Env))
	}
	want := []string{"Z=10-a", "10-a: A=1|Z=10-a", "20-b: A=2|B=10-a\n20-b|Z=10-a", "30-c: B=10-a\n20-b|D=30-c=x|Z=10-a"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// The last environment is that which hooks get.
	env, err := Environment(context.Background(), c, dir, []string{"10-a", "20-b", "30-c"})
	if err != nil || clean(env) != clean(effects[2].Env) {
		t.Errorf("environment is %q, %v", env, err)
	}
	if before, effects, err = Effects(context.Background(), c, dir, nil); err != nil || clean(before) != "Z=10-a" || len(effects) != 0 {
		t.Errorf("without files: %q, %v, %v", before, effects, err)
	}
	for text, want := range map[string]string{
		"exit 0\n":            "it ended the shell with exit status 0",
		"echo why >&2; false": "exit status 1: why",
	} {
		if err := os.WriteFile(filepath.Join(dir, "20-b"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, _, err = Effects(context.Background(), c, dir, []string{"10-a", "20-b", "30-c"})
		var failed *EnvironmentError
		if !errors.As(err, &failed) || failed.File != dir+"/20-b" || err.Error() != "cannot source environment file "+dir+"/20-b: "+want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseEnv0(f *testing.F) {
	for _, seed := range []string{"", "A=1\x00", "A=1", "\x00\x00", "=\x00", "BASH_FUNC_x%%=() { :\n}\x00B=\xff\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		env := ParseEnv0(data)
		for _, kv := range env {
			if strings.IndexByte(kv, '=') < 1 || strings.ContainsRune(kv, 0) {
				t.Errorf("%q from %q", kv, data)
			}
		}
		if !slices.IsSorted(env) {
			t.Errorf("%q is not sorted", env)
		}
		if len(env) > 0 {
			again := ParseEnv0([]byte(strings.Join(env, "\x00") + "\x00"))
			if !reflect.DeepEqual(again, env) {
				t.Errorf("%q reads back as %q", env, again)
			}
		}
	})
}

// sourced writes environment files, in order, and sources them.
func sourced(t *testing.T, env []string, texts ...string) (got []string, log []string, err error) {
	t.Helper()
	needBash(t)
	dir := filepath.Join(t.TempDir(), "it's here")
	var names []string
	for i, text := range texts {
		name := string(rune('a' + i))
		names = append(names, name)
		writeFile(t, filepath.Join(dir, name), text, 0o644)
	}
	got, err = Environment(context.Background(), run.Cmd{
		Env: append([]string{"PATH=" + os.Getenv("PATH")}, env...),
		Log: func(line []byte) { log = append(log, strings.ReplaceAll(string(line), dir, "DIR")) },
	}, dir, names)
	return got, log, err
}

func TestEnvironment(t *testing.T) {
	got, log, err := sourced(t, []string{"GIVEN=1", "GONE=1", "BASH_FUNC_hello%%=() { echo hello; }"},
		"export FIRST=$(hello) GIVEN=2\nunset GONE\nlocal_only=1\nreturn\nexport NEVER=1\n",
		"export SECOND=\"$FIRST\nworld\"\nPATH=/nowhere\nshouting() { :; }\nexport -f shouting\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"FIRST=hello", "GIVEN=2", "SECOND=hello\nworld", "PATH=/nowhere"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is missing from %q", want, got)
		}
	}
	functions := 0
	for _, kv := range got {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "GONE", "NEVER", "local_only", "_", "__dib_env":
			t.Errorf("%q is in the environment", kv)
		case "BASH_FUNC_hello%%", "BASH_FUNC_shouting%%":
			functions++
		}
	}
	if functions != 2 {
		t.Errorf("functions are missing from %q", got)
	}
	if want := []string{"dib-run-parts Sourcing environment file DIR/a", "dib-run-parts Sourcing environment file DIR/b"}; !reflect.DeepEqual(log, want) {
		t.Errorf("log is %q", log)
	}
}

func TestEnvironmentFailures(t *testing.T) {
	for _, c := range []struct {
		summary, text string
		exit          int
	}{
		{"failing command", "false\n", 1},
		{"exit", "exit 3\n", 3},
		{"exit 0 would leave hooks out silently", "exit 0\n", 0},
		{"unset variable", ": $NOT_SET\n", 127},
		{"failure inside a pipe", "exit 4 | cat\n", 4},
	} {
		_, _, err := sourced(t, nil, "export OK=1\n", c.text, "export LATER=1\n")
		var failure *EnvironmentError
		if !errors.As(err, &failure) || filepath.Base(failure.File) != "b" {
			t.Errorf("%s: error is %v", c.summary, err)
			continue
		}
		var status *run.Error
		if errors.As(err, &status) != (c.exit != 0) || status != nil && status.Exit != c.exit && c.exit != 127 {
			t.Errorf("%s: error is %v, want exit status %d", c.summary, err, c.exit)
		}
	}
}

func TestTraceOnRequestAndMasked_D68(t *testing.T) {
	const text = "export MY_PASSWORD=hunter2 PLAIN=visible\n: $GIVEN_TOKEN $OTHER\n"
	given := []string{"GIVEN_TOKEN=s3cr3t-given", "OTHER=well"}
	_, log, err := sourced(t, given, text)
	if err != nil || len(log) != 1 {
		t.Errorf("log without trace is %q (%v)", log, err)
	}
	_, log, err = sourced(t, append(given, "DIB_DEBUG_TRACE=1"), text)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(log, "\n")
	for _, want := range []string{"PLAIN=visible", "MY_PASSWORD=" + secret.Mark, "well"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is missing from %q", want, all)
		}
	}
	for _, hidden := range []string{"hunter2", "s3cr3t-given"} {
		if strings.Contains(all, hidden) {
			t.Errorf("%q shows in %q", hidden, all)
		}
	}
}

// phase is a hooks tree in a directory, and what dib-run-parts says of it.
type phase struct{ root string }

func newPhase(t *testing.T, hooks map[string]string) phase {
	t.Helper()
	needBash(t)
	p := phase{t.TempDir()}
	if err := os.Mkdir(filepath.Join(p.root, "install.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range hooks {
		writeFile(t, filepath.Join(p.root, name), text, 0o755)
	}
	return p
}

// run uses a clock that takes a second from one look to the next.
func (p phase) run(ctx context.Context, stdin string, env []string, args ...string) (status int, out, errs string) {
	var stdout, stderr bytes.Buffer
	env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	now := time.Unix(0, 0)
	status = parts{
		io: command.IO{
			In: strings.NewReader(stdin), Out: &stdout, Err: &stderr,
			Environ: func() []string { return env },
			Getenv: func(name string) string {
				for _, kv := range env {
					if v, ok := strings.CutPrefix(kv, name+"="); ok {
						return v
					}
				}
				return ""
			},
		},
		now: func() time.Time { now = now.Add(time.Second); return now },
	}.main(ctx, args)
	clean := func(b bytes.Buffer) string { return strings.ReplaceAll(b.String(), p.root, "ROOT") }
	return status, clean(stdout), clean(stderr)
}

func TestRunParts_D69_M10(t *testing.T) {
	p := newPhase(t, map[string]string{
		"environment.d/10-greeting.bash": "export GREETING=hello\n",
		"environment.d/50-unusable~":     "exit 1\n",
		"install.d/100-last":             "#!/bin/sh\necho last\n",
		"install.d/20-first":             "#!/bin/sh\necho \"$0 $# $GREETING $(cat)\"\necho to stderr >&2\n",
		"install.d/30-no-interpreter":    "echo \"${BASH_VERSION:+bash}\"\n",
		"install.d/40-ignored.sh":        "#!/bin/sh\nexit 1\n",
	})
	status, out, errs := p.run(context.Background(), "input", nil, p.root+"/install.d")
	if status != 0 {
		t.Errorf("exit status is %d", status)
	}
	if want := "ROOT/install.d/20-first 0 hello input\nbash\nlast\n"; out != want {
		t.Errorf("output is %q, want %q", out, want)
	}
	want := `dib-run-parts warning: ROOT/install.d/40-ignored.sh has a name that does not match ^[0-9A-Za-z_-]+$: it will not run: rename it, or move it to another directory if it is no hook
dib-run-parts Sourcing environment file ROOT/environment.d/10-greeting.bash
dib-run-parts Running ROOT/install.d/20-first
to stderr
dib-run-parts ROOT/install.d/20-first completed
dib-run-parts Running ROOT/install.d/30-no-interpreter
dib-run-parts ROOT/install.d/30-no-interpreter completed
dib-run-parts Running ROOT/install.d/100-last
dib-run-parts ROOT/install.d/100-last completed
` + strings.Join(Profile("install.d", []Timing{{"100-last", 1}, {"20-first", 1}, {"30-no-interpreter", 1}}), "\n") + "\n"
	if errs != want {
		t.Errorf("messages are\n%s\nwant\n%s", errs, want)
	}
}

func TestRunPartsFailure_D66_D70_M12(t *testing.T) {
	p := newPhase(t, map[string]string{
		"environment.d/skipped~": "exit 1\n", // no acceptable file is no failure
		"install.d/10-fails":     "#!/bin/sh\nexit 7\n",
		"install.d/20-never":     "#!/bin/sh\necho never\n",
	})
	status, out, errs := p.run(context.Background(), "", nil, p.root+"/install.d/")
	if status != 7 || out != "" {
		t.Errorf("exit status is %d, output %q", status, out)
	}
	want := `dib-run-parts Running ROOT/install.d/10-fails
dib-run-parts ROOT/install.d/10-fails failed with exit status 7
` + strings.Join(Profile("install.d", []Timing{{"10-fails", 1}}), "\n") + "\n"
	if errs != want {
		t.Errorf("messages are\n%s\nwant\n%s", errs, want)
	}
}

func TestRunPartsStatus(t *testing.T) {
	p := newPhase(t, map[string]string{
		"install.d/10-b":        "#!/bin/sh\n",
		"install.d/9-a":         "#!/bin/sh\n",
		"bad/environment.d/x":   "exit 5\n",
		"bad/install.d/10-x":    "#!/bin/sh\n",
		"missing.d/10-no-shell": "#!/no/such/interpreter\n",
		"killed.d/10-x":         "#!/bin/sh\nkill -TERM $$\n",
		"file":                  "",
	})
	done, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		summary   string
		ctx       context.Context
		args      []string
		status    int
		out, errs string // errs: a part
	}{
		{"no directory", nil, nil, 1, "", "usage: dib-run-parts"},
		{"two directories", nil, []string{"a", "b"}, 1, "", "more than one directory"},
		{"unknown option", nil, []string{"--lost", p.root + "/install.d"}, 1, "", `unknown option "--lost"`},
		{"missing directory", nil, []string{p.root + "/none"}, 1, "", "usage: dib-run-parts"},
		{"a file", nil, []string{p.root + "/file"}, 1, "", "usage: dib-run-parts"},
		{"list", nil, []string{"--list", p.root + "/install.d"}, 0, "ROOT/install.d/9-a\nROOT/install.d/10-b\n", ""},
		{"failing environment", nil, []string{p.root + "/bad/install.d"}, 5, "", "environment file ROOT/bad/environment.d/x"},
		{"missing interpreter", nil, []string{p.root + "/missing.d"}, 127, "", "exit status 127"},
		{"killed", nil, []string{p.root + "/killed.d"}, 143, "", "exit status 143"},
		{"cancelled", done, []string{p.root + "/install.d"}, 130, "", ""},
	} {
		ctx := c.ctx
		if ctx == nil {
			ctx = context.Background()
		}
		status, out, errs := p.run(ctx, "", nil, c.args...)
		if status != c.status || out != c.out || !strings.Contains(errs, c.errs) {
			t.Errorf("%s: exit status %d, output %q, messages %q", c.summary, status, out, errs)
		}
	}
}

func TestRunPartsOfLink(t *testing.T) {
	p := newPhase(t, map[string]string{
		"environment.d/10-x":     "exit 1\n",
		"real/environment.d/a":   "export FROM=real\n",
		"real/install.d/10-show": "#!/bin/sh\necho $0 $FROM\n",
	})
	if err := os.Symlink("real/install.d", filepath.Join(p.root, "linked")); err != nil {
		t.Fatal(err)
	}
	status, out, _ := p.run(context.Background(), "", nil, p.root+"/linked")
	if status != 0 || out != "ROOT/linked/10-show real\n" {
		t.Errorf("exit status is %d, output %q", status, out)
	}
}

func TestRunPartsPattern(t *testing.T) {
	p := newPhase(t, map[string]string{"install.d/10-a.sh": "#!/bin/sh\necho a\n"})
	status, out, _ := p.run(context.Background(), "", []string{`RUN_PARTS_REGEX=\.sh$`}, p.root+"/install.d")
	if status != 0 || out != "a\n" {
		t.Errorf("exit status is %d, output %q", status, out)
	}
}
