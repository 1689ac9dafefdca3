package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/dib-builder/dib/elements"
	"github.com/dib-builder/dib/internal/cli/getopt"
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/element"
	"github.com/dib-builder/dib/internal/hook"
	"github.com/dib-builder/dib/internal/run"
)

const elementInfoUsage = `Usage: element-info [--env] ELEMENT...

Print the given elements and all they depend on, in the order of a build.
Nothing is added that was not asked for: neither base nor a disk layout.

  -e, --env    print shell code that sets IMAGE_ELEMENT, IMAGE_ELEMENT_YAML and
               the function get_image_element_array
  -h, --help   show this text

Elements are looked up in the directories of ELEMENTS_PATH, then in the library
that comes with the program. Messages go to standard error; DIB_DEBUG_TRACE=1 has
them tell where each element comes from and why it is there.

Exit status: 0 success, 1 elements that cannot be used together, 2 wrong usage.
`

// elementInfo expands a list of elements.
func elementInfo(_ context.Context, std command.IO, args []string) int {
	const name = "element-info"
	matches, words, err := getopt.Parse([]getopt.Option{{Short: 'e', Long: "env"}, {Short: 'h', Long: "help"}},
		args, std.Getenv("POSIXLY_CORRECT") != "")
	if err != nil {
		complain(std.Err, name, err)
		return exitUsage
	}
	env := false
	for _, m := range matches {
		if m.Option.Long == "help" {
			_, _ = io.WriteString(std.Out, elementInfoUsage)
			return 0
		}
		env = true
	}
	requested := strings.Fields(strings.Join(words, " "))
	if len(requested) == 0 {
		_, _ = io.WriteString(std.Err, elementInfoUsage)
		return exitUsage
	}
	library, err := element.Load(std.Getenv("ELEMENTS_PATH"), elements.FS())
	if err != nil {
		complain(std.Err, name, err)
		return 1
	}
	for _, w := range library.Warnings {
		_, _ = fmt.Fprintf(std.Err, "%s: warning: %s\n", name, w)
	}
	resolved, err := library.Resolve(requested)
	if err != nil {
		complain(std.Err, name, err)
		return 1
	}
	if hook.Tracing(std.Environ()) {
		for _, r := range resolved {
			_, _ = fmt.Fprintf(std.Err, "%s: debug: %s: %s (%s)\n", name, r.Name, r.Dir, r.Reason)
		}
	}
	expanded := element.Elements(resolved)
	if env {
		_, _ = io.WriteString(std.Out, shellInterfaces(expanded))
	} else {
		_, _ = fmt.Fprintln(std.Out, element.ImageElement(expanded))
	}
	return 0
}

// shellInterfaces is code for bash that gives hooks the three views of the
// element list.
func shellInterfaces(expanded []element.Element) string {
	return fmt.Sprintf("export IMAGE_ELEMENT=%s\nexport IMAGE_ELEMENT_YAML=%s\n%s %s\nexport -f %s\n",
		run.Quote(element.ImageElement(expanded)), run.Quote(element.ImageElementYAML(expanded)),
		element.ArrayFunction, element.ArrayFunctionValue(expanded), element.ArrayFunction)
}
