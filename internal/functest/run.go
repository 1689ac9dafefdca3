package functest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dib-builder/dib/internal/run"
)

// sentinel is the file in /tmp of the image by which a test says that its build
// is going to fail, and should.
const sentinel = "dib-test-should-fail"

// Options say how tests run.
type Options struct {
	Program string   // the dib binary
	Env     []string // of the builds, before what tests set themselves
	Jobs    int      // builds at the same time, at least 1
	Keep    bool     // keep the directories with the images
	LogDir  string   // absolute; empty: output goes to Output
	TempDir string   // existing directory for images
	// Mode is the permissions of a file of the program's own library, which
	// has none itself.
	Mode func(content []byte) fs.FileMode

	// Report gets a line about a test: that it begins, how it ends.
	Report func(line string)
	// Output gets a line of a build.
	Output func(line string)
}

// Outcome is what became of one test.
type Outcome struct {
	Test    Test
	Err     error // nil: passed
	Elapsed time.Duration
	Ran     bool // false: not started, because another one had failed
}

// Run runs the tests, several at a time, in their order. After the first
// failure no other is started. Outcomes are in the order of the tests.
func Run(ctx context.Context, tests []Test, opt Options) []Outcome {
	outcomes := make([]Outcome, len(tests))
	var mu sync.Mutex
	next, failed := 0, false
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if failed || ctx.Err() != nil || next == len(tests) {
			return 0, false
		}
		next++
		return next - 1, true
	}
	done := func(i int, o Outcome) {
		mu.Lock()
		defer mu.Unlock()
		outcomes[i] = o
		failed = failed || o.Err != nil
	}
	for i, t := range tests {
		outcomes[i].Test = t
	}
	var workers sync.WaitGroup
	for range max(1, opt.Jobs) {
		workers.Go(func() {
			for {
				i, ok := take()
				if !ok {
					return
				}
				opt.Report("Running " + tests[i].ID())
				start := time.Now()
				err := tests[i].run(ctx, opt)
				o := Outcome{Test: tests[i], Err: err, Ran: true, Elapsed: time.Since(start)}
				opt.Report(o.String())
				done(i, o)
			}
		})
	}
	workers.Wait()
	return outcomes
}

// String is the line about a test that has ended.
func (o Outcome) String() string {
	if o.Err != nil {
		return fmt.Sprintf("FAIL %s (%.1f s): %v", o.Test.ID(), o.Elapsed.Seconds(), o.Err)
	}
	return fmt.Sprintf("PASS %s (%.1f s)", o.Test.ID(), o.Elapsed.Seconds())
}

// run builds the image of one test and judges the result.
func (t Test) run(ctx context.Context, opt Options) (err error) {
	dir, err := os.MkdirTemp(opt.TempDir, "dib-test-")
	if err != nil {
		return fmt.Errorf("cannot make a place for the image: %w", err)
	}
	if opt.Keep {
		opt.Report(fmt.Sprintf("Keeping output of %s in %s", t.ID(), dir))
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	elements, err := t.elements(dir, opt.Mode)
	if err != nil {
		return fmt.Errorf("cannot unpack the test: %w", err)
	}
	log := ""
	if opt.LogDir != "" {
		log = filepath.Join(opt.LogDir, t.Element+"_"+t.Name+".log")
		if err := os.Remove(log); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot start a new log: %w", err)
		}
		defer func() { err = errors.Join(err, nameLog(log, err == nil)) }()
	}
	cmd := run.Cmd{
		Argv: t.argv(opt, dir, log), Env: t.environment(opt.Env, dir, elements, log != ""),
		Log: func(line []byte) { opt.Output(fmt.Sprintf("[%s] %s", t.ID(), line)) },
	}
	buildErr := cmd.Run(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, statErr := os.Stat(filepath.Join(dir, sentinel))
	return t.verdict(buildErr, statErr == nil, func(name string) bool {
		st, err := os.Stat(filepath.Join(dir, name))
		return err == nil && st.Mode().IsRegular() && st.Size() > 0
	})
}

// nameLog gives a log the name that tells how the test went.
func nameLog(log string, passed bool) error {
	if _, err := os.Stat(log); errors.Is(err, fs.ErrNotExist) {
		return nil // the build did not even begin
	}
	word := ".FAIL.log"
	if passed {
		word = ".PASS.log"
	}
	return os.Rename(log, strings.TrimSuffix(log, ".log")+word)
}

// elements returns the directory that has the test as an element. Tests of the
// program's own library are written below dir first.
func (t Test) elements(dir string, mode func([]byte) fs.FileMode) (string, error) {
	if t.Layer.Path != "" {
		return filepath.Join(t.Layer.Path, t.Element, testsDir), nil
	}
	top := filepath.Join(dir, "elements")
	parent := path.Dir(t.dir())
	return top, fs.WalkDir(t.Layer.FS, t.dir(), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		dest := filepath.Join(top, strings.TrimPrefix(p, parent))
		if d.IsDir() {
			return os.MkdirAll(dest, 0o755)
		}
		data, err := fs.ReadFile(t.Layer.FS, p)
		if err != nil {
			return err
		}
		return os.WriteFile(dest, data, mode(data))
	})
}

