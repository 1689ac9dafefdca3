package build

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/dib-builder/dib/internal/event"
)

func TestServeEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	got := make(chan event.Event, 10)
	stop, err := serveEvents(path, event.SinkFunc(func(e event.Event) { got <- e }))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	event.NewEncoder(conn, time.Now).Emit(event.Event{Kind: event.Progress, Step: "downloading", Done: 1, Total: 2})
	if e := <-got; e.Step != "downloading" || e.Done != 1 || e.Total != 2 || e.Time.IsZero() {
		t.Errorf("got %+v", e)
	}
	stop() // must not wait for a connection that its tool keeps open
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("the socket still answers after stop")
	}
}
