package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/inspect/report"
	"github.com/dib-builder/dib/internal/plan/show"
	"github.com/dib-builder/dib/internal/recipe/buildlist"
)

// schemas are the formats that have a JSON Schema, the first being the default.
var schemas = []struct {
	name, help string
	text       func() ([]byte, error)
}{
	{"recipe", "the YAML files of diskimage-builder", func() ([]byte, error) { return buildlist.Schema(knownTypes()) }},
	{"plan", "what dib plan --format json prints", func() ([]byte, error) { return []byte(show.Schema), nil }},
	{"inspect", "what dib inspect --format json prints", func() ([]byte, error) { return []byte(report.Schema), nil }},
}

// printSchema prints the JSON Schema of a format.
func printSchema(_ context.Context, std command.IO, args []string) int {
	const name = "dib schema"
	names := make([]string, len(schemas))
	var usage strings.Builder
	for i, s := range schemas {
		names[i] = s.name
		fmt.Fprintf(&usage, "  %-10s %s\n", s.name, s.help)
	}
	text := fmt.Sprintf("Usage: %s [%s]\n\nPrint the JSON Schema (draft 2020-12) of a format, by default that of %s:\n\n%s",
		name, strings.Join(names, "|"), names[0], usage.String())
	switch {
	case len(args) == 0:
		args = names
	case args[0] == "-h" || args[0] == "--help":
		_, _ = fmt.Fprint(std.Out, text)
		return 0
	case len(args) > 1:
		_, _ = fmt.Fprint(std.Err, text)
		return exitUsage
	}
	for _, s := range schemas {
		if s.name != args[0] {
			continue
		}
		schema, err := s.text()
		if err == nil {
			_, err = std.Out.Write(schema)
		}
		if err != nil {
			complain(std.Err, name, err)
			return 1
		}
		return 0
	}
	complain(std.Err, name, fmt.Errorf("unknown format %q%s; known: %s", args[0], didYouMean(args[0], names), strings.Join(names, ", ")))
	return exitUsage
}
