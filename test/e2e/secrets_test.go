package e2e

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// canaries are secrets that must be found nowhere after a build.
var canaries = map[string]string{
	"of a password":       "canary-it's-a \"password\" $HOME",
	"of a variable":       "canary-of-a-token",
	"of a file":           "canary-of-a-file",
	"of a declared name":  "canary-declared code",
	"of the element":      "canary-of-the-element",
	"of a proxy's URL":    "canary-of-a-proxy",
	"in an argument only": "canary-in-an-argument",
}

// findCanaries looks at every byte below the given directories and texts.
func findCanaries(t *testing.T, texts map[string]string, dirs ...string) {
	t.Helper()
	look := func(where string, data []byte) {
		for what, canary := range canaries {
			if bytes.Contains(data, []byte(canary)) {
				t.Errorf("%s shows the secret %s", where, what)
			}
		}
	}
	for where, text := range texts {
		look(where, []byte(text))
	}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			look(path, data)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestD21M54SecretsAreNowhere(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		keys := b.dir("keys")
		secret := filepath.Join(keys, "secret")
		if err := os.WriteFile(secret, []byte(canaries["of a file"]), 0o644); err != nil {
			t.Fatal(err)
		}
		bd := build{
			args: []string{"-n", "-x", "-x", "-t", "raw", "--no-tmpfs", "--logfile", "build.log", "-o", "kept", "--secret", "from-file=" + secret,
				"--mkfs-options", "-E root_owner=0:0", "--install-type", "a-token=" + canaries["in an argument only"], "fake-os", "manifests", "canary"},
			env: map[string]string{
				"DIB_DEV_USER_PASSWORD": canaries["of a password"], "DIB_SECRET_TOKEN": canaries["of a variable"],
				"DIB_SECRET_NAMES": "DECLARED_CODE", "DECLARED_CODE": canaries["of a declared name"],
				"http_proxy": "http://me:" + canaries["of a proxy's URL"] + "@proxy.invalid/", "DIB_QUIET": "0", "OVERWRITE_OLD_IMAGE": "1",
			},
		}
		o := b.mustBuild(bd)
		for _, phase := range []string{"root", "extra-data", "pre-install", "install", "post-install", "post-root", "block-device", "pre-finalise", "finalise", "cleanup"} {
			dir := "/.dib/secrets"
			switch phase {
			case "pre-install", "install", "post-install", "finalise":
				dir = "/tmp/in_target.secrets"
			}
			mustContain(t, "the log", o.Stdout,
				`^SECRETS phase=`+phase+` dir=`+dir+` files=TOKEN,from-file, mode=400 owner=0 writable=no medium=tmpfs file_in_env=no args=-n .*--secret from-file=`,
				`^IN ARGUMENTS phase=`+phase+`: nothing$`)
			if dir == "/.dib/secrets" {
				mustContain(t, "the log", o.Stdout, `^ON DISK phase=`+phase+`: nothing$`)
			}
		}
		mustContain(t, "the log", o.Stdout, `^careless: \*{8}, \*{8} and \*{8}$`, `^\+ echo 'careless: \*{8}, \*{8} and \*{8}'$|^\+ echo .*careless`)
		manifest := b.read("kept.d/dib-manifests/dib_environment")
		mustContain(t, "dib_environment", manifest, `^declare -x DIB_NO_TIMESTAMP="1"$`,
			`^# left out because they hold secrets: DIB_DEV_USER_PASSWORD DIB_SECRET_TOKEN$`)
		mustContain(t, "dib_arguments", b.read("kept.d/dib-manifests/dib_arguments"), `^-n -x -x .*--install-type a-token=\*{8} fake-os manifests canary$`)
		if st, err := os.Stat(filepath.Join(b.out, "kept.d/dib-manifests/dib_environment")); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("dib_environment: %v, %v", st.Mode(), err)
		}

		planned := bd
		planned.command = "plan"
		p := b.run(planned)
		mustContain(t, "the plan", p.Stdout, `DIB_SECRET_TOKEN`, `canary`)
		planned.args = append([]string{"--format", "json"}, bd.args...)
		pj := b.run(planned)
		if p.Exit != 0 || pj.Exit != 0 {
			t.Errorf("dib plan: exit status %d, %d\n%s%s", p.Exit, pj.Exit, p.Stderr, pj.Stderr)
		}

		bd.env["CANARY_FAIL"] = "install"
		bd.args = append(bd.args[:len(bd.args):len(bd.args)], "-o", "never")
		failed := b.run(bd)
		if failed.Exit != 42 {
			t.Errorf("exit status %d, want the hook's 42", failed.Exit)
		}
		mustContain(t, "the failure", failed.Stdout, `\| failing with \*{8}$`, `hook install\.d/50-use-secrets of element canary failed`)

		findCanaries(t, map[string]string{
			"the plan": p.Stdout + p.Stderr, "the plan as JSON": pj.Stdout + pj.Stderr, "stdout": o.Stdout, "stderr": o.Stderr, "stdout of the failure": failed.Stdout, "stderr of the failure": failed.Stderr,
		}, b.out, b.tmp)
	})
}

func TestSecretThatCannotBeRead(t *testing.T) {
	asEach(t, func(t *testing.T, b *workbench) {
		o := b.run(build{args: []string{"-n", "-o", "never", "--secret", "key=no-such-file", "--secret", "other=/dev/null", "fake-os"}})
		if o.Exit != 1 || len(b.outputs()) != 0 {
			t.Errorf("exit status %d, outputs %v", o.Exit, b.outputs())
		}
		mustContain(t, "the message", o.Stdout+o.Stderr, `cannot read secret "key": open .*/no-such-file: no such file or directory`, `cannot read secret "other": /dev/null is empty`)
		if strings.Contains(o.Stdout, "Running") {
			t.Error("a hook ran")
		}
	})
}

// TestD21M54PasswordOfADebianImage: the element that takes a password keeps a
// hash of it, and nothing else does.
func TestD21M54PasswordOfADebianImage(t *testing.T) {
	d := rootImage(t)
	if strings.Contains(d.log, devPassword) {
		t.Error("the log shows the password")
	}
	found, err := exec.Command("grep", "-r", "-l", "-a", "-F", "-e", devPassword, d.dir).CombinedOutput()
	if err == nil || len(found) > 0 {
		t.Errorf("the password is in %s", found)
	}
	text, err := os.ReadFile(d.path(".d/dib-manifests/dib_environment"))
	if err != nil {
		t.Fatal(err)
	}
	mustContain(t, "dib_environment", string(text), `^# left out because they hold secrets: DIB_DEV_USER_PASSWORD$`)
}
