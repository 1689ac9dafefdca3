package lab

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// helperVariable makes the test binary act as the observer of one command.
const helperVariable = "DIB_LAB_OBSERVER"

// Command is a command line that is run by somebody on a host without some programs.
type Command struct {
	Actor Actor
	Argv  []string
	Dir   string
	Env   []string
	Hide  []string // paths of files that the command must not be able to execute or read
	Stdin string
	// Grace is how long processes may outlive the command: a PID namespace is
	// torn down by the kernel at once, but not in no time. Default 10 s.
	Grace time.Duration
	// Started, when set, is called once with the running command.
	Started func(*Running)
}

// Outcome is what a command left behind, which should be its outputs only.
type Outcome struct {
	Exit    int // 128+n after signal n
	Stdout  string
	Stderr  string
	Elapsed time.Duration
	// Left are the processes that outlived the command by more than the grace
	// period. They have been killed since.
	Left []string
}

// spec is what the observer is told.
type spec struct {
	Argv     []string
	Env      []string
	UID, GID int
	Hide     []string
	Grace    time.Duration
}

// encode writes a spec for a variable of the environment; arguments may be any
// bytes, which JSON would change.
func (s spec) encode() (string, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(s)
	return base64.StdEncoding.EncodeToString(b.Bytes()), err
}

func decodeSpec(text string) (s spec, err error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		err = gob.NewDecoder(bytes.NewReader(b)).Decode(&s)
	}
	return s, err
}

// verdict is what the observer reports on file descriptor 3.
type verdict struct {
	Exit    int
	Seconds float64
	Left    []string
	Error   string
}

// defaultGrace is the default of Command.Grace.
const defaultGrace = 10 * time.Second

// Run runs the command under an observer: a process that adopts every orphan,
// so that it is over only when no process of the command is left.
func (c Command) Run(ctx context.Context) (Outcome, error) {
	if c.Grace == 0 {
		c.Grace = defaultGrace
	}
	input, err := spec{Argv: c.Argv, Env: c.Env, UID: c.Actor.UID, GID: c.Actor.GID, Hide: c.Hide, Grace: c.Grace}.encode()
	if err != nil {
		return Outcome{}, err
	}
	report, reportWriter, err := os.Pipe()
	if err != nil {
		return Outcome{}, err
	}
	defer report.Close()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), helperVariable+"="+input)
	cmd.Dir = c.Dir
	cmd.Stdin = strings.NewReader(c.Stdin)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.ExtraFiles = []*os.File{reportWriter}
	cmd.WaitDelay = c.Grace
	// Its own session: no controlling terminal, and a mount namespace for Hide.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if len(c.Hide) > 0 {
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	}
	err = cmd.Start()
	reportWriter.Close()
	if err != nil {
		return Outcome{}, fmt.Errorf("cannot start the observer: %w", err)
	}
	if c.Started != nil {
		go c.Started(&Running{Observer: cmd.Process.Pid})
	}
	text, readErr := io.ReadAll(report)
	waitErr := cmd.Wait()
	o := Outcome{Stdout: stdout.String(), Stderr: stderr.String()}
	if ctx.Err() != nil {
		return o, ctx.Err()
	}
	var v verdict
	if err := errors.Join(readErr, json.Unmarshal(text, &v)); err != nil {
		return o, fmt.Errorf("the observer died: %w: %v\n%s", err, waitErr, stderr.String())
	}
	if v.Error != "" {
		return o, errors.New(v.Error)
	}
	o.Exit, o.Left = v.Exit, v.Left
	o.Elapsed = time.Duration(v.Seconds * float64(time.Second))
	return o, nil
}

// Running is a command that has been started.
type Running struct {
	Observer int // process id of the observer, which is not part of the command
}

// Process is one process of a running command.
type Process struct {
	PID  int
	Name string // of the executable, as the kernel shortens it
	Exe  string // path of the executable, "" when it cannot be read
}

