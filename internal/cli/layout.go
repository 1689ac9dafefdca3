package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/blockdev/draw"
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/finding"
)

const layoutUsage = `Usage: dib layout [OPTION]... --config FILE
       dib layout [OPTION]... ARGUMENT...

Show what will be on the disks: every partition with its place, size, type,
filesystem, label, UUID and mount point, and a drawing to scale. Nothing is
written or built, and no root is needed.

  --config FILE           a disk layout in YAML; "-" reads standard input. The
                          environment counts as in a build: FS_TYPE, ROOT_LABEL
                          and DIB_BLOCK_SIZE. Without it, the layout is that of
                          a build with the same arguments ("dib help create").
  --size GIB              size of the image (a decimal number of GiB); default:
                          that of the arguments, else 10
  --format text|json|svg  how to show it (default: text)
  -h, --help              show this text

These options stand before all others. UUIDs and disk ids are those of the build;
of a file alone, only those that it says are known.

Exit status: 0 success, 1 what a build would refuse, 2 wrong usage.
`

// assumedGiB is the size of an image that nobody gave one.
const assumedGiB = "10"

// drawnWidth is the width of the drawing (characters), that of common terminals.
const drawnWidth = 78

// layoutRequest is a command line of "dib layout".
type layoutRequest struct {
	config, size, format string
	args                 []string // of disk-image-create
}

var errLayoutUsage = errors.New("wrong usage")

func parseLayout(args []string) (layoutRequest, error) {
	req := layoutRequest{format: "text"}
	fields := map[string]*string{"--config": &req.config, "--size": &req.size, "--format": &req.format}
	for len(args) > 0 {
		name, value, attached := strings.Cut(args[0], "=")
		if name == "-h" || name == "--help" {
			return req, ErrHelp
		}
		field := fields[name]
		if field == nil {
			break
		}
		args = args[1:]
		if !attached {
			if len(args) == 0 {
				return req, fmt.Errorf("%w: %s needs a value", errLayoutUsage, name)
			}
			value, args = args[0], args[1:]
		}
		*field = value
	}
	if len(args) > 0 && (args[0] == "disk-image-create" || args[0] == "create") {
		args = args[1:]
	}
	req.args = args
	formats := []string{"text", "json", "svg"}
	switch {
	case !slices.Contains(formats, req.format):
		return req, fmt.Errorf("%w: unknown format %q%s: want text, json or svg", errLayoutUsage, req.format, didYouMean(req.format, formats))
	case req.size != "" && !positiveDecimal("GiB").matches(req.size):
		return req, fmt.Errorf("%w: --size %q: want %s", errLayoutUsage, req.size, positiveDecimal("GiB").want)
	case req.config != "" && len(args) > 0:
		return req, fmt.Errorf("%w: with --config there are no further arguments, but there is %q", errLayoutUsage, args[0])
	case req.config == "" && len(args) == 0:
		return req, fmt.Errorf("%w: give --config FILE, or the arguments of a build", errLayoutUsage)
	}
	return req, nil
}

// layoutCommand is "dib layout".
func (p Program) layoutCommand(ctx context.Context, std command.IO, args []string) int {
	const name = "dib layout"
	req, err := parseLayout(args)
	switch {
	case errors.Is(err, ErrHelp):
		_, _ = io.WriteString(std.Out, layoutUsage)
		return 0
	case err != nil:
		complain(std.Err, name, err)
		return exitUsage
	}
	var w wantedLayout
	if req.config != "" {
		w, err = fileLayout(std, req)
	} else {
		w, err = p.buildLayout(ctx, std, req)
	}
	if err == nil {
		err = w.show(std, req.format)
	}
	if errors.Is(err, ErrHelp) {
		_, _ = io.WriteString(std.Out, layoutUsage)
		return 0
	}
	var faults finding.List
	if errors.As(err, &faults) && err.Error() == faults.Error() {
		_, _ = fmt.Fprintf(std.Err, "%s: cannot use disk layout:\n%s\n", name, faults.Explain())
		return 1
	}
	if err != nil {
		complain(std.Err, name, err)
		return 1
	}
	return 0
}

// wantedLayout is a disk layout to show.
type wantedLayout struct {
	source    string
	text      []byte
	params    blockdev.Params
	sizeGiB   string // empty: not known
	blockSize string
	seed      []byte // nil: not known
}

func fileLayout(std command.IO, req layoutRequest) (wantedLayout, error) {
	w := wantedLayout{
		source: req.config, sizeGiB: req.size, blockSize: std.Getenv("DIB_BLOCK_SIZE"),
		params: blockdev.Params{RootFSType: std.Getenv("FS_TYPE"), RootLabel: std.Getenv("ROOT_LABEL")},
	}
	var err error
	if req.config == "-" {
		w.source = "standard input"
		w.text, err = io.ReadAll(std.In)
	} else {
		w.text, err = os.ReadFile(req.config)
	}
	if err != nil {
		return w, fmt.Errorf("cannot read the disk layout: %w", err)
	}
	return w, nil
}

// buildLayout finds the layout of a build.
func (p Program) buildLayout(ctx context.Context, std command.IO, req layoutRequest) (wantedLayout, error) {
	if p.MakePlan == nil {
		return wantedLayout{}, errors.New("this program builds no images: give --config FILE")
	}
	host, err := hostFacts(ctx, std)
	if err != nil {
		return wantedLayout{}, err
	}
	args := req.args
	if req.size != "" {
		args = append([]string{"--image-size", req.size}, args...)
	}
	rec, err := ParseCreate("disk-image-create", args, host)
	if err != nil {
		return wantedLayout{}, err
	}
	made, err := p.MakePlan(rec)
	if err != nil {
		return wantedLayout{}, err
	}
	return wantedLayout{
		source: made.BlockDevice.Source, text: []byte(made.BlockDevice.Text), seed: made.Seed(),
		params:  blockdev.Params{RootFSType: rec.FSType, RootLabel: rec.RootLabel},
		sizeGiB: rec.ImageSizeGiB, blockSize: made.Env["DIB_BLOCK_SIZE"],
	}, nil
}

func (w wantedLayout) show(std command.IO, format string) error {
	config, err := blockdev.Check(w.source, w.text, w.params)
	if err != nil {
		return err
	}
	for _, warning := range config.Warnings {
		_, _ = fmt.Fprintf(std.Err, "dib layout: warning: %s\n", warning)
	}
	if w.sizeGiB == "" {
		w.sizeGiB = assumedGiB
		if !config.HasSizes() {
			_, _ = fmt.Fprintf(std.Err, "dib layout: no size is given: shown for an image of %s GiB; --size gives another\n", assumedGiB)
		}
	}
	in := blockdev.LayoutInput{Seed: w.seed, BlockSize: w.blockSize}
	if in.SizeKiB, err = blockdev.ImageSize(blockdev.SizeInput{ImageSizeGiB: w.sizeGiB}); err != nil {
		return err
	}
	layout, err := config.Layout(in)
	if err != nil {
		return err
	}
	if w.seed == nil {
		in.Seed = []byte("another")
		other, err := config.Layout(in)
		if err != nil {
			return err
		}
		layout.Forget(other)
	}
	switch format {
	case "json":
		text, err := json.MarshalIndent(layout, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(std.Out, "%s\n", text)
		return err
	case "svg":
		_, err = io.WriteString(std.Out, draw.SVG(layout))
		return err
	}
	_, err = io.WriteString(std.Out, draw.Text(layout, drawnWidth))
	return err
}
