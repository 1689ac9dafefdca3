package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/dib-builder/dib/elements"
	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/hook"
	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/plan"
	"github.com/dib-builder/dib/internal/plan/show"
	"github.com/dib-builder/dib/internal/recipe"
	"github.com/dib-builder/dib/internal/run"
	"github.com/dib-builder/dib/internal/sandbox"
	"github.com/dib-builder/dib/internal/secret"
	"github.com/dib-builder/dib/lib"
)

// EnvironmentStage is the sub-command under which the binary starts itself to
// find out what environment files do.
const EnvironmentStage = "sandbox-environment"

// environmentTime is how long environment files may take altogether.
const environmentTime = 20 * time.Second

// Plan prints what Create would do with the same recipe, as text or as JSON,
// and returns the exit status: 0, or 1 for what Create would refuse. It needs
// no root, leaves nothing behind and asks no network.
func Plan(ctx context.Context, std command.IO, rec recipe.Recipe, asJSON bool) int {
	doc, err := planDocument(ctx, std, rec)
	if err == nil && asJSON {
		err = doc.WriteJSON(std.Out)
	} else if err == nil {
		err = doc.WriteText(std.Out)
	}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(std.Err, "dib plan: %s\n", strings.TrimSuffix(line, "\n"))
		}
		return 1
	}
	return 0
}

func planDocument(ctx context.Context, std command.IO, rec recipe.Recipe) (*show.Document, error) {
	p, err := makePlan(rec)
	if err != nil {
		return nil, err
	}
	config, err := blockdev.Check(p.BlockDevice.Source, []byte(p.BlockDevice.Text), blockdev.Params{RootFSType: rec.FSType, RootLabel: rec.RootLabel})
	if err != nil {
		return nil, err
	}
	start, err := rootEnv(p, config)
	if err != nil {
		return nil, err
	}
	facts := show.Facts{Config: config, Caller: plan.Env{}, Start: start}
	for _, kv := range std.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		facts.Caller[name] = value
	}
	facts.Environment, err = environmentEffects(ctx, p, start)
	if ctx.Err() != nil {
		return nil, errors.New("interrupted")
	}
	if err != nil {
		facts.Unknown = err.Error()
	}
	return show.New(p, facts)
}

// rootEnv is the environment that host-side hooks of the root phase begin with:
// the plan's and what a build adds to it (builder.prepare).
func rootEnv(p *plan.Plan, config *blockdev.Config) (plan.Env, error) {
	env := maps.Clone(p.Env)
	maps.Copy(env, p.SecretEnv)
	maps.Copy(env, plan.Env{
		secret.DirVariable: place.SecretsDir,
		"TMP_MOUNT_PATH":   place.TreeDir, "TARGET_ROOT": place.TreeDir, "DIB_EVENTS": place.EventSocket,
		"DIB_STAGED_OUTPUTS":           filepath.Join(place.ImageDir, "staged"),
		"DIB_BLOCK_DEVICE_PARAMS_YAML": filepath.Join(place.BuildDir, "block-device", "params.yaml"),
		"PATH":                         place.StandInDir + ":" + p.Env["PATH"],
	})
	layout, err := layoutVariables(config)
	maps.Copy(env, layout)
	if os.Geteuid() != 0 {
		env["container"] = "lxc"
	}
	return env, err
}

// viewInput is what environmentEffects tells EnvironmentMain.
type viewInput struct {
	Plan *plan.Plan
	Env  plan.Env
}

// viewOutput is the answer.
type viewOutput struct {
	Effects show.Effects
	Failed  string
}

// environmentEffects sources the environment files where they can change
// nothing.
func environmentEffects(ctx context.Context, p *plan.Plan, start plan.Env) (*show.Effects, error) {
	input, err := json.Marshal(viewInput{p, start})
	if err != nil {
		return nil, fmt.Errorf("internal error: cannot write the plan: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, environmentTime)
	defer cancel()
	result, err := sandbox.View(limited, sandbox.ViewConfig{Engine: []string{EnvironmentStage}, Input: input, Env: os.Environ()})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("the environment files took more than %v", environmentTime)
	case err != nil:
		return nil, err
	}
	var out viewOutput
	if err := json.Unmarshal(result.Output, &out); err != nil {
		return nil, fmt.Errorf("the environment files ended the sandbox (%s): %s", exitText(result.Status), strings.TrimSpace(string(result.Log)))
	}
	if out.Failed != "" {
		return nil, errors.New(out.Failed)
	}
	return &out.Effects, nil
}

// EnvironmentMain is the process that sources environment files for a plan.
func EnvironmentMain() int {
	input, output, err := sandbox.ViewEngine()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dib:", err)
		return 1
	}
	effects, err := sourceEnvironment(context.Background(), input)
	out := viewOutput{Effects: effects}
	if err != nil {
		out = viewOutput{Failed: err.Error()}
	}
	if err := json.NewEncoder(output).Encode(out); err != nil {
		fmt.Fprintln(os.Stderr, "dib: cannot report the environment:", err)
		return 1
	}
	return 0
}

func sourceEnvironment(ctx context.Context, input []byte) (show.Effects, error) {
	var in viewInput
	if err := json.Unmarshal(input, &in); err != nil {
		return show.Effects{}, fmt.Errorf("internal error: cannot read the plan: %w", err)
	}
	els, err := in.Plan.LoadElements(elements.FS())
	if err != nil {
		return show.Effects{}, err
	}
	tree, err := hook.Assemble(els)
	if err != nil {
		return show.Effects{}, err
	}
	if err := errors.Join(
		hook.WriteElements(elements.FS(), place.ElementsDir), hook.WriteElements(lib.FS(), place.LibDir),
		tree.Write(place.HooksDir), os.Mkdir(place.TreeDir, 0o755),
	); err != nil {
		return show.Effects{}, err
	}
	cwd, err := os.Getwd()
	if err != nil {
		return show.Effects{}, fmt.Errorf("cannot find the working directory: %w", err)
	}
	c := run.Cmd{
		Dir: cwd, Env: in.Env.Environ(), Log: func([]byte) {}, Stdout: io.Discard,
		Where: run.Where{Element: "-", Phase: "root", Hook: hook.EnvironmentDir},
	}
	before, effects, err := hook.Effects(ctx, c, filepath.Join(place.HooksDir, hook.EnvironmentDir), tree.EnvironmentFiles())
	if err != nil {
		return show.Effects{}, briefly(err, tree)
	}
	out := show.Effects{Before: envOf(before)}
	for _, e := range effects {
		out.Files = append(out.Files, show.Effect{File: e.File, Env: envOf(e.Env)})
	}
	return out, nil
}

// briefly says which environment file failed and what it printed last; the
// error itself has the whole script in it.
func briefly(err error, tree *hook.Tree) error {
	var file *hook.EnvironmentError
	var failed *run.Error
	if !errors.As(err, &file) || file.File == "" || !errors.As(err, &failed) {
		return err
	}
	name := path.Join(hook.EnvironmentDir, filepath.Base(file.File))
	text := fmt.Sprintf("%s of element %q failed (%s)", name, tree.Owner(name), exitText(failed.Exit))
	for _, line := range failed.Tail {
		if !strings.HasPrefix(line, hook.LogPrefix) {
			text += "\n" + line
		}
	}
	return errors.New(text)
}

func envOf(words []string) plan.Env {
	env := plan.Env{}
	for _, kv := range words {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	return env
}
