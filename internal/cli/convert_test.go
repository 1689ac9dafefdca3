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

func TestConvertCommand(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "disk.img")
	if err := os.WriteFile(in, []byte(strings.Repeat("data", 1<<16)), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		args     []string
		status   int
		out, err string
		file     string // that is there afterwards
	}{
		{name: "help", args: []string{"--help"}, out: "Usage: dib convert"},
		{name: "no arguments", status: 2, err: "dib convert: want the names of two image files"},
		{name: "an unknown option", args: []string{"--bogus", in, "x.raw"}, status: 2, err: "unrecognized option '--bogus'"},
		{name: "an unknown type", args: []string{"-t", "floppy", in, "x"}, status: 2, err: "floppy"},
		{name: "no such file", args: []string{in + "x", filepath.Join(dir, "x.raw")}, status: 1, err: "no such file"},
		{name: "by suffix", args: []string{in, filepath.Join(dir, "a.qcow2")}, file: "a.qcow2"},
		{name: "with everything", args: []string{"-u", "--checksum", "--resize", "+1M", "--qemu-img-options", "cluster_size=4k", "-f", "raw", "-t", "qcow2", in, filepath.Join(dir, "b")}, file: "b.md5"},
		{name: "again", args: []string{in, filepath.Join(dir, "a.qcow2")}, out: "Old image found. Renaming it to", file: "a.qcow2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			std := command.IO{Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
			status := convertCommand(context.Background(), std, c.args)
			if status != c.status || !strings.Contains(out.String(), c.out) || !strings.Contains(errs.String(), c.err) || status == 0 && errs.Len() > 0 {
				t.Errorf("status %d\n%s\n%s", status, out.String(), errs.String())
			}
			if c.file != "" {
				if _, err := os.Stat(filepath.Join(dir, c.file)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if head, err := os.ReadFile(filepath.Join(dir, "a.qcow2")); err != nil || !bytes.HasPrefix(head, []byte("QFI\xfb")) {
		t.Errorf("a.qcow2 is not one: %v", err)
	}
}

func TestPercent(t *testing.T) {
	var b bytes.Buffer
	show, clear := percent(&b, "writing a\nb")
	for _, done := range []int64{0, 1, 500, 1000} {
		show(done, 1000)
	}
	clear()
	want := ""
	for _, n := range []string{"0", "50", "100"} {
		want += "\r\x1b[Kwriting a?b: " + n + " %"
	}
	if want += "\r\x1b[K"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
