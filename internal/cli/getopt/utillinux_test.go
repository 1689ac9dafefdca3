package getopt

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestUtilLinux lets getopt(1), which parses the command lines of DIB, judge a
// few hundred random ones. util-linux is on every system that can build.
func TestUtilLinux(t *testing.T) {
	if _, err := exec.LookPath("getopt"); err != nil {
		t.Skip("needs getopt of util-linux")
	}
	known := slices.DeleteFunc(slices.Clone(options), func(o Option) bool { return o.Late })
	words := []string{"vm", "debian-minimal", "", "-", "--", "a b", "it's", "*", "-x", "-u", "-xxu", "-a", "-aarm64", "-xa", "-a=b", "-h", "--help", "--he",
		"--offline", "--off", "--offline=1", "--no", "--no-tmpfs", "--image-size", "--image-size=3", "--image-s=", "--image", "--image=1", "--i",
		"--mkfs", "--mkfs=-O x", "--root", "--root=x", "--root-l", "--bogus", "--bogus=1", "-z", "-xz", "-é", "---", "--=", "-x-", "\xff", "--\xff"}
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var args []string
		for range 1 + random.IntN(6) {
			args = append(args, words[random.IntN(len(words))])
		}
		posix := random.IntN(4) == 0
		want := utilLinux(t, known, args, posix)
		if got := verdict(Parse(known, args, posix)); got != want {
			t.Errorf("%q (POSIXLY_CORRECT: %v):\ngot  %s\nwant %s", args, posix, got, want)
		}
	}
}

func verdict(matches []Match, operands []string, err error) string {
	var e *Error
	if errors.As(err, &e) {
		return strings.Join(e.Messages, "\n")
	}
	return show(matches, operands)
}

// utilLinux is what getopt(1) makes of a command line: its messages, or else
// its output, unquoted as show has it.
func utilLinux(t *testing.T, known []Option, args []string, posix bool) string {
	t.Helper()
	var short strings.Builder
	var long []string
	for _, o := range known {
		colon := ""
		if o.Arg {
			colon = ":"
		}
		if o.Short != 0 {
			fmt.Fprintf(&short, "%c%s", o.Short, colon)
		}
		if o.Long != "" {
			long = append(long, o.Long+colon)
		}
	}
	cmd := exec.Command("getopt", append([]string{"-n", "name", "-o", short.String(), "-l", strings.Join(long, ","), "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	if posix {
		cmd.Env = append(cmd.Env, "POSIXLY_CORRECT=")
	}
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Fatalf("getopt: %v: %s", err, stderr.String())
		}
		var messages []string
		for line := range strings.Lines(stderr.String()) {
			messages = append(messages, strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "name: "))
		}
		return strings.Join(messages, "\n")
	}
	text := strings.ReplaceAll(out.String(), `'\''`, "'")
	for range 2 { // neighbours share a blank
		text = strings.ReplaceAll(text, " -h ", " --help ")
	}
	return strings.TrimSpace(text)
}
