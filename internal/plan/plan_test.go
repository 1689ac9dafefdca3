package plan

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/element"
	"github.com/dib-builder/dib/internal/hook"
	"github.com/dib-builder/dib/internal/place"
	"github.com/dib-builder/dib/internal/recipe"
)

var update = flag.Bool("update", false, "write golden files anew")

// tree makes a layer of "path: content" pairs; a path ending in "*" is executable.
func tree(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for p, content := range files {
		p, executable := strings.CutSuffix(p, "*")
		f := &fstest.MapFile{Data: []byte(content), Mode: 0o644}
		if executable {
			f.Mode = 0o755
		}
		fsys[p] = f
	}
	return fsys
}

type files = map[string]string

var builtinFiles = files{
	"base/element-deps":                          "install-bin\n",
	"base/install.d/00-up-to-date":               "#!/bin/bash\n",
	"install-bin/pre-install.d/01-install":       "#!/bin/bash\n",
	"debian/element-provides":                    "operating-system\n",
	"debian/environment.d/10-distro.bash":        "export DISTRO_NAME=debian\n",
	"debian/root.d/08-bootstrap":                 "#!/bin/bash\n",
	"debian/README.rst":                          "text\n",
	"vm/element-deps":                            "block-device\nbootloader\n",
	"bootloader/finalise.d/50-bootloader":        "#!/bin/bash\necho $IMAGE_BLOCK_DEVICE\n",
	"block-device-mbr/element-provides":          "block-device\n",
	"block-device-mbr/block-device-default.yaml": "- local_loop: {name: mbr}\n",
	"block-device-mbr/block-device-ppc64el.yaml": "- local_loop: {name: mbr-ppc}\n",
	"block-device-efi/element-provides":          "block-device\n",
	"block-device-efi/block-device-arm64.yaml":   "- local_loop: {name: efi-arm}\n",
	"block-device-efi/block-device-default.yaml": "- local_loop: {name: efi}\n",
	"no-final-image/README.rst":                  "",
}

// library has the given files as the user's elements, before the built-in ones.
func library(t *testing.T, own files) *element.Library {
	t.Helper()
	return libraryOf(t, own, builtinFiles)
}

func libraryOf(t *testing.T, own, builtin files) *element.Library {
	t.Helper()
	lib, err := element.New(
		element.Layer{Path: "/own", FS: tree(own)},
		element.Layer{Path: place.ElementsDir, FS: tree(builtin), Builtin: true},
	)
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

func newRecipe(elements string, env Env) recipe.Recipe {
	full := Env{"HOME": "/home/me", "ARCH": "amd64"}
	maps.Copy(full, env)
	return recipe.Recipe{
		Args: strings.Fields(elements), Elements: strings.Fields(elements), Arch: full["ARCH"],
		ImageName: "out/image", Types: []string{"qcow2", "raw"}, Compress: true, FSType: "ext4", InstallType: "source", Env: full,
	}
}

// pure are options under which nothing of the machine is looked at.
var pure = Options{
	CheckLoop: func() error { return errors.New("only root can have loop devices") },
	Dir:       "/caller",
	ReadFile: func(path string) ([]byte, error) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	},
	CheckOutput: func(string) error { return nil },
	Executable:  func(string) error { return nil },
}

