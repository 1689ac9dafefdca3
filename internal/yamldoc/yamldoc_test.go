package yamldoc

import (
	"encoding/json"
	"testing"

	"github.com/dib-builder/dib/internal/finding"
)

func TestYAML11(t *testing.T) {
	for in, want := range map[string]string{
		"0777": "511", "0x41": "65", "yes": "true", "Off": "false", "1:30": "90", "0b11": "3", "'0777'": `"0777"`,
		"1_000": "1000", "-7": "-7", "0o17": `"0o17"`, "~": "null", "1.5": `"1.5"`, "EF00": `"EF00"`, "08": `"08"`,
	} {
		c := &finding.Collector{Source: "test"}
		got, err := Read([]byte("- "+in), c).List[0].MarshalJSON()
		if err != nil || string(got) != want {
			t.Errorf("%s reads as %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestAliasesAndMergeKeys(t *testing.T) {
	c := &finding.Collector{Source: "test"}
	v := Read([]byte("- &x {size: 1MiB, name: a}\n- {<<: *x, name: b}\n- *x\n"), c)
	got, err := v.MarshalJSON()
	if want := `[{"size":"1MiB","name":"a"},{"size":"1MiB","name":"b"},{"size":"1MiB","name":"a"}]`; err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{"", "- {}", "&a [*a]", "- &a {b: *a}", "{<<: [{a: 1}, {a: 2}]}", "a: 1:30\n---\nb", "? [a]\n: b", "a: |\n  x\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c := &finding.Collector{Source: "fuzz"}
		v := Read(text, c)
		if c.Errors.Err() != nil {
			return
		}
		if _, err := json.Marshal(v); err != nil {
			t.Errorf("cannot print: %v", err)
		}
	})
}
