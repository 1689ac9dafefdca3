// Package build runs a Plan: the life of an image from an empty tree to
// published artifacts.
//
// Create is the supervisor's part, in the caller's own namespaces: plan, start
// the sandbox, show what happens. EngineMain is the part inside the sandbox: it
// reads like spec/01's lifecycle from top to bottom.
package build

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/term"

	"github.com/dib-builder/dib/elements"
	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/hook"
	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/plan"
	"github.com/dib-builder/dib/internal/sandbox"
	"github.com/dib-builder/dib/internal/secret"
	"github.com/dib-builder/dib/internal/sidetable"
	"github.com/dib-builder/dib/lib"
)

// builder is one build in progress.
type builder struct {
	plan   *plan.Plan
	sink   event.Sink
	now    func() time.Time
	cwd    string
	stdin  io.Reader
	breaks map[string]bool

	stdinIsTerminal bool

	// env is what both sides get; it grows as the build learns more
	// (spec/01 section 2.2). hostOnly is for hooks outside the chroot.
	env      plan.Env
	hostOnly map[string]string

	release     string           // DIB_RELEASE as environment.d left it for the last phase
	redactor    *secret.Redactor // of everything that goes to sink
	secretFiles map[string][]byte

	hooks  *hook.Tree
	config *blockdev.Config
	layout *blockdev.Layout
	// backend makes the disks.
	backend backend

	sideTable string            // path
	umask     int               // the caller's
	images    map[string]string // raw image of each disk; that with the root filesystem also under ""
}

// EngineMain is the engine's process: it runs the plan that the supervisor
// sent and returns the exit status of the build, which is that of the hook
// that failed, or 1 for failures of the core.
func EngineMain() int {
	ctx, engine, err := sandbox.EngineContext()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dib:", err)
		return 1
	}
	b, err := newBuilder(engine)
	if err != nil {
		engine.Sink.Emit(event.Event{Kind: event.Failed, Failure: &event.Failure{Message: err.Error(), Exit: 1}})
		return 1
	}
	switch err := b.run(ctx); {
	case err == nil:
		return 0
	case interrupted(ctx, err):
		b.afterFailure(context.WithoutCancel(ctx))
		return exitInterrupted
	default:
		b.afterFailure(ctx)
		f := b.failure(err)
		b.sink.Emit(event.Event{Kind: event.Failed, Failure: f})
		return f.Exit
	}
}

func newBuilder(engine *sandbox.Engine) (*builder, error) {
	input, err := decodeInput(engine.Input)
	if err != nil {
		return nil, fmt.Errorf("internal error: cannot read the plan: %w", err)
	}
	// A copy: ids on the disks derive from the plan, which neither secrets nor
	// what the build learns may change.
	p, env := input.Plan, maps.Clone(input.Plan.Env)
	maps.Copy(env, input.SecretEnv)
	redactor := newRedactor(env, input.SecretFiles, input.Hidden)
	cwd, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("cannot find the working directory: %w", err)
	}
	b := &builder{
		plan: p, sink: redacting(engine.Sink, redactor), now: time.Now, cwd: cwd, stdin: os.Stdin, env: env, sideTable: engine.Facts.SideTable, umask: engine.Facts.Umask,
		redactor: redactor, secretFiles: secretFiles(env, input.SecretFiles),
		breaks: p.Breaks(), stdinIsTerminal: term.IsTerminal(int(os.Stdin.Fd())),
		hostOnly: map[string]string{"PATH": place.StandInDir + ":" + p.Env["PATH"], secret.DirVariable: place.SecretsDir},
	}
	b.env[secret.DirVariable] = place.InTargetSecrets
	b.backend = b.newBackend()
	for _, kv := range engine.Facts.HostEnv {
		name, value, _ := strings.Cut(kv, "=")
		b.hostOnly[name] = value
	}
	return b, nil
}

func (b *builder) run(ctx context.Context) error {
	stop, err := serveEvents(place.EventSocket, b.sink)
	if err != nil {
		return err
	}
	defer stop()
	return b.build(ctx)
}