func TestGoldenPlans(t *testing.T) {
	for _, c := range []struct {
		name string
		rec  recipe.Recipe
		own  files
	}{
		{"minimal", newRecipe("debian", nil), nil},
		{"vm", newRecipe("debian vm", Env{"ARCH": "arm64", "break": "after-root,befor-install", "DIB_DEV": "\xff"}), nil},
		{"own-elements", newRecipe("debian mine", Env{"ELEMENTS_PATH": "relative:/own"}), files{
			"mine/element-deps":                 "vm\n",
			"mine/install.d/10-mine*":           "#!/bin/bash\n",
			"mine/install.d/10-not-executable":  "#!/bin/bash\n",
			"mine/environment.d/05-mine":        "",
			"mine/finalise.d/10-comment*":       "# IMAGE_BLOCK_DEVICE\n",
			"debian/element-provides":           "operating-system\n",
			"block-device-mbr/element-provides": "block-device\n",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Make(c.rec, library(t, c.own), pure)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(p, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", c.name+".json")
			if *update {
				if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
				t.Errorf("plan differs from %s (-want +got):\n%s", golden, diff)
			}
			// The plan reaches the engine as JSON: nothing may be lost.
			var again Plan
			if err := json.Unmarshal(got, &again); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(p, &again); diff != "" {
				t.Errorf("plan changes on its way through JSON:\n%s", diff)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	for _, c := range []struct {
		summary     string
		given       Env
		name, value string
	}{
		{"elements path without the user's", nil, "ELEMENTS_PATH", "/.dib/elements"},
		{"elements path after the user's", Env{"ELEMENTS_PATH": "a:/b"}, "ELEMENTS_PATH", "a:/b:/.dib/elements"},
		{"elements path once", Env{"ELEMENTS_PATH": "/b:/.dib/elements/"}, "ELEMENTS_PATH", "/b:/.dib/elements"},
		{"library path of the caller", Env{"_LIB": "/mine"}, "_LIB", "/.dib/lib"},
		{"python of the caller", Env{"DIB_PYTHON_EXEC": "/py"}, "DIB_PYTHON_EXEC", "/py"},
		{"python", nil, "DIB_PYTHON_EXEC", "python3"},
		{"elements", nil, "IMAGE_ELEMENT", "debian"},
		{"elements as YAML", nil, "IMAGE_ELEMENT_YAML", "debian: /.dib/elements/debian\n"},
		{"a block device of the caller", Env{"IMAGE_BLOCK_DEVICE": "/dev/sda"}, "IMAGE_BLOCK_DEVICE", "(unset)"},
		{"a root of the caller", Env{"TARGET_ROOT": "/"}, "TARGET_ROOT", "(unset)"},
		{"image path", Env{"OUT_IMAGE_PATH": "x"}, "OUT_IMAGE_PATH", ""},
		{"anything else", Env{"http_proxy": "p"}, "http_proxy", "p"},
	} {
		rec := newRecipe("debian", c.given)
		rec.SkipBase = true
		p, err := Make(rec, library(t, nil), pure)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := p.Env[c.name]
		if !ok {
			got = "(unset)"
		}
		if got != c.value {
			t.Errorf("%s: %s is %q, want %q", c.summary, c.name, got, c.value)
		}
	}
}

func TestFunctionsInBash(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("needs bash")
	}
	p, err := Make(newRecipe("debian", nil), library(t, nil), pure)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		summary, script string
		status          int
		out             string
	}{
		{"die keeps a failure", "(exit 5); die went wrong", 5, "went wrong\n"},
		{"die never ends well", "set -eu; if true; then die 'a  b'; fi", 1, "a  b\n"},
		{"die stops traces", "set -x; die x", 1, "x\n"},
		{"elements", "eval declare -A e=($(get_image_element_array)); echo ${e[debian]} ${#e[@]}", 0, "/.dib/elements/debian 3\n"},
	} {
		for side, env := range map[string][]string{"host": p.Env.Environ(), "target": TargetEnv(p.Env.Environ())} {
			cmd := exec.Command(bash, "-c", c.script)
			cmd.Env = env
			out, err := cmd.Output()
			status := 0
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				status = exit.ExitCode()
			}
			if status != c.status || string(out) != c.out {
				t.Errorf("%s (%s): exit status %d, output %q", c.summary, side, status, out)
			}
		}
	}
}

func TestLayout(t *testing.T) {
	own := files{
		"one/block-device-default.yaml": "one", "two/block-device-default.yaml": "two",
		"intel/block-device-amd64.yaml": "intel", "intel/block-device-default.yaml": "default",
		"mine/element-provides": "block-device", "mine/block-device-default.yaml": "mine",
	}
	for _, c := range []struct {
		summary, elements string
		env               Env
		source, text      string
		warnings          int
	}{
		{"nothing", "debian", nil, "built-in layout", blockdev.Fallback, 0},
		{"vm", "debian vm", nil, "/.dib/elements/block-device-mbr/block-device-default.yaml", "- local_loop: {name: mbr}\n", 0},
		{"vm on arm64", "debian vm", Env{"ARCH": "arm64"}, "/.dib/elements/block-device-efi/block-device-arm64.yaml", "- local_loop: {name: efi-arm}\n", 0},
		{"an alias of the architecture", "debian vm", Env{"ARCH": "aarch64"}, "/.dib/elements/block-device-efi/block-device-arm64.yaml", "- local_loop: {name: efi-arm}\n", 0},
		{"ppc64le", "debian vm", Env{"ARCH": "ppc64le"}, "/.dib/elements/block-device-mbr/block-device-ppc64el.yaml", "- local_loop: {name: mbr-ppc}\n", 0},
		{"ppc64 is another architecture", "debian vm", Env{"ARCH": "ppc64"}, "/.dib/elements/block-device-mbr/block-device-default.yaml", "- local_loop: {name: mbr}\n", 0},
		{"the architecture before the default", "debian intel", Env{"ARCH": "x86_64"}, "/own/intel/block-device-amd64.yaml", "intel", 0},
		{"an element that provides no block device", "debian one", nil, "/own/one/block-device-default.yaml", "one", 0},
		{"the provider before others, which are named", "debian one vm two", nil, "/.dib/elements/block-device-mbr/block-device-default.yaml", "- local_loop: {name: mbr}\n", 2},
		{"a provider of the user's", "debian vm mine", nil, "/own/mine/block-device-default.yaml", "mine", 0},
		{"text in the variable", "debian one two vm", Env{"DIB_BLOCK_DEVICE_CONFIG": "- x:\n"}, "DIB_BLOCK_DEVICE_CONFIG", "- x:\n", 0},
		{"file in the variable", "debian vm", Env{"DIB_BLOCK_DEVICE_CONFIG": "file:///etc/my layout"}, "/etc/my layout", "read /etc/my layout", 0},
		{"relative file in the variable", "debian vm", Env{"DIB_BLOCK_DEVICE_CONFIG": "file://x/*.yaml"}, "x/*.yaml", "read /caller/x/*.yaml", 0},
	} {
		t.Run(c.summary, func(t *testing.T) {
			opt := pure
			opt.ReadFile = func(path string) ([]byte, error) { return []byte("read " + path), nil }
			var validated string
			opt.ValidateLayout = func(name string, text []byte) error {
				validated = name + " " + string(text)
				return nil
			}
			p, err := Make(newRecipe(c.elements, c.env), library(t, own), opt)
			if err != nil {
				t.Fatal(err)
			}
			if p.BlockDevice.Source != c.source || p.BlockDevice.Text != c.text {
				t.Errorf("layout is %+v", p.BlockDevice)
			}
			if validated != c.source+" "+c.text {
				t.Errorf("validated was %q", validated)
			}
			if len(p.Warnings) != c.warnings {
				t.Errorf("warnings are %q", p.Warnings)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	own := files{
		"one/block-device-default.yaml": "one", "two/block-device-default.yaml": "two",
		"dup/install.d/00-up-to-date*": "", "loop/finalise.d/50-grub*": "grub-install $IMAGE_BLOCK_DEVICE\n",
		"parts/pre-finalise.d/10-p*": "eval d=($IMAGE_BLOCK_DEVICES)\n", "legacy/block-device.d/10-make*": "echo IMAGE_BLOCK_DEVICE=/dev/loop7\n", "harmless/block-device.d/10-look*": "# no IMAGE_BLOCK_DEVICE here\necho\n",
		"quiet/finalise.d/50-x":      "IMAGE_BLOCK_DEVICE", // not executable: no hook
		"block-device-gpt/README":    "",
		"loop2/finalise.d/50-grub2*": "  echo ${IMAGE_BLOCK_DEVICE} # why\n",
	}
	for _, c := range []struct {
		summary, elements string
		env               Env
		change            func(*Options)
		want              []string // lines
	}{
		{"unknown element", "debain", nil, nil, []string{
			`cannot find element "debain": did you mean debian?`}},
		{"no operating system", "vm", nil, nil, []string{"cannot build without an operating system: request one of debian"}},
		{"duplicate hook", "debian dup", nil, nil, []string{
			`cannot combine elements "base" and "dup": install.d/00-up-to-date: both bring this file (/.dib/elements/base/install.d/00-up-to-date and /own/dup/install.d/00-up-to-date): rename one, or leave one element out`}},
		{"two layouts", "debian one two", nil, nil, []string{
			"cannot choose disk layout: /own/one/block-device-default.yaml and /own/two/block-device-default.yaml are equally good: leave out all but one element or set DIB_BLOCK_DEVICE_CONFIG"}},
		{"missing layout file", "debian", Env{"DIB_BLOCK_DEVICE_CONFIG": "file://gone"}, nil, []string{
			"cannot read disk layout named by DIB_BLOCK_DEVICE_CONFIG: open /caller/gone: file does not exist: correct the path after file://"}},
		{"faulty layout", "debian vm", nil, func(o *Options) {
			o.ValidateLayout = func(name string, _ []byte) error { return fmt.Errorf("%s:1: no", filepath.Base(name)) }
		}, []string{"cannot use disk layout: block-device-default.yaml:1: no"}},
		{"mbr on arm64", "debian block-device-mbr", Env{"ARCH": "arm64"}, nil, []string{
			`cannot use element "block-device-mbr" for architecture arm64: use block-device-efi`}},
		{"efi on ppc64", "debian block-device-efi", Env{"ARCH": "ppc64"}, nil, []string{
			`cannot use element "block-device-efi" for architecture ppc64: use block-device-gpt`}},
		{"hooks that need a block device, all of them", "debian loop parts legacy harmless quiet loop2", nil, nil, []string{
			`cannot run hook block-device.d/10-make of element "legacy": it makes the block device itself, and a build makes its block devices from the disk layout: describe the disk with DIB_BLOCK_DEVICE_CONFIG or a block-device element instead`,
			`cannot run hook pre-finalise.d/10-p of element "parts": it uses IMAGE_BLOCK_DEVICE, and only root can have loop devices: build as root, use the built-in element, or leave the element out`,
			`cannot run hook finalise.d/50-grub of element "loop": it uses IMAGE_BLOCK_DEVICE, and only root can have loop devices: build as root, use the built-in element, or leave the element out`,
			`cannot run hook finalise.d/50-grub2 of element "loop2": it uses IMAGE_BLOCK_DEVICE, and only root can have loop devices: build as root, use the built-in element, or leave the element out`}},
		{"missing output directory", "debian", nil, func(o *Options) { o.CheckOutput = checkOutput }, []string{
			`cannot write image "/caller/out/image.qcow2": directory "/caller/out" does not exist: create it`,
			`cannot write image "/caller/out/image.raw": directory "/caller/out" does not exist: create it`}},
		{"bad pattern", "debian", Env{"RUN_PARTS_REGEX": "("}, nil, []string{
			"cannot use RUN_PARTS_REGEX \"(\": error parsing regexp: missing closing ): `(`"}},
		{"several at once", "debian dup block-device-mbr", Env{"ARCH": "aarch64", "DIB_BLOCK_DEVICE_CONFIG": "file:///gone"}, nil, []string{
			`cannot use element "block-device-mbr" for architecture aarch64: use block-device-efi`,
			`cannot combine elements "base" and "dup": install.d/00-up-to-date: both bring this file (/.dib/elements/base/install.d/00-up-to-date and /own/dup/install.d/00-up-to-date): rename one, or leave one element out`,
			"cannot read disk layout named by DIB_BLOCK_DEVICE_CONFIG: open /gone: file does not exist: correct the path after file://"}},
	} {
		t.Run(c.summary, func(t *testing.T) {
			opt := pure
			if c.change != nil {
				c.change(&opt)
			}
			_, err := Make(newRecipe(c.elements, c.env), library(t, own), opt)
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(c.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("error differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFailureTypes(t *testing.T) {
	_, err := Make(recipe.Recipe{}, library(t, nil), pure)
	if !errors.Is(err, ErrNoElements) {
		t.Errorf("no elements: %v", err)
	}
	own := files{"a/bin/x*": "", "b/bin/x*": "", "c/block-device.d/x*": "echo IMAGE_BLOCK_DEVICE=/dev/sda", "d/block-device-default.yaml": "", "e/block-device-default.yaml": ""}
	_, err = Make(newRecipe("debian a b", nil), library(t, own), pure)
	if e := new(hook.ConflictError); !errors.As(err, &e) || e.Path != "bin/x" {
		t.Errorf("conflict: %v", err)
	}
	_, err = Make(newRecipe("debian c", nil), library(t, own), pure)
	if e := new(BlockDeviceHookError); !errors.As(err, &e) || e.Element != "c" || e.Hook != "block-device.d/x" {
		t.Errorf("block device: %v", err)
	}
	_, err = Make(newRecipe("debian d e", nil), library(t, own), pure)
	if e := new(AmbiguousLayoutError); !errors.As(err, &e) || len(e.Files) != 2 {
		t.Errorf("layout: %v", err)
	}
	_, err = Make(newRecipe("fedora", nil), library(t, own), pure)
	if e := new(element.MissingElementError); !errors.As(err, &e) || e.Name != "fedora" {
		t.Errorf("element: %v", err)
	}
}

func TestCheckOutput(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"closed", "taken.qcow2"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "closed"), 0o555); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ file, want string }{
		{"new.qcow2", ""},
		{"file", ""},
		{"none/x.raw", "does not exist"},
		{"file/x.raw", "not a directory"},
		{"taken.qcow2", "it is a directory"},
		{"closed/x.raw", "is not writable"},
	} {
		if c.file == "closed/x.raw" && os.Geteuid() == 0 {
			continue // root may write everywhere
		}
		err := checkOutput(filepath.Join(dir, c.file))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", c.file, err, c.want)
		}
	}
}

func TestOutputs(t *testing.T) {
	for _, c := range []struct {
		summary, elements, types string
		ramdisk                  bool
		want                     string
	}{
		{"raw last", "debian", "qcow2 raw vmdk", false, "out/image.qcow2 out/image.vmdk out/image.raw"},
		{"D55 D56 suffixes, each type once wherever it stands", "debian", "qcow2 squashfs tgz tar docker aci squashfs", false,
			"out/image.squash out/image.tgz out/image.tar out/image.docker.tar out/image.aci out/image.qcow2"},
		{"D57 tgz without a disk image", "debian no-final-image", "tgz", false, "out/image.tgz"},
		{"the whole name counts", "debian not-no-final-image-really", "qcow2", false, "out/image.qcow2"},
		{"no disk image", "debian no-final-image", "qcow2 tar raw", false, "out/image.tar"},
		{"D07 ramdisk", "debian", "qcow2", true, ""},
		{"D07 ramdisk and an archive", "debian", "qcow2 tar", true, "out/image.tar"},
	} {
		rec := newRecipe(c.elements, nil)
		rec.Types, rec.Ramdisk = strings.Fields(c.types), c.ramdisk
		p, err := Make(rec, library(t, files{"ramdisk/README": "", "not-no-final-image-really/README": ""}), pure)
		if err != nil {
			t.Fatal(err)
		}
		var paths []string
		disk := false
		for _, o := range p.Outputs {
			disk = disk || !o.FromTree
			paths = append(paths, o.Path)
		}
		if got := strings.Join(paths, " "); got != c.want {
			t.Errorf("%s: outputs are %s, want %s", c.summary, got, c.want)
		}
		if p.NeedsDisk() != disk || disk != strings.Contains(c.want, "qcow2") {
			t.Errorf("%s: needs a disk: %v", c.summary, p.NeedsDisk())
		}
	}
}

func TestOutputsOfOneName(t *testing.T) {
	rec := newRecipe("debian", nil)
	rec.Types = []string{"vhd", "vhd-fixed"}
	if _, err := Make(rec, library(t, nil), pure); err == nil || !strings.Contains(err.Error(), "cannot write output types vhd and vhd-fixed in one build") {
		t.Errorf("error is %v", err)
	}
}

func TestBreaks(t *testing.T) {
	for _, c := range []struct {
		list, want string
		warnings   []string
	}{
		{"", "", nil},
		{"before-root", "before-root", nil},
		{"after-error,before-block-device-size, after-cleanup,", "after-cleanup after-error before-block-device-size", nil},
		{"after-instal,x", "", []string{
			`break point "after-instal" does not exist: did you mean after-install?`,
			`break point "x" does not exist`}},
	} {
		p, err := Make(newRecipe("debian", Env{"break": c.list}), library(t, nil), pure)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, name := range BreakPoints() {
			if p.Breaks()[name] {
				got = append(got, name)
			}
		}
		for _, name := range strings.Fields(c.want) {
			if !p.Breaks()[name] {
				t.Errorf("%q: %s is missing from %q", c.list, name, got)
			}
		}
		if len(got) != len(strings.Fields(c.want)) {
			t.Errorf("%q: got %q, want %s", c.list, got, c.want)
		}
		if !reflect.DeepEqual(p.Warnings, c.warnings) {
			t.Errorf("%q: warnings are %q, want %q", c.list, p.Warnings, c.warnings)
		}
	}
}

func TestTargetEnv(t *testing.T) {
	const die, array = "BASH_FUNC_die%%=() {  :\n}", "BASH_FUNC_get_image_element_array%%=() {  :\n}"
	got := TargetEnv([]string{
		"DIB_X=1\nsecond line", "ARCH=amd64", "_LIB=/.dib/lib", "LC_ALL=C", "USER=me", "HOME=/home/me", "PATH=/.dib/bin:/bin",
		"TMPDIR=/t", "VIRTUAL_ENV=/v", "TARGET_ROOT=/r", "PS4=+", "IFS=x", "LD_PRELOAD=x", "LD_LIBRARY_PATH=x", "PYTHONPATH=x",
		"BASH_ENV=x", "ENV=x", "SHELLOPTS=x", "_RLD_LIST=x", "OLDPWD=/o", "PWD=/p", "http_proxy=p", "ENVIRONMENT=kept", "LDFLAGS=kept",
		die, array, "BASH_FUNC_other%%=() {  :\n}", "FUNCTION=() { :; }", "EMPTY=", "no variable",
	})
	want := []string{
		"ARCH=amd64", die, array, "DIB_X=1\nsecond line", "EMPTY=", "ENVIRONMENT=kept", "HOME=/root", "LC_ALL=C", "LDFLAGS=kept", "LOGNAME=root",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PWD=/",
		"SUDO_COMMAND=/usr/sbin/chroot /.dib/build/mnt", "SUDO_GID=0", "SUDO_UID=0", "SUDO_USER=me", "USER=root", "_LIB=/.dib/lib", "http_proxy=p",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment differs (-want +got):\n%s", diff)
	}
}

func TestSeed(t *testing.T) {
	seed := func(elements string, env Env, change func(*recipe.Recipe)) string {
		rec := newRecipe(elements, env)
		if change != nil {
			change(&rec)
		}
		p, err := Make(rec, library(t, nil), pure)
		if err != nil {
			t.Fatal(err)
		}
		return string(p.Seed())
	}
	base := seed("debian vm", nil, nil)
	for summary, other := range map[string]string{
		"name":  seed("debian vm", nil, func(r *recipe.Recipe) { r.ImageName = "other" }),
		"cache": seed("debian vm", Env{"DIB_IMAGE_CACHE": "/c", "TERM": "dumb"}, nil),
		"trace": seed("debian vm", Env{"DIB_DEBUG_TRACE": "1"}, nil),
	} {
		if other != base {
			t.Errorf("%s changes the seed", summary)
		}
	}
	for summary, other := range map[string]string{
		"elements": seed("debian", nil, nil),
		"release":  seed("debian vm", Env{"DIB_RELEASE": "trixie"}, nil),
		"packages": seed("debian vm", nil, func(r *recipe.Recipe) { r.Packages = []string{"vim"} }),
		"layout":   seed("debian vm", Env{"DIB_BLOCK_DEVICE_CONFIG": "- x:"}, nil),
		"size":     seed("debian vm", nil, func(r *recipe.Recipe) { r.ImageSizeGiB = "5" }),
	} {
		if other == base {
			t.Errorf("%s leaves the seed alone", summary)
		}
	}
}

func TestLoadElements(t *testing.T) {
	own := t.TempDir()
	if err := os.MkdirAll(filepath.Join(own, "mine/install.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	hookFile := filepath.Join(own, "mine/install.d/10-mine")
	if err := os.WriteFile(hookFile, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	builtin := tree(builtinFiles)
	lib, err := element.Load(own, builtin)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Make(newRecipe("debian mine", nil), lib, pure)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var received Plan
	if err := json.Unmarshal(text, &received); err != nil {
		t.Fatal(err)
	}
	elements, err := received.LoadElements(builtin)
	if err != nil {
		t.Fatal(err)
	}
	assembled, err := hook.Assemble(elements)
	if err != nil {
		t.Fatal(err)
	}
	hooks, _, err := assembled.Select("install.d", "")
	if want := []string{"00-up-to-date", "10-mine"}; err != nil || !reflect.DeepEqual(hooks, want) {
		t.Errorf("hooks are %q, want %q (%v)", hooks, want, err)
	}
	if got := assembled.Owner("install.d/10-mine"); got != "mine" {
		t.Errorf("owner is %q", got)
	}
}

func TestD21PlanHasNoSecrets(t *testing.T) {
	rec := newRecipe("debian", Env{"DIB_DEV_USER_PASSWORD": "hunter2", "DIB_SECRET_x": "s3cret-value", "DIB_OPEN": "open"})
	rec.Args = []string{"--mkfs-options", "s3cret-value", "debian"}
	rec.Secrets = []recipe.Secret{{Name: "key", File: "/home/me/key"}}
	p, err := Make(rec, library(t, nil), pure)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, hidden := range []string{"hunter2", "s3cret-value"} {
		if strings.Contains(string(text), hidden) {
			t.Errorf("the plan shows %s:\n%s", hidden, text)
		}
	}
	if want := []string{"DIB_DEV_USER_PASSWORD", "DIB_SECRET_x", "$DIB_SECRETS_DIR/key"}; !slices.Equal(p.Secrets, want) {
		t.Errorf("secrets %v, want %v", p.Secrets, want)
	}
	if p.SecretEnv["DIB_SECRET_x"] != "s3cret-value" || p.Env["DIB_OPEN"] != "open" {
		t.Errorf("hooks would get %v and %v", p.SecretEnv, p.Env)
	}
	rec.Env["DIB_DEV_USER_PASSWORD"] = "other"
	other, err := Make(rec, library(t, nil), pure)
	if err != nil || string(other.Seed()) != string(p.Seed()) {
		t.Errorf("ids of the image derive from a secret (%v)", err)
	}
}

// TestBD23FurtherDisks has every disk of a layout end as an output.
func TestBD23FurtherDisks(t *testing.T) {
	const config = "- local_loop: {name: sys, mkfs: {name: mkfs_root, mount: {mount_point: /}}}\n- local_loop: {name: data, size: 1GiB}\n"
	rec := newRecipe("debian", Env{"DIB_BLOCK_DEVICE_CONFIG": config})
	rec.Types = []string{"raw", "tar", "qcow2"}
	p, err := Make(rec, library(t, nil), pure)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range p.Outputs {
		got = append(got, o.Path+" "+o.Disk)
	}
	want := []string{"out/image.tar ", "out/image.qcow2 ", "out/image.raw ", "out/image-data.qcow2 data", "out/image-data.raw data"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outputs differ (-want +got):\n%s", diff)
	}
}
