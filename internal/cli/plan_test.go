package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/recipe"
)

func TestParsePlan(t *testing.T) {
	for _, c := range []struct {
		line string
		want planRequest
		err  string
	}{
		{"vm debian", planRequest{name: "disk-image-create", args: []string{"vm", "debian"}}, ""},
		{"-f json vm", planRequest{json: true, name: "disk-image-create", args: []string{"vm"}}, ""},
		{"-fjson vm", planRequest{json: true, name: "disk-image-create", args: []string{"vm"}}, ""},
		{"--format json vm", planRequest{json: true, name: "disk-image-create", args: []string{"vm"}}, ""},
		{"--format=json --format=text vm", planRequest{name: "disk-image-create", args: []string{"vm"}}, ""},
		{"--ramdisk -f json x", planRequest{json: true, name: "ramdisk-image-create", args: []string{"x"}}, ""},
		{"ramdisk-image-create -o x y", planRequest{name: "ramdisk-image-create", args: []string{"-o", "x", "y"}}, ""},
		{"-f json disk-image-create -h", planRequest{json: true, name: "disk-image-create", args: []string{"-h"}}, ""},
		{"create vm", planRequest{name: "disk-image-create", args: []string{"vm"}}, ""},
		// From the first word of the other command on, all is that command's.
		{"-x --ramdisk-element r --format json", planRequest{name: "disk-image-create", args: []string{"-x", "--ramdisk-element", "r", "--format", "json"}}, ""},
		{"-- vm", planRequest{name: "disk-image-create", args: []string{"--", "vm"}}, ""},
		{"", planRequest{name: "disk-image-create"}, ""},
		{"-f", planRequest{}, "wrong usage: -f needs a format, text or json"},
		{"--format jsn vm", planRequest{}, `wrong usage: unknown format "jsn" (did you mean "json"?): want text or json`},
		{"--format= vm", planRequest{}, `wrong usage: unknown format "": want text or json`},
		{"-h", planRequest{}, "help requested"},
	} {
		got, err := parsePlan(strings.Fields(c.line))
		if (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%q: error is %v, want %q", c.line, err, c.err)
			continue
		}
		if err == nil && (got.json != c.want.json || got.name != c.want.name || !slices.Equal(got.args, c.want.args)) {
			t.Errorf("%q: got %+v, want %+v", c.line, got, c.want)
		}
		if c.err == "help requested" && !errors.Is(err, ErrHelp) {
			t.Errorf("%q: not ErrHelp", c.line)
		}
	}
}

func TestPlanCommand(t *testing.T) {
	planned := ""
	p := Program{Plan: func(_ context.Context, std command.IO, rec recipe.Recipe, asJSON bool) int {
		planned = fmt.Sprint(rec.Elements, rec.Args, asJSON)
		return 5
	}}
	for _, c := range []struct {
		line           string
		status         int
		planned        string
		stdout, stderr string // parts
	}{
		{"plan -f json vm debian -o x", 5, "[vm debian] [vm debian -o x] true", "", ""},
		{"plan --help", 0, "", "Usage: dib plan", ""},
		{"help plan", 0, "", "Usage: dib plan", ""},
		{"plan vm --help", 0, "", "Usage: dib plan", ""},
		{"plan --version", 0, "", recipe.CompatVersion, ""},
		{"plan --format yaml vm", 2, "", "", `dib plan: wrong usage: unknown format "yaml": want text or json`},
		{"plan vm --format=json", 1, "", "", "dib plan: --format=json is an option of plan: put it first, before all other arguments"},
		{"plan", 1, "", "", "dib plan: cannot build: no elements given"},
		{"plan -t nonsense x", 1, "", "", `dib plan: unknown output type "nonsense"`},
	} {
		planned = ""
		var out, errs strings.Builder
		status := p.Main(context.Background(), testIO(&out, &errs), append([]string{"dib"}, strings.Fields(c.line)...))
		if status != c.status || planned != c.planned || !strings.Contains(out.String(), c.stdout) || !strings.Contains(errs.String(), c.stderr) {
			t.Errorf("%q: status %d, planned %q, stdout %q, stderr %q", c.line, status, planned, out.String(), errs.String())
		}
	}
}

func testIO(out, errs *strings.Builder) command.IO {
	env := []string{"HOME=/home/me", "PATH=/usr/bin:/bin"}
	return command.IO{
		In: strings.NewReader(""), Out: out, Err: errs, Environ: func() []string { return env },
		Getenv: func(name string) string { return environMap(env)[name] },
	}
}
