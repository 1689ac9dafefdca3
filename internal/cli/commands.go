package cli

import (
	"context"
	"fmt"
	"maps"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/hook"
	"github.com/dib-builder/dib/internal/recipe"
)

// table is every command by name: the registry of the program.
func (p Program) table() map[string]command.Func {
	table := map[string]command.Func{}
	maps.Copy(table, p.Commands)
	maps.Copy(table, map[string]command.Func{
		blockDevice:     blockDeviceCommand,
		"convert":       convertCommand,
		"dib-run-parts": hook.RunParts,
		"element-info":  elementInfo,
		"lint":          lintCommand,
		"test-elements": testElements,
		"dib-lint":      lintCommand,
		"inspect":       inspectCommand,
		"install-links": installLinks,
		"layout":        p.layoutCommand,
		"schema":        printSchema,
		"version":       showVersion,
	})
	if p.Create != nil {
		table["create"] = p.createCommand("disk-image-create")
		table["disk-image-create"] = table["create"]
		table[ramdiskCommand] = p.createCommand(ramdiskCommand)
		table[listCommand] = p.listBuilds
	}
	if p.Plan != nil {
		table["plan"] = p.planCommand
	}
	return table
}

// summaries is the list that "dib help" shows; commands that are missing here
// are not meant to be typed by people.
var summaries = map[string]string{
	"create":            "build an image; the same as disk-image-create",
	"disk-image-create": "build an image",
	ramdiskCommand:      "build a kernel and a ramdisk",
	listCommand:         "build the images that YAML files list",
	blockDevice:         "ask a running build for its disks",
	"convert":           "write the disk in an image file in another format",
	"dib-run-parts":     "run the hooks of one directory",
	"test-elements":     "run the functional tests of elements",
	"lint":              "check elements for faults; the same as dib-lint",
	"dib-lint":          "check elements for faults",
	"element-info":      "expand a list of elements with their dependencies",
	"inspect":           "say what an image file is and what is in it",
	"install-links":     "make links under the names of DIB's commands in a directory",
	"plan":              "show what a build would do",
	"layout":            "show the disk layout of a build, drawn to scale",
	"schema":            "print a JSON Schema",
	"version":           "show the version",
}

// dibNames are the commands that people expect of a DIB installation, each a
// link to this program.
var dibNames = []string{"dib", "disk-image-create", ramdiskCommand, listCommand,
	"dib-lint", "dib-block-device", "dib-run-parts", "element-info"}

func showVersion(_ context.Context, std command.IO, _ []string) int {
	_, _ = fmt.Fprintf(std.Out, "dib %s (compatible with diskimage-builder %s)\n", Version, recipe.CompatVersion)
	return 0
}
