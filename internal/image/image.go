// Package image turns a finished raw disk into the file a user asked for.
//
// It holds what all output formats share: the sparse Source they read, the
// Options they understand and the Format interface they implement. The formats
// themselves are packages below this one; package formats lists them.
package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// ErrUnsupported is wrapped by errors of Format.Check for an option that is
// valid for qemu-img but that the built-in writer does not offer. A caller may
// hand the conversion to qemu-img instead.
var ErrUnsupported = errors.New("not supported by the built-in writer")

// Progress is told how many bytes of the source's data are done. It is called
// from one goroutine at a time, with done never decreasing, and must not block
// for long. total is the size of the data, not of the disk (holes are free),
// rounded as the format likes; the last call has done equal to total.
type Progress func(done, total int64)

// Format is one output format.
type Format interface {
	// Name is the word a user writes after -t.
	Name() string
	// Extension is the file name's ending without its dot.
	Extension() string
	// Keys are the names of settings that qemu-img knows for the format, also
	// those that Check refuses.
	Keys() []string
	// Check says whether Write would accept the options for a disk of size
	// bytes. It touches nothing, so it can run before the build starts; size
	// 0 means not yet known.
	Check(opts Options, size int64) error
	// Write fills out, an empty regular file open for reading and writing,
	// with the image of src. The bytes written depend on the contents of src
	// and on the options alone, not on Options.Workers. On error out holds
	// garbage that the caller discards.
	Write(ctx context.Context, src *Source, out *os.File, opts Options, progress Progress) error
}

// Options selects variants of a format. The zero value asks for the default
// variant without compression.
type Options struct {
	// Compress asks for compressed data where the format can hold it.
	Compress bool
	// Settings are the format's own options, as in qemu-img's -o; see ParseSettings.
	Settings Settings
	// Name is what the file will be called, without its directory, for formats
	// that write it into the image.
	Name string
	// Workers is the number of goroutines that read and compress; 0 means one
	// per usable CPU.
	Workers int
}

// Settings are key=value pairs in the order given.
type Settings []Setting

// Setting is one key=value pair.
type Setting struct{ Key, Value string }

// ParseSettings reads qemu-img's -o syntax: pairs separated by commas, a comma
// inside a value doubled, a key alone meaning key=on. Empty items are ignored.
func ParseSettings(text string) (Settings, error) {
	var out Settings
	for len(text) > 0 {
		var item strings.Builder
		for len(text) > 0 {
			if text[0] == ',' {
				if len(text) < 2 || text[1] != ',' {
					text = text[1:]
					break
				}
				text = text[1:] // ",," stands for one comma
			}
			item.WriteByte(text[0])
			text = text[1:]
		}
		if item.Len() == 0 {
			continue
		}
		key, value, found := strings.Cut(item.String(), "=")
		if key == "" {
			return nil, fmt.Errorf("cannot read image option %q: no name before %q", item.String(), "=")
		}
		if !found {
			value = "on"
		}
		out = append(out, Setting{key, value})
	}
	return out, nil
}

// Get returns the last value given for key.
func (s Settings) Get(key string) (value string, ok bool) {
	for _, kv := range slices.Backward(s) {
		if kv.Key == key {
			return kv.Value, true
		}
	}
	return "", false
}

// ParseSize reads a byte count as qemu-img writes them: digits and an optional
// binary suffix b, k, M, G, T, P (either case; k is 1024).
func ParseSize(text string) (int64, error) {
	digits, shift := text, 0
	if n := len(text); n > 0 {
		switch text[n-1] {
		case 'b', 'B':
			digits = text[:n-1]
		case 'k', 'K':
			digits, shift = text[:n-1], 10
		case 'm', 'M':
			digits, shift = text[:n-1], 20
		case 'g', 'G':
			digits, shift = text[:n-1], 30
		case 't', 'T':
			digits, shift = text[:n-1], 40
		case 'p', 'P':
			digits, shift = text[:n-1], 50
		}
	}
	v, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || v > uint64(1<<63-1)>>shift {
		return 0, fmt.Errorf("%q is not a size; write digits and an optional suffix k, M, G, T or P", text)
	}
	return int64(v) << shift, nil
}
