// Package show turns a plan into what "dib plan" prints: a document for
// programs (JSON) and a text for people.
package show

import (
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/plan"
	"github.com/dib-builder/dib/internal/secret"
)

// Version is the version of the document's shape. It grows when something that
// programs may rely on changes or goes; what is added leaves it alone.
const Version = 1

// Facts are what a document says beyond the plan.
type Facts struct {
	Config *blockdev.Config // merged
	Caller plan.Env         // the environment of the caller
	Start  plan.Env         // of host-side hooks, before environment files
	// Environment is what environment files do to it; nil when that is Unknown.
	Environment *Effects
	Unknown     string // why
}

// Effects is what environment files do.
type Effects struct {
	Before plan.Env // where the first one is sourced
	Files  []Effect // in order
}

// Effect is the environment after one file.
type Effect struct {
	File string
	Env  plan.Env
}

// Document is a plan as it is shown. docs/plan.md describes it.
type Document struct {
	Version          int            `json:"version"`
	Kind             string         `json:"kind"` // "disk-image" or "ramdisk"
	ImageName        string         `json:"image_name"`
	Arch             string         `json:"arch"`
	Packages         []string       `json:"packages"`
	Elements         []plan.Element `json:"elements"`
	EnvironmentFiles []plan.Hook    `json:"environment_files"`
	Phases           []plan.Phase   `json:"phases"`
	Environment      Environment    `json:"environment"`
	Layout           Layout         `json:"layout"`
	Secrets          []string       `json:"secrets"` // names of secret variables, and files below $DIB_SECRETS_DIR
	Outputs          []Output       `json:"outputs"`
	Warnings         []string       `json:"warnings"`
}

// Output is a file that the build leaves.
type Output struct {
	Type     string `json:"type"`                // as given with -t; of a ramdisk "initramfs" and "kernel"
	Path     string `json:"path"`                // as given with -o, with its suffix
	Disk     string `json:"disk,omitempty"`      // of the layout, where it is not the one with the root filesystem
	FromTree bool   `json:"from_tree,omitempty"` // made of the files rather than of the disk
	Tag      string `json:"tag,omitempty"`       // of a docker image; Path is what is left when no engine takes it
}

// Environment is what host-side hooks of the root phase see.
type Environment struct {
	// Evaluated says that the environment files have been sourced; otherwise
	// Variables are those with which they would begin, and Reason says why.
	Evaluated bool       `json:"evaluated"`
	Reason    string     `json:"reason,omitempty"`
	Variables []Variable `json:"variables"` // by name, in byte order
}

// Variable is one variable of the environment.
type Variable struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Secret bool   `json:"secret,omitempty"` // Value does not tell it
	// Origin is "caller", "dib", "bash", or the environment file that set the
	// variable last ("environment.d/10-name").
	Origin string `json:"origin"`
}

// Origins of variables that are no environment files.
const (
	originCaller = "caller"
	originDib    = "dib"
	originBash   = "bash"
)

// New makes a document of a plan.
func New(p *plan.Plan, facts Facts) (*Document, error) {
	layout, err := newLayout(p, facts.Config)
	if err != nil {
		return nil, err
	}
	kind := "disk-image"
	if p.Recipe.Ramdisk {
		kind = "ramdisk"
	}
	environment, redact := newEnvironment(facts)
	doc := &Document{
		Version: Version, Kind: kind, ImageName: p.Recipe.ImageName, Arch: p.Recipe.Arch,
		Packages: list(p.Recipe.Packages), Elements: p.Elements, EnvironmentFiles: list(p.Environment), Phases: p.Phases,
		Environment: environment, Layout: layout, Secrets: list(p.Secrets), Outputs: []Output{}, Warnings: []string{},
	}
	for _, o := range p.Outputs {
		doc.Outputs = append(doc.Outputs, Output{Type: o.Type, Path: o.Path, Disk: o.Disk, FromTree: o.FromTree, Tag: o.Tag})
	}
	if p.Recipe.Ramdisk { // hooks of the ramdisk elements leave these
		for _, kind := range []string{"initramfs", "kernel"} {
			doc.Outputs = append(doc.Outputs, Output{Type: kind, Path: p.Recipe.ImageName + "." + kind, FromTree: true})
		}
	}
	for _, w := range p.Warnings {
		doc.Warnings = append(doc.Warnings, redact.String(w))
	}
	for _, w := range facts.Config.Warnings {
		doc.Warnings = append(doc.Warnings, redact.String(w.String()))
	}
	return doc, nil
}

// list is never nil, so that JSON has an empty list and not null.
func list[T any](s []T) []T { return append([]T{}, s...) }

func newEnvironment(facts Facts) (Environment, *secret.Redactor) {
	final, origins := facts.Start, map[string]string{}
	for name, value := range facts.Start {
		origins[name] = originDib
		if given, ok := facts.Caller[name]; ok && given == value {
			origins[name] = originCaller
		}
	}
	if e := facts.Environment; e != nil {
		attribute(origins, facts.Start, e.Before, originBash)
		final = e.Before
		for _, f := range e.Files {
			attribute(origins, final, f.Env, "environment.d/"+f.File)
			final = f.Env
		}
		attribute(origins, facts.Start, plan.Env{"SHLVL": final["SHLVL"]}, originBash) // counts shells
	}
	redact := secret.NewRedactor(facts.Caller)
	redact.Learn(facts.Start)
	redact.Learn(final)
	rules := secret.RulesOf(final)
	env := Environment{Evaluated: facts.Environment != nil, Reason: redact.String(facts.Unknown), Variables: []Variable{}}
	for _, name := range slices.Sorted(maps.Keys(final)) {
		v := Variable{Name: name, Secret: rules.Secret(name, final[name]), Origin: origins[name]}
		if v.Secret {
			v.Value = secret.Mark
		} else {
			// DIB_ENV holds assignments of other variables.
			v.Value = strings.ToValidUTF8(secret.MaskAssignments(redact.String(final[name])), "\ufffd")
		}
		env.Variables = append(env.Variables, v)
	}
	return env, redact
}

// attribute names origin as that of every variable which it set or changed.
func attribute(origins map[string]string, before, after plan.Env, origin string) {
	for name, value := range after {
		if old, ok := before[name]; !ok || old != value {
			origins[name] = origin
		}
	}
}

// WriteJSON prints the document for programs.
func (d *Document) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(d)
}