// prepare fills the fixed places: element library, shell library, hooks tree
// with the binary, block-device configuration, and an empty image tree.
func (b *builder) prepare() error {
	if err := hook.WriteElements(elements.FS(), place.ElementsDir); err != nil {
		return err
	}
	if err := hook.WriteElements(lib.FS(), place.LibDir); err != nil {
		return err
	}
	els, err := b.plan.LoadElements(elements.FS())
	if err != nil {
		return err
	}
	if b.hooks, err = hook.Assemble(els); err != nil {
		return err
	}
	if err := b.hooks.Write(place.HooksDir); err != nil {
		return err
	}
	if err := copySelf(filepath.Join(place.HooksDir, place.Binary)); err != nil {
		return err
	}
	if err := placeSecrets(place.SecretsDir, b.secretFiles); err != nil {
		return err
	}
	if err := os.Mkdir(place.TreeDir, 0o755); err != nil {
		return fmt.Errorf("cannot create the image tree: %w", err)
	}
	b.env["TMP_MOUNT_PATH"] = place.TreeDir
	b.env["DIB_EVENTS"] = place.EventSocket
	staged := filepath.Join(place.ImageDir, "staged")
	if err := os.MkdirAll(staged, 0o700); err != nil {
		return fmt.Errorf("cannot create the place for staged outputs: %w", err)
	}
	b.hostOnly["DIB_STAGED_OUTPUTS"] = staged
	return b.loadLayoutConfig()
}

// copySelf puts the running binary where hooks find it. /proc/self/exe works
// even when the file on disk has been replaced.
func copySelf(dst string) error {
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("cannot open the dib binary: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return fmt.Errorf("cannot copy the dib binary to the hooks: %w", err)
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return fmt.Errorf("cannot copy the dib binary to the hooks: %w", err)
	}
	return out.Close()
}

// loadLayoutConfig parses the block-device configuration and exports what
// hooks may ask of it before sizes are known.
func (b *builder) loadLayoutConfig() error {
	var err error
	if b.config, err = blockdev.Check(b.plan.BlockDevice.Source, []byte(b.plan.BlockDevice.Text), b.mergeParams("")); err != nil {
		return err
	}
	for _, w := range b.config.Warnings {
		b.warn(w.String())
	}
	layout, err := layoutVariables(b.config)
	if err != nil {
		return err
	}
	maps.Copy(b.env, layout)
	b.env["DIB_BLOCK_DEVICE_PARAMS_YAML"] = filepath.Join(place.BuildDir, "block-device", "params.yaml")
	return b.writeState(0, "")
}

// layoutVariables are what hooks learn of a configuration whose sizes are not known.
func layoutVariables(config *blockdev.Config) (plan.Env, error) {
	env := plan.Env{}
	for variable, symbol := range map[string]string{
		"DIB_ROOT_LABEL": "root-label", "DIB_ROOT_FSTYPE": "root-fstype", "DIB_BOOT_LABEL": "boot-label", "DIB_MOUNTPOINTS": "mount-points",
	} {
		var err error
		if env[variable], err = config.Value(symbol); err != nil {
			return nil, err
		}
	}
	// BD-37: swap has no mount point, whatever is written there.
	points := slices.DeleteFunc(strings.Split(env["DIB_MOUNTPOINTS"], "|"), func(p string) bool { return p == "none" })
	env["DIB_MOUNTPOINTS"] = strings.Join(points, "|")
	return env, nil
}

func (b *builder) mergeParams(rootOpts string) blockdev.Params {
	r := b.plan.Recipe
	return blockdev.Params{RootFSType: r.FSType, RootLabel: r.RootLabel, RootFSOpts: rootOpts}
}

