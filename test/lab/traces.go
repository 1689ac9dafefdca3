package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Traces lists what builds have left on the host that mentions one of the
// given directories or a place only a build has: mounts of this mount
// namespace, loop devices and their partitions. An empty result is what a test
// wants. What the kernel is about to free has a moment to go.
func Traces(dirs ...string) ([]string, error) {
	for end := time.Now().Add(settle); ; time.Sleep(20 * time.Millisecond) {
		found, err := traces(dirs)
		if err != nil || len(found) == 0 || time.Now().After(end) {
			return found, err
		}
	}
}

// settle is how long loop devices may take to go after the last process.
const settle = 2 * time.Second

func traces(dirs []string) ([]string, error) {
	var found []string
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		if mentions(line, slices.Concat(dirs, ownPlaces)) {
			found = append(found, "mount: "+strings.TrimSpace(line))
		}
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	for _, file := range backing {
		// The device may be released between the two system calls.
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		// All builds call their images the same: one that still runs may be
		// somebody else's, and this device its own.
		if mentions(string(text), dirs) || mentions(string(text), ownPlaces) && !buildRuns() {
			found = append(found, fmt.Sprintf("loop device: %s holds %s", file, strings.TrimSpace(string(text))))
		}
	}
	return found, nil
}

// buildRuns tells whether any process of this machine is in a build's sandbox.
func buildRuns() bool {
	files, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		return false
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), " /.dib ") {
			return true
		}
	}
	return false
}

// ownPlaces are in the name of everything that only a build has.
var ownPlaces = []string{"/.dib", "dib_build."}

func mentions(line string, words []string) bool {
	for _, w := range words {
		if strings.Contains(line, w) {
			return true
		}
	}
	return false
}
