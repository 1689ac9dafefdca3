package formats

import (
	"slices"

	"github.com/dib-builder/dib/internal/image"
)

// Settings picks from the settings of --qemu-img-options those for the format
// name, one of types, which are all that a build writes. Every setting goes to
// the formats that know it; one that none of them knows goes to all that know
// any, whose Check then says what is wrong with it. Formats made of files, and
// raw, know none and get none (D59).
func Settings(list image.Settings, name string, types []string) image.Settings {
	f, ok := Lookup(name)
	if !ok || len(f.Keys()) == 0 {
		return nil
	}
	var own image.Settings
	for _, s := range list {
		if slices.Contains(f.Keys(), s.Key) || !slices.ContainsFunc(types, func(t string) bool { return knows(t, s.Key) }) {
			own = append(own, s)
		}
	}
	return own
}

func knows(name, key string) bool {
	f, ok := Lookup(name)
	return ok && slices.Contains(f.Keys(), key)
}
