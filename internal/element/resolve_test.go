package element

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// library builds one from lines "name: deps [> provides]".
func library(t *testing.T, lines ...string) *Library {
	t.Helper()
	files := map[string]string{}
	for _, line := range lines {
		name, rest, _ := strings.Cut(line, ":")
		deps, provides, _ := strings.Cut(rest, ">")
		files[name+"/"+depsFile] = strings.ReplaceAll(strings.TrimSpace(deps), " ", "\n")
		files[name+"/"+providesFile] = strings.ReplaceAll(strings.TrimSpace(provides), " ", "\n")
	}
	lib, err := New(Layer{Path: "/lib", FS: fixture(files)})
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

func show(resolved []Resolved) string {
	var words []string
	for _, r := range resolved {
		if r.Reason == ReasonRequested {
			words = append(words, r.Name)
		} else {
			words = append(words, fmt.Sprintf("%s[%s]", r.Name, r.Reason))
		}
	}
	return strings.Join(words, " ")
}

func TestResolve(t *testing.T) {
	for _, c := range []struct {
		summary string
		library []string
		request string
		want    string
	}{
		{"request order, then dependencies breadth first",
			[]string{"os: x y > operating-system", "a: y z", "x: deep", "y:", "z:", "deep:"},
			"os a", "os a x[needed by os] y[needed by os] z[needed by a] deep[needed by x]"},
		{"a name requested twice counts once",
			[]string{"os: > operating-system", "a:"}, "a os a os", "a os"},
		{"cycles and self-dependencies",
			[]string{"os: a os > operating-system", "a: b", "b: a"}, "os", "os a[needed by os] b[needed by a]"},
		{"a virtual name before its provider is known",
			[]string{"vm: block-device", "os: layout > operating-system", "layout: > block-device"},
			"vm os", "vm os layout[needed by os]"},
		{"a stand-in requested first",
			[]string{"zipl: > bootloader", "vm: bootloader", "bootloader: grub", "grub:", "os: > operating-system"},
			"os zipl vm", "os zipl vm"},
		{"a stand-in found after what it replaces, whose dependencies go with it",
			[]string{"vm: bootloader", "os: s390 > operating-system", "s390: zipl", "zipl: > bootloader", "bootloader: grub", "grub:"},
			"vm os", "vm os s390[needed by os] zipl[needed by s390]"},
		{"a stand-in that only the replaced element needs",
			[]string{"os: a > operating-system", "a: b", "b: c d", "c: > b", "d:"},
			"os", "os a[needed by os] c[needed by b] d[needed by b]"},
		{"an element that stands in for itself disappears, what it provides counts",
			[]string{"top: self", "self: tail > self operating-system", "tail:"},
			"top", "top tail[needed by self]"},
		{"a stand-in lost together with another replaced element",
			[]string{"os: b y > operating-system", "b:", "y: c", "c: > b", "z: > y"},
			"os z", "os z b[needed by os]"},
		{"a provider whose stand-in provides the same",
			[]string{"top: old new", "old: > operating-system", "new: > old operating-system"},
			"top", "top new[needed by top]"},
	} {
		t.Run(c.summary, func(t *testing.T) {
			resolved, err := library(t, c.library...).Resolve(strings.Fields(c.request))
			if err != nil {
				t.Fatal(err)
			}
			if got := show(resolved); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestResolveFailures(t *testing.T) {
	for _, c := range []struct {
		summary string
		library []string
		request string
		want    []string // one for each finding
	}{
		{"misspelt request",
			[]string{"debian-minimal: > operating-system"}, "debian-minimla",
			[]string{`cannot find element "debian-minimla": did you mean debian-minimal?`}},
		{"missing dependencies, all at once, with who needs them",
			[]string{"os: xyzzy > operating-system", "a: xyzzy plugh"}, "os a",
			[]string{`cannot find element "xyzzy" (needed by os, a): searched /lib and the built-in elements: set ELEMENTS_PATH to the directory that holds it`,
				`cannot find element "plugh" (needed by a): searched /lib and the built-in elements: set ELEMENTS_PATH to the directory that holds it`}},
		{"virtual name without a provider",
			[]string{"os: > operating-system", "vm: block-device", "gpt: > block-device", "mbr: > block-device"}, "os vm",
			[]string{`cannot find element "block-device" (needed by vm): request one of the elements that provide it: gpt, mbr`}},
		{"two operating systems",
			[]string{"debian: > operating-system", "fedora: > operating-system", "app: fedora"}, "debian app",
			[]string{`cannot combine elements debian (requested), fedora (needed by app): each provides "operating-system": leave out all but one`}},
		{"requested and provided",
			[]string{"os: > operating-system", "zipl: > bootloader", "bootloader:"}, "os bootloader zipl",
			[]string{`cannot use element "bootloader": it is requested and already provided by zipl (requested): leave one of them out`}},
		{"requested virtual name",
			[]string{"os: > operating-system"}, "os operating-system",
			[]string{`cannot use element "operating-system": it is requested and already provided by os (requested): leave one of them out`}},
		{"requested element providing itself",
			[]string{"os: > operating-system os"}, "os",
			[]string{`cannot use element "os": it is requested and already provided by os (requested): leave one of them out`}},
		{"no operating system",
			[]string{"a:", "debian: > operating-system", "fedora: > operating-system"}, "a",
			[]string{"cannot build without an operating system: request one of debian, fedora"}},
		{"no operating system anywhere",
			[]string{"a:"}, "a",
			[]string{"cannot build without an operating system: no known element provides operating-system"}},
		{"a virtual name whose provider was replaced",
			[]string{"os: r v > operating-system", "r: x", "x: > v", "s: > r"}, "os s",
			[]string{`cannot find element "v" (needed by os): request one of the elements that provide it: x`}},
	} {
		t.Run(c.summary, func(t *testing.T) {
			resolved, err := library(t, c.library...).Resolve(strings.Fields(c.request))
			if err == nil {
				t.Fatalf("resolved to %s", show(resolved))
			}
			if got := strings.Split(err.Error(), "\n"); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestResolveFailureTypes(t *testing.T) {
	lib := library(t, "a: none", "os: > operating-system", "os2: > operating-system")
	_, err := lib.Resolve([]string{"a", "os", "os2"})
	if m := findings[*MissingElementError](err); len(m) != 1 || m[0].Name != "none" {
		t.Errorf("missing elements: %+v", m)
	}
	if p := findings[*AlreadyProvidedError](err); len(p) != 1 || p[0].Name != OperatingSystem || p[0].Requested {
		t.Errorf("provided twice: %+v", p)
	}
	if o := findings[*MissingOSError](err); len(o) != 0 {
		t.Errorf("operating system reported missing: %+v", o)
	}
}

func TestResolveRequest(t *testing.T) {
	lib := library(t,
		"os: > operating-system", "base:", "ramdisk:", "dracut-ramdisk:",
		"vm: block-device", "appliance: vm", "appliance-gpt: vm block-device-gpt",
		"block-device-mbr: > block-device", "block-device-efi: > block-device", "block-device-gpt: > block-device",
		"my-layout: > block-device")
	const base, mbr = "base[in every image] ", "block-device-mbr[default layout for vm]"
	for _, c := range []struct {
		summary, words string
		opt            RequestOptions
		want           string
	}{
		{"base comes first", "os", RequestOptions{}, base + "os"},
		{"base asked for", "os base", RequestOptions{}, "base os"},
		{"without base", "os", RequestOptions{SkipBase: true}, "os"},
		{"ramdisk comes before base", "os", RequestOptions{Ramdisk: true}, "ramdisk[main element of a ramdisk] " + base + "os"},
		{"another ramdisk element", "os", RequestOptions{Ramdisk: true, SkipBase: true, RamdiskElement: "dracut-ramdisk"},
			"dracut-ramdisk[main element of a ramdisk] os"},
		{"vm brings a layout", "os vm", RequestOptions{Arch: "amd64"}, base + "os vm " + mbr},
		{"vm on arm64", "os vm", RequestOptions{Arch: "arm64", SkipBase: true}, "os vm block-device-efi[default layout for vm]"},
		{"vm on aarch64", "os vm", RequestOptions{Arch: "aarch64", SkipBase: true}, "os vm block-device-efi[default layout for vm]"},
		{"parts of names of architectures mean nothing", "os vm", RequestOptions{Arch: "arm", SkipBase: true}, "os vm " + mbr},
		{"vm with a layout", "os vm block-device-gpt", RequestOptions{SkipBase: true}, "os vm block-device-gpt"},
		{"vm with a layout of another name", "os vm my-layout", RequestOptions{SkipBase: true}, "os vm my-layout"},
		{"vm as a dependency", "os appliance", RequestOptions{SkipBase: true}, "os appliance " + mbr + " vm[needed by appliance]"},
		{"vm and layout as dependencies", "os appliance-gpt vm", RequestOptions{SkipBase: true},
			"os appliance-gpt vm block-device-gpt[needed by appliance-gpt]"},
	} {
		t.Run(c.summary, func(t *testing.T) {
			resolved, err := lib.ResolveRequest(strings.Fields(c.words), c.opt)
			if err != nil {
				t.Fatal(err)
			}
			if got := show(resolved); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestMisspeltLayoutGetsNoDefault(t *testing.T) {
	lib := library(t, "os: > operating-system", "vm: block-device", "block-device-mbr: > block-device")
	_, err := lib.ResolveRequest([]string{"os", "vm", "block-device-mrb"}, RequestOptions{SkipBase: true})
	if missing := findings[*MissingElementError](err); len(missing) == 0 || missing[0].Name != "block-device-mrb" {
		t.Errorf("error is %v", err)
	}
}

func TestCommandsBringInstallBin(t *testing.T) {
	lib := func(t *testing.T, files map[string]string) *Library {
		t.Helper()
		files["os/"+providesFile] = "operating-system"
		l, err := New(Layer{Path: "/lib", FS: fixture(files)})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	for _, c := range []struct {
		summary, words, want string
		files                map[string]string
	}{
		{"M18 an element with commands", "os a", "os a install-bin[needed by a for its commands]",
			map[string]string{"a/bin/tool": "", "install-bin/README.rst": ""}},
		{"M18 a dependency with commands", "os b", "os b install-bin[needed by a for its commands] a[needed by b]",
			map[string]string{"b/" + depsFile: "a", "a/bin/tool": "", "install-bin/README.rst": ""}},
		{"no commands", "os a", "os a", map[string]string{"a/README.rst": "", "install-bin/README.rst": ""}},
		{"asked for", "os install-bin a", "os install-bin a", map[string]string{"a/bin/tool": "", "install-bin/README.rst": ""}},
		{"another library", "os a", "os a", map[string]string{"a/bin/tool": ""}},
	} {
		t.Run(c.summary, func(t *testing.T) {
			resolved, err := lib(t, c.files).ResolveRequest(strings.Fields(c.words), RequestOptions{SkipBase: true})
			if err != nil {
				t.Fatal(err)
			}
			if got := show(resolved); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
