package ui

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"

	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/recipe"
)

// OptionsFromEnv reads the variables of DIB's contract: DIB_QUIET (1 quiet, 0
// not; unset means quiet if there is a log file) and DIB_NO_TIMESTAMP (1 means
// none). The view is live if the command's output is a terminal other than a
// dumb one; DIB_PROGRESS=live or plain decides otherwise.
func OptionsFromEnv(std command.IO, rec recipe.Recipe) Options {
	opts := Options{
		Out:        std.Out,
		Err:        std.Err,
		LogFile:    rec.LogFile,
		Quiet:      rec.LogFile != "",
		Timestamps: !isOne(std.Getenv("DIB_NO_TIMESTAMP")),
	}
	if quiet := std.Getenv("DIB_QUIET"); quiet != "" {
		opts.Quiet = isOne(quiet)
	}
	if file, ok := std.Out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		name := std.Getenv("TERM")
		opts.Live = name != "" && name != "dumb"
		opts.Width = func() int {
			if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
				return width
			}
			return defaultWidth
		}
	}
	switch std.Getenv("DIB_PROGRESS") {
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
