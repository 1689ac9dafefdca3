package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Interrupt is the cause of a context that a signal cancelled.
type Interrupt struct{ Signal syscall.Signal }

func (i Interrupt) Error() string { return fmt.Sprintf("interrupted by signal: %v", i.Signal) }

// WithSignals returns a context that the first SIGINT, SIGTERM or SIGHUP
// cancels with an Interrupt as its cause. The second one has its usual effect
// and ends the process at once. Signals that the parent chose to ignore
// (nohup, background jobs) stay ignored.
func WithSignals(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	received := make(chan os.Signal, 1)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(received, s)
		}
	}
	go func() {
		select {
		case s := <-received:
			signal.Stop(received)
			cancel(Interrupt{s.(syscall.Signal)})
		case <-ctx.Done():
			signal.Stop(received)
		}
	}()
	return ctx, func() { cancel(nil) }
}

// ExitStatus is the status for the process to end with: 128 plus the signal's
// number after an interruption that made the command fail, as shells count it.
func ExitStatus(ctx context.Context, status int) int {
	if i, ok := context.Cause(ctx).(Interrupt); ok && status != 0 {
		return 128 + int(i.Signal)
	}
	return status
}
