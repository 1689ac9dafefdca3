package cli

import (
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/cli/getopt"
)

var update = flag.Bool("update", false, "rewrite golden files")

func testHost(env map[string]string) Host {
	all := map[string]string{"HOME": "/home/u", "USER": "u", "PATH": "/usr/bin:/bin", "http_proxy": "http://proxy"}
	maps.Copy(all, env)
	return Host{Env: all, Arch: "amd64", Cwd: "/cwd", Home: all["HOME"]}
}

// createCases are command lines and the variables in the caller's environment;
// what comes of them is in testdata/create.
var createCases = []struct {
	name string // of the golden file; a name beginning with "ramdisk" runs ramdisk-image-create
	args []string
	env  map[string]string
}{
	{"elements", []string{"debian-minimal", "vm"}, nil},
	{"elements-in-one-argument", []string{" debian-minimal\tvm\n base "}, nil},
	{"elements-with-empty-arguments", []string{"", "debian-minimal", "", "vm", ""}, nil},
	{"elements-are-not-globbed", []string{"*", "x?"}, nil},
	{"elements-after-double-dash", []string{"vm", "--", "-x", "--offline"}, nil},
	{"elements-from-environment", []string{"vm"}, map[string]string{"IMAGE_ELEMENT": "debian-minimal  growroot"}},
	{"elements-from-environment-only", nil, map[string]string{"IMAGE_ELEMENT": "debian-minimal"}},
	{"elements-missing", nil, nil},
	{"elements-blank", []string{"", "  "}, nil},
	{"posix-order", []string{"-x", "vm", "-u"}, map[string]string{"POSIXLY_CORRECT": ""}},
	{"D29-arch-of-the-kernel", []string{"-a", "x86_64", "vm"}, nil},
	{"arch-empty", []string{"-a", "", "vm"}, nil},
	{"arch-from-environment", []string{"vm"}, map[string]string{"ARCH": "amd64"}},
	{"arch-foreign", []string{"-a", "arm64", "vm"}, nil},
	{"arch-last-wins", []string{"-aarm64", "-aamd64", "vm"}, nil},
	{"name", []string{"-o", "/tmp/a b/my*image", "vm"}, nil},
	{"name-empty", []string{"-o", "", "vm"}, map[string]string{"IMAGE_NAME": "ignored"}},
	{"name-from-environment", []string{"vm"}, map[string]string{"IMAGE_NAME": "env"}},
	{"name-suffix", []string{"-o", "a.qcow2", "vm"}, nil},
	{"name-suffix-once", []string{"-o", "a.qcow2.qcow2", "vm"}, nil},
	{"name-suffix-of-other-type", []string{"-t", "raw", "-o", "a.qcow2", "vm"}, nil},
	{"name-suffix-raw", []string{"-t", "raw", "-o", "a.raw", "vm"}, nil},
	{"name-suffix-two-types", []string{"-t", "qcow2,raw", "-o", "a.qcow2", "vm"}, nil},
	{"name-suffix-repeated-type", []string{"-t", "raw,raw", "-o", "a.raw", "vm"}, nil},
	{"types", []string{"-t", "raw,qcow2,,raw", "vm"}, nil},
	{"types-last-list-wins", []string{"-t", "raw", "-t", "qcow2", "vm"}, nil},
	{"types-empty", []string{"-t", "", "vm"}, nil},
	{"types-unsupported", []string{"-t", "qcow2,vhd,tgz", "vm"}, nil},
	{"D05-types-misspelt", []string{"-t", "qcow", "-t", "qcwo2", "vm"}, nil},
	{"D05-types-unknown", []string{"-t", "floppydisk", "vm"}, nil},
	{"types-not-from-environment", []string{"vm"}, map[string]string{"IMAGE_TYPE": "ironic", "IMAGE_TYPES": "raw"}},
	{"trace", []string{"-xx", "vm", "-x"}, nil},
	{"trace-on-top-of-environment", []string{"-x", "vm"}, map[string]string{"DIB_DEBUG_TRACE": "1"}},
	{"trace-not-a-number", []string{"-x", "vm"}, map[string]string{"DIB_DEBUG_TRACE": "yes"}},
	{"uncompressed", []string{"-u", "vm"}, nil},
	{"compress-not-from-environment", []string{"vm"}, map[string]string{"COMPRESS_IMAGE": ""}},
	{"D03-clear", []string{"-c", "-o", "x", "-p", "vim", "vm"}, map[string]string{"DIB_RELEASE": "trixie", "IMAGE_ELEMENT": "gone", "TERM": "xterm", "LOGNAME": "u"}},
	{"D03-clear-from-environment", []string{"vm"}, map[string]string{"CLEAR_ENV": "1", "DIB_OFFLINE": "1"}},
	{"clear-other-value", []string{"vm"}, map[string]string{"CLEAR_ENV": "yes"}},
	{"skip-base", []string{"-n", "vm"}, nil},
	{"skip-base-from-environment", []string{"vm"}, map[string]string{"SKIP_BASE": "1"}},
	{"skip-base-other-value", []string{"vm"}, map[string]string{"SKIP_BASE": "yes"}},
	{"packages", []string{"-p", "vim,tmux", "-pcurl", "-p", ",git,vim,", "vm"}, map[string]string{"INSTALL_PACKAGES": "ignored"}},
	{"help", []string{"-t", "nonsense", "--help"}, nil},
	{"help-before-version", []string{"-xh", "--version"}, nil},
	{"version", []string{"--vers"}, nil},
	{"help-needs-good-syntax", []string{"-h", "--bogus"}, nil},
	{"checksum", []string{"--checksum", "vm"}, nil},
	{"checksum-from-environment", []string{"vm"}, map[string]string{"DIB_CHECKSUM": "md5,sha256"}},
	{"checksum-off", []string{"vm"}, map[string]string{"DIB_CHECKSUM": "0"}},
	{"D11-checksum-unknown", []string{"vm"}, map[string]string{"DIB_CHECKSUM": "sha1"}},
	{"checksum-more", []string{"vm"}, map[string]string{"DIB_CHECKSUM": "sha512,blake3"}},
	{"image-size", []string{"--image-size", "2.5", "vm"}, nil},
	{"image-size-from-environment", []string{"vm"}, map[string]string{"DIB_IMAGE_SIZE": "3"}},
	{"image-size-zero", []string{"--image-size", "0.0", "vm"}, nil},
	{"image-size-with-unit", []string{"--image-size=5G", "vm"}, nil},
	{"image-size-empty", []string{"--image-size", "", "vm"}, nil},
	{"D02-image-extra-size", []string{"--image-extra-size", "512", "vm"}, nil},
	{"image-cache", []string{"--image-cache", "/c ache/", "vm"}, nil},
	{"image-cache-relative", []string{"--image-cache", "../cache", "vm"}, map[string]string{"DIB_LOCKFILES": "locks"}},
	{"image-cache-without-home", []string{"vm"}, map[string]string{"HOME": ""}},
	{"image-prefix-is-ambiguous", []string{"--image", "1", "vm"}, nil},
	{"max-online-resize", []string{"--max-online-resize", "1073741824", "vm"}, nil},
	{"D02-mkfs-prefix", []string{"--mkfs", "-O ^metadata_csum -m '1'", "vm"}, nil},
	{"D06-mkfs-options-from-environment", []string{"vm"}, map[string]string{"MKFS_OPTS": "-m 0"}},
	{"mkfs-options-over-environment", []string{"--mkfs-options=-m 1", "vm"}, map[string]string{"MKFS_OPTS": "-m 0"}},
	{"D02-mkfs-journal-size", []string{"--mkfs-journal-size=32", "vm"}, nil},
	{"min-tmpfs", []string{"--min-tmpfs", "8", "vm"}, nil},
	{"min-tmpfs-not-whole", []string{"--min-tmpfs", "1.5", "vm"}, nil},
	{"no-tmpfs", []string{"--no", "vm"}, nil},
	{"no-tmpfs-other-value", []string{"vm"}, map[string]string{"DIB_NO_TMPFS": "yes"}},
	{"offline", []string{"--offline", "vm"}, nil},
	{"qemu-img-options", []string{"--qemu-img-options", "compat=0.10,cluster_size=2M", "vm"}, nil},
	{"qemu-img-options-from-environment", []string{"vm"}, map[string]string{"QEMU_IMG_OPTIONS": "compat=1.1"}},
	{"qemu-img-options-malformed", []string{"--qemu-img-options", "=1", "vm"}, nil},
	{"qemu-img-options-misspelt", []string{"--qemu-img-options", "clustersize=4k", "vm"}, nil},
	{"qemu-img-options-with-raw-only", []string{"-t", "raw", "--qemu-img-options", "compat=0.10", "vm"}, nil},
	{"qemu-img-options-unsupported", []string{"--qemu-img-options", "compression_type=zstd,preallocation=full", "vm"}, nil},
	{"root-label", []string{"--root-label", "my root", "vm"}, nil},
	{"root-label-from-environment", []string{"vm"}, map[string]string{"ROOT_LABEL": "env"}},
	{"D19-install-type", []string{"--install-type", "package", "vm"}, nil},
	{"D04-docker-target-default", []string{"-t", "docker", "-o", "/images/My-Image", "vm"}, nil},
	{"docker-target-cannot-be-guessed", []string{"-t", "docker,tar", "-o", "My Image", "vm"}, nil},
	{"D57-tgz-and-tar", []string{"-t", "tgz,tar", "vm"}, nil},
	{"D59-types-repeated", []string{"-t", "tgz,tar,tgz,tar", "vm"}, nil},
	{"D59-types-are-whole-words", []string{"-t", "ta,a", "vm"}, nil},
	{"D59-qemu-img-options-with-files-only", []string{"-t", "tar", "--qemu-img-options", "compat=0.10", "vm"}, nil},
	{"docker-target", []string{"--docker-target", "a:b", "vm"}, nil},
	{"docker-target-not-from-environment", []string{"vm"}, map[string]string{"DOCKER_TARGET": "x"}},
	{"logfile", []string{"--logfile", "a log", "vm"}, map[string]string{"LOGFILE": "ignored"}},
	{"fs-type-from-environment", []string{"vm"}, map[string]string{"FS_TYPE": "xfs"}},
	{"backend-auto", []string{"vm"}, map[string]string{"DIB_BLOCK_DEVICE_BACKEND": "auto"}},
	{"backend-loop", []string{"vm"}, map[string]string{"DIB_BLOCK_DEVICE_BACKEND": "loop"}},
	{"backend-unknown", []string{"vm"}, map[string]string{"DIB_BLOCK_DEVICE_BACKEND": "magic"}},
	{"D42-block-device-of-caller-is-cleared", []string{"vm"}, map[string]string{"IMAGE_BLOCK_DEVICE": "/dev/sda", "DIB_BLOCK_DEVICE": "mine"}},
	{"path-with-system-directories", []string{"vm"}, map[string]string{"PATH": "/usr/sbin/:/bin"}},
	{"path-missing", []string{"vm"}, map[string]string{"PATH": ""}},
	{"declarations", []string{"-x", "", "vm"}, map[string]string{"DIB_B": "a\"$`\\b", "DIB_A": "line\nit's\\", "DIB_C": ""}},
	{"ramdisk", []string{"deploy"}, nil},
	{"ramdisk-help", []string{"-h"}, nil},
	{"ramdisk-syntax", []string{"--nonsense"}, nil},
	{"all-mistakes", []string{"-t", "aci", "--image-size", "big", "--min-tmpfs=-1", "-a", "s390x"}, nil},
	{"D02-prefixes", []string{"--image-e", "1", "--mkfs-j=8", "--mkfs", "-m 0", "vm"}, nil},
	{"D03-clear-keeps-options-given-before", []string{"-x", "--root-label", "r", "vm", "-c", "-t", "raw"}, map[string]string{"DIB_DEBUG_TRACE": "1", "ROOT_LABEL": "env", "ELEMENTS_PATH": "/e"}},
	{"D15-names-as-they-are", []string{"-o", "it's \"a\" [x]*?$HOME `b`\\\n", "--logfile", " log ", "--image-cache", "/c*\xff", "vm"}, map[string]string{"TMP_DIR": "/t m p", "ELEMENTS_PATH": "/e'l*"}},
	{"D19-install-type-of-environment", []string{"vm"}, map[string]string{"DIB_DEFAULT_INSTALLTYPE": "package"}},
	{"clustered", []string{"-xxuntraw", "vm"}, nil},
	{"clustered-with-separate-argument", []string{"vm", "-uno", "a", "base"}, nil},
	{"clustered-attached", []string{"-oname", "-pa,b", "-p", "c", "vm"}, nil},
	{"permuted", []string{"a", "-x", "b", "--offline", "c", "-t", "raw", "d", "--", "-e"}, nil},
	{"argument-that-looks-like-an-option", []string{"-o", "-x", "--root-label", "--offline", "vm"}, nil},
	{"arguments-empty", []string{"-o", "", "-p", "", "--root-label", "", "--mkfs-options", "", "--logfile", "", "--image-cache", "", "vm"}, nil},
	{"argument-missing", []string{"vm", "-o"}, nil},
	{"argument-missing-for-long-option", []string{"vm", "--image-size"}, nil},
	{"argument-not-wanted", []string{"--offline=1", "vm"}, nil},
	{"option-without-dashes-doubled", []string{"-offline", "vm"}, nil},
	{"caller-octavia", []string{"-a", "amd64", "-o", "amphora-x64-haproxy.qcow2", "-t", "qcow2", "--image-size", "2", "--image-cache", "/home/u/.cache/image-create", "", "", "", "base vm ubuntu-minimal  haproxy-octavia amphora-agent", "--no-tmpfs"}, nil},
	{"caller-nodepool", []string{"-x", "-t", "qcow2,raw", "--checksum", "--no-tmpfs", "--qemu-img-options", "compat=0.10", "-o", "/opt/images/node-0001", "debian-minimal", "vm"}, map[string]string{"ELEMENTS_PATH": "/etc/nodepool/elements", "DIB_IMAGE_CACHE": "/opt/dib_cache", "TMPDIR": "/opt/dib_tmp", "DIB_SHOW_IMAGE_USAGE": "1"}},
	{"caller-bifrost", []string{"-a", "amd64", "-o", "/httpboot/deployment_image.qcow2", "-t", "qcow2", "-p", "openssh-server,vim", "-u", "--min-tmpfs", "3", "--root-label", "cloudimg", "vm", "enable-serial-console", "debian-minimal"}, map[string]string{"IMAGE_TYPE": "disk"}},
	{"caller-ironic-python-agent-builder", []string{"-o", "ipa-debian", "-x", "debian-minimal", "ironic-python-agent-ramdisk", "extra-hardware"}, map[string]string{"DIB_RELEASE": "bookworm", "DIB_INSTALLTYPE_ironic_python_agent": "source"}},
	{"caller-tripleo", []string{"-a", "amd64", "-o", "./overcloud-full", "-t", "qcow2", "-p", "python3-psutil,kexec-tools", "-x", "--min-tmpfs", "7", "--mkfs-options", "-i 8192 -J size=64", "-n", "--logfile", "./overcloud-full.log", "dynamic-login", "interface-names"}, map[string]string{"IMAGE_ELEMENT": "centos-minimal selinux-permissive", "DIB_QUIET": "0"}},
	{"caller-stackhpc", []string{"-a", "x86_64", "-t", "raw", "--docker-target", "", "-o", "/opt/kayobe/images/deployment/ipa.raw", "--image-cache", "/opt/cache", "rocky-container", "vm"}, map[string]string{"IMAGE_TYPE": "iso", "DIB_CHECKSUM": "0"}},
}

