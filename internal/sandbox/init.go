package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/sandbox/intercept"
	"github.com/dib-builder/dib/internal/sandbox/seccomp"
	"github.com/dib-builder/dib/internal/sidetable"
)

// initMain is PID 1. Its end is the end of the sandbox: the kernel kills every
// process in it and lets go of every mount.
func initMain() {
	dieWithParent()
	var st unix.Stat_t
	if os.Getpid() != 1 || unix.Fstat(fdConfig, &st) != nil {
		misused()
	}
	in := &initProcess{}
	go in.obey()
	in.catchSignals()
	for fd := fdControl; fd <= fdLock; fd++ {
		unix.CloseOnExec(fd)
	}
	if err := in.readConfig(); err != nil {
		fail(err)
	}
	if err := in.start(); err != nil {
		fail(err)
	}
	report(status{Started: true})
	os.Exit(in.reap())
}

type initProcess struct {
	cfg    initConfig
	engine atomic.Int64 // PID, 0 before it is started
}

// obey serves the control pipe from the first instruction to the last.
func (in *initProcess) obey() {
	for {
		b, err := readRequest()
		if err != nil {
			os.Exit(128 + int(unix.SIGKILL))
		}
		if b == requestTerminate {
			in.terminate()
		}
	}
}

func (in *initProcess) terminate() {
	pid := int(in.engine.Load())
	if pid == 0 {
		os.Exit(128 + int(unix.SIGTERM))
	}
	_ = unix.Kill(pid, unix.SIGTERM)
}

// catchSignals keeps the terminal's signals from ending PID 1 before the engine;
// the runtime would turn them into an exit.
func (in *initProcess) catchSignals() {
	ch := make(chan os.Signal, 8)
	signal.Notify(ch, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT)
	signal.Ignore(unix.SIGPIPE)
	go func() {
		for s := range ch {
			if s == unix.SIGTERM {
				in.terminate()
			}
		}
	}()
}

func (in *initProcess) readConfig() error {
	f := os.NewFile(fdConfig, "config")
	defer f.Close()
	if err := decode(f, &in.cfg); err != nil {
		return fmt.Errorf("cannot read the configuration of the sandbox: %w", err)
	}
	return nil
}

func (in *initProcess) start() error {
	umask := unix.Umask(0o022)
	warn := func(line string) { report(status{Warning: line}) }
	root, err := compose(in.cfg, warn)
	if err != nil {
		return err
	}
	if err := nameSandbox(); err != nil {
		return err
	}
	facts := Facts{Rootless: in.cfg.Rootless, SideTable: place.SideTable, Caller: in.cfg.Caller, Umask: umask}
	if in.cfg.Rootless {
		facts.HostEnv = []string{"container=lxc"}
	}
	return in.startEngine(facts, root, warn)
}

// nameSandbox sets the host name. Filters of containers forbid that to whom they
// allow everything else; then the container's name serves.
func nameSandbox() error {
	err := unix.Sethostname([]byte("localhost"))
	if err == nil || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return fmt.Errorf("cannot name the sandbox: %w", err)
}

// startEngine starts the exec stage, which turns into the engine when it has
// been told whether its system calls are answered here.
func (in *initProcess) startEngine(facts Facts, root composed, warn func(string)) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot start the engine: %w", err)
	}
	data, err := unix.MemfdCreate("engine", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("cannot start the engine: %w", err)
	}
	mode := "plain"
	if in.cfg.Rootless {
		mode = "intercepted"
	}
	argv := append([]string{os.Args[0], stageExec, mode}, in.cfg.Engine...)
	pid, err := syscall.ForkExec("/proc/self/exe", argv, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2, fdEvents, uintptr(data), uintptr(pair[1])},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return fmt.Errorf("cannot start the engine: %w", err)
	}
	in.engine.Store(int64(pid))
	unix.Close(pair[1])
	defer unix.Close(pair[0])
	if in.cfg.Rootless {
		if err := serve(pair[0], root, warn); err != nil {
			warn(notIntercepted(err, readConfinement()))
		} else {
			facts.Intercepted = true
		}
	}
	text, err := encode(engineData{Facts: facts, Input: in.cfg.Input})
	if err != nil {
		return fmt.Errorf("cannot start the engine: %w", err)
	}
	f := os.NewFile(uintptr(data), "engine")
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		return fmt.Errorf("cannot start the engine: %w", err)
	}
	if _, err := unix.Write(pair[0], []byte{requestGo}); err != nil {
		// It is gone already; reap says how.
		return nil
	}
	return nil
}

// serve receives the notification descriptor from the exec stage and starts
// answering.
func serve(sock int, root composed, warn func(string)) error {
	fd, err := receiveListener(sock)
	if err != nil {
		return err
	}
	l := seccomp.NewListener(fd)
	table, err := sidetable.Open(place.SideTable)
	if err != nil {
		l.Close()
		return err
	}
	s, err := intercept.New(intercept.Options{Listener: l, Table: table, Warn: warn, BindProc: !root.freshProc})
	if err != nil {
		l.Close()
		return err
	}
	go s.Serve()
	return nil
}

func receiveListener(sock int) (int, error) {
	text, oob := make([]byte, 512), make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	var err error
	for {
		n, oobn, _, _, err = unix.Recvmsg(sock, text, oob, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return -1, err
	}
	if oobn == 0 {
		if n == 0 {
			return -1, errors.New("the engine ended before it started")
		}
		errno, _ := strconv.Atoi(string(text[:n]))
		return -1, fmt.Errorf("cannot install the system call filter: %w", syscall.Errno(errno))
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return -1, err
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		return -1, err
	}
	return fds[0], nil
}

// reap collects every process that ends until the engine has, and returns its
// exit status, 128+n after signal n.
func (in *initProcess) reap() int {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return exitSetup // no child: impossible while the engine runs
		case pid == int(in.engine.Load()) && ws.Signaled():
			return 128 + int(ws.Signal())
		case pid == int(in.engine.Load()) && ws.Exited():
			return ws.ExitStatus()
		}
	}
}
