package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/sidetable"
)

// The test binary plays all parts: the stages, an engine that runs a script, and
// a supervisor that tests can start as another user and kill.
func TestMain(m *testing.M) {
	MaybeStage()
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "test-engine":
			os.Exit(testEngine())
		case "test-view":
			os.Exit(testView())
		case "test-resolve":
			os.Exit(testResolve(os.Args[2]))
		case "test-supervisor":
			os.Exit(testSupervisor())
		}
	}
	if filepath.Base(os.Args[0]) == "sudo" {
		os.Exit(testSudo())
	}
	code := m.Run()
	cleanUpTests()
	os.Exit(code)
}

// job is what a test supervisor is asked to do.
type job struct {
	Script    string
	TmpParent string
	UseTmpfs  bool
	TmpfsSize int64
	Grace     time.Duration
}

func testSupervisor() int {
	var j job
	if err := json.Unmarshal([]byte(os.Args[2]), &j); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	code, err := Run(ctx, Config{
		Engine: []string{"test-engine"}, Input: []byte(j.Script),
		Sink: event.SinkFunc(func(e event.Event) {
			fmt.Fprintf(os.Stderr, "%s: %s\n", e.Kind, e.Line)
		}),
		TmpParent: j.TmpParent, UseTmpfs: j.UseTmpfs, TmpfsSize: j.TmpfsSize, Grace: j.Grace,
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		var se *SetupError
		if errors.As(err, &se) {
			return 98
		}
		if !errors.Is(err, context.Canceled) {
			return 97
		}
	}
	return code
}

func testEngine() int {
	ctx, e, err := EngineContext()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	facts, _ := json.Marshal(e.Facts)
	e.Sink.Emit(event.LogLine("facts " + string(facts)))
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -eu -o pipefail\n"+string(e.Input))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), e.Facts.HostEnv...)
	cmd.Env = append(cmd.Env, "PATH="+place.StandInDir+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"T="+place.TreeDir, "FACTS="+string(facts))
	if err := cmd.Run(); err != nil {
		var ee *exec.ExitError
		if errors.As(err, &ee) {
			if ctx.Err() != nil {
				return 75
			}
			return ee.ExitCode()
		}
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	return 0
}

// testResolve prints what the side table says about a tree.
func testResolve(tree string) int {
	table, err := sidetable.Load(place.SideTable)
	if err == nil {
		var entries []sidetable.Entry
		entries, err = table.Resolve(tree)
		for _, e := range entries {
			if n := e.Node; n != nil {
				kind := map[uint32]string{unix.S_IFCHR: "c", unix.S_IFBLK: "b"}[n.Mode&unix.S_IFMT]
				fmt.Printf("%s %s %o %d:%d %d:%d\n", e.Path, kind, n.Mode&0o7777, n.Major, n.Minor, e.UID, e.GID)
				continue
			}
			fmt.Printf("%s flags %#x %v\n", e.Path, e.Flags, slices.Sorted(maps.Keys(e.Xattrs)))
		}
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}
