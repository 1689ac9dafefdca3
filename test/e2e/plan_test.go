package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dib-builder/dib/internal/plan/show"
	"github.com/dib-builder/dib/internal/secret"
	"github.com/dib-builder/dib/test/lab"
)

// dib runs another command than create in the workbench.
func (b *workbench) dib(env map[string]string, args ...string) lab.Outcome {
	b.t.Helper()
	all := maps.Clone(b.env)
	maps.Copy(all, env)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := lab.Command{Actor: b.actor, Argv: append([]string{b.lab.Dib}, args...), Dir: b.out, Env: b.actor.Environment(all)}
	o, err := c.Run(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	if len(o.Left) > 0 {
		b.t.Errorf("processes are left: %v", o.Left)
	}
	traces, err := lab.Traces(b.out, b.tmp)
	if err != nil || len(traces) > 0 {
		b.t.Errorf("left on the host: %v (%v)", traces, err)
	}
	return o
}

func (b *workbench) plan(env map[string]string, args ...string) show.Document {
	b.t.Helper()
	o := b.dib(env, append([]string{"plan", "-f", "json"}, args...)...)
	if o.Exit != 0 || o.Stderr != "" {
		b.t.Fatalf("dib plan: exit status %d\n%s", o.Exit, o.Stderr)
	}
	var doc show.Document
	if err := json.Unmarshal([]byte(o.Stdout), &doc); err != nil {
		b.t.Fatal(err)
	}
	return doc
}

// write makes a file of the workbench; a name ending in "*" is executable.
func (b *workbench) write(name, content string) {
	b.t.Helper()
	name, executable := strings.CutSuffix(name, "*")
	path := filepath.Join(b.out, name)
	mode := os.FileMode(0o644)
	if executable {
		mode = 0o755
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		b.t.Fatal(err)
	}
}

// What a plan says must be what a build does: elements, hooks in order, and the
// whole environment of a hook.
func TestPlanIsWhatABuildDoes(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		b.write("own/spy/environment.d/20-spy", "export SPY_VALUE=$(( 6 * 7 )) SPY_LINES=$'one\\ntwo' SPY_ROOT=${TARGET_ROOT:-}\nexport SPY_ELEMENTS=$(ls \"$TMP_HOOKS_PATH\" | wc -l)\n")
		b.write("own/spy/root.d/99-spy*", "#!/bin/bash\nset -eu\necho \"SPY $(env -0 | base64 -w0)\"\n")
		env := map[string]string{"ELEMENTS_PATH": filepath.Join(b.out, "own") + ":" + b.lab.Elements(), "CALLERS": "a  b", "DIB_SPY_PASSWORD": "correct horse"}
		args := []string{"-o", "spied", "--image-size", "0.25", "fake-os", "recorder", "spy"}
		doc := b.plan(env, args...)
		if got := b.outputs(); !slices.Equal(got, []string{"own"}) {
			t.Errorf("planning left %q", got)
		}
		for _, dir := range []string{".cache", ".locks"} {
			if _, err := os.Stat(filepath.Join(b.out, dir)); err == nil {
				t.Errorf("planning made %s", dir)
			}
		}
		b.tmpIsEmpty()
		if !doc.Environment.Evaluated {
			t.Fatalf("environment.d is not evaluated: %s", doc.Environment.Reason)
		}

		o := b.mustBuild(build{args: args, env: env})
		var ran []string
		for _, m := range regexp.MustCompile(`(?m)^dib-run-parts Running .*/([a-z-]+\.d/\S+)$`).FindAllStringSubmatch(o.Stdout, -1) {
			ran = append(ran, m[1])
		}
		var planned []string
		for _, phase := range doc.Phases {
			for _, h := range phase.Hooks {
				planned = append(planned, phase.Name+".d/"+h.Name)
			}
		}
		if !slices.Equal(ran, planned) {
			t.Errorf("hooks ran as\n%q, planned were\n%q", ran, planned)
		}
		m := regexp.MustCompile(`(?m)^SPY (.*)$`).FindStringSubmatch(o.Stdout)
		if m == nil {
			t.Fatal("no hook told its environment")
		}
		raw, err := base64.StdEncoding.DecodeString(m[1])
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]string{}
		for kv := range strings.SplitSeq(strings.TrimSuffix(string(raw), "\x00"), "\x00") {
			name, value, _ := strings.Cut(kv, "=")
			seen[name] = value
		}
		told := map[string]string{}
		for _, v := range doc.Environment.Variables {
			told[v.Name] = v.Value
		}
		delete(seen, "_") // of bash in the hook
		delete(seen, "SHLVL")
		delete(told, "SHLVL")
		if seen["DIB_SPY_PASSWORD"] != "correct horse" || told["DIB_SPY_PASSWORD"] != secret.Mark {
			t.Errorf("a secret: the hook has %q, the plan %q", seen["DIB_SPY_PASSWORD"], told["DIB_SPY_PASSWORD"])
		}
		delete(seen, "DIB_SPY_PASSWORD")
		delete(told, "DIB_SPY_PASSWORD")
		for _, name := range slices.Sorted(maps.Keys(seen)) {
			if value, ok := told[name]; !ok || value != seen[name] {
				t.Errorf("a hook sees %s=%q; planned was %q (%v)", name, seen[name], value, ok)
			}
		}
		for name, value := range told {
			if _, ok := seen[name]; !ok {
				t.Errorf("planned was %s=%q, which no hook sees", name, value)
			}
		}
		if st, err := os.Stat(filepath.Join(b.out, "spied.qcow2")); err != nil || st.Size() == 0 {
			t.Errorf("no image: %v", err)
		}
		if doc.Layout.Size == nil || *doc.Layout.Size != 256<<20 || doc.Outputs[0].Path != "spied.qcow2" {
			t.Errorf("layout %+v, outputs %v", doc.Layout, doc.Outputs)
		}
	})
}

