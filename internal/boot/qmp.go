package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxReply bounds one message of QEMU's monitor, in bytes.
const maxReply = 1 << 20

// qmp speaks QEMU's machine protocol, as far as a harness needs it: one
// command without arguments at a time, events ignored. See QEMU's
// docs/interop/qmp-spec.
type qmp struct {
	w       io.Writer
	replies chan reply // closed when the monitor ends
}

// reply is any message of the monitor; which kind shows in what is set.
type reply struct {
	Greeting json.RawMessage `json:"QMP"`
	Return   json.RawMessage `json:"return"`
	Event    string          `json:"event"`
	Error    *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

var errMonitorEnded = errors.New("QEMU ended")

// openQMP waits for the greeting and leaves the negotiation mode. Reading ends
// when rw does.
func openQMP(ctx context.Context, rw io.ReadWriter) (*qmp, error) {
	q := &qmp{w: rw, replies: make(chan reply, 1)}
	go q.read(rw)
	greeting, err := q.next(ctx)
	if err != nil {
		return nil, err
	}
	if greeting.Greeting == nil {
		return nil, errors.New("QEMU's monitor sends no greeting")
	}
	return q, q.execute(ctx, "qmp_capabilities")
}

// read hands on all messages but events. Nobody may be waiting for a reply any
// more; then it is dropped, so that reading goes on to the end.
func (q *qmp) read(r io.Reader) {
	defer close(q.replies)
	limited := &io.LimitedReader{R: r, N: maxReply}
	dec := json.NewDecoder(limited)
	for {
		limited.N = maxReply
		var m reply
		if err := dec.Decode(&m); err != nil {
			return
		}
		if m.Event != "" {
			continue
		}
		select {
		case q.replies <- m:
		default:
		}
	}
}

func (q *qmp) next(ctx context.Context) (reply, error) {
	select {
	case m, ok := <-q.replies:
		if !ok {
			return m, errMonitorEnded
		}
		return m, nil
	case <-ctx.Done():
		return reply{}, ctx.Err()
	}
}

// execute runs one command and waits for its reply.
func (q *qmp) execute(ctx context.Context, command string) error {
	if _, err := fmt.Fprintf(q.w, "{\"execute\":%q}\n", command); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	m, err := q.next(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", command, err)
	case m.Error != nil:
		return fmt.Errorf("%s: %s (%s)", command, m.Error.Desc, m.Error.Class)
	case m.Return == nil:
		return fmt.Errorf("%s: QEMU's monitor sends neither a result nor an error", command)
	}
	return nil
}
