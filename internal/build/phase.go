package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/hook"
	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/plan"
	"github.com/dib-builder/dib/internal/run"
)

// hostPhase runs the hooks of one phase outside the chroot.
func (b *builder) hostPhase(ctx context.Context, phase string, extra map[string]string) error {
	env := b.hostEnv(extra)
	if err := b.breakPoint(ctx, "before-"+phase, place.HooksDir, "", env); err != nil {
		return err
	}
	s := side{name: "host", hooksDir: place.HooksDir, dir: b.cwd, env: env}
	if err := b.runHooks(ctx, phase, s); err != nil {
		return b.afterError(ctx, phase, "", env, err)
	}
	return b.breakPoint(ctx, "after-"+phase, place.HooksDir, "", env)
}

// targetPhase runs the hooks of one phase in the chroot. A phase without a
// directory does nothing, not even break (spec/01 section 3.11).
func (b *builder) targetPhase(ctx context.Context, phase string) error {
	if st, err := os.Stat(filepath.Join(place.HooksDir, phase+".d")); err != nil || !st.IsDir() {
		return nil
	}
	return b.inTarget(ctx, func() error {
		env := b.targetEnv()
		if err := b.breakPoint(ctx, "before-"+phase, place.TreeDir, place.TreeDir, env); err != nil {
			return err
		}
		s := side{name: "target", hooksDir: place.InTarget, root: place.TreeDir, env: env}
		if err := b.runHooks(ctx, phase, s); err != nil {
			return b.afterError(ctx, phase, place.TreeDir, env, err)
		}
		return b.breakPoint(ctx, "after-"+phase, place.TreeDir, place.TreeDir, env)
	})
}

// inTarget shows the hooks inside the chroot while f runs.
func (b *builder) inTarget(ctx context.Context, f func() error) error {
	if err := bindHooks(place.TreeDir); err != nil {
		return err
	}
	err := bindSecrets(place.TreeDir)
	if err == nil {
		err = f()
	}
	if err == nil {
		endProcessesIn(place.TreeDir)
	}
	if uerr := errors.Join(unbindSecrets(place.TreeDir), unbindHooks(place.TreeDir)); err == nil {
		err = uerr
	}
	return err
}

// installPackages installs the -p packages after install.d, with the
// environment that hooks have (D39).
func (b *builder) installPackages(ctx context.Context) error {
	names := b.plan.Recipe.Packages
	if len(names) == 0 {
		return nil
	}
	return b.inTarget(ctx, func() error {
		s := side{name: "target", hooksDir: place.InTarget, root: place.TreeDir, env: b.targetEnv()}
		around, err := b.environment(ctx, "install", s)
		if err != nil {
			return err
		}
		// The words go to the shell as arguments, never as text (D24).
		argv := append([]string{"/bin/sh", "-c", `exec install-packages "$@"`, "install-packages"}, names...)
		err = around.Apply(run.Cmd{Argv: argv, Root: place.TreeDir, Log: b.log,
			Where: run.Where{Element: "(-p)", Phase: "install", Hook: "install-packages"}}).Run(ctx)
		if err != nil {
			return b.afterError(ctx, "install", place.TreeDir, around.Env, err)
		}
		return nil
	})
}

// side is one of the two places where hooks run.
type side struct {
	name     string // "host" or "target"
	hooksDir string // as the hooks see it
	root     string // chroot, empty on the host
	dir      string // working directory; "/" in the chroot
	env      []string
}

