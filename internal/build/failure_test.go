package build

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/hook"
	"github.com/dib-builder/dib/internal/plan"
	"github.com/dib-builder/dib/internal/recipe"
	"github.com/dib-builder/dib/internal/run"
)

func TestFailure(t *testing.T) {
	b := &builder{plan: &plan.Plan{Recipe: recipe.Recipe{Args: []string{"-o", "my image", "vm"}}}}
	hookError := &run.Error{
		Argv: []string{"/tmp/in_target.d/install.d/50-x"}, Exit: 3, Tail: []string{"a", "b"}, Reason: errors.New("exit status 3"),
		Where: run.Where{Element: "x", Phase: "install", Hook: "50-x"},
	}
	cases := []struct {
		summary string
		err     error
		want    event.Failure // without hints
		hints   []string      // substrings
	}{
		{"a hook in the chroot", fmt.Errorf("wrapped: %w", hookError), event.Failure{
			Message: "hook install.d/50-x of element x failed: exit status 3", Element: "x", Phase: "install", Side: "target",
			Hook: "50-x", Exit: 3, Tail: []string{"a", "b"},
		}, []string{"break=after-error disk-image-create -o 'my image' vm", "break_outside_target=1", "break=before-install", "-x"}},
		{"a program of the core", fmt.Errorf("writing the disk: %w", &run.Error{
			Argv: []string{"mke2fs", "-q"}, Exit: 1, Tail: []string{"no space"}, Reason: errors.New("exit status 1"),
		}), event.Failure{Message: "writing the disk: mke2fs -q: exit status 1: no space", Exit: 1, Tail: []string{"no space"}}, nil},
		{"an environment file", &hook.EnvironmentError{File: "/x/10-y", Err: &run.Error{
			Argv: []string{"bash"}, Exit: 1, Reason: errors.New("exit status 1"), Where: run.Where{Element: "-", Phase: "root", Hook: "environment.d"},
		}}, event.Failure{Message: "cannot source environment file /x/10-y: exit status 1",
			Element: "-", Phase: "root", Side: "host", Hook: "environment.d/10-y", Exit: 1}, []string{"break=after-error"}},
		{"an error of our own", errors.New("cannot do it"), event.Failure{Message: "cannot do it", Exit: 1}, nil},
	}
	for _, c := range cases {
		t.Run(c.summary, func(t *testing.T) {
			got := b.failure(c.err)
			hints := strings.Join(got.Hints, "\n")
			got.Hints = nil
			if diff := cmp.Diff(&c.want, got); diff != "" {
				t.Errorf("failure differs (-want +got):\n%s", diff)
			}
			for _, h := range c.hints {
				if !strings.Contains(hints, h) {
					t.Errorf("hints lack %q:\n%s", h, hints)
				}
			}
			if c.hints == nil && hints != "" {
				t.Errorf("unexpected hints:\n%s", hints)
			}
		})
	}
}
