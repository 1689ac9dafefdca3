package build

import (
	"fmt"
	"net"
	"sync"

	"github.com/dib-builder/dib/internal/event"
)

// serveEvents accepts events from tools that hooks start, and passes them on.
// Stop closes the socket and waits for the connections that are open.
func serveEvents(path string, sink event.Sink) (stop func(), err error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for events of hooks: %w", err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			wg.Go(func() {
				// A tool that writes nonsense harms only its own progress display.
				_ = event.Decode(conn, sink)
				mu.Lock()
				delete(open, conn)
				mu.Unlock()
				conn.Close()
			})
		}
	})
	return func() {
		l.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	}, nil
}
