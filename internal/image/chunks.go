package image

import (
	"bytes"
	"context"
	"fmt"
)

// Chunks reads the disk in pieces of size bytes, in order, and calls f for
// every piece that is not all zeros, with its number. The last piece is filled
// up with zeros. The slice is the caller's until f returns. Holes are not read.
// Progress may be nil.
func (s *Source) Chunks(ctx context.Context, size int, progress Progress, f func(number int64, data []byte) error) error {
	buf, zeros := make([]byte, size), make([]byte, size)
	total, done, told := s.DataSize(), int64(0), int64(0)
	next := int64(0) // number of the first piece that was not looked at
	for _, e := range s.extents {
		for n := max(next, e.Off/int64(size)); n*int64(size) < e.End(); n++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			off := n * int64(size)
			got, err := s.ReadAt(buf, off)
			if int64(got) < min(int64(size), s.size-off) {
				return fmt.Errorf("cannot read the disk: %w", err)
			}
			clear(buf[got:])
			if !bytes.Equal(buf, zeros) {
				if err := f(n, buf); err != nil {
					return err
				}
			}
			next = n + 1
			if now := done + min(e.End(), next*int64(size)) - e.Off; progress != nil && now-told >= progressStep && now < total {
				progress(now, total)
				told = now
			}
		}
		done += e.Len
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if progress != nil {
		progress(total, total)
	}
	return nil
}

// progressStep is how much is done between two reports of progress, in bytes.
const progressStep = 4 << 20

// NoSettings is the Check of formats without settings: each key that qemu-img
// knows is refused as unsupported unless its value is the one given, which
// asks for what the format writes anyway.
func NoSettings(format string, opts Options, known map[string]string) error {
	for _, s := range opts.Settings {
		want, ok := known[s.Key]
		switch {
		case !ok:
			return fmt.Errorf("cannot use image option %s=%s: %s has no such option", s.Key, s.Value, format)
		case want == "" || s.Value != want:
			return fmt.Errorf("cannot use image option %s=%s: %w", s.Key, s.Value, ErrUnsupported)
		}
	}
	return nil
}
