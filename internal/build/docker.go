package build

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/image/output"
	"github.com/dib-builder/dib/internal/plan"
	"github.com/dib-builder/dib/internal/run"
)

// engines are the programs that can take a docker image, with what they answer
// only if they can.
var engines = []struct {
	program string
	probe   string
}{{"docker", "version"}, {"podman", "info"}}

// probeLimit is how long an engine may take to say that it is there.
const probeLimit = 10 * time.Second

// findEngine returns the first engine that answers, or "".
func findEngine(ctx context.Context, environ []string) string {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	for _, e := range engines {
		if (run.Cmd{Argv: []string{e.program, e.probe}, Env: environ}).Run(ctx) == nil {
			return e.program
		}
	}
	return ""
}

// dockerLoad is what remains to be done for docker images after the build: the
// engine of the caller can be reached from outside the sandbox only.
type dockerLoad struct {
	engine, tag string
	file        *os.File
}

// prepareDocker decides for each docker image where it goes: into the
// caller's engine, by way of a hidden file, or to a file for it to be loaded from.
func prepareDocker(ctx context.Context, p *plan.Plan, environ []string, sink event.Sink) ([]dockerLoad, error) {
	var loads []dockerLoad
	for i := range p.Outputs {
		out := &p.Outputs[i]
		if out.Type != "docker" {
			continue
		}
		engine := findEngine(ctx, environ)
		if engine == "" {
			sink.Emit(event.Warn(fmt.Sprintf("no docker or podman answers: docker image %s goes to %s; docker load -i %s will load it",
				out.Tag, out.Path, run.Quote(out.Path))))
			continue
		}
		f, err := output.Scratch(out.Path)
		if err != nil {
			return loads, err
		}
		loads = append(loads, dockerLoad{engine, out.Tag, f})
		out.Engine, out.Path = engine, f.Name()
	}
	return loads, nil
}

// run loads the image.
func (d dockerLoad) run(ctx context.Context, environ []string, sink event.Sink) error {
	c := run.Cmd{
		Argv: []string{d.engine, "load", "-i", d.file.Name()}, Env: environ,
		Log: func(line []byte) { sink.Emit(event.LogLine(string(line))) },
	}
	if err := c.Run(ctx); err != nil {
		return fmt.Errorf("cannot load docker image %s into %s: %w", d.tag, d.engine, err)
	}
	sink.Emit(event.LogLine(fmt.Sprintf("Docker image %s loaded into %s", d.tag, d.engine)))
	return nil
}

// discard removes the hidden file.
func (d dockerLoad) discard() {
	_ = os.Remove(d.file.Name()) // before the close that frees its lock
	_ = d.file.Close()
}
