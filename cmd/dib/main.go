// Command dib builds disk images from elements. It is a drop-in replacement
// of diskimage-builder.
package main

import (
	"context"
	"maps"
	"os"

	"github.com/dib-builder/dib/internal/bootloader"
	"github.com/dib-builder/dib/internal/bootstrap/debian"
	"github.com/dib-builder/dib/internal/bootstrap/debian/apt"
	"github.com/dib-builder/dib/internal/build"
	"github.com/dib-builder/dib/internal/cli"
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/intarget"
	"github.com/dib-builder/dib/internal/sandbox"
	"github.com/dib-builder/dib/internal/sandbox/standin"
)

func main() {
	sandbox.MaybeStage()
	if len(os.Args) > 1 && os.Args[1] == build.EngineStage {
		os.Exit(build.EngineMain())
	}
	if len(os.Args) > 1 && os.Args[1] == build.EnvironmentStage {
		os.Exit(build.EnvironmentMain())
	}
	ctx, stop := cli.WithSignals(context.Background())
	program := cli.Program{Create: build.Create, Plan: build.Plan, MakePlan: build.MakePlan, Commands: commands()}
	status := cli.ExitStatus(ctx, program.Main(ctx, cli.Process(), os.Args))
	stop()
	os.Exit(status)
}

// commands are those that hooks call; people need none of them.
func commands() map[string]command.Func {
	all := intarget.Commands()
	maps.Copy(all, map[string]command.Func{
		"bootloader":       bootloader.Main,
		"grub-probe":       bootloader.Probe,
		"grub-mkrelpath":   bootloader.Mkrelpath,
		"grub2-probe":      bootloader.Probe,
		"grub2-mkrelpath":  bootloader.Mkrelpath,
		"sudo":             standin.Sudo,
		"bootstrap-debian": debian.Main,
		"apt-mirror":       apt.MirrorMain,
		"apt-update":       apt.UpdateMain,
	})
	return all
}
