package cmdline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/dib-builder/dib/internal/command"
)

func TestCommand(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		errs   string
	}{
		{nil, 0, ""},
		{fmt.Errorf("after usage: %w", ErrHelp), 0, ""},
		{errors.New("x"), 1, "name: x\n"},
		{Exitf(7, "no %s", "y"), 7, "name: no y\n"},
		{&ExitError{Code: 2}, 2, ""},
	} {
		var errs bytes.Buffer
		do := func(context.Context, command.IO, []string) error { return tt.err }
		if status := Command("name", do)(t.Context(), command.IO{Err: &errs}, nil); status != tt.status || errs.String() != tt.errs {
			t.Errorf("%v: status %d, %q; want %d, %q", tt.err, status, errs.String(), tt.status, tt.errs)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		args        []string
		keepUnknown bool
		text        string
		flag        bool
		operands    []string
		err         string
	}{
		{args: []string{"a", "--text", "-x", "-f", "b"}, text: "-x", flag: true, operands: []string{"a", "b"}},
		{args: []string{"--text=a=b", "-"}, text: "a=b", operands: []string{"-"}},
		{args: []string{"--", "-f"}, operands: []string{"-f"}},
		{args: []string{"--odd", "-f"}, keepUnknown: true, flag: true, operands: []string{"--odd"}},
		{args: []string{"--odd"}, err: `unknown option "--odd"`},
		{args: []string{"-f=1"}, err: "option -f takes no value"},
		{args: []string{"--text"}, err: "option --text needs a value"},
	} {
		var text string
		var flag bool
		operands, err := Options{"--text": &text, "-f": &flag}.Parse(tt.args, tt.keepUnknown)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%q: %v, want %s", tt.args, err, tt.err)
			}
			continue
		}
		if err != nil || text != tt.text || flag != tt.flag || !slices.Equal(operands, tt.operands) {
			t.Errorf("%q: %q, %v, %q, %v", tt.args, text, flag, operands, err)
		}
	}
}

func TestEnvironment(t *testing.T) {
	env := EnvironmentOf(command.IO{Environ: func() []string { return []string{"A=1", "A=2=3", "odd", "DIB_DEBUG_TRACE=2"} }})
	if len(env) != 2 || env["A"] != "2=3" || env.Trace() != 2 {
		t.Errorf("%v, trace %d", env, env.Trace())
	}
	if n := (Environment{"DIB_DEBUG_TRACE": "x"}).Trace(); n != 0 {
		t.Errorf("trace %d", n)
	}
}