// Two plans of one request are equal, byte for byte, in both forms.
func TestPlanRepeats(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		for _, format := range []string{"text", "json"} {
			args := []string{"plan", "-f", format, "vm", "debian-minimal", "openssh-server", "growroot", "-o", "x"}
			first, second := b.dib(nil, args...), b.dib(nil, args...)
			if first.Exit != 0 || first.Stdout == "" || first.Stdout != second.Stdout {
				t.Errorf("%s: exit status %d, first\n%s\nthen\n%s", format, first.Exit, first.Stdout, second.Stdout)
			}
		}
	})
}

// An environment file can do nothing to the machine while it is looked at.
func TestPlanHasNoSideEffects(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		b.write("own/evil/environment.d/20-evil", `
touch "$HOME/evil" "`+b.out+`/evil" /tmp/evil /var/tmp/evil 2>/dev/null || true
mount -o remount,rw / 2>/dev/null || true
touch /etc/evil 2>/dev/null || true
setsid sleep 1000 >/dev/null 2>&1 &
( : > /dev/tcp/127.0.0.1/9 ) 2>/dev/null || true
export EVIL=$(id -u)
`)
		doc := b.plan(map[string]string{"ELEMENTS_PATH": filepath.Join(b.out, "own") + ":" + b.lab.Elements()}, "fake-os", "evil")
		i := slices.IndexFunc(doc.Environment.Variables, func(v show.Variable) bool { return v.Name == "EVIL" })
		if i < 0 || doc.Environment.Variables[i] != (show.Variable{Name: "EVIL", Value: "0", Origin: "environment.d/20-evil"}) {
			t.Errorf("the file was not sourced: %+v", doc.Environment)
		}
		for _, path := range []string{filepath.Join(b.actor.Home, "evil"), filepath.Join(b.out, "evil"), "/tmp/evil", "/var/tmp/evil", "/etc/evil"} {
			if _, err := os.Lstat(path); err == nil {
				t.Errorf("%s was made", path)
				_ = os.Remove(path)
			}
		}
	})
}

// Without namespaces a plan is made all the same.
func TestPlanWithoutNamespaces(t *testing.T) {
	needProgram(t, "unshare", "setpriv")
	asEach(t, func(t *testing.T, b *workbench) {
		all := maps.Clone(b.env)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c := lab.Command{Actor: b.actor, Dir: b.out, Env: b.actor.Environment(all), Argv: []string{"/usr/bin/env", "unshare", "--user", "--map-root-user", "sh", "-c",
			`echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set -all --inh-caps=-all "$@"`, "sh", b.lab.Dib, "plan", "fake-os", "recorder"}}
		o, err := c.Run(ctx)
		if err != nil || o.Exit != 0 {
			t.Fatalf("exit status %d, %v\n%s", o.Exit, err, o.Stderr)
		}
		mustContain(t, "the plan", o.Stdout, `^Environment of hooks on the host, before environment\.d, whose effect is unknown:$`,
			`user\.max_user_namespaces is 0.*run: sudo sysctl -w user\.max_user_namespaces=15000`, `^  fake-os +`, `^    50-record +recorder$`, `^  ARCH=`)
	})
}
