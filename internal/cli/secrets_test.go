package cli

import (
	"errors"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/recipe"
	"github.com/dib-builder/dib/internal/secret"
)

func secretsHost(env map[string]string) Host {
	return Host{Env: env, Arch: "amd64", Cwd: "/home/me/images", Home: "/home/me"}
}

func TestD21RecordsAreWithoutSecrets(t *testing.T) {
	env := map[string]string{
		"DIB_RELEASE": "bookworm", "DIB_DEV_USER_PASSWORD": "hunter2'\"$x", "DIB_SECRET_KEY": "k3y-of-all\nlines", "DIB_CODE": "c0de-c0de",
		"DIB_SECRET_NAMES": "DIB_CODE", "DIB_NOTE": "mentions c0de-c0de", "ADMIN_TOKEN": "t0ken-t0ken", "http_proxy": "http://me:pr0xy-pw@proxy/",
	}
	args := []string{"-o", "x", "--root-label", "c0de-c0de", "-p", "a-token=zzz", "--mkfs-options", "-L t0ken-t0ken", "debian"}
	rec, err := ParseCreate("disk-image-create", args, secretsHost(env))
	if err != nil {
		t.Fatal(err)
	}
	wantArgs := "-o x --root-label " + secret.Mark + " -p a-token=" + secret.Mark + " --mkfs-options -L " + secret.Mark + " debian"
	if got := rec.Env["DIB_ARGS"]; got != wantArgs {
		t.Errorf("DIB_ARGS is %q, want %q", got, wantArgs)
	}
	want := strings.Join([]string{
		`declare -x DIB_ARGS="` + wantArgs + `"`,
		`declare -x DIB_NOTE="mentions ` + secret.Mark + `"`, `declare -x DIB_RELEASE="bookworm"`,
		`declare -x DIB_SECRET_NAMES="DIB_CODE"`,
		`# left out because they hold secrets: DIB_CODE DIB_DEV_USER_PASSWORD DIB_SECRET_KEY`,
	}, "\n")
	got := strings.ReplaceAll(rec.Env["DIB_ENV"], "declare -x DIB_PYTHON_EXEC=\"python3\"\n", "")
	if got != want {
		t.Errorf("DIB_ENV is\n%s\nwant\n%s", got, want)
	}
	// Hooks source it.
	cmd := exec.Command("bash", "-euc", `eval "$DIB_ENV"; printf '%s/%s/%s' "$DIB_RELEASE" "${DIB_CODE-none}" "$(printf '%s\n' "$DIB_ENV" | bash -c '. /dev/stdin && echo sourced')"`)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "DIB_ENV=" + rec.Env["DIB_ENV"]}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "bookworm/none/sourced" {
		t.Errorf("sourced: %v, %q", err, out)
	}
	// Hooks get the variables themselves.
	for _, name := range []string{"DIB_DEV_USER_PASSWORD", "DIB_SECRET_KEY", "DIB_CODE", "ADMIN_TOKEN"} {
		if rec.Env[name] != env[name] {
			t.Errorf("%s is %q for hooks", name, rec.Env[name])
		}
	}
}

func TestSecretOption(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		env  map[string]string
		want []recipe.Secret
		err  string
	}{
		{"none", nil, nil, nil, ""},
		{"several", []string{"--secret", "a=rel/x", "--secret=b.key=/abs=y"}, nil,
			[]recipe.Secret{{Name: "a", File: "/home/me/images/rel/x"}, {Name: "b.key", File: "/abs=y"}}, ""},
		{"shortened", []string{"--sec", "a=/x"}, nil, []recipe.Secret{{Name: "a", File: "/x"}}, ""},
		{"the environment gives none", nil, map[string]string{"SECRET_FILES": "a=/x"}, nil, ""},
		{"no file", []string{"--secret", "hunter2"}, nil, nil, `cannot use an argument of --secret: want NAME=FILE, there is no "=" in it`},
		{"empty file", []string{"--secret", "a="}, nil, nil, `cannot use secret "a": no file given; want --secret a=FILE`},
		{"path as name", []string{"--secret", "../a=/x"}, nil, nil, `cannot use secret "../a": a name consists of letters, digits, "_", "." and "-" and begins with none of the last two`},
		{"twice", []string{"--secret", "a=/x", "--secret", "a=/y"}, nil, nil, `cannot use secret "a": it is given twice`},
		{"variable too", []string{"--secret", "a=/x"}, map[string]string{"DIB_SECRET_a": "v"}, nil,
			`cannot use secret "a": it is given by --secret and as the variable DIB_SECRET_a`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rec, err := ParseCreate("disk-image-create", append(tt.args, "debian"), secretsHost(tt.env))
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("error is %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(rec.Secrets, tt.want) {
				t.Errorf("got %v (%v), want %v", rec.Secrets, err, tt.want)
			}
		})
	}
}

func TestD72RamdiskDefaults(t *testing.T) {
	rec, err := ParseCreate("ramdisk-image-create", []string{"x"}, secretsHost(nil))
	if err != nil || !rec.NoTmpfs || rec.MinTmpfs != 1 || rec.RamdiskElement != "ramdisk" {
		t.Errorf("NoTmpfs %v, MinTmpfs %d, element %q (%v)", rec.NoTmpfs, rec.MinTmpfs, rec.RamdiskElement, err)
	}
	rec, err = ParseCreate("ramdisk-image-create", []string{"--min-tmpfs", "3", "--ramdisk-element", "dracut-ramdisk", "x"}, secretsHost(map[string]string{"DIB_NO_TMPFS": "0"}))
	if err != nil || rec.NoTmpfs || rec.MinTmpfs != 3 || rec.RamdiskElement != "dracut-ramdisk" {
		t.Errorf("given: NoTmpfs %v, MinTmpfs %d, element %q (%v)", rec.NoTmpfs, rec.MinTmpfs, rec.RamdiskElement, err)
	}
}

func TestComplaintsAreWithoutSecrets(t *testing.T) {
	var b strings.Builder
	complain(&b, "dib", errors.New("cannot use image option encrypt.key-secret=sec0: not known"))
	if want := "dib: cannot use image option encrypt.key-secret=" + secret.Mark + " not known\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
