package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dib-builder/dib/elements"
	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/element"
	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/image/output"
	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/plan"
	"github.com/dib-builder/dib/internal/recipe"
	"github.com/dib-builder/dib/internal/sandbox"
	"github.com/dib-builder/dib/internal/ui"
)

// EngineStage is the sub-command under which the binary starts itself inside
// the sandbox.
const EngineStage = "sandbox-engine"

// exitInterrupted is the status of a build that was told to stop.
const exitInterrupted = 130

// Create builds what rec asks for and returns the exit status: 0, the status
// of the hook that failed, 130 when interrupted, 1 for everything else.
func Create(ctx context.Context, io command.IO, rec recipe.Recipe) int {
	view, err := ui.New(ui.OptionsFromEnv(io, rec))
	if err != nil {
		fmt.Fprintf(io.Err, "dib: %v\n", err)
		return 1
	}
	files, err := readSecrets(rec.Secrets)
	sink := redacting(view, newRedactor(rec.Env, files, inArguments(rec.Args)))
	status := 1
	if err == nil {
		status, err = create(ctx, rec, files, sink)
	}
	if err != nil {
		sink.Emit(event.Event{Kind: event.Failed, Failure: setupFailure(err, status)})
	}
	if cerr := view.Close(); cerr != nil && status == 0 {
		fmt.Fprintf(io.Err, "dib: %v\n", cerr)
		return 1
	}
	return status
}

// create returns an error only when the engine did not report one itself.
func create(ctx context.Context, rec recipe.Recipe, secrets map[string][]byte, sink event.Sink) (int, error) {
	sink.Emit(event.LogLine("diskimage-builder version " + recipe.CompatVersion + " (dib)"))
	p, err := makePlan(rec)
	if err != nil {
		return 1, err
	}
	for _, w := range append(shortSecrets(rec.Env, secrets), p.Warnings...) {
		sink.Emit(event.Warn(w))
	}
	sink.Emit(event.LogLine("Building elements: " + strings.Join(p.Requested, " ")))
	sink.Emit(event.LogLine("Expanded element dependencies to: " + p.Env["IMAGE_ELEMENT"]))
	if err := dumpGraph(p, rec); err != nil {
		return 1, err
	}
	sweepOutputs(p)
	loads, err := prepareDocker(ctx, p, p.Env.Environ(), sink)
	for _, l := range loads {
		defer l.discard()
	}
	if err != nil {
		return 1, err
	}
	input, err := encodeInput(engineInput{Plan: p, SecretEnv: p.SecretEnv, SecretFiles: secrets, Hidden: inArguments(rec.Args)})
	if err != nil {
		return 1, fmt.Errorf("internal error: cannot write the plan: %w", err)
	}
	parent := workParent(rec.Env)
	available, err := memAvailableKiB()
	if err != nil {
		sink.Emit(event.Warn("building on disk: " + err.Error()))
	}
	size := tmpfsSize(rec, available)
	sink.Emit(event.LogLine(fmt.Sprintf("Building in %s (%s)", place.BuildDir, mediumText(size, parent))))
	told := false // whether the engine itself said why it failed
	status, err := sandbox.Run(ctx, sandbox.Config{
		Engine: []string{EngineStage}, Input: input, TmpParent: parent, UseTmpfs: size > 0, TmpfsSize: size,
		Env: os.Environ(),
		Sink: event.SinkFunc(func(e event.Event) {
			told = told || e.Kind == event.Failed
			sink.Emit(e)
		}),
	})
	if status != 0 || err != nil {
		sweepOutputs(p) // the engine may have been killed between two names
	}
	if ctx.Err() != nil {
		return exitInterrupted, errors.New("interrupted")
	}
	if err == nil && status != 0 && !told {
		err = fmt.Errorf("the build ended without a word (%s): was it killed, or short of memory?", exitText(status))
		return status, err
	}
	if err != nil {
		return 1, err
	}
	if status != 0 {
		return status, nil
	}
	for _, l := range loads {
		if err := l.run(ctx, p.Env.Environ(), sink); err != nil {
			return 1, err
		}
	}
	sink.Emit(event.LogLine("Build completed successfully"))
	return 0, nil
}

// sweepOutputs removes unfinished outputs of dead builds. Failing to tidy up
// is no reason not to build.
func sweepOutputs(p *plan.Plan) {
	for _, out := range p.Outputs {
		_ = output.SweepStale(filepath.Dir(out.Path))
	}
}

// MakePlan plans a build; what a build would refuse at its start is the error.
func MakePlan(rec recipe.Recipe) (*plan.Plan, error) { return makePlan(rec) }

