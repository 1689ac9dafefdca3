package build

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dib-builder/dib/internal/event"
	"github.com/dib-builder/dib/internal/plan"
	"github.com/dib-builder/dib/internal/recipe"
)

// diskBuilder has a disk of size bytes, of which little is data, and is to
// write it in the given types.
func diskBuilder(t *testing.T, size int64, types ...string) (b *builder, events func() []event.Event) {
	t.Helper()
	dir := t.TempDir()
	b = &builder{cwd: dir, now: time.Now, images: map[string]string{"": filepath.Join(dir, "disk")}, plan: &plan.Plan{Recipe: recipe.Recipe{Types: types, Checksum: "1"}}}
	for _, name := range types {
		b.plan.Outputs = append(b.plan.Outputs, plan.Output{Type: name, Path: "image." + name})
	}
	var mu sync.Mutex
	var list []event.Event
	b.sink = event.SinkFunc(func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, e)
	})
	f, err := os.Create(b.images[""])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(strings.Repeat("some data ", 1<<20)), 1<<20); err != nil {
		t.Fatal(err)
	}
	return b, func() []event.Event { return list }
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestDiskOutputs(t *testing.T) {
	b, events := diskBuilder(t, 40<<20, "vmdk", "qcow2", "vdi", "raw")
	if err := b.writeDiskOutputs(context.Background()); err != nil {
		t.Fatal(err)
	}
	want := strings.Fields("disk image.qcow2 image.qcow2.md5 image.qcow2.sha256 image.raw image.raw.md5 image.raw.sha256 " +
		"image.vdi image.vdi.md5 image.vdi.sha256 image.vmdk image.vmdk.md5 image.vmdk.sha256")
	if diff := cmp.Diff(want, files(t, b.cwd)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	var starts, artifacts []string
	last := map[string]event.Event{}
	for _, e := range events() {
		switch e.Kind {
		case event.StepStart:
			starts = append(starts, e.Step)
		case event.Artifact:
			artifacts = append(artifacts, e.Path)
		case event.Progress:
			last[e.Step] = e
		}
	}
	if diff := cmp.Diff([]string{"image.vmdk", "image.qcow2", "image.vdi", "image.raw"}, artifacts); diff != "" {
		t.Errorf("artifacts (-want +got):\n%s", diff)
	}
	for i, path := range artifacts {
		step := "writing " + path
		if i >= len(starts) || starts[i] != step {
			t.Errorf("steps start as %q", starts)
		}
		if e := last[step]; e.Done != e.Total || e.Total == 0 {
			t.Errorf("progress of %q ends at %d of %d", step, e.Done, e.Total)
		}
	}
}

// TestDiskOutputsFailTogether: vhd cannot hold the disk, the others could.
func TestDiskOutputsFailTogether(t *testing.T) {
	b, events := diskBuilder(t, 2041<<30, "qcow2", "vhd", "vdi")
	b.plan.Recipe.Checksum = "0"
	err := b.writeDiskOutputs(context.Background())
	if err == nil || !strings.HasPrefix(err.Error(), "writing image.vhd: cannot make a vhd image") {
		t.Errorf("error is %v", err)
	}
	if diff := cmp.Diff([]string{"disk"}, files(t, b.cwd)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for _, e := range events() {
		if e.Kind == event.Artifact {
			t.Errorf("%s is announced", e.Path)
		}
	}
}
