package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/formats"
)

// compareFormats compares the writing of a compressed qcow2 with qemu-img's, once as
// people call it and once with everything it has: out-of-order writes from many
// coroutines.
func (b *bench) compareFormats(ref *reference) error {
	others := []struct {
		name string
		args []string
	}{
		{"qemu-img convert -c", []string{"-c"}},
		{"qemu-img convert -c -W -m 8", []string{"-c", "-W", "-m", "8"}},
	}
	for _, other := range others {
		var ratios, ours, theirs []float64
		var sizes [2]int64
		for range b.pairs {
			dst := filepath.Join(b.dir, "ours.qcow2")
			r, err := b.qcow2(ref.raw, dst)
			if err != nil {
				return err
			}
			theirDst := filepath.Join(b.dir, "theirs.qcow2")
			argv := append([]string{"qemu-img", "convert", "-f", "raw", "-O", "qcow2"}, other.args...)
			q, err := b.timed(append(argv, ref.raw, theirDst)...)
			if err != nil {
				return err
			}
			if sizes, err = fileSizes(dst, theirDst); err != nil {
				return err
			}
			if _, err := b.timed("qemu-img", "compare", dst, theirDst); err != nil {
				return err
			}
			ours, theirs = append(ours, r.seconds), append(theirs, q.seconds)
			ratios = append(ratios, r.seconds/q.seconds)
			for _, name := range []string{dst, theirDst} {
				if err := os.Remove(name); err != nil {
					return err
				}
			}
		}
		fmt.Printf("qcow2 against %s, median of %d pairs: dib %.2f s, qemu-img %.2f s, time ratio %.3f (1/%.1f), size %d against %d bytes, ratio %.4f\n",
			other.name, b.pairs, median(ours), median(theirs), median(ratios), 1/median(ratios), sizes[0], sizes[1], float64(sizes[0])/float64(sizes[1]))
	}
	return nil
}

func fileSizes(a, b string) (sizes [2]int64, err error) {
	for i, name := range []string{a, b} {
		info, err := os.Stat(name)
		if err != nil {
			return sizes, err
		}
		sizes[i] = info.Size()
	}
	return sizes, nil
}

// qcow2 converts a raw image with dib's own writer.
func (b *bench) qcow2(src, dst string) (result, error) {
	format, ok := formats.Lookup("qcow2")
	if !ok {
		return result{}, errors.New("dib has no qcow2 writer")
	}
	start := time.Now()
	source, err := image.OpenSource(src)
	if err != nil {
		return result{}, err
	}
	defer source.Close()
	out, err := os.Create(dst)
	if err != nil {
		return result{}, err
	}
	defer out.Close()
	if err := format.Write(b.ctx, source, out, image.Options{Compress: true}, func(int64, int64) {}); err != nil {
		return result{}, err
	}
	err = out.Close()
	return result{seconds: time.Since(start).Seconds()}, err
}