// argv is the build of the test. Several at a time could want more memory than
// there is, so only single ones build in a tmpfs.
func (t Test) argv(opt Options, dir, log string) []string {
	argv := []string{opt.Program}
	if t.Ramdisk {
		argv = append(argv, "ramdisk-image-create")
	} else {
		argv = append(argv, "disk-image-create", "-n", "-t", strings.Join(t.Formats, ","))
	}
	argv = append(argv, "-x", "-o", filepath.Join(dir, "image"))
	if opt.Jobs > 1 {
		argv = append(argv, "--no-tmpfs")
	}
	if log != "" {
		argv = append(argv, "--logfile", log)
	}
	return append(argv, t.Element, t.Name)
}

// environment is that of the build. Break points look for the sentinel: after a
// failure, and before /tmp is emptied in a build that has not failed.
func (t Test) environment(env []string, dir, elements string, logged bool) []string {
	values := map[string]string{}
	var order []string
	set := func(name, value string) {
		if _, ok := values[name]; !ok {
			order = append(order, name)
		}
		values[name] = value
	}
	for _, kv := range env {
		if name, value, ok := strings.Cut(kv, "="); ok {
			set(name, value)
		}
	}
	set("LANG", "en_US.utf8")
	set("LC_ALL", "")
	set("DIB_SHOW_IMAGE_USAGE", "1")
	quiet := "0"
	if logged {
		quiet = "1"
	}
	set("DIB_QUIET", quiet)
	if rest := values["ELEMENTS_PATH"]; rest != "" {
		elements += ":" + rest
	}
	set("ELEMENTS_PATH", elements)
	set("break", "after-error,after-cleanup")
	set("break_outside_target", "1")
	set("break_cmd", fmt.Sprintf(`for tree in "$TMP_MOUNT_PATH" "$TMP_BUILD_DIR/built"; do if [ -e "$tree/tmp/%[1]s" ]; then : > %[2]s; fi; done`,
		sentinel, run.Quote(filepath.Join(dir, sentinel))))
	all := make([]string, len(order))
	for i, name := range order {
		all[i] = name + "=" + values[name]
	}
	return all
}

// verdict judges a build that has ended, with or without an error, and with or
// without the sentinel.
func (t Test) verdict(build error, sentinel bool, exists func(name string) bool) error {
	switch {
	case build != nil && sentinel:
		return nil // it failed as it should
	case build != nil:
		var failed *run.Error
		if errors.As(build, &failed) {
			return fmt.Errorf("the build ended with exit status %d", failed.Exit)
		}
		return build
	case sentinel:
		return errors.New("the build was to fail, as /tmp/dib-test-should-fail says, and succeeded")
	}
	var missing []string
	for _, name := range t.outputs() {
		if !exists(name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the build succeeded without making %s", strings.Join(missing, ", "))
	}
	return nil
}

// outputs are the files that a build must make. A docker image is handed to
// docker and leaves none.
func (t Test) outputs() []string {
	if t.Ramdisk {
		return []string{"image.initramfs"}
	}
	var names []string
	for _, format := range t.Formats {
		if format != "docker" {
			names = append(names, "image."+format)
		}
	}
	return names
}
