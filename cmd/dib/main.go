// Command dib builds disk images from elements. It is a drop-in replacement
// of diskimage-builder.
package main

import (
	"context"
	"os"

	"github.com/dib-builder/dib/internal/cli"
)

func main() {
	ctx, stop := cli.WithSignals(context.Background())
	status := cli.Program{}.Main(ctx, cli.Process(), os.Args)
	status = cli.ExitStatus(ctx, status)
	stop()
	os.Exit(status)
}
