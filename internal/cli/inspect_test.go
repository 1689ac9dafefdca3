package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/command"
)

func TestInspectCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		args     []string
		status   int
		out, err string
	}{
		{"help", []string{"-h"}, 0, "Usage: dib inspect", ""},
		{"no file", nil, 2, "", "dib inspect: want the name of one image file, not 0"},
		{"an unknown option", []string{"--bogus", file}, 2, "", "unrecognized option '--bogus'"},
		{"an unknown format", []string{"--format", "xml", file}, 2, "", `unknown format "xml"`},
		{"an unknown format of the file", []string{"--from", "floppy", file}, 2, "", `"floppy" cannot be read`},
		{"a missing file", []string{file + "x"}, 1, "", "no such file"},
		{"another format", []string{"-f", "qcow2", file}, 1, "", "not a qcow2 image"},
		{"text", []string{file}, 0, "virtual size:     1 MiB\n", ""},
		{"json", []string{"--format=json", file}, 0, `"virtual_size": 1048576,`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			std := command.IO{Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
			if status := inspectCommand(context.Background(), std, c.args); status != c.status || !strings.Contains(out.String(), c.out) || !strings.Contains(errs.String(), c.err) {
				t.Errorf("status %d\n%s\n%s", status, out.String(), errs.String())
			}
		})
	}
}
