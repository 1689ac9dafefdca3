package build

import (
	"reflect"
	"testing"

	"github.com/dib-builder/dib/internal/plan"
	"github.com/dib-builder/dib/internal/recipe"
)

// TestInput carries D15: file names are bytes.
func TestInput(t *testing.T) {
	in := engineInput{
		Plan: &plan.Plan{
			Recipe: recipe.Recipe{ImageName: "a \xff", Args: []string{"", "\xfe"}}, Env: plan.Env{"A": "\xff", "EMPTY": ""}, SecretEnv: plan.Env{"B": "hidden"},
			Elements: []plan.Element{{Name: "x", Dir: "/\xff"}}, Phases: []plan.Phase{{Name: "root", Hooks: []plan.Hook{{Name: "10-x", Element: "x"}}}},
		},
		SecretEnv: plan.Env{"B": "hidden"}, SecretFiles: map[string][]byte{"f": []byte("\x00\xff")}, Hidden: []string{"h"},
	}
	text, err := encodeInput(in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := decodeInput(text)
	if err != nil {
		t.Fatal(err)
	}
	if in.Plan.SecretEnv == nil || out.Plan.SecretEnv != nil {
		t.Errorf("secrets of the plan: %v, then %v", in.Plan.SecretEnv, out.Plan.SecretEnv)
	}
	in.Plan.SecretEnv = nil
	if !reflect.DeepEqual(in, out) {
		t.Errorf("got %+v, want %+v", out, in)
	}
	if _, err := decodeInput(text[:len(text)/2]); err == nil {
		t.Error("half of the input is taken for all of it")
	}
}
