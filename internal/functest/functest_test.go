package functest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
)

func layer(path string, files ...string) Layer {
	fsys := fstest.MapFS{}
	for _, f := range files {
		name, text, _ := strings.Cut(f, "=")
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return Layer{Path: path, FS: fsys}
}

func ids(tests []Test) string {
	var list []string
	for _, t := range tests {
		list = append(list, t.ID())
	}
	return strings.Join(list, " ")
}

func TestDiscover(t *testing.T) {
	user := layer("/user", "a/test-elements/one/test-output-formats=tar,qcow2\n", "a/test-elements/two/element-type=ramdisk\n",
		"a/test-elements/.git/x=", "a/test-elements/README=", "b/README.rst=", "file=", "debian/test-elements/build-succeeds/x=")
	own := layer("", "a/test-elements/hidden/x=", "c/test-elements/three/element-deps=")
	tests, err := Discover([]Layer{user, own})
	if err != nil || ids(tests) != "a/one a/two c/three debian/build-succeeds" {
		t.Fatalf("%v, %v", ids(tests), err)
	}
	if one := tests[0]; !slices.Equal(one.Formats, []string{"tar", "qcow2"}) || one.Ramdisk || one.Layer.Path != "/user" {
		t.Errorf("%+v", one)
	}
	if two := tests[1]; !two.Ramdisk || !slices.Equal(two.Formats, []string{defaultFormat}) {
		t.Errorf("%+v", two)
	}
	for words, want := range map[string]string{
		"":                         "a/one a/two c/three",
		"all":                      "a/one a/two c/three debian/build-succeeds",
		"debian/build-succeeds":    "debian/build-succeeds",
		"c/three a/one all":        "a/one a/two c/three debian/build-succeeds",
		"c/three a/one":            "a/one c/three",
		"c/three nonsense/x y/z":   "nonsense/x, y/z",
		"all but/what/is/not/else": "a/one a/two c/three debian/build-succeeds",
	} {
		got, err := Select(tests, strings.Fields(words))
		var unknown *UnknownError
		if errors.As(err, &unknown) {
			if strings.Join(unknown.IDs, ", ") != want {
				t.Errorf("%q: %v", words, err)
			}
		} else if err != nil || ids(got) != want {
			t.Errorf("%q: %v, %v", words, ids(got), err)
		}
	}
	_, err = Discover([]Layer{layer("/x", "a/test-elements/one/test-output-formats=tar;rm", "a/test-elements/two/element-type=floppy")})
	for _, want := range []string{`test a/one: test-output-formats: "tar;rm" is no output format`, `test a/two: element-type: "floppy" is neither`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func FuzzParseFormats(f *testing.F) {
	f.Add("tar,qcow2\n")
	f.Add(" # why\nraw\n,, tgz")
	f.Fuzz(func(t *testing.T, text string) {
		formats, err := ParseFormats(text)
		if err != nil {
			return
		}
		again, err := ParseFormats(strings.Join(formats, ","))
		if err != nil || !slices.Equal(again, formats) {
			t.Errorf("%q: %q, then %q, %v", text, formats, again, err)
		}
	})
}

func FuzzParseType(f *testing.F) {
	f.Add("disk\n")
	f.Add(" ramdisk")
	f.Fuzz(func(t *testing.T, text string) {
		if ramdisk, err := ParseType(text); err == nil && ramdisk != strings.Contains(text, "ramdisk") {
			t.Errorf("%q: %v", text, ramdisk)
		}
	})
}

// bench runs tests with a script in the place of dib.
type bench struct {
	t     *testing.T
	opt   Options
	lines []string
	layer Layer
}

func newBench(t *testing.T, script string, tests ...string) *bench {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "dib")
	if err := os.WriteFile(program, []byte("#!/bin/bash\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, layer: layer("", tests...)}
	var mu sync.Mutex
	add := func(line string) {
		mu.Lock()
		defer mu.Unlock()
		b.lines = append(b.lines, line)
	}
	b.opt = Options{
		Program: program, Env: []string{"PATH=/usr/bin:/bin", "ELEMENTS_PATH=/mine", "LC_ALL=C"}, Jobs: 1, TempDir: t.TempDir(),
		Mode: func([]byte) fs.FileMode { return 0o755 }, Report: add, Output: add,
	}
	return b
}

// run returns "" or the error of each test, "-" for one that did not run.
func (b *bench) run(ctx context.Context) []string {
	b.t.Helper()
	tests, err := Discover([]Layer{b.layer})
	if err != nil {
		b.t.Fatal(err)
	}
	var list []string
	for _, o := range Run(ctx, tests, b.opt) {
		switch {
		case !o.Ran:
			list = append(list, "-")
		case o.Err != nil:
			list = append(list, o.Err.Error())
		default:
			list = append(list, "")
		}
	}
	return list
}

func (b *bench) want(results ...string) {
	b.t.Helper()
	if got := b.run(b.t.Context()); !slices.Equal(got, results) {
		b.t.Errorf("%q, want %q\n%s", got, results, strings.Join(b.lines, "\n"))
	}
	entries, err := os.ReadDir(b.opt.TempDir)
	if err != nil || len(entries) > 0 && !b.opt.Keep {
		b.t.Errorf("left: %v, %v", entries, err)
	}
}

// output makes what a successful build makes: a file for each format.
const output = `
while [ "$#" -gt 0 ]; do
    case $1 in
        -o) name=$2 ;;
        -t) types=$2 ;;
    esac
    shift
done
for type in ${types//,/ }; do
    echo x > "$name.$type"
done
`

func TestRun(t *testing.T) {
	t.Run("passes", func(t *testing.T) {
		b := newBench(t, `echo "$@"; echo "$ELEMENTS_PATH|$LANG|$LC_ALL|$DIB_QUIET|$DIB_SHOW_IMAGE_USAGE"; ls -l ${ELEMENTS_PATH%:*}/* >&2`+output, "e/test-elements/x/install.d/50-y=#!")
		b.want("")
		text := strings.Join(b.lines, "\n")
		for _, want := range []string{"Running e/x\n[e/x] disk-image-create -n -t " + defaultFormat + " -x -o ", "/image e x\n", ":/mine|en_US.utf8||0|1\n", "install.d\n", "\nPASS e/x ("} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in:\n%s", want, text)
			}
		}
	})
	t.Run("fails", func(t *testing.T) {
		newBench(t, "exit 42\n", "e/test-elements/x/y=").want("the build ended with exit status 42")
	})
	t.Run("is told that it should fail", func(t *testing.T) {
		script := `mkdir -p tree/tmp; touch tree/tmp/dib-test-should-fail
			[[ ,$break, == *,after-error,* && $break_outside_target = 1 ]] || exit 0
			TMP_MOUNT_PATH=$PWD/tree TMP_BUILD_DIR=/nowhere bash -c "$break_cmd"; exit 1`
		b := newBench(t, "cd "+t.TempDir()+"\n"+script, "e/test-elements/x/y=")
		b.want("")
		// The tree of the block-device phase lies elsewhere.
		script = strings.ReplaceAll(strings.ReplaceAll(script, "tree/tmp", "built/tmp"), "TMP_BUILD_DIR=/nowhere", "TMP_BUILD_DIR=$PWD")
		newBench(t, "cd "+t.TempDir()+"\n"+script, "e/test-elements/x/y=").want("")
	})
	t.Run("M77 a build that succeeds and should not", func(t *testing.T) {
		b := newBench(t, output+`[[ ,$break, == *,after-cleanup,* ]] || exit 1
			cd "$(dirname "$name")"; mkdir -p tree/tmp; touch tree/tmp/dib-test-should-fail; TMP_MOUNT_PATH=$PWD/tree TMP_BUILD_DIR=/nowhere bash -c "$break_cmd"`, "e/test-elements/x/y=")
		b.want("the build was to fail, as /tmp/dib-test-should-fail says, and succeeded")
	})
	t.Run("M77 every format is looked for", func(t *testing.T) {
		newBench(t, output, "e/test-elements/x/test-output-formats=tar,qcow2,docker").want("")
		newBench(t, output+`rm "$name.tar"; : > "$name.raw"`, "e/test-elements/x/test-output-formats=tar,qcow2,raw").
			want("the build succeeded without making image.tar, image.raw")
	})
	t.Run("M77 images are kept", func(t *testing.T) {
		b := newBench(t, output, "e/test-elements/x/y=")
		b.opt.Keep = true
		b.want("")
		found, err := filepath.Glob(b.opt.TempDir + "/*/image." + defaultFormat)
		if err != nil || len(found) != 1 || !slices.Contains(b.lines, "Keeping output of e/x in "+filepath.Dir(found[0])) {
			t.Errorf("%v, %v\n%s", found, err, strings.Join(b.lines, "\n"))
		}
	})
	t.Run("M77 ramdisks are built as such", func(t *testing.T) {
		script := `[ "$1" = ramdisk-image-create ] || exit 3
			for arg; do [ "$arg" != -n ] || exit 4; [ "$before" != -o ] || echo x > "$arg.initramfs"; before=$arg; done`
		newBench(t, script, "e/test-elements/x/element-type=ramdisk").want("")
		newBench(t, ":", "e/test-elements/x/element-type=ramdisk").want("the build succeeded without making image.initramfs")
	})
	t.Run("M77 a failure ends the starts, not the report", func(t *testing.T) {
		b := newBench(t, `[[ ${!#} = b ]] && exit 1`+output, "e/test-elements/a/y=", "e/test-elements/b/y=", "e/test-elements/c/y=")
		b.want("", "the build ended with exit status 1", "-")
	})
	t.Run("several at a time", func(t *testing.T) {
		dir := t.TempDir()
		// Each waits until the other has begun.
		b := newBench(t, `[[ " $* " == *" --no-tmpfs "* ]] || exit 5
			touch "`+dir+`/${!#}"; for i in {1..200}; do [ -e "`+dir+`/a" ] && [ -e "`+dir+`/b" ] && break; sleep 0.05; done; [ "$i" -lt 200 ] || exit 6`+output,
			"e/test-elements/a/y=", "e/test-elements/b/y=")
		b.opt.Jobs = 2
		b.want("", "")
	})
	t.Run("logs", func(t *testing.T) {
		b := newBench(t, `[ "$DIB_QUIET" = 1 ] || exit 9
			for arg; do [ "$before" != --logfile ] || echo text >> "$arg"; before=$arg; done
			case ${!#} in b) exit 1 ;; esac`+output, "e/test-elements/a/y=", "e/test-elements/b/y=")
		b.opt.LogDir = t.TempDir()
		if err := os.WriteFile(b.opt.LogDir+"/e_a.log", []byte("old\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		b.want("", "the build ended with exit status 1")
		for name, want := range map[string]string{"e_a.PASS.log": "text\n", "e_b.FAIL.log": "text\n"} {
			if text, err := os.ReadFile(filepath.Join(b.opt.LogDir, name)); err != nil || string(text) != want {
				t.Errorf("%s: %q, %v", name, text, err)
			}
		}
		if entries, _ := os.ReadDir(b.opt.LogDir); len(entries) != 2 {
			t.Errorf("logs: %v", entries)
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		b := newBench(t, "sleep 60\n", "e/test-elements/a/y=", "e/test-elements/b/y=")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(200*time.Millisecond, func() { cancel(errors.New("stopped")) })
		start := time.Now()
		if got := b.run(ctx); !slices.Equal(got, []string{"stopped", "-"}) || time.Since(start) > 20*time.Second {
			t.Errorf("%q after %v", got, time.Since(start))
		}
	})
	t.Run("elements on disk stay where they are", func(t *testing.T) {
		b := newBench(t, `[ "$ELEMENTS_PATH" = "$WANT" ] || exit 8`+output, "e/test-elements/a/y=")
		b.layer.Path = "/user"
		b.opt.Env = append(b.opt.Env, "WANT=/user/e/test-elements:/mine")
		b.want("")
	})
}
