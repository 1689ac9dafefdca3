package event

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestWire carries D15: paths are bytes, and so are lines of the log.
func TestWire(t *testing.T) {
	now := time.Date(2026, 8, 1, 1, 2, 3, 0, time.UTC)
	events := []Event{
		{Kind: Artifact, Path: "/a b/\xff'\"*.qcow2"}, {Kind: Artifact, Path: "/plain"},
		{Kind: Log, Line: []byte("bytes \xff\x00"), Time: now}, {Kind: Failed, Failure: &Failure{Message: "no", Exit: 3, Tail: []string{"a"}}},
	}
	var b bytes.Buffer
	enc := NewEncoder(&b, func() time.Time { return now })
	for i := range events {
		enc.Emit(events[i])
		events[i].Time = now
	}
	if lines := strings.Count(b.String(), "\n"); lines != len(events) {
		t.Errorf("%d lines:\n%s", lines, b.String())
	}
	var got []Event
	if err := Decode(&b, SinkFunc(func(e Event) { got = append(got, e) })); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, events) {
		t.Errorf("got %+v, want %+v", got, events)
	}
	if err := Decode(strings.NewReader("{}\n{"), Discard); err == nil {
		t.Error("half an event is taken for a whole one")
	}
}