func makePlan(rec recipe.Recipe) (*plan.Plan, error) {
	if err := errors.Join(checkFormats(rec)...); err != nil {
		return nil, err
	}
	library, err := element.Load(rec.Env["ELEMENTS_PATH"], elements.FS())
	if err != nil {
		return nil, err
	}
	p, err := plan.Make(rec, library, plan.Options{ValidateLayout: validateLayout(rec)})
	if err != nil {
		return nil, err
	}
	if err := loopLayout(p, rec); err != nil {
		return nil, err
	}
	return p, nil
}

// loopLayout refuses a layout that loop devices alone cannot make.
func loopLayout(p *plan.Plan, rec recipe.Recipe) error {
	if p.Backend != plan.Loop {
		return nil
	}
	config, err := blockdev.Check(p.BlockDevice.Source, []byte(p.BlockDevice.Text), blockdev.Params{RootFSType: rec.FSType, RootLabel: rec.RootLabel})
	if err == nil && config.UsesLVM() {
		err = fmt.Errorf("cannot make the disk layout %s on loop devices: its logical volumes would need the device-mapper and would appear among those of this machine; set %s=offline, and leave out elements whose hooks need the block device", p.BlockDevice.Source, plan.BackendVariable)
	}
	return err
}

// validateLayout checks a block-device configuration before anything runs.
func validateLayout(rec recipe.Recipe) func(source string, text []byte) error {
	return func(source string, text []byte) error {
		config, err := blockdev.Check(source, text, blockdev.Params{RootFSType: rec.FSType, RootLabel: rec.RootLabel})
		if err != nil {
			return err
		}
		in := blockdev.LayoutInput{BlockSize: rec.Env["DIB_BLOCK_SIZE"]}
		if rec.ImageSizeGiB != "" {
			if in.SizeKiB, err = blockdev.ImageSize(blockdev.SizeInput{ImageSizeGiB: rec.ImageSizeGiB}); err != nil {
				return err
			}
		}
		return config.Rehearse(in)
	}
}

// dumpGraph writes the graph of the disk layout to the file that
// DUMP_CONFIG_GRAPH names (BD-59), for Graphviz.
func dumpGraph(p *plan.Plan, rec recipe.Recipe) error {
	file := rec.Env["DUMP_CONFIG_GRAPH"]
	if file == "" {
		return nil
	}
	config, err := blockdev.Check(p.BlockDevice.Source, []byte(p.BlockDevice.Text), blockdev.Params{RootFSType: rec.FSType, RootLabel: rec.RootLabel})
	if err != nil {
		return err
	}
	graph := config.Graph()
	if err := os.WriteFile(file, []byte(graph.DOT()), 0o644); err != nil {
		return fmt.Errorf("cannot write the graph named by DUMP_CONFIG_GRAPH: %w", err)
	}
	return nil
}

func setupFailure(err error, status int) *event.Failure {
	f := &event.Failure{Message: err.Error(), Exit: status}
	var se *sandbox.SetupError
	if errors.As(err, &se) {
		f.Message, f.Hints = se.What, []string{se.Cure}
	}
	return f
}

// workParent is the directory for work directories: TMPDIR, else TMP_DIR, else /tmp.
func workParent(env map[string]string) string {
	for _, name := range []string{"TMPDIR", "TMP_DIR"} {
		if v := env[name]; v != "" {
			return v
		}
	}
	return "/tmp"
}

// tmpfsSize decides whether to build in memory, and in how much of it at most
// (bytes; 0 for a directory on disk). The rule is DIB's, twice DIB_MIN_TMPFS
// GiB, but of available instead of total memory (D33).
func tmpfsSize(rec recipe.Recipe, availableKiB int64) int64 {
	if rec.NoTmpfs || strings.Contains(rec.Env["GENTOO_PROFILE"], "hardened") {
		return 0
	}
	if availableKiB < int64(rec.MinTmpfs)*2*1024*1024 {
		return 0
	}
	return availableKiB * 1024 / 10 * 8
}

func mediumText(tmpfsSize int64, parent string) string {
	if tmpfsSize > 0 {
		return fmt.Sprintf("in memory, at most %d MiB", tmpfsSize>>20)
	}
	return "on disk, below " + parent
}

func memAvailableKiB() (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("cannot read the amount of available memory: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return 0, fmt.Errorf("cannot read the amount of available memory: %w", err)
	}
	return parseMemAvailable(string(text))
}

func parseMemAvailable(meminfo string) (int64, error) {
	for line := range strings.Lines(meminfo) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("cannot understand MemAvailable in /proc/meminfo: %w", err)
			}
			return kib, nil
		}
	}
	return 0, errors.New("/proc/meminfo has no MemAvailable")
}
