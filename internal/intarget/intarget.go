// Package intarget is the table of the commands that elements call while an
// image is being built: on the host through $TMP_HOOKS_PATH/bin and inside the
// chroot through /usr/local/bin. Names, options and exit statuses are those of
// the elements that own the commands; other elements rely on them.
package intarget

import (
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/intarget/aptpins"
	"github.com/dib-builder/dib/internal/intarget/cacheurl"
	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/internal/intarget/copyprograms"
	"github.com/dib-builder/dib/internal/intarget/extractimage"
	"github.com/dib-builder/dib/internal/intarget/installstatic"
	"github.com/dib-builder/dib/internal/intarget/mappackages"
	"github.com/dib-builder/dib/internal/intarget/pkginstalls"
	"github.com/dib-builder/dib/internal/intarget/pkgmap"
	"github.com/dib-builder/dib/internal/intarget/sourcerepos"
	"github.com/dib-builder/dib/internal/intarget/svcmap"
)

// Commands returns every command by its name.
func Commands() map[string]command.Func {
	commands := map[string]command.Func{}
	for name, do := range map[string]cmdline.Func{
		"apt-pins":                aptpins.Run,
		"cache-url":               cacheurl.Run,
		"copy-programs":           copyprograms.Run,
		"early-packages":          pkginstalls.Early,
		"extract-image":           extractimage.Run,
		"install-static":          installstatic.Run,
		"map-packages":            mappackages.Run,
		"package-installs":        pkginstalls.LegacyInstall,
		"package-installs-squash": pkginstalls.Squash,
		"package-installs-v2":     pkginstalls.Install,
		"package-uninstalls":      pkginstalls.LegacyUninstall,
		"pkg-map":                 pkgmap.Run,
		"pkg-map-check":           pkgmap.Check,
		"source-repositories":     sourcerepos.Run,
		"svc-map":                 svcmap.Run,
		"svc-map-merge":           svcmap.Merge,
	} {
		commands[name] = cmdline.Command(name, do)
	}
	return commands
}
