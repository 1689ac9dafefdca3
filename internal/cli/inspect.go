package cli

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/dib-builder/dib/internal/cli/getopt"
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/image/formats"
	"github.com/dib-builder/dib/internal/inspect/report"
)

const inspectUsage = `Usage: dib inspect [OPTION]... FILE

Say what an image file is and what is in it: format and sizes, partitions,
filesystems with label, UUID and usage, operating system, kernels, packages and
boot programs. Nothing is mounted or written, and no root is needed.

      --format text|json  how to print it (default: text); "dib schema inspect"
                          prints the schema of the JSON
  -f, --from FORMAT       format of FILE: qcow2, raw, vdi, vhd, vhdx or vmdk
                          (default: what its content says)
  -h, --help              show this text

Files are read from ext2, ext3, ext4 and FAT filesystems; others are named only.

Exit status: 0 success, 1 failure, 2 wrong usage.
`

// inspectCommand is "dib inspect".
func inspectCommand(ctx context.Context, std command.IO, args []string) int {
	const name = "dib inspect"
	matches, words, err := getopt.Parse([]getopt.Option{{Long: "format", Arg: true}, {Short: 'f', Long: "from", Arg: true}, {Short: 'h', Long: "help"}}, args, false)
	format, from := "text", ""
	for _, m := range matches {
		switch m.Option.Long {
		case "format":
			format = m.Value
		case "from":
			from = m.Value
		case "help":
			_, _ = io.WriteString(std.Out, inspectUsage)
			return 0
		}
	}
	switch {
	case err != nil:
	case format != "text" && format != "json":
		err = fmt.Errorf("unknown format %q: want text or json", format)
	case from != "" && !slices.Contains(formats.Readable(), from):
		err = fmt.Errorf("images of format %q cannot be read", from)
	case len(words) != 1:
		err = fmt.Errorf("want the name of one image file, not %d", len(words))
	}
	if err != nil {
		complain(std.Err, name, err)
		return exitUsage
	}
	if err := inspectFile(ctx, std.Out, words[0], from, format == "json"); err != nil {
		complain(std.Err, name, err)
		return 1
	}
	return 0
}

func inspectFile(ctx context.Context, out io.Writer, path, from string, asJSON bool) error {
	f, err := formats.Open(path, from)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := report.Inspect(ctx, path, f)
	if err != nil {
		return fmt.Errorf("cannot inspect %q: %w", path, err)
	}
	if asJSON {
		return r.WriteJSON(out)
	}
	return r.WriteText(out)
}