// Processes lists what the command consists of at this moment.
func (r *Running) Processes() []Process {
	parent := map[int]int{}
	name := map[int]string{}
	for _, pid := range pids() {
		ppid, comm, ok := stat(pid)
		if ok {
			parent[pid], name[pid] = ppid, comm
		}
	}
	var list []Process
	for pid := range parent {
		for p := parent[pid]; p > 1; p = parent[p] {
			if p == r.Observer {
				exe, _ := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
				list = append(list, Process{PID: pid, Name: name[pid], Exe: exe})
				break
			}
		}
	}
	return list
}

// Command is the process that was started as the command itself, 0 when it is gone.
func (r *Running) Command() int {
	for _, p := range r.Processes() {
		if ppid, _, ok := stat(p.PID); ok && ppid == r.Observer {
			return p.PID
		}
	}
	return 0
}

func pids() []int {
	names, _ := filepath.Glob("/proc/[0-9]*")
	list := make([]int, 0, len(names))
	for _, n := range names {
		if pid, err := strconv.Atoi(filepath.Base(n)); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// stat returns parent and name of a process that is not a zombie.
func stat(pid int) (ppid int, comm string, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", false
	}
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return 0, "", false
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
		return 0, "", false
	}
	ppid, err = strconv.Atoi(fields[1])
	return ppid, string(text[open+1 : end]), err == nil
}

// MaybeObserve must be called first in TestMain or main: in a process that
// Command.Run started as an observer it does not return.
func MaybeObserve() {
	text, ok := os.LookupEnv(helperVariable)
	if !ok {
		return
	}
	var v verdict
	s, err := decodeSpec(text)
	if err == nil {
		v, err = observe(s)
	}
	if err != nil {
		v.Error = err.Error()
	}
	if err := json.NewEncoder(os.NewFile(3, "report")).Encode(v); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// observe runs the command as a sub-reaper. The kernel gives every orphaned
// descendant to it, so "no child to wait for" means that nothing is left.
func observe(s spec) (verdict, error) {
	// The report, and whatever the shell that runs the tests has open.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return verdict{}, fmt.Errorf("cannot keep file descriptors: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return verdict{}, fmt.Errorf("cannot become a sub-reaper: %w", err)
	}
	if err := hide(s.Hide); err != nil {
		return verdict{}, err
	}
	wd, err := os.Getwd()
	if err != nil {
		return verdict{}, err
	}
	attr := &os.ProcAttr{Dir: wd, Env: s.Env, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}}
	if s.UID != os.Getuid() {
		attr.Sys = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(s.UID), Gid: uint32(s.GID)}}
	}
	start := time.Now()
	p, err := os.StartProcess(s.Argv[0], s.Argv, attr)
	if err != nil {
		return verdict{}, fmt.Errorf("cannot start %s: %w", s.Argv[0], err)
	}
	v := verdict{Exit: -1}
	deadline := time.Time{}
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECHILD:
			return v, nil
		case err != nil:
			return v, fmt.Errorf("cannot wait for the command: %w", err)
		case pid == p.Pid:
			v.Exit, v.Seconds = ws.ExitStatus(), time.Since(start).Seconds()
			if ws.Signaled() {
				v.Exit = 128 + int(ws.Signal())
			}
			deadline = time.Now().Add(s.Grace)
		case pid == 0:
			if v.Exit >= 0 && time.Now().After(deadline) {
				v.Left = killRest()
				return v, nil
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
}

// killRest names and ends what outlived the command.
func killRest() []string {
	self := &Running{Observer: os.Getpid()}
	var left []string
	for _, p := range self.Processes() {
		left = append(left, fmt.Sprintf("%d %s", p.PID, p.Name))
		_ = unix.Kill(p.PID, unix.SIGKILL)
	}
	return left
}

// hide makes files useless to the command in the observer's own mount
// namespace: they become empty, and nobody may execute them.
func hide(paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	for _, path := range paths {
		if err := unix.Mount(os.DevNull, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cannot hide %s: %w", path, err)
		}
	}
	return nil
}
