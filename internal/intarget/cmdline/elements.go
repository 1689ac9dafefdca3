package cmdline

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// ElementDirs reads IMAGE_ELEMENT_YAML, the map of every selected element to
// its directory. It is nil when the variable is not set.
func (e Environment) ElementDirs() (map[string]string, error) {
	text := e["IMAGE_ELEMENT_YAML"]
	if text == "" {
		return nil, nil
	}
	dirs := map[string]string{}
	if err := yaml.Unmarshal([]byte(text), &dirs); err != nil {
		return nil, fmt.Errorf("cannot read IMAGE_ELEMENT_YAML: %w", err)
	}
	return dirs, nil
}
