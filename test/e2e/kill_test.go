package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dib-builder/dib/test/lab"
)

// seed makes a run of random kills repeatable as far as the machine allows:
// DIB_TEST_SEED, else the clock. It is printed.
func seed(t *testing.T) *rand.Rand {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if text := os.Getenv("DIB_TEST_SEED"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("DIB_TEST_SEED: %v", err)
		}
	}
	t.Logf("DIB_TEST_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 0))
}

// assassin kills one random process of a build at a given time after its start.
type assassin struct {
	after  time.Duration
	pick   func(n int) int
	victim chan string // one value: who was killed, or "" when the build was over
}

func newAssassin(after time.Duration, random *rand.Rand) *assassin {
	return &assassin{after: after, pick: random.IntN, victim: make(chan string, 1)}
}

func (a *assassin) strike(r *lab.Running) {
	time.Sleep(a.after)
	for {
		list := r.Processes()
		if len(list) == 0 {
			a.victim <- ""
			return
		}
		p := list[a.pick(len(list))]
		if syscall.Kill(p.PID, syscall.SIGKILL) == nil {
			a.victim <- fmt.Sprintf("%s (%d of %d processes)", p.Name, 1, len(list))
			return
		}
	}
}

// outputsAreWhole checks that each output file either is absent or is good:
// a killed build may have published one of two images, but never half of one.
func (b *workbench) outputsAreWhole(what string) {
	b.t.Helper()
	for _, name := range b.outputs() {
		path := filepath.Join(b.out, name)
		switch {
		case strings.HasPrefix(name, "."):
			b.t.Errorf("%s: the output directory has the partial %s", what, name)
		case strings.HasSuffix(name, ".qcow2"):
			output(b.t, "qemu-img", "check", path)
		case strings.HasSuffix(name, ".raw"):
			if strings.HasPrefix(name, "fake") {
				output(b.t, "e2fsck", "-fn", path)
			}
		case strings.HasSuffix(name, ".d"):
			if _, err := os.Stat(filepath.Join(path, "dib-manifests", "dib_arguments")); err != nil {
				b.t.Errorf("%s: the manifests in %s are incomplete: %v", what, name, err)
			}
		default:
			b.t.Errorf("%s: the output directory has %s", what, name)
		}
	}
}

func (b *workbench) clearOutputs() {
	b.t.Helper()
	for _, name := range b.outputs() {
		if err := os.RemoveAll(filepath.Join(b.out, name)); err != nil {
			b.t.Fatal(err)
		}
	}
}

// TestKill kills a random process of a build at random moments. Whatever it
// hits, nothing may be left, and the next build must succeed.
func TestKill(t *testing.T) {
	needProgram(t, "qemu-img")
	l := openLab(t)
	random := seed(t)
	benches := []*workbench{newWorkbench(t, l, lab.Root()), newWorkbench(t, l, ordinary(t))}
	good := build{args: []string{"-n", "-t", "qcow2,raw", "-o", "fake", "fake-os", "manifests", "recorder"}}
	var whole [2]time.Duration
	for i, b := range benches {
		whole[i] = b.mustBuild(good).Elapsed
		b.clearOutputs()
		t.Logf("a build as %s takes %v", b.actor.Name, whole[i].Round(time.Millisecond))
	}
	const kills = 45
	victims := map[string]int{}
	for done, round := 0, 0; done < kills; round++ {
		if round > 3*kills {
			t.Fatalf("only %d of %d kills hit a build in %d rounds", done, kills, round)
		}
		i := done % len(benches)
		b := benches[i]
		a := newAssassin(time.Duration(random.Int64N(int64(whole[i]))), random)
		bad := good
		bad.started = a.strike
		// Every third build is on disk instead of in memory.
		if done%3 == 2 {
			bad.args = append([]string{"--no-tmpfs"}, good.args...)
		}
		// Every other one of root's has its disk on a loop device.
		if b.actor.UID == 0 && done%4 == 0 {
			bad.env = map[string]string{"DIB_BLOCK_DEVICE_BACKEND": "loop"}
		}
		o := b.run(bad)
		victim := <-a.victim
		if victim == "" {
			continue // the build was quicker than last time
		}
		done++
		victims[strings.Fields(victim)[0]]++
		what := fmt.Sprintf("kill %d as %s, %s after %v", done, b.actor.Name, victim, a.after.Round(time.Millisecond))
		b.outputsAreWhole(what)
		if o.Exit == 0 && !slices.Equal(b.outputs(), []string{"fake.d", "fake.qcow2", "fake.raw"}) {
			t.Errorf("%s: the build claims success, its outputs are %v", what, b.outputs())
		}
		if t.Failed() {
			t.Fatalf("%s: exit status %d\n%s%s", what, o.Exit, tail(o.Stdout), o.Stderr)
		}
		b.clearOutputs()
		b.mustBuild(good)
		b.outputsAreWhole("the build after " + what)
		b.clearOutputs()
	}
	t.Logf("killed: %v", victims)
}
