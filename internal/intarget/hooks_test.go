package intarget

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dib-builder/dib/test/commandtest"
)

// TestFakeOS runs the hook of the element and a program in its result.
func TestFakeOS(t *testing.T) {
	hooks, target := t.TempDir(), t.TempDir()
	start := time.Now()
	if out, err := hostHook(t, "fake-os/root.d/10-fake-os", hooks, target); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("built in %v", time.Since(start))
	commandtest.Write(t, target, map[string]string{"usr/local/bin/install-packages!": commandtest.Read(t, "../../elements/fake-os/bin/install-packages")})
	out, err := commandtest.Chroot(t, target, "/bin/bash", "-c", `set -eu -o pipefail
		install-packages a 'b c'; install-packages -e a; install-packages -u; install-packages
		cat /var/lib/fake-os/packages; grep -c ^root: /etc/passwd; find /tmp -maxdepth 0 -printf '%m\n'
		echo abc | sed s/b/x/ | tee /root/f | sort; test -d /proc; env | sort; install -m 0755 /root/f /root/g; tar -cf /root/t /root/f 2>&1`)
	if err != nil || !strings.HasPrefix(out, "every package is up to date\na\nb\nc\n-a\n1\n1777\naxc\n") {
		t.Errorf("%v:\n%s", err, out)
	}
}

// TestPkgMapHook runs the hook that copies maps into the image.
func TestPkgMapHook(t *testing.T) {
	hooks, target, lib := t.TempDir(), t.TempDir(), t.TempDir()
	commandtest.Write(t, lib, map[string]string{"one/pkg-map": `{"default": {"a": "b"}}`, "two/README.rst": ""})
	array := func(names ...string) string {
		text := "() {  echo '"
		for _, n := range names {
			text += "[" + n + "]=" + lib + "/" + n + " "
		}
		return "BASH_FUNC_get_image_element_array%%=" + text + "'\n}"
	}
	const hook = "pkg-map/extra-data.d/10-create-pkg-map-dir"
	if out, err := hostHook(t, hook, hooks, target, array("one", "two")); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	entries, err := os.ReadDir(target + "/usr/share/pkg-map")
	if err != nil || len(entries) != 1 || entries[0].Name() != "one" {
		t.Errorf("%v, %v", entries, err)
	}
	commandtest.Write(t, lib, map[string]string{"two/pkg-map": "{\n  broken\n}"})
	if out, err := hostHook(t, hook, hooks, target, array("two")); err == nil || !strings.Contains(out, "two/pkg-map:2:") {
		t.Errorf("%v: a broken map must be found, with its position: %s", err, out)
	}
}

func TestManifestsHook(t *testing.T) {
	declared := "declare -x DIB_A=\"1\"\ndeclare -x DIB_B=\"two\nlines\"\n# left out because they hold secrets: DIB_API_KEY"
	want := declared + "\n"
	if os.Geteuid() != 0 {
		t.Skip("the hook gives files to root, which takes root")
	}
	for _, staged := range []bool{false, true} {
		hooks, target, out := t.TempDir(), t.TempDir(), t.TempDir()
		commandtest.Write(t, target, map[string]string{"etc/dib-manifests/dib-manifest-git-x": "m\n"})
		commandtest.Write(t, out, map[string]string{"saved/dib-manifests/stale": "x"})
		env := []string{
			"DIB_MANIFEST_IMAGE_DIR=/etc/dib-manifests", "DIB_MANIFEST_SAVE_DIR=" + out + "/saved/", "DIB_ENV=" + declared,
			"DIB_ARGS=-o x", "DIB_DEBUG_TRACE=1",
		}
		saved := out + "/saved/dib-manifests"
		if staged {
			env = append(env, "DIB_STAGED_OUTPUTS="+hooks)
			saved = hooks + "/manifests/dib-manifests"
		}
		log, err := hostHook(t, "manifests/cleanup.d/01-copy-manifests-dir", hooks, target, env...)
		if err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		if staged {
			if dest := commandtest.Read(t, hooks+"/manifests.dest"); dest != out+"/saved\n" {
				t.Errorf("destination %q", dest)
			}
		} else if _, err := os.Stat(saved + "/stale"); err == nil {
			t.Error("a file of an earlier build stayed")
		}
		for _, dir := range []string{saved, target + "/etc/dib-manifests"} {
			if got := commandtest.Read(t, dir+"/dib_environment"); got != want {
				t.Errorf("%s: %q", dir, got)
			}
			for _, name := range []string{"dib_environment", "dib_arguments", "dib-manifest-git-x"} {
				if st, err := os.Stat(dir + "/" + name); err != nil || st.Mode().Perm() != 0o600 {
					t.Errorf("%s/%s: %v, %v", dir, name, st.Mode(), err)
				}
			}
		}
		if st, err := os.Stat(filepath.Dir(saved)); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("save directory: %v, %v", st.Mode(), err)
		}
	}
}

