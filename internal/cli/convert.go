package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/dib-builder/dib/internal/cli/getopt"
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/checksum"
	"github.com/dib-builder/dib/internal/image/convert"
)

const convertUsage = `Usage: dib convert [OPTION]... IN OUT

Write the disk in the image file IN to the image file OUT. Nothing need be
installed, and no root is needed.

  -t, --type FORMAT      format of OUT: qcow2, raw, raw.gz, raw.zst, gcp, vdi,
                         vhd, vhd-fixed, vhdx or vmdk (default: what the suffix
                         of OUT says; .img is raw)
  -f, --from FORMAT      format of IN: qcow2, raw, vdi, vhd, vhdx or vmdk
                         (default: what its content says)
      --resize SIZE      size of the disk in OUT: bytes, or a number with a
                         suffix k, M, G, T or P (powers of 1024); +SIZE adds to
                         the size that it has. It becomes smaller only when
                         nothing but zeros is cut off
  -u                     do not compress (qcow2)
      --qemu-img-options KEY=VALUE,...
                         options of the format, as qemu-img's -o takes them
      --checksum         write checksums beside OUT: md5 and sha256, or those
                         that DIB_CHECKSUM lists
  -h, --help             show this text

OUT appears when it is complete. A file that has its name is renamed with its
date, or with OVERWRITE_OLD_IMAGE=1 replaced. The backing file of a qcow2 image
is read when it is in the directory of the image; images with snapshots inside
and differences to images in other formats are refused.

Exit status: 0 success, 1 failure, 2 wrong usage.
`

var convertOptions = []getopt.Option{
	{Short: 't', Long: "type", Arg: true},
	{Short: 'f', Long: "from", Arg: true},
	{Long: "resize", Arg: true},
	{Short: 'u'},
	{Long: "qemu-img-options", Arg: true},
	{Long: "checksum"},
	{Short: 'h', Long: "help"},
}

func parseConvert(args []string, getenv func(string) string) (convert.Request, error) {
	req := convert.Request{Options: image.Options{Compress: true}}
	matches, words, err := getopt.Parse(convertOptions, args, getenv("POSIXLY_CORRECT") != "")
	if err != nil {
		return req, err
	}
	sums := getenv("DIB_CHECKSUM")
	for _, m := range matches {
		switch m.Option.Name() {
		case "--type":
			req.Type = m.Value
		case "--from":
			req.From = m.Value
		case "--resize":
			req.Size = m.Value
		case "-u":
			req.Options.Compress = false
		case "--qemu-img-options":
			if req.Options.Settings, err = image.ParseSettings(m.Value); err != nil {
				return req, err
			}
		case "--checksum":
			if sums == "" || sums == "0" {
				sums = "1"
			}
		case "--help":
			return req, ErrHelp
		}
	}
	if len(words) != 2 {
		return req, fmt.Errorf("want the names of two image files, IN and OUT, not %d", len(words))
	}
	req.In, req.Out = words[0], words[1]
	if req.Checksums, err = checksum.Parse(sums); err != nil {
		return req, err
	}
	overwrite := getenv("OVERWRITE_OLD_IMAGE")
	req.Overwrite = overwrite != "" && overwrite != "0"
	return req, nil
}

// convertCommand is "dib convert".
func convertCommand(ctx context.Context, std command.IO, args []string) int {
	const name = "dib convert"
	req, err := parseConvert(args, std.Getenv)
	if errors.Is(err, ErrHelp) {
		_, _ = io.WriteString(std.Out, convertUsage)
		return 0
	}
	if err != nil {
		complain(std.Err, name, err)
		return exitUsage
	}
	clear := func() {}
	if f, ok := std.Err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		req.Progress, clear = percent(f, "writing "+req.Out)
	}
	res, err := convert.Run(ctx, req)
	clear()
	var usage convert.UsageError
	switch {
	case errors.As(err, &usage):
		complain(std.Err, name, err)
		return exitUsage
	case err != nil:
		complain(std.Err, name, err)
		return 1
	}
	if res.Kept != "" {
		_, _ = fmt.Fprintf(std.Out, "Old image found. Renaming it to %s\n", res.Kept)
	}
	return 0
}

// percent shows progress in one line of a terminal.
func percent(w io.Writer, what string) (show image.Progress, clear func()) {
	last := int64(-1)
	show = func(done, total int64) {
		now := int64(100)
		if total > 0 {
			now = int64(float64(done) / float64(total) * 100)
		}
		if now != last {
			last = now
			_, _ = fmt.Fprintf(w, "\r\x1b[K%s: %d %%", strings.Map(printableRune, what), now)
		}
	}
	return show, func() {
		if last >= 0 {
			_, _ = io.WriteString(w, "\r\x1b[K")
		}
	}
}

func printableRune(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '?'
	}
	return r
}