func TestParseCreate(t *testing.T) {
	seen := map[string]bool{}
	for _, tc := range createCases {
		if seen[tc.name] {
			t.Fatalf("two cases named %s", tc.name)
		}
		seen[tc.name] = true
		t.Run(tc.name, func(t *testing.T) {
			name := "disk-image-create"
			if strings.HasPrefix(tc.name, "ramdisk") {
				name = ramdiskCommand
			}
			rec, err := ParseCreate(name, tc.args, testHost(tc.env))
			var got []byte
			var buf strings.Builder
			switch {
			case errors.Is(err, ErrHelp):
				buf.WriteString(createUsage(name))
			case errors.Is(err, ErrVersion):
				buf.WriteString("version\n")
			case err != nil:
				complain(&buf, name, err)
			default:
				enc := json.NewEncoder(&buf)
				enc.SetIndent("", "\t")
				enc.SetEscapeHTML(false)
				if err := enc.Encode(rec); err != nil {
					t.Fatal(err)
				}
			}
			got = []byte(buf.String())
			golden := filepath.Join("testdata", "create", tc.name+".golden")
			if *update {
				if err := os.WriteFile(golden, got, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("got:\n%s\nwant (%s):\n%s", got, golden, want)
			}
		})
	}
}

// FuzzParseCreate checks that every command line gives either a recipe that
// names something to build or an error that says something.
func FuzzParseCreate(f *testing.F) {
	for _, tc := range createCases {
		f.Add(strings.Join(tc.args, "\x00"))
	}
	f.Fuzz(func(t *testing.T, line string) {
		rec, err := ParseCreate("disk-image-create", strings.Split(line, "\x00"), testHost(nil))
		var syntax *getopt.Error
		switch {
		case errors.As(err, &syntax), errors.Is(err, ErrHelp), errors.Is(err, ErrVersion):
		case err != nil:
			if strings.TrimSpace(err.Error()) == "" {
				t.Fatal("an error without a message")
			}
		case len(rec.Elements) == 0 || len(rec.Types) == 0 || rec.Env["LC_ALL"] != "C":
			t.Fatalf("an unusable recipe: %+v", rec)
		}
	})
}
