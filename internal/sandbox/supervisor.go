package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/sandbox/workdir"
)

// Run runs the engine in a sandbox and waits for it. It returns the engine's
// exit status, 128+n after signal n. The error is nil when the engine ran to its
// end, whatever its status; ctx.Err() when it was cancelled; a *SetupError when
// the machine does not allow the sandbox.
//
// When ctx ends the engine gets SIGTERM and, after a grace period, everything in
// the sandbox SIGKILL. On return no process and no mount of the sandbox is left,
// and the work directory is removed.
func Run(ctx context.Context, cfg Config) (exitCode int, err error) {
	if cfg.Sink == nil {
		cfg.Sink = event.Discard
	}
	if err := ctx.Err(); err != nil {
		return exitSetup, err
	}
	who, err := identify(ctx)
	if err != nil {
		return exitSetup, err
	}
	if cfg.TmpParent == "" {
		cfg.TmpParent = os.TempDir()
	}
	warn := func(err error) { cfg.Sink.Emit(event.Warn(err.Error())) }
	if err := sweep(cfg.TmpParent, who); err != nil {
		warn(err)
	}
	conf := initConfig{
		Engine: cfg.Engine, Input: cfg.Input,
		UserNS: who.renamed(), Rootless: who.rootless, Caller: who.user,
		TmpfsSize: cfg.TmpfsSize,
	}
	if conf.Cwd, err = unix.Getwd(); err != nil {
		return exitSetup, fmt.Errorf("cannot find the working directory: %w", err)
	}
	var dir *workdir.Dir
	if !cfg.UseTmpfs {
		if dir, err = workdir.Create(cfg.TmpParent); err != nil {
			return exitSetup, err
		}
		conf.WorkRoot = dir.Root()
		defer func() {
			if err := remove(dir, who); err != nil {
				warn(err)
			}
		}()
	}
	return supervise(ctx, cfg, conf, who, dir)
}

// supervise starts init and follows it to its end.
func supervise(ctx context.Context, cfg Config, conf initConfig, who caller, dir *workdir.Dir) (int, error) {
	text, err := encode(conf)
	if err != nil {
		return exitSetup, fmt.Errorf("cannot start the sandbox: %w", err)
	}
	config, err := memfile(text)
	if err != nil {
		return exitSetup, fmt.Errorf("cannot start the sandbox: %w", err)
	}
	defer config.Close()
	eventsR, eventsW, err := pipe()
	if err != nil {
		return exitSetup, fmt.Errorf("cannot start the sandbox: %w", err)
	}
	defer eventsR.Close()
	extra := []*os.File{eventsW, config}
	if dir != nil {
		extra = append(extra, dir.Lock)
	}
	s := stage{
		argv:  []string{stageInit},
		flags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		files: [3]*os.File{orDefault(cfg.Stdin, os.Stdin), orDefault(cfg.Stdout, os.Stdout), orDefault(cfg.Stderr, os.Stderr)},
		extra: extra,
		env:   cfg.Env,
		warn:  func(line string) { cfg.Sink.Emit(event.Warn(line)) },
	}
	err = s.start(ctx, who)
	eventsW.Close()
	if err != nil {
		return exitSetup, err
	}

	var events sync.WaitGroup
	events.Go(func() {
		if err := event.Decode(eventsR, cfg.Sink); err != nil {
			cfg.Sink.Emit(event.Warn(fmt.Sprintf("cannot read events of the build: %v", err)))
			_, _ = io.Copy(io.Discard, eventsR) // the engine must not block on a full pipe
		}
	})
	grace := cfg.Grace
	if grace == 0 {
		grace = DefaultGrace
	}
	code, st, err := s.wait(ctx, grace)
	events.Wait()
	switch {
	case err != nil:
		return code, err
	case st.Failed != "":
		return exitSetup, explain(st, who)
	case ctx.Err() != nil:
		return code, ctx.Err()
	case !st.Started:
		return code, fmt.Errorf("cannot run the sandbox: it was killed before the build started (status %d)", code)
	}
	return code, nil
}

