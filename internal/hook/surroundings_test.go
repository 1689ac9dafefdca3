package hook

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/run"
)

// TestSurroundings holds that hooks inherit what DIB's hooks inherit from the
// shell that sourced the environment files.
func TestSurroundings(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	for _, c := range []struct {
		name, file string
		want       string // what the hook prints
		wrapped    bool
	}{
		{"nothing", "export X=1\n", "1 0022 START 1024", false},
		{"umask", "umask 027\n", " 0027 START 1024", true},
		{"cd", "cd " + elsewhere + "\n", " 0022 ELSEWHERE 1024", false},
		{"soft limit", "ulimit -S -n 100\n", " 0022 START 100", true},
		{"hard limit", "ulimit -S -n 200; ulimit -H -n 1000\n", " 0022 START 200", true},
		{"both at once", "ulimit -n 300\numask 0077; cd /\nexport X=y\n", "y 0077 / 300", true},
		{"PATH and functions cannot disturb", "PATH=/nowhere; printf() { exit 9; }; umask() { :; }; pwd() { exit 9; }\nexport X=x\n", "x 0022 START 1024", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(dir, "10-x"), []byte(c.file), 0o644); err != nil {
				t.Fatal(err)
			}
			start := t.TempDir()
			base := run.Cmd{Dir: start, Env: []string{"PATH=" + os.Getenv("PATH")}, Log: func(l []byte) { t.Logf("%s", l) }}
			// A known start for the limits, whatever the machine's are.
			var got string
			s, err := Surround(context.Background(), base, dir, []string{"10-x"})
			if err != nil {
				t.Fatal(err)
			}
			if (s.Prelude != "") != c.wrapped {
				t.Errorf("prelude %q", s.Prelude)
			}
			hook := s.Apply(run.Cmd{Dir: start, Argv: []string{"/bin/bash", "-c", `echo "${X-}" $(umask) $PWD $(ulimit -S -n)`}, Log: func(l []byte) { got = string(l) }})
			if err := Run(context.Background(), hook); err != nil {
				t.Fatal(err)
			}
			got = strings.NewReplacer(start, "START", elsewhere, "ELSEWHERE").Replace(got)
			want := strings.ReplaceAll(strings.TrimSpace(c.want), "1024", softFiles(t))
			if strings.TrimSpace(got) != want {
				t.Errorf("the hook sees %q, want %q", got, want)
			}
		})
	}
}

// softFiles is this process's own limit of open files as bash prints it.
func softFiles(t *testing.T) string {
	t.Helper()
	out, err := run.Cmd{Argv: []string{"/bin/bash", "-c", "ulimit -S -n"}, Env: []string{}}.Output(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestStateOfNonsense(t *testing.T) {
	for _, data := range []string{"", "=before\n", "=before\nx", "=before\n\x00", "A=1\x00=before\n0022\n/x\nno limit\n(-q) \x00"} {
		s := stateOf([]byte(data), stateBefore)
		if len(s.soft)+len(s.hard) > 0 {
			t.Errorf("%q: %+v", data, s)
		}
		if p := prelude(shellState{}, s); strings.Contains(p, "ulimit") {
			t.Errorf("%q: %q", data, p)
		}
	}
}

func FuzzStateOf(f *testing.F) {
	f.Add([]byte("=before\n0022\n/tmp\nopen files (-n) 1024\nhard\nopen files (-n) 4096\n\x00"))
	f.Add([]byte("=before\n\x00\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := stateOf(data, stateBefore)
		for _, l := range append(s.soft, s.hard...) {
			if len(l.option) != 1 || strings.ContainsAny(l.value, " \n\x00") {
				t.Errorf("%+v", l)
			}
		}
	})
}
