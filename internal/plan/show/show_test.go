package show

import (
	"bytes"
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/element"
	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/plan"
	"github.com/dib-builder/dib/internal/recipe"
)

var update = flag.Bool("update", false, "write golden files anew")

func layer(files map[string]string) fs.FS {
	fsys := fstest.MapFS{}
	for name, content := range files {
		name, executable := strings.CutSuffix(name, "*")
		f := &fstest.MapFile{Data: []byte(content), Mode: 0o644}
		if executable {
			f.Mode = 0o755
		}
		fsys[name] = f
	}
	return fsys
}

const twoPartitions = `- local_loop:
    name: image0
- partitioning:
    base: image0
    label: mbr
    partitions:
      - name: boot
        flags: [boot, primary]
        size: 512MiB
        mkfs:
          type: ext4
          label: boot
          mount: {mount_point: /boot, fstab: {options: defaults}}
      - name: root
        flags: [primary]
        size: 100%
        mkfs:
          name: mkfs_root
          mount: {mount_point: /, fstab: {options: defaults}}
`

func document(t *testing.T, change func(*recipe.Recipe), facts func(*Facts)) *Document {
	t.Helper()
	lib, err := element.New(
		element.Layer{Path: "/own", FS: layer(map[string]string{
			"base/install.d/10-mine*": "#!/bin/bash\n", "two/block-device-default.yaml": twoPartitions,
			"two/environment.d/10-two": "", "two/finalise.d/10-data": "", "two/element-deps": "base\n",
		})},
		element.Layer{Path: place.ElementsDir, Builtin: true, FS: layer(map[string]string{
			"base/README": "", "os/element-provides": "operating-system\n", "os/root.d/10-os": "#!/bin/bash\n",
			"os/environment.d/20-os": "",
		})},
	)
	if err != nil {
		t.Fatal(err)
	}
	rec := recipe.Recipe{
		Elements: []string{"os", "two"}, SkipBase: true, Arch: "amd64", ImageName: "out/my image", Types: []string{"qcow2", "raw"}, FSType: "ext4",
		Packages: []string{"vim"}, Env: map[string]string{"ARCH": "amd64", "HOME": "/home/me", "DIB_TOKEN": "t0psecret"},
	}
	if change != nil {
		change(&rec)
	}
	p, err := plan.Make(rec, lib, plan.Options{Dir: "/caller", CheckOutput: func(string) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	config, err := blockdev.Check(p.BlockDevice.Source, []byte(p.BlockDevice.Text), blockdev.Params{RootFSType: "ext4"})
	if err != nil {
		t.Fatal(err)
	}
	start := plan.Env{"ARCH": "amd64", "HOME": "/home/me", "DIB_TOKEN": "t0psecret", "IMAGE_NAME": "out/my image"}
	f := Facts{Config: config, Caller: plan.Env{"HOME": "/home/me", "DIB_TOKEN": "t0psecret"}, Start: start}
	with := func(env plan.Env, more ...string) plan.Env {
		out := plan.Env{"SHLVL": "2"}
		for k, v := range env {
			out[k] = v
		}
		for _, kv := range more {
			k, v, _ := strings.Cut(kv, "=")
			out[k] = v
		}
		return out
	}
	first := with(start, "DIB_RELEASE=trixie", "DIB_LINES=one\ntwo", "DIB_COPY=is t0psecret\xff")
	f.Environment = &Effects{Before: with(start), Files: []Effect{
		{"10-two", first},
		{"20-os", with(first, "DIB_RELEASE=sid", "DIB_GENERATED_PASSWORD=generated")},
	}}
	if facts != nil {
		facts(&f)
	}
	doc, err := New(p, f)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestGolden(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	text, err := jsonschema.UnmarshalJSON(strings.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	if err := compiler.AddResource("plan.json", text); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("plan.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		recipe func(*recipe.Recipe)
		facts  func(*Facts)
	}{
		{"size-unknown", nil, nil},
		{"size-known", func(r *recipe.Recipe) { r.ImageSizeGiB, r.Packages = "2.5", nil }, nil},
		{"gpt", func(r *recipe.Recipe) {
			r.Types, r.DockerTarget = []string{"tgz", "docker", "raw"}, "me/mine:1"
			r.Env["DIB_BLOCK_DEVICE_CONFIG"] = strings.ReplaceAll(strings.Replace(twoPartitions, "label: mbr", "label: gpt", 1), "primary", "")
		}, nil},
		{"environment-unknown", nil, func(f *Facts) {
			f.Environment, f.Unknown = nil, "environment.d/10-two of element \"two\" failed (exit status 1)\nt0psecret is \x1b[1m wrong"
		}},
		{"ramdisk", func(r *recipe.Recipe) { r.Ramdisk, r.RamdiskElement = true, "two" }, nil},
		{"no-partitions", func(r *recipe.Recipe) { r.Elements, r.Types = []string{"os"}, nil }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc := document(t, c.recipe, c.facts)
			var asText, asJSON bytes.Buffer
			if err := doc.WriteText(&asText); err != nil {
				t.Fatal(err)
			}
			if err := doc.WriteJSON(&asJSON); err != nil {
				t.Fatal(err)
			}
			for suffix, got := range map[string]string{".txt": asText.String(), ".json": asJSON.String()} {
				if strings.Contains(got, "t0psecret") || strings.Contains(got, "generated") && strings.Contains(got, "=generated") {
					t.Errorf("%s tells a secret:\n%s", suffix, got)
				}
				golden := filepath.Join("testdata", c.name+suffix)
				if *update {
					if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), got); diff != "" {
					t.Errorf("%s differs (-want +got):\n%s", golden, diff)
				}
			}
			value, err := jsonschema.UnmarshalJSON(&asJSON)
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(value); err != nil {
				t.Errorf("the schema does not describe the document: %v", err)
			}
		})
	}
}

// A program may read with the type what was written with it.
func TestJSONRoundTrip(t *testing.T) {
	doc := document(t, nil, nil)
	var out bytes.Buffer
	if err := doc.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var again Document
	dec := json.NewDecoder(&out)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(doc, &again); diff != "" {
		t.Errorf("the document changes on its way through JSON:\n%s", diff)
	}
}

func TestLayoutThatDoesNotFit(t *testing.T) {
	lib, err := element.New(element.Layer{Path: place.ElementsDir, Builtin: true, FS: layer(map[string]string{"os/element-provides": "operating-system"})})
	if err != nil {
		t.Fatal(err)
	}
	rec := recipe.Recipe{Elements: []string{"os"}, SkipBase: true, ImageSizeGiB: "0.25", FSType: "ext4", Env: map[string]string{"DIB_BLOCK_DEVICE_CONFIG": twoPartitions}}
	p, err := plan.Make(rec, lib, plan.Options{Dir: "/caller", CheckOutput: func(string) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	config, err := blockdev.Check(p.BlockDevice.Source, []byte(p.BlockDevice.Text), blockdev.Params{RootFSType: "ext4"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(p, Facts{Config: config}); err == nil || !strings.Contains(err.Error(), "cannot lay out the disk: DIB_BLOCK_DEVICE_CONFIG:") {
		t.Errorf("error is %v", err)
	}
}
