// Package run starts every external program of dib.
//
// A command states its environment instead of inheriting it, its output goes
// line by line to a logger, and a failure becomes an *Error that names the
// command, where it ran and what it said last.
package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/shellwords"
)

// TailLines is the number of last output lines kept for an Error.
const TailLines = 20

// killDelay is how long a cancelled command may take to end by itself.
const killDelay = 5 * time.Second

// maxLine bounds one logged line in bytes; a longer one is cut into pieces.
const maxLine = 64 << 10

// Where says on whose behalf a command runs. Empty fields are unknown.
type Where struct {
	Element, Phase, Hook string
}

// Cmd is a command to be run.
type Cmd struct {
	Argv  []string  // program and arguments; a program without "/" is looked up on the PATH of Env
	Dir   string    // working directory; inside Root when that is set
	Root  string    // chroot directory; empty for none
	Env   []string  // the whole environment
	Stdin io.Reader // nil for /dev/null

	// Stdout receives standard output as it is. When nil, standard output and
	// standard error both go to Log, line by line, in the order written.
	Stdout io.Writer
	// Log receives one line at a time without its newline; nil drops them.
	Log func(line []byte)

	// Background says that processes which the command leaves behind may go on
	// writing to Log, also after Run has returned: Log must be safe for that, and
	// they are waited for only as long as it takes to end properly. Without it
	// they hold Run up for a while, and lose their output then.
	Background bool

	// Attach, when set, is a terminal that becomes all three standard streams
	// (an interactive shell); Stdin, Stdout and Log are then unused.
	Attach *os.File

	// ShareGroup keeps the command in this process's process group, so that it
	// may read from the terminal; cancelling then signals only the command itself.
	ShareGroup bool

	// DieWithParent has the kernel kill the command when this process dies,
	// however it dies; for programs that run as long as a machine does.
	DieWithParent bool

	ExtraFiles []*os.File
	Where      Where
}

// Error is the failure of a command.
type Error struct {
	Argv   []string
	Where  Where
	Exit   int      // exit status; 128+n after signal n; 127 not found, 126 not executable
	Tail   []string // last lines of output
	Reason error    // what the system said
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %v", QuoteArgv(e.Argv), e.Reason)
	if w := e.Where; w != (Where{}) {
		fmt.Fprintf(&b, " (element %s, phase %s, hook %s)", orDash(w.Element), orDash(w.Phase), orDash(w.Hook))
	}
	if n := len(e.Tail); n > 0 {
		fmt.Fprintf(&b, ": %s", e.Tail[n-1])
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Reason }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// QuoteArgv prints an argument vector so that a shell would read it back.
func QuoteArgv(argv []string) string {
	words := make([]string, len(argv))
	for i, a := range argv {
		words[i] = Quote(a)
	}
	return strings.Join(words, " ")
}

// Quote prints one word so that a POSIX shell would read it back.
func Quote(word string) string { return shellwords.Quote(word) }

// Run runs the command and waits for it. When ctx ends, the command's process
// group gets SIGTERM and, after a grace period, SIGKILL.
func (c Cmd) Run(ctx context.Context) error {
	if len(c.Argv) == 0 {
		return errors.New("internal error: run: empty command")
	}
	tail := &lineWriter{log: c.Log}
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Dir = c.Dir
	cmd.Env = c.Env
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	if c.Root == "" {
		path, err := LookPath(c.Argv[0], c.Dir, c.Env)
		if err != nil {
			return &Error{Argv: c.Argv, Where: c.Where, Exit: 127, Reason: err}
		}
		cmd.Path, cmd.Err = path, nil
	} else {
		if !strings.HasPrefix(c.Argv[0], "/") {
			return fmt.Errorf("internal error: run: %q in a chroot is not an absolute path", c.Argv[0])
		}
		cmd.Path, cmd.Err = c.Argv[0], nil
		if cmd.Dir == "" {
			cmd.Dir = "/"
		}
	}
	cmd.ExtraFiles = c.ExtraFiles
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.Root}
	cmd.SysProcAttr.Setpgid = !c.ShareGroup && c.Attach == nil
	if c.Attach != nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Attach, c.Attach, c.Attach
	} else {
		cmd.Stdin = c.Stdin
		cmd.Stderr = tail
		cmd.Stdout = c.Stdout
		if c.Stdout == nil {
			cmd.Stdout = tail
		}
	}
	cmd.Cancel = func() error { return syscall.Kill(c.signalTarget(cmd.Process.Pid), syscall.SIGTERM) }
	cmd.WaitDelay = killDelay
	if c.DieWithParent {
		// The signal belongs to the thread that forks: it must outlive the command.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	err := c.start(cmd, tail)
	tail.flush()
	if errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success() {
		err = nil // it ended well and left a background process that holds its output
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		if cmd.Process != nil && cmd.SysProcAttr.Setpgid {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what the command left in its group
		}
		return ctx.Err()
	}
	return &Error{Argv: c.Argv, Where: c.Where, Exit: exitStatus(err), Tail: tail.last(), Reason: err}
}

