package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// oddName is what file names may hold and shells, C strings and YAML make
// something else of. Only the colon of ELEMENTS_PATH is left out, and newlines,
// which logs and checksum files cannot hold.
const oddName = "it's \"a\" *?[x] $HOME `b` \\ -x é\xff"

// oddHook looks at the names from inside a build, on either side.
const oddHook = `#!/bin/bash
set -eu -o pipefail
printf '%s\n' "$IMAGE_NAME" >> "$1"
`

func TestOddNames(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		t.Run("D15", func(t *testing.T) {
			b.t = t
			buildOddNames(t, b)
		})
	})
}

func buildOddNames(t *testing.T, b *workbench) {
	odd := func(kind string) string {
		dir := filepath.Join(b.out, kind+" "+oddName)
		b.mkdir(dir)
		return dir
	}
	library, tmp, cache, out := odd("elements"), odd("tmp"), odd("cache"), odd("out")
	record := filepath.Join(out, "record "+oddName)
	b.writeOwned(filepath.Join(library, "odd/element-deps"), "fake-os\n", 0o644)
	b.writeOwned(filepath.Join(library, "odd/root.d/20-odd"), strings.ReplaceAll(oddHook, `"$1"`, `"$ODD_RECORD"`)+
		"[[ -d $DIB_IMAGE_CACHE && $DIB_IMAGE_CACHE == */cache\\ it* ]]\necho \"hook of $ELEMENTS_PATH\"\n", 0o755)
	b.writeOwned(filepath.Join(library, "odd/install.d/20-odd"), strings.ReplaceAll(oddHook, `"$1"`, `/name`), 0o755)
	b.writeOwned(filepath.Join(library, "odd/cleanup.d/20-odd"), "#!/bin/bash\nset -eu -o pipefail\ncat \"$TARGET_ROOT/name\" >> \"$ODD_RECORD\"\n"+
		"cp \"$ODD_RECORD\" \"$IMAGE_NAME.copy\"\n", 0o755)

	name, log := filepath.Join(out, oddName), filepath.Join(out, "log "+oddName)
	env := map[string]string{
		"ELEMENTS_PATH": library + ":" + b.lab.Elements(), "TMPDIR": "", "TMP_DIR": tmp, "ODD_RECORD": record, "DIB_IMAGE_CACHE": "", "DIB_QUIET": "0",
	}
	args := []string{"-n", "-t", "qcow2,raw", "-o", name, "--logfile", log, "--image-cache", cache, "--no-tmpfs", "--checksum", "odd"}
	o := b.mustBuild(build{args: args, env: env})
	b.mustBuild(build{args: args, env: env}) // renames the first

	if !strings.Contains(o.Stdout, "Image file "+name+".qcow2 created...\n") {
		t.Errorf("the log does not name the image:\n%s", tail(o.Stdout))
	}
	if !strings.Contains(o.Stdout, "Output logs going to: "+log+"\n") {
		t.Errorf("the log does not name the log file:\n%s", tail(o.Stdout))
	}
	if !strings.Contains(o.Stdout, "hook of "+library) {
		t.Errorf("the hook did not see ELEMENTS_PATH:\n%s", tail(o.Stdout))
	}
	output(t, "qemu-img", "compare", name+".qcow2", name+".raw")
	entries, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, e := range entries {
		rest, found := strings.CutPrefix(e.Name(), oddName)
		switch {
		case strings.HasPrefix(e.Name(), "log "), strings.HasPrefix(e.Name(), "record "):
			count["log"]++
		case !found:
			t.Errorf("unexpected file %q", e.Name())
		default:
			count[filepath.Ext(rest)]++
		}
	}
	if count[".qcow2"] != 2 || count[".raw"] != 2 || count[".md5"] != 4 || count[".sha256"] != 4 || count[".copy"] != 1 || count["log"] != 2 {
		t.Errorf("files are %v", entries)
	}
	for _, e := range entries { // the renamed ones too
		switch path := filepath.Join(out, e.Name()); filepath.Ext(path) {
		case ".md5":
			output(t, "md5sum", "--strict", "-c", path)
		case ".sha256":
			output(t, "sha256sum", "--strict", "-c", path)
		}
	}
	text, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat(name+"\n", 4)
	if string(text) != want {
		t.Errorf("hooks saw IMAGE_NAME as\n%q\nwant\n%q", text, want)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("TMP_DIR has %v (%v)", left, err)
	}
	if logText, err := os.ReadFile(log); err != nil || strings.Count(string(logText), "Build completed successfully") != 2 {
		t.Errorf("the log file has not both builds (%v)", err)
	}
	if !slices.Contains(b.outputs(), filepath.Base(out)) {
		t.Errorf("outputs are %v", b.outputs())
	}
}

// mkdir makes a directory that belongs to the user who builds.
func (b *workbench) mkdir(dir string) {
	b.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	for ; dir != b.out; dir = filepath.Dir(dir) {
		if err := os.Chown(dir, b.actor.UID, b.actor.GID); err != nil {
			b.t.Fatal(err)
		}
	}
}

// writeOwned makes a file that belongs to the user who builds.
func (b *workbench) writeOwned(path, text string, mode os.FileMode) {
	b.t.Helper()
	b.mkdir(filepath.Dir(path))
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chown(path, b.actor.UID, b.actor.GID); err != nil {
		b.t.Fatal(err)
	}
}
