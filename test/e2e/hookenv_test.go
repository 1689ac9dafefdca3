package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// element writes an element of one test: files by name, executable.
func (b *workbench) element(name string, files map[string]string) {
	b.t.Helper()
	dir := b.dir("elements-" + name)
	for file, text := range files {
		path := filepath.Join(dir, name, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	b.env["ELEMENTS_PATH"] = dir + ":" + b.env["ELEMENTS_PATH"]
}

// TestHookEnvironment looks at what DIB gives its hooks wrongly, by number.
func TestHookEnvironment(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		b.element("looker", map[string]string{
			"environment.d/50-looker": "export LOOKER=exported\n",
			"root.d/50-looker":        "#!/bin/bash\nset -eu\necho \"D19 $DIB_DEFAULT_INSTALLTYPE\"\n",
			"block-device.d/50-look":  "#!/bin/bash\nset -eu\ntest -d \"$TARGET_ROOT/etc\"\necho \"D20 $TARGET_ROOT\"\n",
			// For the packages of -p, which are installed after this phase.
			"install.d/90-looker": `#!/bin/bash
set -eu
echo "D22 $PATH"
status=0
(if true; then die "D23 last words"; fi) || status=$?
echo "D23 status $status, elements $(get_image_element_array | wc -w | tr -d ' ')"
echo "D62 $HOME"
cat > /usr/local/bin/install-packages <<'END'
#!/bin/bash
printf 'D24 <%s>\n' "$@"
echo "D39 ${LOOKER:-missing}"
END
chmod +x /usr/local/bin/install-packages
`,
		})
		// D25: without sudo on the host.
		o := b.mustBuild(build{args: []string{"-n", "-t", "raw", "-o", "look", "-p", "a&b,$(:>/pwned),c;d", "fake-os", "looker"}, hide: []string{"sudo"}})
		for name, pattern := range map[string]string{
			"D19": `^D19 source$`, "D20": `^D20 /\.dib/build/built$`,
			"D22": `^D22 /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin$`,
			"D23": `^D23 last words\nD23 status 1, elements 3$`,
			"D24": `^D24 <a&b>\nD24 <\$\(:>/pwned\)>\nD24 <c;d>$`, "D39": `^D39 exported$`, "D62": `^D62 /root$`,
		} {
			t.Run(name, func(t *testing.T) { mustContain(t, "the log", o.Stdout, pattern) })
		}
		t.Run("D24 nothing ran", func(t *testing.T) {
			if _, ok := filesystemAt(t, filepath.Join(b.out, "look.raw"), 0)["pwned"]; ok {
				t.Error("the name of a package was run as a command")
			}
		})
		t.Run("D25 sudo is a stand-in where the host has none", func(t *testing.T) {
			if !strings.Contains(o.Stdout, "Build completed successfully") {
				t.Error("the build failed")
			}
		})
		t.Run("trace levels", func(t *testing.T) {
			for level, traced := range map[string]bool{"": false, "-x": true} {
				args := []string{"-n", "-t", "raw", "-o", "trace", "fake-os"}
				if level != "" {
					args = append([]string{level}, args...)
				}
				o := b.mustBuild(build{args: args, env: map[string]string{"OVERWRITE_OLD_IMAGE": "1"}})
				if got := strings.Contains(o.Stdout, "\n+ "); got != traced {
					t.Errorf("%q: hooks are traced: %v", level, got)
				}
			}
		})
	})
}

// TestEnvironmentSurroundings holds that hooks inherit what environment files do
// to their shell, on both sides.
func TestEnvironmentSurroundings(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		report := "#!/bin/bash\necho \"HERE $(umask) $PWD $(ulimit -S -n)\"\n"
		b.element("around", map[string]string{
			"environment.d/10-around": "umask 0027\nulimit -S -n 321\ncd /usr\n",
			"extra-data.d/50-around":  report, "install.d/50-around": report,
		})
		o := b.mustBuild(build{args: []string{"-n", "-t", "raw", "-o", "around", "fake-os", "around"}})
		if n := strings.Count(o.Stdout, "\nHERE 0027 /usr 321\n"); n != 2 {
			t.Errorf("%d of 2 hooks inherit umask, directory and limits:\n%s", n, tail(o.Stdout))
		}
	})
}