func orDefault(f, def *os.File) *os.File {
	if f == nil {
		return def
	}
	return f
}

// stage is a process in new namespaces that begins with bootMain.
type stage struct {
	argv  []string
	flags uintptr // CLONE_NEW*; the user namespace is added as needed
	files [3]*os.File
	extra []*os.File // from fdEvents on
	env   []string
	warn  func(line string) // nil drops warnings

	cmd     *exec.Cmd
	control *os.File // requests to the stage; closing it ends the stage
	statusR *os.File
	ended   chan struct{} // closed when the process has been waited for
}

// start starts the stage and maps its ids. After an error nothing is left of it.
func (s *stage) start(ctx context.Context, who caller) error {
	controlR, controlW, err := pipe()
	if err != nil {
		return fmt.Errorf("cannot start the sandbox: %w", err)
	}
	statusR, statusW, err := pipe()
	if err != nil {
		controlR.Close()
		controlW.Close()
		return fmt.Errorf("cannot start the sandbox: %w", err)
	}
	s.control, s.statusR, s.ended = controlW, statusR, make(chan struct{})
	s.cmd = &exec.Cmd{
		Path:  "/proc/self/exe", // also when the file has been replaced or deleted
		Args:  append([]string{"dib", stageBoot}, s.argv...),
		Env:   s.env,
		Stdin: s.files[0], Stdout: s.files[1], Stderr: s.files[2],
		ExtraFiles: append([]*os.File{controlR, statusW}, s.extra...),
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: s.flags,
			Pdeathsig:  syscall.SIGKILL,
		},
	}
	if who.userNS {
		s.cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		// The ids are unmapped until after the exec, which drops capabilities
		// other than ambient ones.
		s.cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SETGID, unix.CAP_SETUID}
	}
	started := make(chan error)
	go func() {
		// The child dies when the thread that made it ends, so that thread waits.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait()
			close(s.ended)
		}
	}()
	err = <-started
	controlR.Close()
	statusW.Close()
	if err != nil {
		s.control.Close()
		s.statusR.Close()
		return diagnoseStart(err, who)
	}
	if who.userNS {
		err = mapIDs(ctx, s.cmd.Process.Pid, who)
	}
	if err == nil {
		err = s.request(requestGo)
	}
	if err != nil {
		s.kill()
		<-s.ended
		s.control.Close()
		s.statusR.Close()
	}
	return err
}

func (s *stage) request(b byte) error {
	if _, err := s.control.Write([]byte{b}); err != nil {
		return fmt.Errorf("cannot reach the sandbox: %w", err)
	}
	return nil
}

// kill ends the stage and with it everything in its PID namespace.
func (s *stage) kill() { _ = s.cmd.Process.Kill() }

// wait waits for the end of the stage, which it brings about when ctx ends.
func (s *stage) wait(ctx context.Context, grace time.Duration) (code int, st status, err error) {
	defer s.control.Close()
	defer s.statusR.Close()
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case <-s.ended:
			return
		case <-ctx.Done():
		}
		_ = s.request(requestTerminate) // it may have ended just now
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-s.ended:
		case <-timer.C:
			s.kill()
		}
	}()
	dec := json.NewDecoder(s.statusR)
	for {
		var next status
		if err := dec.Decode(&next); err != nil {
			break // end of file: init has ended
		}
		if next.Warning != "" && s.warn != nil {
			s.warn(next.Warning)
		}
		st.Started = st.Started || next.Started
		if next.Failed != "" {
			st.Failed, st.Errno = next.Failed, next.Errno
		}
	}
	<-s.ended
	<-watching
	ws, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
		return exitSetup, st, errors.New("internal error: no wait status of the sandbox")
	case ws.Signaled():
		return 128 + int(ws.Signal()), st, nil
	}
	return ws.ExitStatus(), st, nil
}

// pipe is os.Pipe with descriptors that block, as the stages expect.
func pipe() (r, w *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe"), nil
}

// memfile is an anonymous file with the given content.
func memfile(content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("config", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "config")
	if _, err := f.Write(content); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
