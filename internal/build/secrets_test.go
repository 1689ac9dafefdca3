package build

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/recipe"
	"github.com/dib-builder/dib/internal/secret"
)

func TestReadSecrets(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	got, err := readSecrets([]recipe.Secret{{Name: "a", File: write("a", "one\n")}, {Name: "big", File: write("big", strings.Repeat("x", maxSecret))}})
	if err != nil || string(got["a"]) != "one\n" || len(got["big"]) != maxSecret {
		t.Errorf("got %d secrets, %v", len(got), err)
	}
	_, err = readSecrets([]recipe.Secret{{Name: "empty", File: write("empty", "")}, {Name: "large", File: write("large", strings.Repeat("x", maxSecret+1))}, {Name: "dir", File: dir}})
	for _, want := range []string{`cannot read secret "empty": `, "is empty", `cannot read secret "large": `, "is larger than 1048576 bytes", `cannot read secret "dir": `, "is a directory"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}

func TestSecretFiles(t *testing.T) {
	env := map[string]string{"DIB_SECRET_a": "from the variable", "DIB_SECRET_b": "b", "DIB_SECRET_c": "", "DIB_SECRET_NAMES": "X", "DIB_SECRETS_DIR": "/x", "X": "x", "A_TOKEN": "t"}
	got := secretFiles(env, map[string][]byte{"file": []byte("f")})
	if len(got) != 3 || string(got["a"]) != "from the variable" || string(got["b"]) != "b" || string(got["file"]) != "f" {
		t.Errorf("files of secrets: %q", got)
	}
	warnings := shortSecrets(env, map[string][]byte{"file": []byte("f\n"), "long": []byte("long enough")})
	slices.Sort(warnings)
	want := []string{
		`secret "b" has less than 6 bytes: if a hook prints it, the log will show it`,
		`secret "file" has less than 6 bytes: if a hook prints it, the log will show it`,
	}
	if !slices.Equal(warnings, want) {
		t.Errorf("warnings %q, want %q", warnings, want)
	}
}

func TestRedacting(t *testing.T) {
	r := newRedactor(map[string]string{"A_TOKEN": "the-token"}, map[string][]byte{"key": []byte("first line\nsecond line\n")}, []string{"in-an-argument"})
	var got []event.Event
	sink := redacting(event.SinkFunc(func(e event.Event) { got = append(got, e) }), r)
	failure := &event.Failure{Message: "the-token", Tail: []string{"x second line y"}, Hints: []string{"run in-an-argument"}}
	sink.Emit(event.LogLine("a the-token b"))
	sink.Emit(event.Event{Kind: event.StepStart, Step: "writing the-token"})
	sink.Emit(event.Event{Kind: event.Artifact, Path: "/out/the-token.raw"})
	sink.Emit(event.Event{Kind: event.Failed, Failure: failure})
	f := got[3].Failure
	if string(got[0].Line) != "a "+secret.Mark+" b" || got[1].Step != "writing "+secret.Mark || got[2].Path != "/out/"+secret.Mark+".raw" ||
		f.Message != secret.Mark || f.Tail[0] != "x "+secret.Mark+" y" || f.Hints[0] != "run "+secret.Mark {
		t.Errorf("events show secrets: %+v, %+v", got, f)
	}
	if failure.Message != "the-token" {
		t.Error("the event of the emitter was changed")
	}
}