func TestInstallTypesHook(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []string
		env   []string
		links string // what install.d gets, sorted
		fail  string
	}{
		{"default", []string{"a-source-install/50-a", "a-package-install/50-b"}, nil, "50-a", ""},
		{"chosen", []string{"a-source-install/50-a", "a-package-install/50-b"}, []string{"DIB_INSTALLTYPE_a=package"}, "50-b", ""},
		{"default changed", []string{"a-source-install/50-a", "a-package-install/50-b"}, []string{"DIB_DEFAULT_INSTALLTYPE=package"}, "50-b", ""},
		{"hyphens", []string{"a-b-source-install/50-a", "a-b-repo-install/50-c"}, []string{"DIB_INSTALLTYPE_a_b=repo"}, "50-c", ""},
		{"M48 underscores", []string{"a_b-source-install/50-a", "a_b-repo-install/50-c"}, []string{"DIB_INSTALLTYPE_a_b=repo"}, "50-c", ""},
		{"M48 no such type", []string{"a-source-install/50-a"}, []string{"DIB_INSTALLTYPE_a=sauce"}, "", "install.d/a-sauce-install"},
		{"no variants at all", []string{"10-x"}, []string{"DIB_INSTALLTYPE_a=sauce"}, "", ""},
		{"M48 duplicate", []string{"a-source-install/50-a", "50-a"}, nil, "", "already has a hook"},
		{"other default only", []string{"a-package-install/50-b"}, nil, "", ""},
		{"M48 no install.d at all", nil, nil, "", ""},
		{"M48 a variant without files", []string{"a-source-install/", "10-x"}, nil, "", ""},
		{"any file of a variant", []string{"a-source-install/unit.service", "a-source-install/50-a"}, nil, "50-a unit.service", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hooks := t.TempDir()
			for _, f := range tt.files {
				if strings.HasSuffix(f, "/") {
					if err := os.MkdirAll(hooks+"/install.d/"+f, 0o755); err != nil {
						t.Fatal(err)
					}
					continue
				}
				commandtest.Write(t, hooks, map[string]string{"install.d/" + f: "x"})
			}
			out, err := hostHook(t, "install-types/extra-data.d/99-enable-install-types", hooks, t.TempDir(), tt.env...)
			if tt.fail != "" {
				if err == nil || !strings.Contains(out, tt.fail) {
					t.Errorf("%v: %s", err, out)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			entries, err := os.ReadDir(hooks + "/install.d")
			if err != nil && tt.files != nil {
				t.Fatal(err)
			}
			var links []string
			for _, e := range entries {
				if e.Type() == os.ModeSymlink {
					links = append(links, e.Name())
					if got := commandtest.Read(t, hooks+"/install.d/"+e.Name()); got != "x" {
						t.Errorf("%s leads nowhere", e.Name())
					}
				}
			}
			if got := strings.Join(links, " "); got != tt.links {
				t.Errorf("links %q, want %q", got, tt.links)
			}
		})
	}
}
