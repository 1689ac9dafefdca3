package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/sandbox/seccomp"
)

// execMain is the engine's process before it is the engine: it puts itself under
// the system call filter, which only the process itself can do.
func execMain() {
	dieWithParent()
	if len(os.Args) < 4 || os.Getppid() != 1 {
		misused()
	}
	unix.CloseOnExec(fdListener)
	if os.Args[2] == "intercepted" {
		sendListener()
	}
	var b [1]byte
	if n, err := unix.Read(fdListener, b[:]); n != 1 || err != nil {
		os.Exit(128 + int(unix.SIGKILL)) // init is gone
	}
	// "dib", whatever the supervisor was called as: the name would pick a command.
	err := unix.Exec("/proc/self/exe", append([]string{"dib"}, os.Args[3:]...), os.Environ())
	fmt.Fprintf(os.Stderr, "dib: cannot start the engine: %v\n", err)
	os.Exit(126)
}

// sendListener sends the notification descriptor to init, or why there is none.
func sendListener() {
	fd, err := seccomp.Install()
	if err != nil {
		_, _ = unix.Write(fdListener, []byte(strconv.Itoa(errnoOf(err))))
		return
	}
	if err := unix.Sendmsg(fdListener, []byte{0}, unix.UnixRights(fd), nil, 0); err != nil {
		os.Exit(128 + int(unix.SIGKILL))
	}
	unix.Close(fd)
}

// Engine is what the engine's process was given.
type Engine struct {
	Input []byte     // Config.Input of the supervisor
	Sink  event.Sink // leads to Config.Sink
	Facts Facts
}

// EngineContext is for the engine's entry point. The context ends when the build
// is to stop: the supervisor's context ended, or the user pressed Ctrl-C. It
// must be called once, before any program is started.
func EngineContext() (context.Context, *Engine, error) {
	unix.CloseOnExec(fdEngineEvents)
	unix.CloseOnExec(fdEngineData)
	f := os.NewFile(fdEngineData, "engine data")
	defer f.Close()
	var data engineData
	if err := decode(f, &data); err != nil {
		return nil, nil, fmt.Errorf("cannot read the input of the engine (it is started by dib itself): %w", err)
	}
	ctx, _ := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	return ctx, &Engine{
		Input: data.Input,
		Sink:  event.NewEncoder(os.NewFile(fdEngineEvents, "events"), time.Now),
		Facts: data.Facts,
	}, nil
}
