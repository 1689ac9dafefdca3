package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Traces lists what builds have left on the host that mentions one of the
// given directories or a place only a build has: mounts of this mount
// namespace, and loop devices. An empty result is what a test wants.
func Traces(dirs ...string) ([]string, error) {
	var found []string
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		if mentions(line, append(dirs, "/.dib", "dib_build.")) {
			found = append(found, "mount: "+strings.TrimSpace(line))
		}
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	for _, file := range backing {
		// The device may be released between the two system calls.
		if text, err := os.ReadFile(file); err == nil && mentions(string(text), dirs) {
			found = append(found, fmt.Sprintf("loop device: %s holds %s", file, strings.TrimSpace(string(text))))
		}
	}
	return found, nil
}

func mentions(line string, words []string) bool {
	for _, w := range words {
		if strings.Contains(line, w) {
			return true
		}
	}
	return false
}
