package ui

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"

	"github.com/dib-builder/dib/internal/recipe"
)

// OptionsFromEnv reads the variables of DIB's contract: DIB_QUIET (1 quiet, 0
// not; unset means quiet if there is a log file) and DIB_NO_TIMESTAMP (1 means
// none). The view is live if stdout is a terminal other than a dumb one;
// DIB_PROGRESS=live or plain decides otherwise.
func OptionsFromEnv(env func(string) string, rec recipe.Recipe, stdout *os.File) Options {
	fd := int(stdout.Fd())
	opts := Options{
		Out:        stdout,
		Err:        os.Stderr,
		LogFile:    rec.LogFile,
		Quiet:      rec.LogFile != "",
		Timestamps: !isOne(env("DIB_NO_TIMESTAMP")),
		Live:       term.IsTerminal(fd) && env("TERM") != "dumb" && env("TERM") != "",
		Width: func() int {
			if width, _, err := term.GetSize(fd); err == nil && width > 0 {
				return width
			}
			return 80
		},
	}
	if quiet := env("DIB_QUIET"); quiet != "" {
		opts.Quiet = isOne(quiet)
	}
	switch env("DIB_PROGRESS") {
	case "live":
		opts.Live = true
	case "plain":
		opts.Live = false
	}
	return opts
}

// isOne compares as shell arithmetic does: what is no number is not 1.
func isOne(s string) bool {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	return err == nil && n == 1
}
