package pkginstalls

import (
	"context"
	"fmt"
	"strings"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/intarget/pkgmap"
	"github.com/dib-builder/dib/internal/run"
)

// mapper maps the names of elements' packages as the pkg-map command of the
// build does: in this process, unless another element brought its own command.
type mapper struct {
	io  command.IO
	env cmdline.Environment
	own bool
}

func newMapper(io command.IO) mapper {
	env := cmdline.EnvironmentOf(io)
	return mapper{io, env, ownsCommand(env, "pkg-map")}
}

// names returns one line, of one or more packages, per name that stands for
// something. A name that the element does not map stands for itself.
func (m mapper) names(ctx context.Context, element string, names []string) ([]string, error) {
	if m.own {
		return pkgmap.Mapping{
			Element: element, Distro: m.env["DISTRO_NAME"], Release: m.env["DIB_RELEASE"], MissingOK: true,
		}.Apply(names)
	}
	argv := []string{"pkg-map", "--prefix", "-", "--missing-ok", "--element", element}
	if m.env.Trace() > 1 {
		argv = append(argv, "--debug")
	}
	// Result lines start with the prefix "-", all else is log.
	var mapped, log []string
	err := run.Cmd{Argv: append(argv, names...), Env: m.io.Environ(), Log: func(line []byte) {
		if name, ok := strings.CutPrefix(string(line), "-"); ok {
			mapped = append(mapped, name)
		} else {
			log = append(log, string(line))
		}
	}}.Run(ctx)
	if err != nil {
		for _, line := range log {
			fmt.Fprintln(m.io.Err, line)
		}
	}
	return mapped, err
}
