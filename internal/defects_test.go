package internal_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// numbered are the lists of diskimage-builder's known defects, by the letter
// that precedes the number in the names of tests: those of the command line and
// the life of a build, and those of the machinery of elements. For each there
// is a test that holds the correct behaviour and carries the number.
var numbered = map[string]int{"D": 75, "M": 78}

func TestDefectsHaveTests(t *testing.T) {
	found := map[string]bool{}
	// In the name of a function a small letter may come before, another number
	// behind.
	number := regexp.MustCompile(`(?:^|[^A-Z0-9])((?:[DM][0-9]{2})+)`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != ".." || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, match := range number.FindAllStringSubmatch(string(text), -1) {
			for ids := match[1]; ids != ""; ids = ids[3:] {
				found[ids[:3]] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for letter, count := range numbered {
		for i := 1; i <= count; i++ {
			if id := fmt.Sprintf("%s%02d", letter, i); !found[id] {
				t.Errorf("no test carries the number %s", id)
			}
		}
	}
}
