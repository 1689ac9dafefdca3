// Package buildlist reads the YAML files of diskimage-builder: lists of images
// to build. What comes out is a value, the command line and the environment of
// each build; nothing is looked up, printed or started here.
package buildlist

import (
	"slices"
	"strconv"
	"strings"

	"github.com/dib-builder/dib/internal/finding"
	"github.com/dib-builder/dib/internal/secret"
	"github.com/dib-builder/dib/internal/shellwords"
	"github.com/dib-builder/dib/internal/yamldoc"
)

// Names of the commands that build.
const (
	imageCommand   = "disk-image-create"
	ramdiskCommand = "ramdisk-image-create"
)

// defaultName is the image of entries before the first that gives a name.
const defaultName = "image"

// File is a file and its content.
type File struct {
	Name string
	Text []byte
}

// Variable is one environment variable.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Build is one image or ramdisk to build.
type Build struct {
	Name    string     `json:"name"` // of the image, for messages
	Ramdisk bool       `json:"ramdisk,omitempty"`
	Args    []string   `json:"args"`          // for the command
	Env     []Variable `json:"env,omitempty"` // on top of the caller's environment, in the order of the file
}

// Options say what is known about the program that builds.
type Options struct {
	Types []string // output formats besides those that DIB lists
}

// Read reads files and merges their entries to builds, in order. If there are
// errors, there are no builds; the findings have all errors and warnings of
// all files.
func Read(files []File, opts Options) (builds []Build, errors, warnings finding.List) {
	table := keyTable(opts.Types)
	var entries []entry
	for _, f := range files {
		c := &finding.Collector{Source: f.Name, Text: f.Text}
		doc := yamldoc.Read(f.Text, c)
		entries = append(entries, checkDocument(doc, table, c)...)
		errors = append(errors, once(c.Errors)...)
		warnings = append(warnings, once(c.Warnings)...)
	}
	if len(errors) > 0 {
		return nil, errors, warnings
	}
	for _, e := range merge(entries) {
		warnings = append(warnings, e.warnings()...)
		builds = append(builds, e.build(table))
	}
	return builds, nil, warnings
}

// once drops what is found again through an alias.
func once(list finding.List) finding.List {
	seen := map[finding.Finding]bool{}
	return slices.DeleteFunc(list, func(f finding.Finding) bool {
		again := seen[f]
		seen[f] = true
		return again
	})
}

// Command is the name of the command that does the build.
func (b Build) Command() string {
	if b.Ramdisk {
		return ramdiskCommand
	}
	return imageCommand
}

// Line is the build as a line for a shell. Secrets are masked, by the rules of
// the environment env, which is that of the whole build.
func (b Build) Line(env map[string]string) string {
	rules, redactor := secret.RulesOf(env), secret.NewRedactor(env)
	var words []string
	for _, v := range b.Env {
		value := redactor.String(v.Value)
		if rules.Secret(v.Name, v.Value) {
			value = secret.Mark
		}
		words = append(words, shellwords.Quote(v.Name)+"="+shellwords.Quote(value))
	}
	words = append(words, b.Command())
	for _, arg := range b.Args {
		words = append(words, shellwords.Quote(redactor.Arguments([]string{arg})))
	}
	return strings.Join(words, " ")
}

// build turns a checked and merged entry into its command line.
func (e entry) build(table []key) Build {
	b := Build{Name: e.image, Args: []string{}}
	for _, k := range table {
		p, ok := e.pairs.Get(k.name)
		if !ok {
			continue
		}
		v := p.Val
		switch k.name {
		case keyRamdisk:
			b.Ramdisk, _ = v.Bool()
		case keyEnv:
			for _, variable := range v.Pairs {
				b.Env = append(b.Env, Variable{variable.Key, variable.Val.Text})
			}
		case keyList:
			b.Args = append(b.Args, texts(v.List)...)
		default:
			b.Args = append(b.Args, arguments(k, v)...)
		}
	}
	return b
}

// arguments are those of one key; empty and zero values have none.
func arguments(k key, v yamldoc.Value) []string {
	switch k.kind {
	case kindFlag:
		if on, _ := v.Bool(); on {
			return []string{k.option}
		}
		return nil
	case kindLevel:
		n, _ := v.Number()
		return repeat(k.option, int(n))
	}
	value := ""
	switch k.kind {
	case kindInteger, kindNumber:
		n, _ := v.Number()
		value = strconv.FormatFloat(n, 'f', -1, 64)
	case kindTextList:
		value = strings.Join(texts(v.List), ",")
	case kindTextMap:
		var settings []string
		for _, p := range v.Pairs {
			settings = append(settings, p.Key+"="+p.Val.Text)
		}
		value = strings.Join(settings, ",")
	default:
		value = v.Text
	}
	if value == "" {
		return nil
	}
	return []string{k.option, value}
}

func repeat(word string, n int) []string {
	var words []string
	for range n {
		words = append(words, word)
	}
	return words
}

func texts(list []yamldoc.Value) []string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = v.Text
	}
	return words
}
