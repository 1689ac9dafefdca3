package copyprograms

import (
	"debug/elf"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/test/commandtest"
)

func TestCopyPrograms(t *testing.T) {
	if _, err := elf.Open("/bin/bash"); err != nil {
		t.Skip("no ELF bash here:", err)
	}
	host := t.TempDir()
	commandtest.Write(t, host, map[string]string{"script!": "#!/bin/bash\necho \"script $1\"\n", "empty!": ""})
	target := t.TempDir()
	_, errs, status := commandtest.Call(t, cmdline.Command("copy-programs", Run), map[string]string{"PATH": host + ":/usr/bin:/bin"}, target, "bash", "ls", "script", "empty")
	if status != 0 {
		t.Fatalf("status %d: %s", status, errs)
	}
	out, err := commandtest.Chroot(t, target, host+"/script", "ran")
	if err != nil || out != "script ran\n" {
		t.Errorf("%v: %q", err, out)
	}
	if _, errs, status := commandtest.Call(t, cmdline.Command("copy-programs", Run), map[string]string{"PATH": "/usr/bin"}, target, "no-such-program"); status != 1 || !strings.Contains(errs, "no-such-program") {
		t.Errorf("status %d: %s", status, errs)
	}
}

func TestReplicateFollowsLinksAsTheKernel(t *testing.T) {
	dir := t.TempDir()
	commandtest.Write(t, dir, map[string]string{"host/a/b/real!": "x", "host/a/other!": "y"})
	for link, to := range map[string]string{"bin": "a/b", "abs": "/bin/../other", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, "host", link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir+"/target", 0o755); err != nil {
		t.Fatal(err)
	}
	c := &copier{host: dir + "/host", target: dir + "/target", done: map[string]bool{}}
	for path, want := range map[string]string{"/bin/real": "/a/b/real", "/abs": "/a/other", "/bin/../other": "/other"} {
		got, err := c.replicate(path)
		if path == "/bin/../other" {
			// Cleaned before it is walked, as a path on PATH would be.
			if err == nil {
				t.Errorf("%s: %q", path, got)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	if _, err := c.replicate("/loop"); err == nil {
		t.Error("a loop has an end")
	}
}
