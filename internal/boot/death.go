package boot

import (
	"fmt"
	"regexp"
)

// Death is a guest that will not come up any more: waiting longer is useless.
type Death struct {
	Kind string // what happened, in words
	Line string // the line of the console that says so
}

func (d *Death) Error() string { return fmt.Sprintf("%s: %q", d.Kind, d.Line) }

// deaths are the last words of guests, by who speaks them. Each pattern is
// matched against one line. Only those marked always hold while a command
// runs: its output may quote the others.
var deaths = []struct {
	kind    string
	always  bool
	pattern *regexp.Regexp
}{
	{"kernel panic", true, regexp.MustCompile(`^(\[[ \d.]+\] ?)*Kernel panic - not syncing`)},
	{"systemd stopped", true, regexp.MustCompile(`^(\[[ \d.]+\] ?)*systemd\[1\]: Freezing execution`)},
	{"the firmware found nothing to boot", false, regexp.MustCompile(`No bootable device|No bootable option or device was found|^Shell> `)},
	{"the boot record found nothing to boot", false, regexp.MustCompile(`^(Missing operating system|Error loading operating system|Invalid partition table)`)},
	{"GRUB cannot read its files", false, regexp.MustCompile(`grub rescue>|GRUB.* (Geom|Hard Disk|Floppy|Read) Error`)},
	{"GRUB has no configuration", false, regexp.MustCompile(`^grub> `)},
	{"the initramfs did not find the root filesystem", false, regexp.MustCompile(`^\(initramfs\) |Dropping to a shell!|dracut:/[^ ]*#|Generating "/run/initramfs/rdsosreport\.txt"|Entering emergency mode\. Exit the shell to continue|Falling back to interactive prompt`)},
	{"the system is in emergency mode", false, regexp.MustCompile(`Give root password for maintenance|Press Enter for (system )?maintenance|You are in emergency mode|Cannot open access to console, the root account is locked`)},
}

// lastWords looks for a death in one line; running says that a command's
// output is on the console.
func lastWords(line []byte, running bool) *Death {
	for _, d := range deaths {
		if (d.always || !running) && d.pattern.Match(line) {
			return &Death{Kind: d.kind, Line: string(line)}
		}
	}
	return nil
}
