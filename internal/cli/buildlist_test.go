package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/recipe"
)

// lister is a Program whose builds say what they were asked for; the image
// "bad" fails with status 7.
func lister(cancel context.CancelFunc) Program {
	return Program{Create: func(_ context.Context, std command.IO, rec recipe.Recipe) int {
		_, _ = fmt.Fprintf(std.Out, "%s of %s, ramdisk %v, release %q in %q, quiet %q\n", rec.ImageName, strings.Join(rec.Elements, " "),
			rec.Ramdisk, rec.Env["DIB_RELEASE"], rec.Env["OTHER"], std.Getenv("DIB_QUIET"))
		switch rec.ImageName {
		case "bad":
			return 7
		case "interrupted":
			cancel()
			return 130
		}
		return 0
	}}
}

const listText = `- imagename: one
  elements: [debian-minimal, vm]
  environment: {DIB_RELEASE: trixie, DIB_QUIET: "1", ADMIN_PASSWORD: top-secret}
- imagename: bad
  elements: [vm]
- imagename: two words
  elements: [vm]
  clear: yes
`

const (
	lineOne   = "DIB_RELEASE=trixie DIB_QUIET=1 ADMIN_PASSWORD='********' disk-image-create -o one debian-minimal vm\n\n"
	lineBad   = "disk-image-create -o bad vm\n\n"
	lineTwo   = "disk-image-create -o 'two words' -c vm\n\n"
	outOne    = "one of debian-minimal vm, ramdisk false, release \"trixie\" in \"other\", quiet \"1\"\n"
	outBad    = "bad of vm, ramdisk false, release \"bookworm\" in \"other\", quiet \"\"\n"
	outTwo    = "two words of vm, ramdisk false, release \"\" in \"\", quiet \"\"\n"
	badFailed = "diskimage-builder: cannot build \"bad\": disk-image-create ended with exit status 7\n"
	oneFailed = "diskimage-builder: 1 of 3 builds failed\n"
)

func TestListBuilds(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFiles(t, map[string]string{
		"list.yaml": listText, "good.yml": "- {imagename: one, elements: [vm]}\n", "empty.yaml": "", "wrong": "- {imagname: x}\n", "broken.yaml": "- [\n",
		"interrupted.yaml": "- {imagename: interrupted, elements: [vm]}\n- {imagename: next, elements: [vm]}\n",
		"types.yaml":       "- {types: [floppy], elements: [vm]}\n", "size.yaml": "- {elements: [], imagename: nothing}\n", "warn.yaml": "- {elements: [vm], elements: [x]}\n",
	})
	if err := os.WriteFile("huge.yaml", make([]byte, maxListFile+1), 0o666); err != nil {
		t.Fatal(err)
	}
	const usage = "Usage: diskimage-builder [--dry-run] [--stop-on-failure] [-h] FILE...\ndiskimage-builder: "
	for _, tc := range []struct {
		name        string
		argv        []string
		status      int
		out, stderr string
	}{
		{"goes on after a failure", []string{"diskimage-builder", "list.yaml"}, 1, outOne + outBad + outTwo, lineOne + lineBad + badFailed + lineTwo + oneFailed},
		{"stops at a failure", []string{"diskimage-builder", "list.yaml", "--stop"}, 1, outOne + outBad, lineOne + lineBad + badFailed + oneFailed},
		{"prints only", []string{"dib", "diskimage-builder", "--dry-run", "list.yaml"}, 0, "", lineOne + lineBad + lineTwo},
		{"D01 dib is another name", []string{"dib", "good.yml"}, 0, "one of vm, ramdisk false, release \"bookworm\" in \"other\", quiet \"\"\n", "disk-image-create -o one vm\n\n"},
		{"D01 dib takes the options too", []string{"/usr/bin/dib", "--dry-run", "good.yml"}, 0, "", "disk-image-create -o one vm\n\n"},
		{"D18 empty", []string{"diskimage-builder", "empty.yaml", "/dev/null"}, 0, "", ""},
		{"D18 all mistakes of all files", []string{"diskimage-builder", "absent.yaml", "wrong", "broken.yaml", ".", "huge.yaml"}, 1, "",
			"absent.yaml: cannot read: no such file or directory\n.: cannot read: is a directory\nhuge.yaml: cannot read: more than 4 MiB, which is no list of images\n" +
				"wrong:1:4: unknown key \"imagname\"\n    - {imagname: x}\n       ^\n  did you mean \"imagename\"?\n" +
				"broken.yaml:2:1: cannot parse YAML: did not find expected node content\n  while parsing a flow node that begins in line 2\n"},
		{"warnings", []string{"diskimage-builder", "--dry-run", "warn.yaml"}, 0, "",
			"warn.yaml:1:20: warning: key \"elements\" is given twice; the last one counts (the first is in line 1)\n    - {elements: [vm], elements: [x]}\n                       ^\ndisk-image-create x\n\n"},
		{"an interruption ends all", []string{"diskimage-builder", "interrupted.yaml"}, 130,
			"interrupted of vm, ramdisk false, release \"bookworm\" in \"other\", quiet \"\"\n", "disk-image-create -o interrupted vm\n\n"},
		{"a command line that does not build", []string{"diskimage-builder", "size.yaml", "good.yml"}, 1,
			"one of vm, ramdisk false, release \"bookworm\" in \"other\", quiet \"\"\n",
			"disk-image-create -o nothing\n\ndisk-image-create: cannot build: no elements given; name at least one operating-system element, for example: disk-image-create debian-minimal vm\n" +
				"diskimage-builder: cannot build \"nothing\": disk-image-create ended with exit status 1\ndisk-image-create -o one vm\n\ndiskimage-builder: 1 of 2 builds failed\n"},
		{"no file", []string{"diskimage-builder"}, 2, "", usage + "no file given\n"},
		{"no file but options", []string{"dib", "--dry-run"}, 2, "", usage + "no file given\n"},
		{"unknown option", []string{"diskimage-builder", "--bogus", "list.yaml"}, 2, "", usage + "unrecognized option '--bogus'\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			env := map[string]string{"HOME": t.TempDir(), "DIB_RELEASE": "bookworm", "OTHER": "other"}
			status, out, stderr := callContext(ctx, t, lister(cancel), env, tc.argv...)
			if status != tc.status || out != tc.out || stderr != tc.stderr {
				t.Errorf("status %d, want %d\nstdout\n%s\nwant\n%s\nstderr\n%s\nwant\n%s", status, tc.status, out, tc.out, stderr, tc.stderr)
			}
		})
	}
}

