package aptpins

import (
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/test/commandtest"
)

const manifest = `{"packages": [
{"package": "libc6:amd64", "arch": "amd64", "version": "2.36-9", "status": "ii "},
{"package": "gone", "arch": "amd64", "version": "1", "status": "rc "},
{"package": "tar", "version": "1:1.34"}
]}
`

func TestRun(t *testing.T) {
	dir := t.TempDir()
	commandtest.Write(t, dir, map[string]string{
		"good": manifest, "none": "{}", "syntax": "{\n\"packages\": x}", "type": `{"packages": [{"package": 1}]}`, "name": `{"packages": [{"package": "a\nb", "version": "1"}]}`,
		"version": `{"packages": [{"package": "a", "version": "1"}, {"package": "b"}]}`,
	})
	for _, tt := range []struct {
		args      []string
		out, errs string
		status    int
	}{
		{[]string{dir + "/good"}, "Package: libc6:amd64\nPin: version 2.36-9\nPin-Priority: 1001\n\nPackage: tar\nPin: version 1:1.34\nPin-Priority: 1001\n\n", "", 0},
		{[]string{dir + "/none"}, "", "", 0},
		{[]string{dir + "/syntax"}, "", "/syntax:2:13: invalid character", 1},
		{[]string{dir + "/type"}, "", "/type:1:", 1},
		{[]string{dir + "/name"}, "", `/name: package 1 of the list has the unusable name "a\nb"`, 1},
		{[]string{dir + "/version"}, "", `/version: package 2 of the list has the unusable version ""`, 1},
		{[]string{dir + "/missing"}, "", "cannot read package manifest: open ", 1},
		{nil, "", "exactly one manifest", 2},
	} {
		out, errs, status := commandtest.Call(t, cmdline.Command("apt-pins", Run), nil, tt.args...)
		if out != tt.out || status != tt.status || !strings.Contains(errs, tt.errs) {
			t.Errorf("%v: status %d, %q, %q", tt.args, status, out, errs)
		}
	}
}

func FuzzPins(f *testing.F) {
	for _, seed := range []string{manifest, "", "{}", "null", "[]", `{"packages": null}`, `{"packages": [{}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		pins, err := Pins("manifest", data)
		if err != nil {
			if !strings.Contains(err.Error(), "manifest") || pins != "" {
				t.Errorf("%q, %v", pins, err)
			}
			return
		}
		if lines := strings.Split(pins, "\n"); (len(lines)-1)%4 != 0 {
			t.Errorf("not whole stanzas: %q", pins)
		}
	})
}
