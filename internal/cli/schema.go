package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/plan/show"
)

// schemas are the JSON Schemas of what this program reads and writes, by name.
var schemas = map[string]string{
	"plan": show.Schema,
}

func schemaUsage() string {
	return fmt.Sprintf("Usage: dib schema NAME\n\nPrint a JSON Schema, for editors and programs. NAME is one of: %s\n",
		strings.Join(slices.Sorted(maps.Keys(schemas)), ", "))
}

// printSchema is "dib schema".
func printSchema(_ context.Context, std command.IO, args []string) int {
	if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
		_, _ = io.WriteString(std.Out, schemaUsage())
		return 0
	}
	if len(args) != 1 {
		_, _ = io.WriteString(std.Err, schemaUsage())
		return exitUsage
	}
	text, ok := schemas[args[0]]
	if !ok {
		known := slices.Sorted(maps.Keys(schemas))
		complain(std.Err, "dib schema", fmt.Errorf("there is no schema %q%s: want %s", args[0], didYouMean(args[0], known), strings.Join(known, " or ")))
		return exitUsage
	}
	_, _ = io.WriteString(std.Out, text)
	return 0
}