func TestListHelp(t *testing.T) {
	status, out, stderr := call(t, program(), nil, "diskimage-builder", "-h")
	if status != 0 || stderr != "" || !strings.HasPrefix(out, "Usage: diskimage-builder ") || !strings.Contains(out, "\nskip-base\n---------\nDo not add the element base.\n(true or false)\n") {
		t.Errorf("status %d\n%s%s", status, out, stderr)
	}
}

// TestListRamdisk looks at which command a ramdisk is built by.
func TestListRamdisk(t *testing.T) {
	file := filepath.Join(t.TempDir(), "r.yaml")
	writeFiles(t, map[string]string{file: "- {ramdisk: yes, elements: [deploy]}\n"})
	_, out, stderr := call(t, lister(nil), map[string]string{"HOME": t.TempDir()}, "diskimage-builder", file)
	if !strings.HasPrefix(stderr, "ramdisk-image-create deploy\n\n") || out != "" && !strings.Contains(out, "ramdisk true") {
		t.Errorf("%s%s", out, stderr)
	}
}

func TestSchemaCommand(t *testing.T) {
	for _, schema := range schemas {
		status, out, stderr := call(t, Program{}, nil, "dib", "schema", schema.name)
		if status != 0 || stderr != "" || !json.Valid([]byte(out)) {
			t.Errorf("%s: status %d, %q", schema.name, status, stderr)
		}
	}
	for _, tc := range []struct {
		argv        []string
		status      int
		out, stderr string
	}{
		{[]string{"dib", "schema"}, 0, "\"title\": \"diskimage-builder images\"", ""},
		{[]string{"dib", "schema", "-h"}, 0, "Usage: dib schema [recipe|plan", ""},
		{[]string{"dib", "schema", "plna"}, 2, "", "dib schema: unknown format \"plna\" (did you mean \"plan\"?); known: recipe, plan"},
		{[]string{"dib", "schema", "plan", "it"}, 2, "", "Usage: dib schema"},
	} {
		if status, out, stderr := call(t, program(), nil, tc.argv...); status != tc.status || !has(out, tc.out) || !has(stderr, tc.stderr) {
			t.Errorf("%q: status %d\n%s%s", tc.argv, status, out, stderr)
		}
	}
}

// TestManyMistakes looks at a file in which everything is wrong.
func TestManyMistakes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "list.yaml")
	var text strings.Builder
	text.WriteString("- imagename: a\n")
	const keys = 40_000
	for i := range keys {
		fmt.Fprintf(&text, "  key%d: x\n", i)
	}
	writeFiles(t, map[string]string{file: text.String()})
	began := time.Now()
	status, out, stderr := call(t, lister(nil), nil, "diskimage-builder", file)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	if status != 1 || out != "" || !strings.HasSuffix(stderr, fmt.Sprintf("diskimage-builder: %d more mistakes\n", keys-maxFindings)) {
		t.Errorf("status %d, %q, %q", status, out, stderr[max(0, len(stderr)-200):])
	}
}
