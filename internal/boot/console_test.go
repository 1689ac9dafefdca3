package boot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
)

// patience bounds every wait of these tests; none of them takes that long.
const patience = 20 * time.Second

// guest is the far end of a console under test.
func guest(t *testing.T, transcript io.Writer) (*Console, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	return NewConsole(near, transcript), far
}

func say(t *testing.T, far net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(far, text); err != nil {
		t.Error(err)
	}
}

func TestCleaner(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"plain\r\ntext\n", "plain\ntext\n"},
		{"\x1b[0;1;32mgreen\x1b[0m", "green"},
		{"\x1b[2J\x1b[01;01Hscreen", "screen"},
		{"\x1b]0;title\x07a\x1b]0;title\x1b\\b", "ab"},
		{"\x1b(Bx\x1b=y\x1bMz", "xyz"},
		{"bell\x07\x00\x08tab\t", "belltab\t"},
		{"cut \x1b[12\nline", "cut \nline"},
		{"ü", "ü"},
	} {
		var whole cleaner
		if got := string(whole.append(nil, []byte(tc.in))); got != tc.want {
			t.Errorf("%q becomes %q, want %q", tc.in, got, tc.want)
		}
		var pieces cleaner
		var got []byte
		for i := range len(tc.in) {
			got = pieces.append(got, []byte(tc.in[i:i+1]))
		}
		if string(got) != tc.want {
			t.Errorf("%q in single bytes becomes %q, want %q", tc.in, got, tc.want)
		}
	}
}

func FuzzCleaner(f *testing.F) {
	f.Add([]byte("a\x1b[1mb\x1b]x\x07"), 3)
	f.Add([]byte("\x1b\x1b[\n\x1bP\x1b"), 1)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		var whole, parts cleaner
		want := whole.append(nil, in)
		cut = min(max(cut, 0), len(in))
		got := parts.append(parts.append(nil, in[:cut]), in[cut:])
		if !bytes.Equal(got, want) {
			t.Errorf("%q cut at %d: %q, whole: %q", in, cut, got, want)
		}
		if bytes.ContainsAny(got, "\x1b\r\x00") {
			t.Errorf("%q leaves control characters in %q", in, got)
		}
	})
}

