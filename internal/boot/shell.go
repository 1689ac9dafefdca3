package boot

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/dib-builder/dib/internal/run"
)

var (
	// ErrLogin is the cause of an Error when the guest refused a login.
	ErrLogin = errors.New("login refused")

	loginPrompt    = regexp.MustCompile(`(^|[\s)])login: `)
	passwordPrompt = regexp.MustCompile(`[Pp]assword: ?`)
	// afterPassword is a shell prompt at the end of the output, or a refusal.
	afterPassword = regexp.MustCompile(`(Login incorrect|Permission denied|Account locked|Maximum number of tries exceeded)|[^\s#$%>][^\n]*[#$%>] ?$|^[#$%] ?$|\n[#$%] ?$`)
	// afterUser is what follows a user name: a guest may ask for no password.
	afterUser = regexp.MustCompile(passwordPrompt.String() + `|` + afterPassword.String())
	// kernelMessage is one line that printk writes on the console, wherever it
	// interrupts other output.
	kernelMessage = regexp.MustCompile(`\[ *\d+\.\d{6}\][^\n]*\n`)
)

// shellStep is how long a login or a shell takes to react; emulated guests on
// a busy machine are slow.
const shellStep = 2 * time.Minute

// maxInputLine is the longest line a Linux terminal in canonical mode accepts,
// in bytes with the newline.
const maxInputLine = 4095

// shellState numbers commands, so that no marker appears twice.
type shellState struct {
	token string
	count int
}

// WaitLogin waits until the guest asks for a login name.
func (c *Console) WaitLogin(ctx context.Context, timeout time.Duration) error {
	if _, err := c.expect(ctx, "wait for the login prompt", loginPrompt, timeout); err != nil {
		return err
	}
	c.atLogin = true
	return nil
}

// Login logs in, waiting for the prompt first unless WaitLogin did. The
// password is not sent to a guest that does not ask for it.
func (c *Console) Login(ctx context.Context, user, password string) error {
	doing := "log in as " + user
	if !c.atLogin {
		if err := c.WaitLogin(ctx, shellStep); err != nil {
			return err
		}
	}
	c.atLogin = false
	if err := c.Send(user + "\n"); err != nil {
		return err
	}
	m, err := c.expect(ctx, doing, afterUser, shellStep)
	if err != nil {
		return err
	}
	if passwordPrompt.MatchString(m.Groups[0]) {
		if err := c.Send(password + "\n"); err != nil {
			return err
		}
		if m, err = c.expect(ctx, doing, afterPassword, shellStep); err != nil {
			return err
		}
	}
	for _, refusal := range m.Groups[1:] {
		if refusal != "" {
			return c.failed(doing, fmt.Errorf("%w: %s", ErrLogin, refusal))
		}
	}
	// Kernel messages would end up in the output of commands. A user who may
	// not silence them lives with it.
	_, err = c.Run(ctx, "dmesg -n 1", shellStep)
	return err
}

// Result is what a command in the guest did.
type Result struct {
	Output string // both streams, without carriage returns and escape sequences
	Status int
}

// Run runs a shell command in the shell on the console, with no input, and
// returns its output and exit status. Terminal echo, prompts and kernel
// messages around it do no harm. The command may have several lines. The error
// is an *Error when it does not end within timeout; a status other than 0 is
// no error.
func (c *Console) Run(ctx context.Context, command string, timeout time.Duration) (Result, error) {
	begin, end, err := c.markers()
	if err != nil {
		return Result{}, err
	}
	input := wrapCommand(command, begin, end)
	for line := range strings.Lines(input) {
		if len(line) > maxInputLine {
			return Result{}, fmt.Errorf("cannot run a command in the guest: a line of %d bytes (with quotes) is longer than a terminal accepts (%d)", len(line), maxInputLine)
		}
	}
	if err := c.Send(input); err != nil {
		return Result{}, err
	}
	var res Result
	doing := "run " + run.Quote(firstLine(command)) + " in the guest"
	err = c.wait(ctx, doing, timeout, true, func(fresh []byte) int {
		if !bytes.Contains(fresh, []byte("\n")) {
			return -1
		}
		if out, n := findResult(fresh, begin, end); n >= 0 {
			res = out
			return n
		}
		// A kernel message may have cut a marker in two.
		if kernelMessage.Match(fresh) {
			if out, n := findResult(kernelMessage.ReplaceAll(fresh, nil), begin, end); n >= 0 {
				res = out
				return len(fresh)
			}
		}
		return -1
	})
	return res, err
}

func firstLine(s string) string {
	line, _, more := strings.Cut(strings.TrimSpace(s), "\n")
	if more {
		line += " ..."
	}
	return line
}

// markers returns two words that the guest's output cannot contain by itself.
func (c *Console) markers() (begin, end string, err error) {
	if c.shell.token == "" {
		var r [6]byte
		if _, err := rand.Read(r[:]); err != nil {
			return "", "", err
		}
		c.shell.token = hex.EncodeToString(r[:])
	}
	c.shell.count++
	id := fmt.Sprintf("%s-%d", c.shell.token, c.shell.count)
	return "dib-begin-" + id, "dib-end-" + id, nil
}

// wrapCommand makes the input for a shell. All of it is read before any of it
// runs, so echo and prompts come before the begin marker; each marker is typed
// in two halves, so echo never looks like one. The command is a string of its
// own shell: neither a syntax error nor exit in it keeps the end marker away.
func wrapCommand(command, begin, end string) string {
	half := func(s string) string { return run.Quote(s[:6]) + " " + run.Quote(s[6:]) }
	return fmt.Sprintf("{ printf '\\n%%s%%s\\n' %s; sh -c %s </dev/null 2>&1; printf '\\n%%s%%s %%d\\n' %s \"$?\"; }\n",
		half(begin), run.Quote(command), half(end))
}

// findResult finds a finished command in text and the end of its last marker,
// or -1.
func findResult(text []byte, begin, end string) (Result, int) {
	from := bytes.Index(text, []byte(begin+"\n"))
	if from < 0 {
		return Result{}, -1
	}
	from += len(begin) + 1
	to := bytes.Index(text[from:], []byte("\n"+end+" "))
	if to < 0 {
		return Result{}, -1
	}
	tail := text[from+to+1+len(end)+1:]
	i := bytes.IndexByte(tail, '\n')
	if i < 0 {
		return Result{}, -1
	}
	status, err := strconv.Atoi(string(tail[:i]))
	if err != nil {
		return Result{}, -1
	}
	return Result{Output: string(text[from : from+to]), Status: status}, len(text) - len(tail) + i
}
