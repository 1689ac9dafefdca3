package buildlist

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/dib-builder/dib/internal/finding"
	"github.com/dib-builder/dib/internal/shellwords"
	"github.com/dib-builder/dib/internal/yamldoc"
)

var update = flag.Bool("update", false, "rewrite golden files")

// testOptions know one format that DIB does not list.
var testOptions = Options{Types: []string{"raw", "vmdk"}}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// cases are the directories of testdata, the files of each in order.
func cases(t testing.TB) map[string][]File {
	t.Helper()
	paths, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	all := map[string][]File{}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(filepath.Dir(path))
		all[name] = append(all[name], File{filepath.Base(path), content})
	}
	return all
}

// TestRead has D16, D17 and D18 among its cases.
func TestRead(t *testing.T) {
	for name, files := range cases(t) {
		t.Run(name, func(t *testing.T) {
			builds, errs, warnings := Read(files, testOptions)
			var out bytes.Buffer
			for _, w := range warnings {
				fmt.Fprintf(&out, "warning: %s\n", w.Explain())
			}
			for _, e := range errs {
				fmt.Fprintf(&out, "%s\n", e.Explain())
			}
			for _, b := range builds {
				env := map[string]string{}
				for _, v := range b.Env {
					env[v.Name] = v.Value
				}
				text, err := json.Marshal(b)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&out, "%s\n%s\n", text, b.Line(env))
			}
			if len(errs) > 0 && len(builds) > 0 {
				t.Error("builds in spite of errors")
			}
			golden(t, name+".golden", out.Bytes())
		})
	}
}

func TestHelp(t *testing.T) { golden(t, "help.golden", []byte(Help(testOptions.Types))) }

func schemaText(t testing.TB) []byte {
	t.Helper()
	text, err := Schema(testOptions)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestSchema(t *testing.T) { golden(t, "schema.golden", schemaText(t)) }

// plain is a document as programs see it after PyYAML has read it. A date
// is nothing that JSON knows; it stays nothing that any key wants.
func plain(v yamldoc.Value) any {
	switch v.Type() {
	case yamldoc.String:
		return v.Text
	case yamldoc.Bool:
		b, _ := v.Bool()
		return b
	case yamldoc.Int, yamldoc.Float:
		n, _ := v.Number()
		return n
	case yamldoc.Sequence:
		list := []any{}
		for _, e := range v.List {
			list = append(list, plain(e))
		}
		return list
	case yamldoc.Mapping:
		object := map[string]any{}
		for _, p := range v.Pairs {
			object[p.Key] = plain(p.Val)
		}
		return object
	}
	return nil
}

// samples are documents to judge: those of the golden files, and for every key
// one for each of many values.
func samples(t testing.TB) []string {
	t.Helper()
	var docs []string
	for _, files := range cases(t) {
		for _, f := range files {
			docs = append(docs, string(f.Text))
		}
	}
	values := []string{"", "~", `""`, "x", `"a\0b"`, "yes", "Off", `"yes"`, "y", "0", "1", "2", "3", "-1", "1.0", "2.5", "0.0", "1e3", "010", "1:30",
		"999999999999999", "1000000000000000", "1e+20", "1.e+20", "2026-01-01", "[]", "[x]", "[1]", "[yes]", "[~]", "[[x]]", `["a\0"]`, "{}", "{a: x}", "{a: 1}", "{a: yes}",
		"{a: ~}", `{"": x}`, `{"a=b": x}`, `{a: "\0"}`, "{a: [x]}", "amd64", "x86_64", "amd46", "source", "package", "raw", "[raw]", "[vmdk, aci]", "[vdi]"}
	for _, k := range append(keyTable(nil), key{name: "bogus"}, key{name: "imagenames"}) {
		for _, v := range values {
			docs = append(docs, "- "+k.name+": "+v+"\n")
		}
	}
	return append(docs, "", "~", "x", "1", "{}", "[]", "[[]]", "[{}]", "[~]", "[x]", "- {}\n- {elements: [x]}\n- {elements: x}\n")
}

// TestSchemaAgrees holds the schema, judged by a validator of others, to Read.
func TestSchemaAgrees(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemaText(t)))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("images.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("images.json")
	if err != nil {
		t.Fatal(err)
	}
	accepted, refused := 0, 0
	for _, sample := range samples(t) {
		c := &finding.Collector{Source: "sample"}
		value := yamldoc.Read([]byte(sample), c)
		// What is no document, and what JSON cannot say: keys that are no
		// strings, numbers that are none.
		if len(c.Errors) > 0 || strings.Contains(sample, "yes: 1") || strings.Contains(sample, ".nan") || strings.Contains(sample, "1: x") {
			continue
		}
		_, errs, _ := Read([]File{{"sample", []byte(sample)}}, testOptions)
		verdict := schema.Validate(plain(value))
		if (len(errs) == 0) != (verdict == nil) {
			t.Errorf("%q: Read says %v, the schema %v", sample, errs, verdict)
		}
		if verdict == nil {
			accepted++
		} else {
			refused++
		}
	}
	if accepted < 150 || refused < 1000 {
		t.Errorf("only %d documents were accepted and %d refused", accepted, refused)
	}
}

// TestDIBTypesStay holds the formats of DIB to the list, whatever a version writes.
func TestDIBTypesStay(t *testing.T) {
	if builds, errs, _ := Read([]File{{"f", []byte("- types: [aci, vhd]")}}, Options{}); len(errs) > 0 || len(builds) != 1 {
		t.Errorf("got %v", errs)
	}
	k, _ := find(keyTable([]string{"vmdk"}), keyTypes)
	if before, _ := find(keys, keyTypes); len(before.choices) != len(dibTypes) || len(k.choices) != len(dibTypes)+1 {
		t.Errorf("%v and %v", before.choices, k.choices)
	}
}

// FuzzRead checks that files give either builds that can be printed and read
// back as they are, or errors that say something.
func FuzzRead(f *testing.F) {
	for _, files := range cases(f) {
		for _, file := range files {
			f.Add(file.Text)
		}
	}
	f.Add([]byte("- &a {elements: &b [x]}\n- <<: *a\n  elements: *b\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		builds, errs, warnings := Read([]File{{"one", text}, {"two", text}}, testOptions)
		_ = warnings.Explain()
		if len(errs) > 0 {
			if len(builds) > 0 || strings.TrimSpace(errs.Explain()) == "" {
				t.Fatalf("%d builds with errors %q", len(builds), errs.Explain())
			}
			return
		}
		for _, b := range builds {
			words, err := shellwords.Split(b.Line(map[string]string{}))
			if err != nil {
				t.Fatalf("%s: %v", b.Line(nil), err)
			}
			if want := len(b.Env) + 1 + len(b.Args); len(words) != want && !oddNames(b) {
				t.Fatalf("%q: %d words, want %d", b.Line(nil), len(words), want)
			}
			for _, word := range append(b.Args, words...) {
				if strings.Contains(word, "\x00") {
					t.Fatalf("no program can be given %q", word)
				}
			}
		}
	})
}

// oddNames tells whether a variable has a name that no shell can assign to.
func oddNames(b Build) bool {
	for _, v := range b.Env {
		if shellwords.Quote(v.Name) != v.Name {
			return true
		}
	}
	return false
}
