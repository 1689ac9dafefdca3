package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/checksum"
	"github.com/dib-builder/dib/internal/image/formats"
)

// together are the formats that compareOnePass writes, as -t would name them.
var together = []struct{ format, settings string }{
	{"qcow2", ""}, {"vmdk", "subformat=streamOptimized"}, {"vdi", ""}, {"vhd", ""}, {"raw", ""},
}

// compareOnePass compares five formats, with md5 and sha256 of each, written
// side by side from one reading of the disk, with the sum of the same five
// written one after the other.
func (b *bench) compareOnePass(raw string) error {
	var ratios, one, sum, work []float64
	for range b.pairs {
		var single, singleWork float64
		for i := range together {
			s, w, err := b.onePass(raw, i, i+1)
			if err != nil {
				return err
			}
			single, singleWork = single+s, singleWork+w
		}
		all, allWork, err := b.onePass(raw, 0, len(together))
		if err != nil {
			return err
		}
		one, sum = append(one, all), append(sum, single)
		ratios, work = append(ratios, all/single), append(work, allWork/singleWork)
	}
	fmt.Printf("%d formats with md5 and sha256, median of %d pairs: at once %.2f s, one by one %.2f s, time ratio %.2f, processor time ratio %.2f\n",
		len(together), b.pairs, median(one), median(sum), median(ratios), median(work))
	return nil
}

// processorTime is what this process has used so far, in seconds.
func processorTime() (float64, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds(), nil
}

// onePass writes some of the formats at once and returns the seconds it took,
// and those of all processors.
func (b *bench) onePass(raw string, from, to int) (elapsed, worked float64, err error) {
	start := time.Now()
	before, err := processorTime()
	if err != nil {
		return 0, 0, err
	}
	src, err := image.OpenSource(raw)
	if err != nil {
		return 0, 0, err
	}
	defer src.Close()
	digests, err := checksum.Parse("1")
	if err != nil {
		return 0, 0, err
	}
	g, ctx := errgroup.WithContext(b.ctx)
	shared := image.Share(ctx, src, to-from)
	for i, t := range together[from:to] {
		g.Go(func() error {
			defer shared[i].Close()
			return b.writeOne(ctx, shared[i], t.format, t.settings, digests)
		})
	}
	if err := g.Wait(); err != nil {
		return 0, 0, err
	}
	after, err := processorTime()
	return time.Since(start).Seconds(), after - before, err
}

// writeOne writes one format as a build does, to a file that is then removed.
func (b *bench) writeOne(ctx context.Context, src *image.Source, name, settings string, digests []checksum.Algorithm) error {
	f, ok := formats.Lookup(name)
	if !ok {
		return fmt.Errorf("dib has no writer for %s", name)
	}
	opts := image.Options{Compress: true, Name: "image." + name}
	var err error
	if opts.Settings, err = image.ParseSettings(settings); err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(b.dir, opts.Name))
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	file := checksum.NewFile(out, digests)
	defer file.Close()
	if s, ok := f.(image.Streamer); ok {
		err = s.Stream(ctx, src, file, opts, nil)
	} else {
		err = f.Write(ctx, src, file.File(), opts, nil)
	}
	if err == nil {
		src.Close()
		_, err = file.Sums(ctx)
	}
	return err
}
