package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/dib-builder/dib/elements"
	"github.com/dib-builder/dib/internal/element"
)

// Elements that DIB users know bring in what they do there. Ours may bring more.
func TestClosures(t *testing.T) {
	lib, err := element.Load("", elements.FS())
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for requested, closure := range map[string]string{
		"base":                "base dib-init-system install-types pkg-map",
		"almalinux-container": "almalinux-container cache-url containerfile install-bin manifests package-installs pkg-map redhat-common rpm-distro selinux-fixfiles-restore source-repositories sysprep yum",
		"centos":              "cache-url centos install-bin manifests package-installs pkg-map redhat-common rpm-distro selinux-fixfiles-restore source-repositories sysprep yum",
		"centos-minimal":      "centos-minimal install-bin package-installs pkg-map redhat-common rpm-distro selinux-fixfiles-restore sysprep yum yum-minimal",
		"debian-minimal":      "debian-minimal debootstrap dpkg install-bin manifests modprobe package-installs pkg-map sysprep",
		"debian":              "debian debian-minimal debootstrap dib-init-system dpkg install-bin install-static manifests modprobe openssh-server package-installs pkg-map runtime-ssh-host-keys sysprep",
		"dhcp-all-interfaces": "dhcp-all-interfaces dib-init-system install-bin package-installs pkg-map",
		"dracut-regenerate":   "dracut-regenerate install-bin package-installs pkg-map select-boot-kernel-initrd",
		"dynamic-login":       "dib-init-system dynamic-login install-bin install-static openssh-server package-installs pkg-map runtime-ssh-host-keys",
	} {
		if _, ok := lib.Lookup(requested); !ok {
			continue // not in the library yet
		}
		found++
		words := []string{requested}
		if e, _ := lib.Lookup(requested); !slices.Contains(e.Provides, element.OperatingSystem) && !strings.Contains(closure, "-minimal") {
			words = append(words, "fake-os")
		}
		rec := newRecipe(strings.Join(words, " "), nil)
		rec.SkipBase = true
		p, err := Make(rec, lib, pure)
		if err != nil {
			t.Errorf("%s: %v", requested, err)
			continue
		}
		for _, want := range strings.Fields(closure) {
			if !p.HasElement(want) {
				t.Errorf("%s does not bring %s", requested, want)
			}
		}
	}
	if found < 2 {
		t.Errorf("only %d of these elements exist", found)
	}
}

// The hooks that a Debian image has in DIB run in the same order here, between
// those that are ours. One is missing on purpose: finalise.d/50-remove-bogus-udev-links
// of vm, which deletes device nodes of the host.
func TestMergedOrder(t *testing.T) {
	lib, err := element.Load("", elements.FS())
	if err != nil {
		t.Fatal(err)
	}
	p, err := Make(newRecipe("vm block-device-mbr debian-minimal", nil), lib, pure)
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string][]Hook{"environment": p.Environment}
	for _, phase := range p.Phases {
		ours[phase.Name] = phase.Hooks
	}
	for phase, known := range map[string]string{
		"environment":  "10-base-defaults 10-bootloader-default-cmdline 10-debian-minimal.bash 10-debootstrap-default-locale 10-dpkg.bash 14-manifests 15-block-device.bash 20-network-interface-names 99-dib-init-system",
		"root":         "08-debootstrap 09-apt-keyring 50-block-apt-translations 50-block-daemons 50-build-with-http-cache 50-shared-apt-cache 50-trim-dpkg 75-debian-minimal-baseinstall",
		"extra-data":   "10-create-pkg-map-dir 20-manifest-dir 50-modprobe-blacklist 99-enable-install-types 99-squash-package-install",
		"pre-install":  "00-disable-apt-recommends 01-install-bin 03-baseline-tools 04-dib-init-system 10-package-installs 99-apt-get-update 99-package-uninstalls",
		"install":      "00-baseline-environment 00-up-to-date 01-package-installs 10-cloud-init 10-debian-networking 12-debian-locale-gen 15-cleanup-debootstrap 20-install-init-scripts 80-modprobe-blacklist 99-package-uninstalls",
		"post-install": "00-package-installs 10-enable-init-scripts 95-package-uninstalls",
		"finalise":     "50-bootloader 99-clean-up-cache 99-clear-machine-id 99-write-dpkg-manifest",
		"cleanup":      "01-copy-manifests-dir 40-unblock-daemons 50-remove-img-build-proxy 60-untrim-dpkg 99-clean-up-cache",
	} {
		at := 0
		for _, name := range strings.Fields(known) {
			i := slices.IndexFunc(ours[phase][at:], func(h Hook) bool { return h.Name == name })
			if i < 0 {
				t.Errorf("%s: %s does not come after the first %d of %v", phase, name, at, ours[phase])
				continue
			}
			at += i + 1
		}
	}
}
