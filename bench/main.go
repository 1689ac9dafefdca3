// Command bench measures dib against the tools it replaces, on the same
// machine, mirror and package set, and prints ratios.
//
//	go run ./bench [-pairs N] [-work DIR] [-only build,disk,qcow2,onepass]
//
// It runs as root, because the classical tools need that. Each comparison
// alternates between the two sides, so that a machine that grows slower or
// faster meanwhile favours none.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/dib-builder/dib/test/lab"
)

func main() {
	lab.MaybeObserve()
	pairs := flag.Int("pairs", 3, "number of A B pairs")
	work := flag.String("work", "", "scratch directory on a real disk (default: a new one in /var/tmp)")
	only := flag.String("only", "build,disk,qcow2,onepass", "comma list of what to measure")
	keep := flag.Bool("keep", false, "do not remove the scratch directory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := measure(ctx, *pairs, *work, *keep, strings.Split(*only, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run of the program.
type bench struct {
	ctx   context.Context
	lab   *lab.Lab
	dir   string
	pairs int
}

func measure(ctx context.Context, pairs int, work string, keep bool, what []string) error {
	if os.Getuid() != 0 {
		return fmt.Errorf("needs root: mmdebstrap and mke2fs of a whole tree do, and both sides shall be equal")
	}
	for _, program := range []string{"mmdebstrap", "mke2fs", "qemu-img"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("cannot find %s; scripts/install-test-deps installs it", program)
		}
	}
	l, err := lab.Open()
	if err != nil {
		return err
	}
	defer l.Close()
	if work == "" {
		if work, err = os.MkdirTemp("/var/tmp", "dib-bench-"); err != nil {
			return err
		}
		if !keep {
			defer os.RemoveAll(work)
		}
	}
	b := &bench{ctx: ctx, lab: l, dir: work, pairs: pairs}
	fmt.Println(b.conditions())
	first, err := b.reference()
	if err != nil {
		return err
	}
	if slices.Contains(what, "build") {
		if err := b.builds(first); err != nil {
			return err
		}
	}
	if slices.Contains(what, "disk") {
		if err := b.compareDisks(first); err != nil {
			return err
		}
	}
	if slices.Contains(what, "qcow2") {
		if err := b.compareFormats(first); err != nil {
			return err
		}
	}
	if slices.Contains(what, "onepass") {
		return b.compareOnePass(first.raw)
	}
	return nil
}

// conditions describes the machine, because numbers mean nothing without it.
func (b *bench) conditions() string {
	cpu := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, ok := strings.CutPrefix(line, "model name\t: "); ok {
				cpu = strings.TrimSpace(name)
				break
			}
		}
	}
	load, _ := os.ReadFile("/proc/loadavg")
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("machine: %d x %s, Linux %s\nload at start: %s\nmirror: %s\n%s, %s",
		runtime.NumCPU(), cpu, strings.TrimSpace(string(kernel)), strings.TrimSpace(string(load)), mirror(),
		version("mmdebstrap"), version("qemu-img"))
}

func version(program string) string {
	out, err := exec.Command(program, "--version").Output()
	if err != nil {
		return program + " of unknown version"
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return first
}

// result is one timed command.
type result struct {
	seconds float64
	rss     int64 // peak resident memory of the largest dib process, bytes
}

// dib runs one build and returns time and memory.
func (b *bench) dib(name, cache string, args ...string) (result, string, error) {
	out := filepath.Join(b.dir, name)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return result{}, "", err
	}
	watch := newMemoryWatch(b.lab.Dib)
	c := lab.Command{
		Actor: lab.Root(), Argv: append([]string{b.lab.Dib, "create", "-o", filepath.Join(out, "image")}, args...), Dir: out,
		Env: lab.Root().Environment(map[string]string{
			"DIB_IMAGE_CACHE": cache, "DIB_LOCKFILES": filepath.Join(b.dir, "locks"), "OVERWRITE_OLD_IMAGE": "1",
			"DIB_RELEASE": release,
		}),
		Started: watch.follow,
	}
	o, err := c.Run(b.ctx)
	if err == nil && o.Exit != 0 {
		err = fmt.Errorf("dib create %s: exit status %d\n%s", strings.Join(args, " "), o.Exit, lastLines(o.Stdout, 30))
	}
	return result{o.Elapsed.Seconds(), watch.stop()}, filepath.Join(out, "image"), err
}

// timed runs a program of the other side.
func (b *bench) timed(argv ...string) (result, error) {
	cmd := exec.CommandContext(b.ctx, argv[0], argv[1:]...)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return result{}, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, lastLines(string(out), 30))
	}
	return result{seconds: time.Since(start).Seconds()}, nil
}

func lastLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if len(s) == 0 {
		return 0
	}
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
