package vhdx

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/image"
	"github.com/dib-builder/dib/internal/image/mapped/mappedtest"
)

func TestSettings(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "block_size=32M": "", "subformat=dynamic,log_size=1M,block_state_zero=on": "",
		"block_size=3M": "power of two", "block_size=512M": "power of two", "block_size=x": "power of two",
		"subformat=fixed": "not supported by the built-in writer", "bogus=1": "vhdx has no such option",
	} {
		settings, err := image.ParseSettings(text)
		if err != nil {
			t.Fatal(err)
		}
		err = Format{}.Check(image.Options{Settings: settings}, 1<<30)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for size, want := range map[int64]int64{1 << 20: mib, 2 << 40: mib, 2<<40 + mib: 2 * mib, 64 << 40: 32 * mib} {
		if got, err := blockSize(image.Options{}, size); err != nil || got != want {
			t.Errorf("%d bytes: blocks of %d, %v, want %d", size, got, err, want)
		}
	}
}

// TestRefusals breaks images in ways that have to be told.
func TestRefusals(t *testing.T) {
	seed := mappedtest.Seed(t, Format{}, "")
	le := binary.LittleEndian
	reseal := func(b []byte, at, size int) { seal(b[at : at+size]) }
	for _, c := range []struct {
		name string
		edit func(b []byte) []byte
		want string
	}{
		{"sound", func(b []byte) []byte { return b }, ""},
		{"one header and one table are left", func(b []byte) []byte {
			clear(b[2*headersAt : 2*headersAt+headerSize])
			clear(b[regionsAt : regionsAt+regionSize])
			return b
		}, ""},
		{"cut", func(b []byte) []byte { return b[:100_000] }, "EOF"},
		{"no headers", func(b []byte) []byte { b[headersAt+9]++; b[2*headersAt+9]++; return b }, `structure "head" at 65536 is damaged`},
		{"a log", func(b []byte) []byte {
			b[2*headersAt+48] = 1
			reseal(b, 2*headersAt, headerSize)
			return b
		}, "its log has to be replayed first"},
		{"a log of the header that does not count", func(b []byte) []byte {
			b[headersAt+48] = 1
			reseal(b, headersAt, headerSize)
			return b
		}, ""},
		{"an unknown region", func(b []byte) []byte {
			b[regionsAt+16]++
			reseal(b, regionsAt, regionSize)
			return b
		}, "which is unknown"},
		{"a difference", func(b []byte) []byte { le.PutUint32(b[metadataAt+itemsAt+4:], hasParent); return b }, "difference to another image"},
		{"a disk without end", func(b []byte) []byte { le.PutUint64(b[metadataAt+itemsAt+8:], 1<<63); return b }, "64 TiB"},
		{"a disk too large for its table", func(b []byte) []byte { le.PutUint64(b[metadataAt+itemsAt+8:], 1<<40); return b }, "does not fit into its table"},
	} {
		b := c.edit(bytes.Clone(seed))
		_, err := Open(bytes.NewReader(b), int64(len(b)))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