// start runs cmd to its end, and until tail has all that it wrote.
func (c Cmd) start(cmd *exec.Cmd, tail *lineWriter) error {
	if !c.Background || c.Attach != nil {
		return cmd.Run()
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	if cmd.Stdout == tail {
		cmd.Stdout = w
	}
	cmd.Stderr = w
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return err
	}
	quiet := follow(r, tail)
	err = cmd.Wait()
	_ = r.SetReadDeadline(time.Now().Add(lingering)) // a pipe always can
	<-quiet
	return err
}

// lingering is how long a command may have ended before its output has: what
// passes it on, such as tee behind a process substitution, ends a little later.
const lingering = 500 * time.Millisecond

// follow copies what comes from a pipe to w until nobody can write to it any
// more. The channel is closed when that is so or, earlier, when the deadline of
// r has passed and everything that was written by then is copied.
func follow(r *os.File, w io.Writer) <-chan struct{} {
	quiet := make(chan struct{})
	go func() {
		defer r.Close()
		buf := make([]byte, 32<<10)
		waiting := true // somebody waits for quiet
		defer func() {
			if waiting {
				close(quiet)
			}
		}()
		for {
			n, err := r.Read(buf)
			_, _ = w.Write(buf[:n])
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				_ = r.SetReadDeadline(time.Time{})
				_, _ = io.CopyN(w, r, pending(r))
				waiting = false
				close(quiet)
			case err != nil:
				return
			}
		}
	}()
	return quiet
}

// pending is how many bytes wait in a pipe.
func pending(r *os.File) (n int64) {
	conn, err := r.SyscallConn()
	if err != nil {
		return 0
	}
	_ = conn.Control(func(fd uintptr) {
		if bytes, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ); err == nil {
			n = int64(bytes)
		}
	})
	return n
}

func (c Cmd) signalTarget(pid int) int {
	if c.ShareGroup || c.Attach != nil {
		return pid
	}
	return -pid
}

// Output runs the command and returns its standard output.
func (c Cmd) Output(ctx context.Context) ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := c.Run(ctx)
	return out.Bytes(), err
}

func exitStatus(err error) int {
	var ee *exec.ExitError
	switch {
	case errors.As(err, &ee):
		if ws, ok := ee.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal())
		}
		return ee.ExitCode()
	case errors.Is(err, os.ErrNotExist):
		return 127
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.ENOEXEC):
		return 126
	}
	return 1
}

// LookPath finds a program on the PATH that the command itself will see.
func LookPath(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	for _, d := range strings.Split(path, ":") {
		if d == "" {
			d = "."
		}
		full := d + "/" + name
		if d[0] != '/' && dir != "" {
			full = dir + "/" + full
		}
		if st, err := os.Stat(full); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return full, nil
		}
	}
	return "", fmt.Errorf("%q not found on PATH %q: %w", name, path, os.ErrNotExist)
}

// lineWriter cuts a stream into lines for log and remembers the last ones.
type lineWriter struct {
	mu    sync.Mutex
	log   func([]byte)
	buf   []byte
	lines []string
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, p...)
	for {
		i := bytes.IndexByte(w.buf, '\n')
		if i < 0 {
			if len(w.buf) < maxLine {
				return len(p), nil
			}
			i = maxLine
			w.line(w.buf[:i])
			w.buf = w.buf[i:]
			continue
		}
		w.line(w.buf[:i])
		w.buf = w.buf[i+1:]
	}
}

func (w *lineWriter) line(b []byte) {
	if w.log != nil {
		w.log(bytes.Clone(b))
	}
	w.lines = append(w.lines, string(b))
	if len(w.lines) > 2*TailLines {
		w.lines = append([]string(nil), w.lines[len(w.lines)-TailLines:]...)
	}
}

func (w *lineWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.buf) > 0 {
		w.line(w.buf)
		w.buf = nil
	}
}

func (w *lineWriter) last() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.lines[max(0, len(w.lines)-TailLines):]...)
}
