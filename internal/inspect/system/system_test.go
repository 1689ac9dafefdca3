package system

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/inspect"
)

// files is a filesystem: contents by path, directories with a slash at the end.
type files map[string]string

func (f files) Walk(visit func(inspect.Entry) error) error {
	all := map[string]string{".": ""}
	for name, text := range f {
		dir := strings.HasSuffix(name, "/")
		name = strings.TrimSuffix(name, "/")
		if !dir {
			all[name] = "=" + text
		} else {
			all[name] = ""
		}
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			all[d] = ""
		}
	}
	skipped := []string{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if slices.ContainsFunc(skipped, func(s string) bool { return strings.HasPrefix(name, s+"/") }) {
			continue
		}
		e := inspect.Entry{Path: name, Mode: inspect.Dir}
		if text, ok := strings.CutPrefix(all[name], "="); ok {
			e.Mode, e.Size, e.Content = inspect.Regular, int64(len(text)), strings.NewReader(text)
		}
		err := visit(e)
		if errors.Is(err, fs.SkipDir) {
			skipped = append(skipped, name)
		}
		if err := inspect.Skipped(e, err); err != nil {
			return err
		}
	}
	return nil
}

func TestRead(t *testing.T) {
	const status = "Package: a\nStatus: install ok installed\n\nPackage: b\nStatus: hold ok installed\n\nPackage: c\nStatus: deinstall ok config-files\n\nPackage: d\nStatus: install ok half-installed\n"
	for _, c := range []struct {
		name  string
		files files
		want  System
	}{
		{"nothing", files{"home/me/etc/os-release": "ID=wrong"}, System{}},
		{"debian", files{
			"etc/debian_version": "12", "usr/lib/os-release": "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME='Debian GNU/Linux 12 (bookworm)'\n# no\nbroken=\"\n",
			"boot/vmlinuz-6.1.0-9-amd64": "", "boot/initrd.img-6.1.0-9-amd64": "", "boot/vmlinuz": "", "usr/lib/modules/6.1.0-9-amd64/modules.dep": "",
			"var/lib/dpkg/status": status + "Description: " + strings.Repeat("x", 200_000) + " Status: x installed\n",
		}, System{
			Release: map[string]string{"ID": "debian", "VERSION_ID": "12", "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"},
			Kernels: []string{"6.1.0-9-amd64"}, Modules: []string{"6.1.0-9-amd64"}, Packages: []Packages{{"dpkg", 2}},
		}},
		{"etc comes first", files{"usr/lib/os-release": "ID=two", "etc/os-release": "ID=one"}, System{Release: map[string]string{"ID": "one"}}},
		{"rpm, in one place or both", files{"usr/lib/sysimage/rpm/rpmdb.sqlite": "", "var/lib/rpm/Packages": ""}, System{Packages: []Packages{{"rpm", -1}}}},
		{"alpine", files{"lib/apk/db/installed": "C:x\nP:musl\nV:1\n\nP:busybox\n"}, System{Packages: []Packages{{"apk", 2}}}},
		{"arch", files{"var/lib/pacman/local/bash-5/desc": "", "var/lib/pacman/local/zlib-1/": "", "var/lib/pacman/local/ALPM_DB_VERSION": "9"}, System{Packages: []Packages{{"pacman", 2}}}},
		{"a filesystem for /boot", files{"vmlinuz-5": "", "vmlinuz-4": "", "grub/grub.cfg": ""}, System{Kernels: []string{"4", "5"}}},
		{"a filesystem for /var", files{"lib/dpkg/status": status}, System{Packages: []Packages{{"dpkg", 2}}}},
		{"an EFI system partition", files{"EFI/BOOT/BOOTX64.EFI": "", "EFI/debian/grub.cfg": "", "efi/a/b/c/d/too-deep.efi": ""}, System{EFI: []string{"EFI/BOOT/BOOTX64.EFI"}}},
		{"too large to be one", files{"etc/os-release": strings.Repeat("#\n", 40_000)}, System{}},
	} {
		got, err := Read(context.Background(), c.files)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Read(ctx, files{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func FuzzRelease(f *testing.F) {
	f.Add("ID=debian\nNAME=\"Debian GNU/Linux\"\n")
	f.Add("a='\nb=\\\n=c\n#d=e\n")
	f.Fuzz(func(t *testing.T, text string) {
		vars, err := release(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if len(vars) > strings.Count(text, "=") {
			t.Errorf("%d variables from %q", len(vars), text)
		}
	})
}