func TestExpect(t *testing.T) {
	var transcript syncBuffer
	c, far := guest(t, &transcript)
	go func() {
		for _, piece := range []string{"\x1b[1mone tw", "o three\r\nfo", "ur fi", "ve\r\n"} {
			_, _ = io.WriteString(far, piece)
		}
	}()
	m, err := c.Expect(context.Background(), regexp.MustCompile(`t(w)o (x)?`), patience)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Match{Before: "one ", Groups: []string{"two ", "w", ""}}, m); diff != "" {
		t.Errorf("first match (-want +got):\n%s", diff)
	}
	m, err = c.Expect(context.Background(), regexp.MustCompile(`(?m)^four five$`), patience)
	if err != nil || m.Before != "three\n" {
		t.Errorf("second match: %+v, %v", m, err)
	}
	if c.Text() != "one two three\nfour five\n" {
		t.Errorf("text is %q", c.Text())
	}
	if transcript.String() != "\x1b[1mone two three\r\nfour five\r\n" {
		t.Errorf("transcript is %q", transcript.String())
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestExpectFindsMatchesAcrossManyPieces(t *testing.T) {
	c, far := guest(t, nil)
	go func() {
		for range 200 {
			_, _ = io.WriteString(far, strings.Repeat("x", 99)+"\n")
		}
		for _, b := range "the needle\n" {
			_, _ = io.WriteString(far, string(b))
		}
	}()
	m, err := c.Expect(context.Background(), regexp.MustCompile(`(?m)^the needle$`), patience)
	if err != nil || len(m.Before) != 20_000 {
		t.Errorf("match after %d bytes, %v", len(m.Before), err)
	}
}

func TestDeaths(t *testing.T) {
	for _, tc := range []struct{ says, kind string }{
		{"[    1.5] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n", "kernel panic"},
		{"\r\nBooting from Hard Disk...\r\nNo bootable device.\r\n", "the firmware found nothing to boot"},
		{"BdsDxe: No bootable option or device was found.\r\n", "the firmware found nothing to boot"},
		{"error: no such device: 1234.\r\ngrub rescue> ", "GRUB cannot read its files"},
		{"   Minimal BASH-like line editing is supported.\r\n\r\n\rgrub> ", "GRUB has no configuration"},
		{"ALERT!  LABEL=root does not exist.  Dropping to a shell!\r\n", "the initramfs did not find the root filesystem"},
		{"\r\n(initramfs) ", "the initramfs did not find the root filesystem"},
		{"Generating \"/run/initramfs/rdsosreport.txt\"\r\n", "the initramfs did not find the root filesystem"},
		{"Give root password for maintenance\r\n(or press Control-D to continue): ", "the system is in emergency mode"},
		{"[!!!!!!] Failed\r\n[  3.1] systemd[1]: Freezing execution.\r\n", "systemd stopped"},
		{"Missing operating system", "the boot record found nothing to boot"},
	} {
		c, far := guest(t, nil)
		go say(t, far, "early line\r\n"+tc.says)
		err := c.WaitLogin(context.Background(), patience)
		var death *Death
		if !errors.As(err, &death) || death.Kind != tc.kind {
			t.Errorf("%q: %v", tc.says, err)
			continue
		}
		if !strings.Contains(err.Error(), "| early line") || !strings.HasPrefix(err.Error(), "cannot wait for the login prompt: "+tc.kind) {
			t.Errorf("%q: the message is %q", tc.says, err)
		}
	}
}

func TestHealthyBootIsNoDeath(t *testing.T) {
	c, far := guest(t, nil)
	go say(t, far, "Booting from Hard Disk...\r\nGRUB loading.\r\nWelcome to GRUB!\r\n"+
		"[    0.0] Command line: root=LABEL=x panic=5\r\n[  OK  ] Stopped Emergency Shell.\r\n"+
		"Last login: Monday\r\n[    9.9] late message\r\nhost.example login: ")
	if err := c.WaitLogin(context.Background(), patience); err != nil {
		t.Error(err)
	}
}

func TestWaitEnds(t *testing.T) {
	t.Run("timeout", func(t *testing.T) {
		c, far := guest(t, nil)
		go say(t, far, "slow\r\n")
		_, err := c.Expect(context.Background(), regexp.MustCompile("never"), 50*time.Millisecond)
		if !errors.Is(err, ErrTimeout) || !strings.Contains(err.Error(), "never") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("end of the machine", func(t *testing.T) {
		c, far := guest(t, nil)
		go func() { say(t, far, "bye\r\n"); far.Close() }()
		_, err := c.Expect(context.Background(), regexp.MustCompile("never"), patience)
		if !errors.Is(err, ErrClosed) || !strings.HasSuffix(err.Error(), "\n| bye") {
			t.Errorf("error is %v", err)
		}
		if err := c.Send("x"); !errors.Is(err, ErrClosed) {
			t.Errorf("typing gives %v", err)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		c, _ := guest(t, nil)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := c.Expect(ctx, regexp.MustCompile("never"), patience); !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
	})
}

func TestTail(t *testing.T) {
	c := &Console{text: []byte(strings.Repeat("line\n", 100) + "last\n\n")}
	tail := c.Tail(60)
	if len(tail) != 60 || tail[59] != "last" || tail[0] != "line" {
		t.Errorf("%d lines, %q to %q", len(tail), tail[0], tail[len(tail)-1])
	}
	if (&Console{}).Tail(5) != nil {
		t.Error("an empty console has a tail")
	}
}

func TestTrim(t *testing.T) {
	c := &Console{text: bytes.Repeat([]byte("x"), maxText+10), pos: 5, judged: maxText}
	c.trim()
	if len(c.text) != maxText/2 || c.pos != 0 || c.judged != maxText/2-10 {
		t.Errorf("%d bytes, pos %d, judged %d", len(c.text), c.pos, c.judged)
	}
}

// terminal runs a program on a pseudo-terminal and returns its console.
func terminal(t *testing.T, wrap func(io.ReadWriter) io.ReadWriter, argv ...string) *Console {
	t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		t.Skipf("%s is not installed", argv[0])
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TERM=vt220", "HOME=/", "PS1=root@guest:~# "}
	tty, err := pty.Start(cmd)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		tty.Close()
	})
	var rw io.ReadWriter = tty
	if wrap != nil {
		rw = wrap(tty)
	}
	return NewConsole(rw, nil)
}

// noisy makes the kernel talk into every second read, in single bytes.
type noisy struct {
	io.ReadWriter
	n int
}

func (r *noisy) Read(p []byte) (int, error) {
	r.n++
	if r.n%9 == 0 {
		return copy(p, "[   12.345678] usb 1-1: new device\r\n"), nil
	}
	return r.ReadWriter.Read(p[:1])
}

func TestRun(t *testing.T) {
	shells := map[string][]string{
		"bash": {"bash", "--norc", "--noprofile", "-i"},
		"dash": {"dash", "-i"},
	}
	for name, argv := range shells {
		t.Run(name, func(t *testing.T) {
			c := terminal(t, nil, argv...)
			for _, tc := range []struct {
				command string
				want    Result
			}{
				{"echo hello", Result{"hello\n", 0}},
				{"printf 'no newline'; exit 3", Result{"no newline", 3}},
				{"false", Result{"", 1}},
				{"echo out; echo err >&2", Result{"out\nerr\n", 0}},
				{"cat", Result{"", 0}}, // no input
				{"echo one\necho \"it's $((1+1))\"\n", Result{"one\nit's 2\n", 0}},
				{"printf '\\033[1mbold\\033[0m\\r\\n'", Result{"bold\n", 0}},
				{"echo '! $HOME `x` \"q\" Kernel panic - not syncing grub rescue>'", Result{"! $HOME `x` \"q\" Kernel panic - not syncing grub rescue>\n", 0}},
				{"kill -9 $$", Result{"Killed\n", 137}},
				{"seq 2000 | tail -n 1", Result{"2000\n", 0}},
			} {
				got, err := c.Run(context.Background(), tc.command, patience)
				if err != nil {
					t.Fatalf("%q: %v", tc.command, err)
				}
				if got.Status == 137 {
					tc.want.Output = got.Output // shells word it differently
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("%q (-want +got):\n%s", tc.command, diff)
				}
			}
			got, err := c.Run(context.Background(), "if then )", patience)
			if err != nil || got.Status == 0 {
				t.Errorf("a syntax error gives %+v, %v", got, err)
			}
		})
	}
}

func TestRunAmongKernelMessages(t *testing.T) {
	c := terminal(t, func(rw io.ReadWriter) io.ReadWriter { return &noisy{ReadWriter: rw} }, "bash", "--norc", "--noprofile", "-i")
	for range 3 {
		got, err := c.Run(context.Background(), "echo hello; exit 4", patience)
		if err != nil {
			t.Fatal(err)
		}
		if got != (Result{"hello\n", 4}) {
			t.Errorf("result is %+v", got)
		}
	}
}

func TestRunNoticesPanic(t *testing.T) {
	c, far := guest(t, nil)
	go func() {
		_, _ = far.Read(make([]byte, 4096))
		say(t, far, "some output\r\n[   99.9] Kernel panic - not syncing: Fatal exception\r\n")
	}()
	_, err := c.Run(context.Background(), "stress", patience)
	var death *Death
	if !errors.As(err, &death) || !strings.HasPrefix(err.Error(), "cannot run stress in the guest: kernel panic") {
		t.Errorf("error is %v", err)
	}
}

func TestRunRefusesLongLines(t *testing.T) {
	c, _ := guest(t, nil)
	for _, command := range []string{strings.Repeat("x", 4000), strings.Repeat("'", 1500)} {
		if _, err := c.Run(context.Background(), command, patience); err == nil {
			t.Error("a line is sent that no terminal accepts")
		}
	}
}

const getty = `
printf 'Debian GNU/Linux 12 guest ttyS0\n\nguest login: '
read -r user
if [ "$user" != live ]; then
  stty -echo; printf 'Password: '; read -r password; stty echo; printf '\n'
  if [ "$password" != secret ]; then printf '\nLogin incorrect\nguest login: '; read -r user; exit; fi
fi
printf 'Last login: Mon Jan  5 10:00:00 on ttyS0\nWelcome, 100%% of you. Cost: 5$ \n'
exec bash --norc --noprofile -i
`

func TestLogin(t *testing.T) {
	for _, tc := range []struct {
		user, password string
		refused        bool
	}{
		{"root", "secret", false},
		{"live", "", false},
		{"root", "wrong", true},
	} {
		c := terminal(t, nil, "bash", "--norc", "--noprofile", "-c", getty)
		err := c.Login(context.Background(), tc.user, tc.password)
		if errors.Is(err, ErrLogin) != tc.refused || (err != nil) != tc.refused {
			t.Errorf("%s: %v", tc.user, err)
			continue
		}
		if err != nil {
			continue
		}
		if got, err := c.Run(context.Background(), "echo in", patience); err != nil || got != (Result{"in\n", 0}) {
			t.Errorf("%s: %+v, %v", tc.user, got, err)
		}
	}
}
