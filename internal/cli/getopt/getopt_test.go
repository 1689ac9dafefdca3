package getopt

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

var options = []Option{
	{Short: 'a', Arg: true},
	{Short: 'x'},
	{Short: 'u'},
	{Short: 'h', Long: "help"},
	{Long: "offline"},
	{Long: "no-tmpfs"},
	{Long: "image-size", Arg: true},
	{Long: "image-cache", Arg: true},
	{Long: "mkfs-options", Arg: true},
	{Long: "root", Arg: true},
	{Long: "root-label", Arg: true},
	{Long: "image-extra-size", Arg: true, Late: true},
	{Long: "mkfs-journal-size", Arg: true, Late: true},
}

// show prints a result as getopt(1) would: options, "--", operands.
func show(matches []Match, operands []string) string {
	var words []string
	for _, m := range matches {
		words = append(words, m.Option.Name())
		if m.Option.Arg {
			words = append(words, "'"+m.Value+"'")
		}
	}
	words = append(words, "--")
	for _, o := range operands {
		words = append(words, "'"+o+"'")
	}
	return strings.Join(words, " ")
}

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		summary string
		args    []string
		posix   bool
		want    string
		errs    []string
	}{
		{summary: "nothing", want: "--"},
		{summary: "permutation keeps both orders", args: []string{"vm", "-x", "debian", "-a", "amd64", "base"},
			want: "-x -a 'amd64' -- 'vm' 'debian' 'base'"},
		{summary: "POSIXLY_CORRECT stops at the first operand", args: []string{"-x", "vm", "-u"}, posix: true,
			want: "-x -- 'vm' '-u'"},
		{summary: "double dash ends options", args: []string{"-x", "--", "-u", "--", "vm"}, want: "-x -- '-u' '--' 'vm'"},
		{summary: "cluster", args: []string{"-xxu"}, want: "-x -x -u --"},
		{summary: "cluster with an attached value", args: []string{"-xaamd64"}, want: "-x -a 'amd64' --"},
		{summary: "cluster with a separate value", args: []string{"-xa", "arm64", "vm"}, want: "-x -a 'arm64' -- 'vm'"},
		{summary: "a short value may look like an option", args: []string{"-a", "-x"}, want: "-a '-x' --"},
		{summary: "a short value may be the double dash", args: []string{"-a", "--", "vm"}, want: "-a '--' -- 'vm'"},
		{summary: "equals sign belongs to a short value", args: []string{"-a=b"}, want: "-a '=b' --"},
		{summary: "long with equals", args: []string{"--image-size=3"}, want: "--image-size '3' --"},
		{summary: "long with empty value", args: []string{"--image-size="}, want: "--image-size '' --"},
		{summary: "long value with equals", args: []string{"--image-cache=a=b"}, want: "--image-cache 'a=b' --"},
		{summary: "long with separate value", args: []string{"--image-size", "3"}, want: "--image-size '3' --"},
		{summary: "long value may look like an option", args: []string{"--image-size", "--offline"}, want: "--image-size '--offline' --"},
		{summary: "unambiguous prefix", args: []string{"--no", "--off", "--image-s", "1"}, want: "--no-tmpfs --offline --image-size '1' --"},
		{summary: "exact name that is also a prefix", args: []string{"--root=x"}, want: "--root 'x' --"},
		{summary: "prefix with value", args: []string{"--root-l=x"}, want: "--root-label 'x' --"},
		{summary: "a late option yields", args: []string{"--mkfs=-O x", "--mk", "y"}, want: "--mkfs-options '-O x' --mkfs-options 'y' --"},
		{summary: "a late option has prefixes of its own", args: []string{"--mkfs-j=8", "--image-e=9"},
			want: "--mkfs-journal-size '8' --image-extra-size '9' --"},
		{summary: "a lone dash is an operand", args: []string{"-", "-x"}, want: "-x -- '-'"},
		{summary: "empty operand", args: []string{"", "vm"}, want: "-- '' 'vm'"},
		{summary: "ambiguous", args: []string{"--image=1"}, errs: []string{"option '--image=1' is ambiguous; possibilities: '--image-size' '--image-cache'"}},
		{summary: "unknown long", args: []string{"--bogus=1"}, errs: []string{"unrecognized option '--bogus=1'"}},
		{summary: "unknown short", args: []string{"-z"}, errs: []string{"invalid option -- 'z'"}},
		{summary: "a NUL byte is no option", args: []string{"-\x00"}, errs: []string{"invalid option -- '\x00'"}},
		{summary: "missing short argument", args: []string{"-xa"}, errs: []string{"option requires an argument -- 'a'"}},
		{summary: "missing long argument", args: []string{"--image-size"}, errs: []string{"option '--image-size' requires an argument"}},
		{summary: "argument for a flag", args: []string{"--off=1"}, errs: []string{"option '--offline' doesn't allow an argument"}},
		{summary: "all mistakes are told", args: []string{"-zxq", "--bogus", "vm", "--image-size"},
			errs: []string{"invalid option -- 'z'", "invalid option -- 'q'", "unrecognized option '--bogus'", "option '--image-size' requires an argument"}},
	} {
		t.Run(tc.summary, func(t *testing.T) {
			matches, operands, err := Parse(options, tc.args, tc.posix)
			if tc.errs != nil {
				var e *Error
				if !errors.As(err, &e) || !slices.Equal(e.Messages, tc.errs) {
					t.Fatalf("error %v, want %q", err, tc.errs)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := show(matches, operands); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// FuzzParse checks that nothing is invented or lost: options written out again
// in full parse to the same result.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"-xxu\nvm", "--mkfs\n-O x\n--\n-z", "-a\n--\n--image=1", "--image-s=\n\n-xaq", "-"} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, line string, posix bool) {
		matches, operands, err := Parse(options, strings.Split(line, "\n"), posix)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || len(e.Messages) == 0 {
				t.Fatalf("error without a message: %v", err)
			}
			return
		}
		var full []string
		for _, m := range matches {
			full = append(full, m.Option.Name())
			if m.Option.Arg {
				full = append(full, m.Value)
			}
		}
		full = append(append(full, "--"), operands...)
		again, rest, err := Parse(options, full, posix)
		if err != nil || show(again, rest) != show(matches, operands) {
			t.Fatalf("%q parses to %s, again to %s (%v)", line, show(matches, operands), show(again, rest), err)
		}
	})
}
