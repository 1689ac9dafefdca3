// Package plan turns a Recipe into a Plan: everything that is known about a
// build before it starts, as one value that can be printed, compared and sent
// to the process that carries it out.
//
// What can be wrong with a request and be seen without building is found here.
package plan

import (
	"encoding/json"
	"io/fs"
	"os"
	"slices"
	"unicode/utf8"

	"github.com/dib-builder/dib/internal/element"
	"github.com/dib-builder/dib/internal/recipe"
)

// Plan is a build before it starts.
type Plan struct {
	// Recipe is what was asked for, without its Env, which Env replaces.
	Recipe    recipe.Recipe `json:"recipe"`
	Requested []string      `json:"requested"` // before dependencies, defaults included
	Elements  []Element     `json:"elements"`  // in order of resolution

	// Env is the whole environment of host-side hooks at the start of the
	// root phase, except what only the sandbox knows.
	Env Env `json:"env"`
	// SecretEnv is the rest of it: variables that are secret (package secret).
	// It is not printed with the plan, and nothing that stays derives from it.
	SecretEnv Env `json:"-"`
	// Secrets names what hooks get without it being shown here: the variables
	// of SecretEnv, and files by their path below DIB_SECRETS_DIR.
	Secrets []string `json:"secrets,omitempty"`

	Environment []Hook      `json:"environment"` // files that are sourced before each phase, in order
	Phases      []Phase     `json:"phases"`      // all ten, in order
	BlockDevice BlockDevice `json:"block_device"`
	Backend     Backend     `json:"backend"` // how disks are made
	Outputs     []Output    `json:"outputs"`
	Warnings    []string    `json:"warnings,omitempty"`
}

// Element is an element of the image.
type Element struct {
	Name     string   `json:"name"`
	Dir      string   `json:"dir"` // as hooks see it
	Builtin  bool     `json:"builtin,omitempty"`
	Hides    []string `json:"hides,omitempty"` // directories of namesakes that it is used instead of
	Reason   string   `json:"reason"`
	Deps     []string `json:"deps,omitempty"`
	Provides []string `json:"provides,omitempty"`
}

// Side is where the hooks of a phase run.
type Side string

const (
	Host   Side = "host"   // outside the image, as the caller
	Target Side = "target" // in a chroot of the image, as root
)

// Phase is a stage of the build and the hooks that elements bring for it.
// Hooks may add further ones while the build runs.
type Phase struct {
	Name  string `json:"name"` // "install" for install.d
	Side  Side   `json:"side"`
	Hooks []Hook `json:"hooks"` // in the order in which they run
}

// Hook is a file that runs, or is sourced, and the element that brought it.
type Hook struct {
	Name    string `json:"name"`
	Element string `json:"element"`
}

// BlockDevice is the disk layout that was chosen; package blockdev reads it.
type BlockDevice struct {
	// Source says where Text is from, for messages: a path, the name of a
	// variable, or that it is built in.
	Source  string `json:"source"`
	Element string `json:"element,omitempty"` // the element that brought it
	Text    string `json:"text"`              // YAML
}

// Output is a file that the build will leave.
type Output struct {
	Type string `json:"type"` // as given with -t
	Path string `json:"path"` // as given with -o, with its suffix; relative to the caller's directory
	// Disk names the disk of the layout that it is made of, where that is not
	// the one with the root filesystem.
	Disk string `json:"disk,omitempty"`
	// FromTree says that the output is made of the files rather than of the disk.
	FromTree bool `json:"from_tree,omitempty"`
	// Tag is the name of a docker image. Path is then the archive that holds it
	// when no engine is there to load it into.
	Tag string `json:"tag,omitempty"`
	// Engine is the program into which the docker image is loaded; Path is then a
	// temporary file. Planning leaves it empty.
	Engine string `json:"engine,omitempty"`
}

// NeedsDisk says whether any output is made of the disk: if not, there is none (D07).
func (p *Plan) NeedsDisk() bool {
	return slices.ContainsFunc(p.Outputs, func(o Output) bool { return !o.FromTree })
}

// phases in the order in which they run (spec of the life of a build).
var phases = []Phase{
	{Name: "root", Side: Host},
	{Name: "extra-data", Side: Host},
	{Name: "pre-install", Side: Target},
	{Name: "install", Side: Target},
	{Name: "post-install", Side: Target},
	{Name: "post-root", Side: Host},
	{Name: "block-device", Side: Host},
	{Name: "pre-finalise", Side: Host},
	{Name: "finalise", Side: Target},
	{Name: "cleanup", Side: Host},
}

// Env is an environment. Values may be any bytes but NUL, so JSON, which knows
// text only, holds those that are not UTF-8 as a list of bytes.
type Env map[string]string

// MarshalJSON writes an object with names in byte order.
func (e Env) MarshalJSON() ([]byte, error) {
	values := make(map[string]any, len(e))
	for name, value := range e {
		if utf8.ValidString(value) {
			values[name] = value
		} else {
			values[name] = [][]byte{[]byte(value)} // an array of one base64 string
		}
	}
	return json.Marshal(values)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (e *Env) UnmarshalJSON(data []byte) error {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(data, &values); err != nil {
		return err
	}
	*e = make(Env, len(values))
	for name, raw := range values {
		var text string
		if err := json.Unmarshal(raw, &text); err == nil {
			(*e)[name] = text
			continue
		}
		var binary [][]byte
		if err := json.Unmarshal(raw, &binary); err != nil {
			return err
		}
		(*e)[name] = string(slices.Concat(binary...))
	}
	return nil
}

// Environ lists the environment as NAME=VALUE, in byte order.
func (e Env) Environ() []string {
	list := make([]string, 0, len(e))
	for name, value := range e {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// LoadElements opens the directories of the plan's elements, for hook.Assemble:
// a plan that crossed a pipe holds their names only. builtin is the embedded library.
func (p *Plan) LoadElements(builtin fs.FS) ([]element.Element, error) {
	elements := make([]element.Element, len(p.Elements))
	for i, e := range p.Elements {
		elements[i] = element.Element{Name: e.Name, Dir: e.Dir, Builtin: e.Builtin, Deps: e.Deps, Provides: e.Provides}
		if !e.Builtin {
			elements[i].FS = os.DirFS(e.Dir)
			continue
		}
		var err error
		if elements[i].FS, err = fs.Sub(builtin, e.Name); err != nil {
			return nil, err
		}
	}
	return elements, nil
}

// HasElement says whether an element takes part. Names are compared whole.
func (p *Plan) HasElement(name string) bool {
	return slices.ContainsFunc(p.Elements, func(e Element) bool { return e.Name == name })
}
