package element

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var awkward = []Element{
	{Name: "base", Dir: "/.dib/elements/base"},
	{Name: "yes", Dir: "/with blank/two  blanks"},
	{Name: "1.5", Dir: "/it's/$HOME/`id`/*"},
	{Name: "name with blank", Dir: "/a:b"},
	{Name: "-", Dir: "/line\nbreak\"quote\\"},
	{Name: "[x]", Dir: "/ümlaut"},
}

func TestImageElement(t *testing.T) {
	if got, want := ImageElement(awkward[:3]), "base yes 1.5"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestImageElementYAML(t *testing.T) {
	want := `'-': "/line\x0abreak\"quote\\"
'1.5': '/it''s/$HOME/` + "`id`" + `/*'
'[x]': '/ümlaut'
base: /.dib/elements/base
'name with blank': '/a:b'
'yes': '/with blank/two  blanks'
`
	got := ImageElementYAML(awkward)
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	read := map[string]string{}
	if err := yaml.Unmarshal([]byte(got), &read); err != nil {
		t.Fatal(err)
	}
	for _, e := range awkward {
		if read[e.Name] != e.Dir {
			t.Errorf("%q reads as %q, want %q", e.Name, read[e.Name], e.Dir)
		}
	}
}

// The function has to survive the way in which hooks use it.
func TestArrayFunctionInBash(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("needs bash")
	}
	cmd := exec.Command(bash, "-c", `set -eu -o pipefail
eval declare -A found=($(get_image_element_array))
for name in "${!found[@]}"; do printf '%s\0%s\0' "$name" "${found[$name]}"; done`)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "BASH_FUNC_"+ArrayFunction+"%%="+ArrayFunctionValue(awkward))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Split(string(out), "\x00")
	read := map[string]string{}
	for i := 0; i+1 < len(fields); i += 2 {
		read[fields[i]] = fields[i+1]
	}
	if len(read) != len(awkward) {
		t.Errorf("bash found %d elements: %q", len(read), read)
	}
	for _, e := range awkward {
		if read[e.Name] != e.Dir {
			t.Errorf("%q is %q in bash, want %q", e.Name, read[e.Name], e.Dir)
		}
	}
}
