package plan

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
)

// Seed identifies what the image is made of: disk ids and UUIDs derive from
// it, so that the same inputs give the same image. Names of files, caches and
// logs, and whatever else does not reach the image, leave it unchanged; so do
// secrets, since the ids can be read in the image and a short secret could be
// found by trying.
func (p *Plan) Seed() []byte {
	type named struct{ Name, Value string }
	var variables []named
	for _, kv := range p.Env.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "DIB_") && !aside[name] {
			variables = append(variables, named{name, value})
		}
	}
	var elements []string
	for _, e := range p.Elements {
		elements = append(elements, e.Name)
	}
	r := p.Recipe
	text, err := json.Marshal([]any{
		elements, r.Arch, r.Packages, r.InstallType, variables, p.BlockDevice.Text,
		r.FSType, r.RootLabel, r.ImageSizeGiB, r.ExtraSizeMiB, r.JournalSizeMiB, r.MaxOnline, r.MkfsOptions,
	})
	if err != nil {
		panic("internal error: seed of a plan: " + err.Error()) // strings always marshal
	}
	sum := sha256.Sum256(text)
	return sum[:]
}

// aside are variables that say how to build rather than what.
var aside = map[string]bool{
	"DIB_ARGS": true, "DIB_ENV": true, "DIB_IMAGE_CACHE": true, "DIB_LOCKFILES": true,
	"DIB_DEBUG_TRACE": true, "DIB_NO_TMPFS": true, "DIB_MIN_TMPFS": true, "DIB_OFFLINE": true,
	"DIB_CHECKSUM": true, "DIB_QUIET": true, "DIB_NO_TIMESTAMP": true, "DIB_PROGRESS": true,
	"DIB_SHOW_IMAGE_USAGE": true, "DIB_SHOW_IMAGE_USAGE_FULL": true, "DIB_PYTHON_EXEC": true,
	"DIB_PYTHON_LOGGING_CONFIG_FILE": true, "DIB_GZIP_BIN": true, "DIB_EVENTS": true,
	"DIB_MANIFEST_SAVE_DIR": true, "DIB_STAGED_OUTPUTS": true, BackendVariable: true,
}