// mkfsOptions are the options of the root filesystem on a disk of sizeKiB.
func (b *builder) mkfsOptions(sizeKiB int64) (string, error) {
	r := b.plan.Recipe
	journal := r.JournalSizeMiB
	if journal == "" && sizeKiB < tinyKiB {
		// mke2fs refuses a journal of more than half the filesystem, which DIB's
		// default of 64 MiB is for a tree of a few files.
		journal = "4"
	}
	return blockdev.MkfsOptions(blockdev.MkfsInput{
		RootFSType: b.env["DIB_ROOT_FSTYPE"], Release: cmp.Or(b.release, b.env["DIB_RELEASE"]), JournalMiB: journal,
		MaxOnlineResize: r.MaxOnline, Options: r.MkfsOptions,
	})
}

// tinyKiB is the size below which DIB's default journal does not fit: twice 64
// MiB and what the filesystem itself needs.
const tinyKiB = 192 * 1024

// writeState leaves the files that scripts know from DIB below TMP_BUILD_DIR:
// block-device/{config,params}.yaml, states/block-device/config.json and, once
// the size is known, the layout for tools in the chroot.
func (b *builder) writeState(sizeKiB int64, rootOpts string) error {
	dir := filepath.Join(place.BuildDir, "block-device")
	states := filepath.Join(place.BuildDir, "states", "block-device")
	for _, d := range []string{dir, states} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("cannot write the block-device state: %w", err)
		}
	}
	r := b.plan.Recipe
	params := yaml.Node{Kind: yaml.MappingNode}
	add := func(key string, value any) {
		var v yaml.Node
		_ = v.Encode(value)
		params.Content = append(params.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, &v)
	}
	add("config", filepath.Join(dir, "config.yaml"))
	add("image-dir", place.ImageDir)
	add("root-fs-type", r.FSType)
	if r.RootLabel == "" {
		add("root-label", nil)
	} else {
		add("root-label", r.RootLabel)
	}
	add("mount-base", place.TreeDir)
	add("build-dir", place.BuildDir)
	if sizeKiB > 0 {
		add("image-size", fmt.Sprintf("%dKiB", sizeKiB))
		if rootOpts != "" {
			add("root-fs-opts", rootOpts)
		}
	}
	text, err := yaml.Marshal(&params)
	if err != nil {
		return err
	}
	config, err := json.MarshalIndent(b.config, "", " ")
	if err != nil {
		return err
	}
	files := map[string][]byte{
		filepath.Join(dir, "config.yaml"):    []byte(b.plan.BlockDevice.Text),
		filepath.Join(dir, "params.yaml"):    text,
		filepath.Join(states, "config.json"): config,
	}
	if b.layout != nil {
		layout, err := json.MarshalIndent(b.layout, "", " ")
		if err != nil {
			return err
		}
		state, err := json.MarshalIndent(b.config.State(b.layout, place.ImageDir, place.TreeDir), "", " ")
		if err != nil {
			return err
		}
		files[filepath.Join(states, "fstab")] = []byte(b.layout.FSTab)
		files[filepath.Join(states, "state.json")] = state
		files[filepath.Join(place.HooksDir, place.LayoutFile)] = layout
	}
	for path, data := range files {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return fmt.Errorf("cannot write the block-device state: %w", err)
		}
	}
	return nil
}

func (b *builder) elementNames() []string {
	names := make([]string, len(b.plan.Elements))
	for i, e := range b.plan.Elements {
		names[i] = e.Name
	}
	return names
}

// immutable tells whether a path of the tree has the immutable attribute,
// really or in the side table.
func (b *builder) immutable(rel string) (bool, error) {
	entries, err := b.sideEntries(place.TreeDir)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(entries, func(e sidetable.Entry) bool { return e.Path == rel && e.Flags&sidetable.FlagImmutable != 0 }) {
		return true, nil
	}
	return hasImmutableFlag(filepath.Join(place.TreeDir, rel))
}

func (b *builder) sideEntries(tree string) ([]sidetable.Entry, error) {
	t, err := sidetable.Load(b.sideTable)
	if err != nil {
		return nil, err
	}
	return t.Resolve(tree)
}
