package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// talker is an element that prints a lot, leaves a process behind that still
// has its output, and looks for file descriptors that it was not given.
var talker = map[string]string{
	"talker/element-deps": "fake-os\n",
	"talker/root.d/30-talk*": `#!/bin/bash
set -eu -o pipefail
echo '+ set +o xtrace'
echo 'what xtrace says'
printf 'bytes \xff\rand\treturns\n'
sleep 1000 &
for ((n = 3; n < 255; n++)); do [[ ! -e /proc/$$/fd/$n ]] || echo "open on the host: $n"; done
`,
	"talker/install.d/30-talk*": `#!/bin/bash
set -eu -o pipefail
for ((n = 3; n < 255; n++)); do [[ ! -e /proc/$$/fd/$n ]] || echo "open in the target: $n"; done
for ((i = 1; i <= 3000; i++)); do echo "line $i"; done
exit "${TALKER_STATUS:-0}"
`,
}

func TestLogStream(t *testing.T) {
	b := newWorkbench(t, openLab(t), ordinary(t))
	for name, text := range talker {
		b.write(filepath.Join("library", name), text)
	}
	began := time.Now()
	o := b.run(build{args: []string{"-n", "-o", "talk", "--logfile", "talk.log", "talker"}, env: map[string]string{
		"ELEMENTS_PATH": filepath.Join(b.out, "library"), "DIB_QUIET": "0", "TALKER_STATUS": "9"}})
	if o.Exit != 9 {
		t.Fatalf("exit status %d\n%s%s", o.Exit, tail(o.Stdout), o.Stderr)
	}
	log := b.read("talk.log")
	stamps := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \| `)
	streams := map[string]string{"stdout": o.Stdout, "the log file": stamps.ReplaceAllString(log, "")}
	t.Run("D08 no line is dropped or changed", func(t *testing.T) {
		for name, text := range streams {
			if !strings.Contains(text, "+ set +o xtrace\nwhat xtrace says\nbytes \xff\rand\treturns\n") {
				t.Errorf("%s:\n%s", name, tail(text))
			}
		}
	})
	t.Run("D09 nothing is lost or late when a build fails", func(t *testing.T) {
		var want strings.Builder
		for i := range 3000 {
			fmt.Fprintf(&want, "line %d\n", i+1)
		}
		for name, text := range streams {
			_, after, whole := strings.Cut(text, want.String())
			if !whole || !strings.Contains(after, "Build failed: hook install.d/30-talk of element talker failed: exit status 9\n") {
				t.Errorf("%s is not whole:\n%s", name, tail(text))
			}
		}
	})
	t.Run("D10 processes have no descriptors of the core", func(t *testing.T) {
		if strings.Contains(o.Stdout, "\nopen ") {
			t.Errorf("a hook had more than its three:\n%s", regexp.MustCompile(`(?m)^open .*`).FindAllString(o.Stdout, -1))
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("the build ended after %v: the process left behind held it up", took)
		}
	})
	// Every line of the file has a time, in UTC.
	if got, want := len(stamps.FindAllString(log, -1)), strings.Count(log, "\n"); got != want {
		t.Errorf("%d of %d lines have a time", got, want)
	}
	if at, err := time.Parse("2006-01-02 15:04:05.000", log[:23]); err != nil || at.Before(began.UTC().Add(-time.Second)) || at.After(time.Now().UTC()) {
		t.Errorf("the first line is of %v (%v), the build began at %v", at, err, began.UTC())
	}
	if !strings.HasPrefix(o.Stdout, "Output logs going to: talk.log\ndiskimage-builder version 3.42") {
		t.Errorf("stdout begins with %.200q", o.Stdout)
	}
}

const listOfImages = `- imagename: one
  types: [raw]
  skip-base: yes
  elements: &elements [fake-os]
  environment: {RECORDER_VARIABLE: from-the-list, NOTE: two words, DIB_NO_TIMESTAMP: "0", ADMIN_PASSWORD: correct-horse}
- imagename: broken
  skip-base: yes
  elements: *elements
  environment: {RECORDER_FAIL: root}
- elements: [recorder]
- imagename: two
  skip-base: yes
  elements: [fake-os]
  types: [raw]
  logfile: two log
- imagename: one
  elements: [recorder]
`

func TestListOfImages(t *testing.T) {
	b := newWorkbench(t, openLab(t), ordinary(t))
	b.write("images.yaml", listOfImages)
	o := b.dib(nil, "diskimage-builder", "images.yaml")
	if o.Exit != 1 {
		t.Errorf("exit status %d", o.Exit)
	}
	want := "RECORDER_VARIABLE=from-the-list NOTE='two words' DIB_NO_TIMESTAMP=0 ADMIN_PASSWORD='********' disk-image-create -o one -t raw -n fake-os recorder\n\n" +
		"RECORDER_FAIL=root disk-image-create -o broken -n fake-os recorder\n\n" +
		"diskimage-builder: cannot build \"broken\": disk-image-create ended with exit status 42\n" +
		"disk-image-create -o two -t raw --logfile 'two log' -n fake-os\n\n" +
		"diskimage-builder: 1 of 3 builds failed\n"
	if o.Stderr != want {
		t.Errorf("stderr is\n%s\nwant\n%s", o.Stderr, want)
	}
	// Variables of the first image are its own: the lines of the second have no time.
	mustContain(t, "stdout", o.Stdout, `^\d{4}-.* \| RECORD .*recorder_variable=from-the-list`, `^\d{4}-.* \| Build completed successfully$`, `^Build failed: `, `^Output logs going to: two log$`)
	mustContain(t, "the log", b.read("two log"), `^\d{4}-.* \| Build completed successfully$`)
	for _, name := range []string{"one.raw", "two.raw"} {
		if _, err := os.Stat(filepath.Join(b.out, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(b.out, "broken.qcow2")); err == nil {
		t.Error("the failed build left an image")
	}
	b.tmpIsEmpty()
}
