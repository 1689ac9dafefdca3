package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/dib-builder/dib/elements"
	"github.com/dib-builder/dib/internal/cli/getopt"
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/functest"
)

const testElementsUsage = `Usage: dib test-elements [-h] [-l] [-j N] [-t] [-k] [-L DIR] [TEST...|all]

Run functional tests of elements. A test ELEMENT/NAME is the directory
ELEMENT/test-elements/NAME, itself an element: an image of the two is built, and
a hook that fails makes the test fail.

  -l, --list         list the tests, and whether they would run, and exit
  -j, --jobs N       builds at the same time (default: 1)
  -t, --timestamps   begin lines about tests with the time
  -k, --keep         keep the images
  -L, --log-dir DIR  write the log of each test to DIR/ELEMENT_NAME.PASS.log or
                     .FAIL.log, instead of printing it
  -h, --help         show this text

Without TEST those tests run that are not marked [skip]; all runs every test.
Elements are those of ELEMENTS_PATH and of the library that comes with the
program. After the first failure no other test is started.

Exit status: 0 all tests passed, 1 a test failed or does not exist, 2 wrong usage.
`

// testElementsOptions is what the command line asks for.
type testElementsOptions struct {
	help, list, stamps, keep bool
	jobs                     int
	logDir                   string
	tests                    []string
}

func parseTestElements(args []string) (testElementsOptions, error) {
	o := testElementsOptions{jobs: 1}
	matches, words, err := getopt.Parse([]getopt.Option{
		{Short: 'h', Long: "help"}, {Short: 'l', Long: "list"}, {Short: 'j', Long: "jobs", Arg: true},
		{Short: 't', Long: "timestamps"}, {Short: 'k', Long: "keep"}, {Short: 'L', Long: "log-dir", Arg: true},
	}, args, false)
	if err != nil {
		return o, err
	}
	o.tests = words
	for _, m := range matches {
		switch m.Option.Short {
		case 'h':
			o.help = true
		case 'l':
			o.list = true
		case 't':
			o.stamps = true
		case 'k':
			o.keep = true
		case 'L':
			o.logDir = m.Value
		case 'j':
			if o.jobs, err = strconv.Atoi(m.Value); err != nil || o.jobs < 1 {
				return o, fmt.Errorf("option -j: %q is not a number of jobs, 1 or more", m.Value)
			}
		}
	}
	return o, nil
}

// testElements is "dib test-elements".
func testElements(ctx context.Context, std command.IO, args []string) int {
	const name = "dib test-elements"
	o, err := parseTestElements(args)
	if err != nil {
		complain(std.Err, name, err)
		return exitUsage
	}
	if o.help {
		_, _ = fmt.Fprint(std.Out, testElementsUsage)
		return 0
	}
	layers, err := testLayers(std)
	if err == nil {
		var all, chosen []functest.Test
		if all, err = functest.Discover(layers); err == nil {
			if chosen, err = functest.Select(all, o.tests); err == nil {
				if o.list {
					listTests(std, all, chosen)
					return 0
				}
				return runTests(ctx, std, o, chosen)
			}
		}
	}
	complain(std.Err, name, err)
	return 1
}

// testLayers are the directories of ELEMENTS_PATH and the program's library.
func testLayers(std command.IO) ([]functest.Layer, error) {
	var layers []functest.Layer
	var errs []error
	for _, dir := range filepath.SplitList(std.Getenv("ELEMENTS_PATH")) {
		abs, err := filepath.Abs(dir)
		if err == nil {
			_, err = os.ReadDir(abs)
		}
		if err != nil || dir == "" {
			errs = append(errs, fmt.Errorf("cannot use directory %q of ELEMENTS_PATH: %w", dir, err))
			continue
		}
		layers = append(layers, functest.Layer{Path: abs, FS: os.DirFS(abs)})
	}
	return append(layers, functest.Layer{FS: elements.FS()}), errors.Join(errs...)
}

func listTests(std command.IO, all, chosen []functest.Test) {
	for _, t := range all {
		mark := "[skip]"
		if slices.ContainsFunc(chosen, func(c functest.Test) bool { return c.ID() == t.ID() }) {
			mark = "[run]"
		}
		_, _ = fmt.Fprintf(std.Out, "%s %s\n", t.ID(), mark)
	}
}

func runTests(ctx context.Context, std command.IO, o testElementsOptions, tests []functest.Test) int {
	const name = "dib test-elements"
	program, err := os.Executable()
	if err == nil && o.logDir != "" {
		if o.logDir, err = filepath.Abs(o.logDir); err == nil {
			err = os.MkdirAll(o.logDir, 0o777)
		}
	}
	if err != nil {
		complain(std.Err, name, fmt.Errorf("cannot run tests: %w", err))
		return 1
	}
	var mu sync.Mutex // lines of builds that run at the same time
	print := func(line string) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintln(std.Out, line)
	}
	report := print
	if o.stamps {
		report = func(line string) { print(time.Now().UTC().Format("2006-01-02 15:04:05.000") + " | " + line) }
	}
	outcomes := functest.Run(ctx, tests, functest.Options{
		Program: program, Env: std.Environ(), Jobs: o.jobs, Keep: o.keep, LogDir: o.logDir, TempDir: std.Getenv("TMPDIR"),
		Mode:   func(content []byte) fs.FileMode { return elements.Mode(content) },
		Report: report, Output: print,
	})
	var passed, failed, left int
	for _, outcome := range outcomes {
		switch {
		case !outcome.Ran:
			left++
		case outcome.Err != nil:
			failed++
		default:
			passed++
		}
	}
	report(fmt.Sprintf("Tests: %d passed, %d failed, %d not run", passed, failed, left))
	if failed > 0 || left > 0 {
		return 1
	}
	return 0
}