// runHooks runs the hooks of a phase in order, as spec/01 section 4 says of
// dib-run-parts. Selection, order and timing happen here, not in the chroot.
func (b *builder) runHooks(ctx context.Context, phase string, s side) (err error) {
	dir := filepath.Join(place.HooksDir, phase+".d")
	if st, serr := os.Stat(dir); serr != nil || !st.IsDir() {
		return nil
	}
	b.sink.Emit(event.Event{Kind: event.PhaseStart, Phase: phase, Side: s.name})
	defer b.sink.Emit(event.Event{Kind: event.PhaseEnd, Phase: phase, Side: s.name})

	hooks, ignored, err := hook.Select(dir, b.env["RUN_PARTS_REGEX"])
	if err != nil {
		return err
	}
	for _, i := range ignored {
		if b.hooks.Owner(phase+".d/"+i.Name) == "" { // the plan has warned about the others
			b.warn(i.Warning(dir))
		}
	}
	if len(hooks) == 0 {
		return nil
	}
	b.logf("Running hooks from %s", filepath.Join(s.hooksDir, phase+".d"))
	around, err := b.environment(ctx, phase, s)
	if err != nil {
		return err
	}
	var timings []hook.Timing
	defer func() {
		for _, line := range hook.Profile(phase+".d", timings) {
			b.logf("%s", line)
		}
	}()
	for _, name := range hooks {
		start := b.now()
		err := b.runHook(ctx, phase, name, s, around)
		timings = append(timings, hook.Timing{Name: name, Seconds: b.now().Sub(start).Seconds()})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) runHook(ctx context.Context, phase, name string, s side, around hook.Surroundings) error {
	path := filepath.Join(s.hooksDir, phase+".d", name)
	owner := b.owner(phase, name)
	b.logf("%sRunning %s", hook.LogPrefix, path)
	ev := event.Event{Kind: event.HookStart, Phase: phase, Side: s.name, Element: owner, Hook: name}
	b.sink.Emit(ev)
	start := b.now()
	err := hook.Run(ctx, around.Apply(run.Cmd{
		Argv: []string{path}, Root: s.root, Dir: s.dir, Stdin: b.stdin, ShareGroup: b.stdinIsTerminal, Log: b.log, Background: true,
		Where: run.Where{Element: owner, Phase: phase, Hook: name},
	}))
	ev.Kind, ev.Seconds = event.HookEnd, b.now().Sub(start).Seconds()
	var re *run.Error
	if errors.As(err, &re) {
		ev.Exit = re.Exit
	}
	b.sink.Emit(ev)
	if err == nil {
		b.logf("%s%s completed", hook.LogPrefix, path)
	}
	return err
}

// environment sources environment.d once for a phase and returns what it
// leaves to the hooks.
func (b *builder) environment(ctx context.Context, phase string, s side) (hook.Surroundings, error) {
	names, err := hook.EnvironmentFiles(filepath.Join(place.HooksDir, hook.EnvironmentDir))
	if err != nil {
		return hook.Surroundings{}, err
	}
	c := run.Cmd{Root: s.root, Dir: s.dir, Env: s.env, Log: b.log, Where: run.Where{Element: "-", Phase: phase, Hook: hook.EnvironmentDir}}
	around, err := hook.Surround(ctx, c, filepath.Join(s.hooksDir, hook.EnvironmentDir), names)
	exported := environMap(around.Env)
	b.redactor.Learn(exported) // elements may export secrets of their own
	b.release = exported["DIB_RELEASE"]
	return around, err
}

func environMap(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	return env
}

func (b *builder) owner(phase, name string) string {
	if o := b.hooks.Owner(phase + ".d/" + name); o != "" {
		return o
	}
	// install-types links hooks out of a variant directory while the build runs.
	if target, err := os.Readlink(filepath.Join(place.HooksDir, phase+".d", name)); err == nil {
		if o := b.hooks.Owner(filepath.Join(phase+".d", target)); o != "" {
			return o
		}
	}
	return "(generated)"
}

// hostEnv is the environment of host-side hooks with a phase's own variables.
func (b *builder) hostEnv(extra map[string]string) []string {
	env := make(map[string]string, len(b.env)+len(extra))
	for _, vars := range []map[string]string{b.env, b.hostOnly, extra} {
		maps.Copy(env, vars)
	}
	return plan.Env(env).Environ()
}

func (b *builder) targetEnv() []string { return plan.TargetEnv(b.env.Environ()) }

// step brackets work of the core with events.
func (b *builder) step(name string, f func() error) error {
	b.sink.Emit(event.Event{Kind: event.StepStart, Step: name})
	return b.stepped(name, f)
}

// stepped is step for one whose start was announced.
func (b *builder) stepped(name string, f func() error) error {
	start := b.now()
	err := f()
	b.sink.Emit(event.Event{Kind: event.StepEnd, Step: name, Seconds: b.now().Sub(start).Seconds()})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (b *builder) log(line []byte) { b.sink.Emit(event.Event{Kind: event.Log, Line: line}) }
func (b *builder) logf(format string, args ...any) {
	b.sink.Emit(event.LogLine(fmt.Sprintf(format, args...)))
}
func (b *builder) warn(text string) { b.sink.Emit(event.Warn(text)) }
