package plan

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/dib-builder/dib/internal/element"
	"github.com/dib-builder/dib/internal/hook"
)

// What DIB's elements machinery gets wrong, by the numbers of the list that
// this project keeps of it, each seen through a plan.
func TestDefects(t *testing.T) {
	mustPlan := func(t *testing.T, elements string, env Env, own files) *Plan {
		t.Helper()
		p, err := Make(newRecipe(elements, env), library(t, own), pure)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	names := func(p *Plan) string {
		var list []string
		for _, e := range p.Elements {
			list = append(list, e.Name)
		}
		return strings.Join(list, " ")
	}

	t.Run("M01 an element behind a link has the name of the link, everywhere", func(t *testing.T) {
		own := t.TempDir()
		real := filepath.Join(own, "store", "mine-1.2")
		for name, content := range map[string]string{"package-installs.yaml": "vim:\n  phase: none\n", "install.d/10-mine": "#!/bin/sh\n"} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(real, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(real, name), []byte(content), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		elements := filepath.Join(own, "elements")
		if err := errors.Join(os.Mkdir(elements, 0o755), os.Symlink(real, filepath.Join(elements, "mine"))); err != nil {
			t.Fatal(err)
		}
		builtin := files{"package-installs/README": ""}
		for name, content := range builtinFiles {
			builtin[name] = content
		}
		lib, err := element.Load(elements, tree(builtin))
		if err != nil {
			t.Fatal(err)
		}
		p, err := Make(newRecipe("debian mine", nil), lib, pure)
		if err != nil {
			t.Fatal(err)
		}
		if e := p.Elements[2]; e.Name != "mine" || e.Dir != real || p.Env["IMAGE_ELEMENT"] != names(p) {
			t.Errorf("element is %+v", e)
		}
		if h := p.Phases[3].Hooks; !slices.Contains(h, Hook{"10-mine", "mine"}) {
			t.Errorf("hooks are %v", h)
		}
		// Its package list is read, and the target's own name means nothing.
		if _, err := Make(newRecipe("debian mine package-installs", nil), lib, pure); err == nil || !strings.Contains(err.Error(), real+"/package-installs.yaml:2:10: ") {
			t.Errorf("error is %v", err)
		}
		if _, err := Make(newRecipe("debian mine-1.2", nil), lib, pure); err == nil || !strings.Contains(err.Error(), `"mine-1.2"`) {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("M02 D28 names and paths reach hooks as they are", func(t *testing.T) {
		p := mustPlan(t, "debian yes 1.5 it's $(date)", nil, files{"yes/README": "", "1.5/README": "", "it's/README": "", "$(date)/README": ""})
		var read map[string]string
		if err := yaml.Unmarshal([]byte(p.Env["IMAGE_ELEMENT_YAML"]), &read); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("bash", "-euc", "eval declare -A found=($(get_image_element_array))\n"+`for name in "${!found[@]}"; do printf '%s\n%s\n' "$name" "${found[$name]}"; done`)
		cmd.Env = p.Env.Environ()
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(out), "\n")
		for _, e := range p.Elements {
			i := slices.Index(lines, e.Name)
			if read[e.Name] != e.Dir || i < 0 || lines[i+1] != e.Dir {
				t.Errorf("%s is %s, YAML says %q, bash %q", e.Name, e.Dir, read[e.Name], lines)
			}
		}
	})
	t.Run("M03 D27 the default layout of vm is chosen by the whole name of the architecture", func(t *testing.T) {
		own := files{"needs-vm/element-deps": "vm\n"}
		for arch, want := range map[string]string{
			"": "block-device-mbr", "64": "block-device-mbr", "arm": "block-device-mbr", "amd64": "block-device-mbr",
			"arm64": "block-device-efi", "aarch64": "block-device-efi",
		} {
			for _, elements := range []string{"debian vm", "debian needs-vm"} { // asked for or not
				if got := names(mustPlan(t, elements, Env{"ARCH": arch}, own)); !strings.Contains(got+" ", want+" ") {
					t.Errorf("ARCH=%q, %s: elements are %s", arch, elements, got)
				}
			}
		}
	})
	t.Run("M04 comments in lists of elements", func(t *testing.T) {
		p := mustPlan(t, "debian mine", nil, files{"mine/element-deps": "# why\nother # because\n\n", "mine/element-provides": "# none\nthing\n", "other/README": ""})
		if got := names(p); got != "base debian mine install-bin other" {
			t.Errorf("elements are %s", got)
		}
	})
	t.Run("M05 D26 a provider that comes later stands in all the same", func(t *testing.T) {
		own := files{"a/element-deps": "thing\nb\n", "b/element-deps": "c\n", "c/element-provides": "thing\n"}
		if got := names(mustPlan(t, "debian a", nil, own)); got != "base debian a install-bin b c" {
			t.Errorf("elements are %s", got)
		}
	})
	t.Run("M06 D35 who brings a hook twice is named", func(t *testing.T) {
		_, err := Make(newRecipe("debian a b", nil), library(t, files{"a/install.d/10-x*": "", "b/install.d/10-x*": ""}), pure)
		if e := new(hook.ConflictError); !errors.As(err, &e) || e.FirstElement != "a" || e.SecondElement != "b" || e.FirstFile != "/own/a/install.d/10-x" || e.SecondFile != "/own/b/install.d/10-x" {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("M07 D35 files that hide each other deeper down are found", func(t *testing.T) {
		for _, name := range []string{"static/etc/x", "init-scripts/systemd/x.service", "install.d/x-source-install/10-x", "source-repository-x"} {
			own := files{"a/" + name: "one", "b/" + name: "two"}
			_, err := Make(newRecipe("debian a b", nil), library(t, own), pure)
			if e := new(hook.ConflictError); !errors.As(err, &e) || e.Path != name {
				t.Errorf("%s: %v", name, err)
			}
			own["b/"+name] = "one" // no conflict: both want the same
			mustPlan(t, "debian a b", nil, own)
		}
	})
	t.Run("M10 D69 an executable file that will not run is named", func(t *testing.T) {
		p := mustPlan(t, "debian mine", nil, files{"mine/install.d/10-foo.sh*": "", "mine/install.d/20-foo": ""})
		want := []string{
			`element "mine": install.d/10-foo.sh has a name that does not match ^[0-9A-Za-z_-]+$: it will not run: rename it, or move it to another directory if it is no hook`,
			`element "mine": install.d/20-foo is not executable: it will not run: chmod +x it, or move it to another directory if it is no hook`,
		}
		if !slices.Equal(p.Warnings, want) {
			t.Errorf("warnings are %q", p.Warnings)
		}
	})
	t.Run("M11 D67 environment files come in byte order, hooks in that of their numbers", func(t *testing.T) {
		p := mustPlan(t, "debian mine", nil, files{
			"mine/environment.d/100-x": "", "mine/environment.d/20-y": "", "mine/environment.d/9-z": "",
			"mine/root.d/100-x*": "", "mine/root.d/20-y*": "", "mine/root.d/9-z*": "", "mine/root.d/none*": "", "mine/root.d/00-first*": "", "mine/root.d/01-second*": "",
		})
		list := func(hooks []Hook) string {
			var names []string
			for _, h := range hooks {
				names = append(names, h.Name)
			}
			return strings.Join(names, " ")
		}
		if got := list(p.Environment); got != "10-distro.bash 100-x 20-y 9-z" {
			t.Errorf("environment files are %s", got)
		}
		if got := list(p.Phases[0].Hooks); got != "00-first none 01-second 08-bootstrap 9-z 20-y 100-x" {
			t.Errorf("hooks are %s", got)
		}
	})
	t.Run("M12 D66 an environment.d without files to source means nothing", func(t *testing.T) {
		lib := libraryOf(t, files{"mine/environment.d/10-x~": "exit 1\n"}, files{"os/element-provides": "operating-system\n"})
		rec := newRecipe("os mine", nil)
		rec.SkipBase = true
		if p, err := Make(rec, lib, pure); err != nil || len(p.Environment) != 0 {
			t.Errorf("%+v, %v", p, err)
		}
	})
	t.Run("M13 D22 the image has a PATH of six directories", func(t *testing.T) {
		target := TargetEnv(mustPlan(t, "debian", Env{"PATH": "/mine:/bin"}, nil).Env.Environ())
		if !slices.Contains(target, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") {
			t.Errorf("environment is %q", target)
		}
	})
	t.Run("M14 DIB_BLOCK_DEVICE of the caller is kept", func(t *testing.T) {
		if got := mustPlan(t, "debian vm", Env{"DIB_BLOCK_DEVICE": "mine"}, nil).Env["DIB_BLOCK_DEVICE"]; got != "mine" {
			t.Errorf("it is %q", got)
		}
	})
	t.Run("M15 the layout is that of the provider, else the only one", func(t *testing.T) {
		own := files{"one/block-device-default.yaml": "one", "two/block-device-default.yaml": "two"}
		p := mustPlan(t, "one debian vm", nil, own)
		if p.BlockDevice.Element != "block-device-mbr" {
			t.Errorf("layout is of %s", p.BlockDevice.Element)
		}
		_, err := Make(newRecipe("debian one two", nil), library(t, own), pure)
		if e := new(AmbiguousLayoutError); !errors.As(err, &e) {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("D23 hooks in the image have the functions", func(t *testing.T) {
		target := TargetEnv(mustPlan(t, "debian", nil, nil).Env.Environ())
		for _, name := range []string{"die", element.ArrayFunction} {
			if !slices.ContainsFunc(target, func(kv string) bool { return strings.HasPrefix(kv, "BASH_FUNC_"+name+"%%=") }) {
				t.Errorf("%s is missing", name)
			}
		}
	})
	t.Run("D29 both names of an architecture find a layout", func(t *testing.T) {
		own := files{"intel/block-device-amd64.yaml": "intel", "intel/block-device-default.yaml": "default", "gnu/block-device-x86_64.yaml": "gnu"}
		for _, arch := range []string{"amd64", "x86_64"} {
			for _, name := range []string{"intel", "gnu"} {
				p := mustPlan(t, "debian "+name, Env{"ARCH": arch}, own)
				if p.BlockDevice.Text != name || p.Env["ARCH"] != arch {
					t.Errorf("%s: layout is %q, ARCH %q", arch, p.BlockDevice.Text, p.Env["ARCH"])
				}
			}
		}
	})
	t.Run("D36 names with blanks and hidden files are copied", func(t *testing.T) {
		lib := library(t, files{"mine/install.d/with blank": "a", "mine/static/.hidden": "b", "mine/data.d/.x y": "c"})
		e, _ := lib.Lookup("mine")
		assembled, err := hook.Assemble([]element.Element{e})
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "hooks of mine")
		if err := assembled.Write(dir); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"install.d/with blank": "a", "static/.hidden": "b", "data.d/.x y": "c"} {
			if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != want {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
	})
	t.Run("D42 a block device of the caller means nothing", func(t *testing.T) {
		p := mustPlan(t, "debian vm", Env{"IMAGE_BLOCK_DEVICE": "/dev/sda", "IMAGE_BLOCK_DEVICES": "x"}, nil)
		for _, name := range []string{"IMAGE_BLOCK_DEVICE", "IMAGE_BLOCK_DEVICES"} {
			if value, ok := p.Env[name]; ok {
				t.Errorf("%s=%s", name, value)
			}
		}
	})
}
