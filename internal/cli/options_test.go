package cli

import (
	"errors"
	"slices"
	"testing"

	"github.com/dib-builder/dib/internal/cli/getopt"
)

// dibOptions are the long options that DIB 3.42 knows, which people shorten.
var dibOptions = []string{"help", "version", "checksum", "image-size", "image-cache", "max-online-resize", "mkfs-options", "min-tmpfs", "no-tmpfs",
	"offline", "qemu-img-options", "ramdisk-element", "root-label", "install-type", "docker-target", "logfile"}

// TestPrefixesStay holds that whatever is added here, a shortened option means
// what it means to DIB (D02).
func TestPrefixesStay(t *testing.T) {
	var known []getopt.Option
	for _, name := range dibOptions {
		at := slices.IndexFunc(createOptions, func(o createOption) bool { return o.Long == name })
		if at < 0 {
			t.Fatalf("option --%s is gone", name)
		}
		known = append(known, createOptions[at].Option)
	}
	for _, name := range dibOptions {
		for end := 1; end <= len(name); end++ {
			args := []string{"--" + name[:end]}
			if at := slices.IndexFunc(known, func(o getopt.Option) bool { return o.Long == name }); known[at].Arg {
				args = append(args, "x")
			}
			want, _, wantErr := getopt.Parse(known, args, false)
			got, _, err := getopt.Parse(syntax(createOptions), args, false)
			var e, wantE *getopt.Error
			if !slices.Equal(got, want) || errors.As(err, &e) != errors.As(wantErr, &wantE) {
				t.Errorf("%q: got %v (%v), DIB has %v (%v)", args, got, err, want, wantErr)
			}
		}
	}
}
