package build

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/checksum"
	"github.com/dib-builder/dib/internal/image/formats"
	"github.com/dib-builder/dib/internal/image/output"
	"github.com/dib-builder/dib/internal/plan"
)

// writeDiskOutputs makes all outputs that are made of disks at the same time,
// from one reading of each disk. None gets its name before all of them are whole.
func (b *builder) writeDiskOutputs(ctx context.Context) error {
	outs := slices.DeleteFunc(slices.Clone(b.plan.Outputs), func(o plan.Output) bool { return o.FromTree })
	pending := make([]*output.Pending, len(outs))
	defer func() {
		for _, p := range pending {
			if p != nil {
				p.Abort() // does nothing to those that were published
			}
		}
	}()
	g, each := errgroup.WithContext(ctx)
	disks, closeDisks, err := b.shareDisks(each, outs)
	defer closeDisks()
	if err != nil {
		return err
	}
	for _, out := range outs { // in order, whichever comes first to do anything
		b.sink.Emit(event.Event{Kind: event.StepStart, Step: "writing " + b.label(out)})
	}
	for i, out := range outs {
		g.Go(func() error {
			defer disks[i].Close()
			return b.stepped("writing "+b.label(out), func() (err error) {
				pending[i], err = b.fill(each, out.Path, func(file *checksum.File) error {
					defer disks[i].Close() // what follows does not read the disk
					return b.writeDiskFormat(each, disks[i], out, file)
				})
				if err == nil {
					// Late errors of the filesystem shall come before anything is published.
					err = pending[i].File().Sync()
				}
				return err
			})
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, out := range outs {
		if err := b.publish(pending[i]); err != nil {
			return err
		}
		b.sink.Emit(event.Event{Kind: event.Artifact, Path: out.Path})
	}
	return nil
}

// shareDisks opens the disks of outputs: one source for each output, those of
// one disk from one reading.
func (b *builder) shareDisks(ctx context.Context, outs []plan.Output) (sources []*image.Source, closeAll func(), err error) {
	var opened []*image.Source
	closeAll = func() {
		for _, d := range opened {
			d.Close()
		}
	}
	sources = make([]*image.Source, len(outs))
	of := map[string][]int{} // outputs by disk
	for i, out := range outs {
		of[out.Disk] = append(of[out.Disk], i)
	}
	for disk, list := range of {
		d, err := image.OpenSource(b.images[disk])
		if err != nil {
			return nil, closeAll, err
		}
		opened = append(opened, d)
		for i, s := range image.Share(ctx, d, len(list)) {
			sources[list[i]] = s
		}
	}
	return sources, closeAll, nil
}

func (b *builder) writeDiskFormat(ctx context.Context, disk *image.Source, out plan.Output, file *checksum.File) error {
	f, ok := formats.Lookup(out.Type)
	if !ok {
		return fmt.Errorf("internal error: no writer for output format %q", out.Type)
	}
	opts, err := imageOptions(b.plan.Recipe, out.Type)
	if err != nil {
		return err
	}
	opts.Name = filepath.Base(out.Path)
	if s, ok := f.(image.Streamer); ok && file.Digesting() {
		return s.Stream(ctx, disk, file, opts, b.progress(out))
	}
	return f.Write(ctx, disk, file.File(), opts, b.progress(out))
}
