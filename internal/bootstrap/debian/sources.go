package debian

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dib-builder/dib/internal/deb"
)

// sourceList is DIB_APT_SOURCES_CONF, or by default what debian-minimal's
// environment would put there.
func (o *options) sourceList() ([]deb.Source, error) {
	text := o.sources
	if strings.TrimSpace(text) == "" {
		components := strings.Join(strings.FieldsFunc(o.components, func(r rune) bool { return r == ',' || r == ' ' }), " ")
		text = fmt.Sprintf("default:deb %s %s %s\n", o.mirror, o.release, components)
		switch o.release {
		case "testing", "unstable", "sid", "experimental":
		default:
			text += fmt.Sprintf("updates:deb %s %s-updates %s\n", o.mirror, o.release, components)
			text += fmt.Sprintf("security:deb %s %s-security %s\n", o.security, o.release, components)
		}
	}
	sources, err := parseSourcesConf(text)
	if err == nil && len(sources) == 0 {
		err = errors.New("DIB_APT_SOURCES_CONF names no source of binary packages")
	}
	return sources, err
}

// parseSourcesConf reads DIB_APT_SOURCES_CONF: lines "name:source line", which
// become sources.list.d/name.list. Blank lines mean nothing.
func parseSourcesConf(text string) ([]deb.Source, error) {
	var all []deb.Source
	for _, l := range strings.Split(text, "\n") {
		l = strings.TrimSpace(l)
		if l == "" {
			continue
		}
		name, line, ok := strings.Cut(l, ":")
		if !ok || strings.TrimSpace(name) == "" || strings.ContainsAny(name, "/ \t") {
			return nil, fmt.Errorf("DIB_APT_SOURCES_CONF: %q is not of the form \"name:deb ADDRESS SUITE COMPONENT...\"", l)
		}
		s, err := deb.ParseSourceLines(line)
		if err != nil {
			return nil, fmt.Errorf("DIB_APT_SOURCES_CONF: source %q: %w", name, err)
		}
		all = append(all, s...)
	}
	return all, nil
}
