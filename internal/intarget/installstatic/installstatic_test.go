package installstatic

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dib-builder/dib/internal/intarget/cmdline"
	"github.com/dib-builder/dib/test/commandtest"
)

// TestInstallStatic covers M49 (links to directories of the image stay) and M50
// (nothing but version control is left out), each checked by name below.
func TestInstallStatic(t *testing.T) {
	dir := t.TempDir()
	commandtest.Write(t, dir, map[string]string{
		"static/etc/existing":     "new",
		"static/lib/x/module.so":  "through the link",
		"static/usr/bin/tool!":    "#!/bin/sh\n",
		"static/etc/file~":        "backup, copied all the same",
		"static/etc/.git/config":  "never",
		"static/usr/lib/libx.so":  "",
		"static/core":             "",
		"static/tags":             "",
		"static/etc/conf.orig":    "",
		"static/over-a-link":      "a file now",
		"static/dir-over-file/in": "a directory now",
		"root/etc/existing":       "old",
		"root/usr/lib/kept":       "kept",
		"root/elsewhere":          "untouched",
		"root/dir-over-file":      "old",
	})
	for link, target := range map[string]string{
		"root/lib": "usr/lib", "root/over-a-link": "elsewhere", "static/etc/link": "existing", "static/etc/dangling": "/none",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir+"/root/etc/existing", 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second time changes nothing
		if _, errs, status := commandtest.Call(t, cmdline.Command("install-static", Run), nil, dir+"/static", dir+"/root"); status != 0 {
			t.Fatalf("status %d: %s", status, errs)
		}
		for name, want := range map[string]string{
			"etc/existing": "new", "usr/lib/x/module.so": "through the link", "usr/lib/kept": "kept", "etc/file~": "backup, copied all the same",
			"elsewhere": "untouched", "over-a-link": "a file now", "dir-over-file/in": "a directory now", "etc/link": "new",
		} {
			if got := commandtest.Read(t, dir+"/root/"+name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
	t.Run("M49 a link to a directory stays", func(t *testing.T) {
		if st, err := os.Lstat(dir + "/root/lib"); err != nil || st.Mode()&os.ModeSymlink == 0 {
			t.Errorf("lib is a link no more (%v)", err)
		}
	})
	t.Run("M50 names that CVS would ignore", func(t *testing.T) {
		for _, name := range []string{"usr/lib/libx.so", "core", "tags", "etc/conf.orig", "etc/file~"} {
			if _, err := os.Stat(dir + "/root/" + name); err != nil {
				t.Error(err)
			}
		}
	})
	if got, err := os.Readlink(dir + "/root/etc/dangling"); got != "/none" {
		t.Errorf("dangling link: %q, %v", got, err)
	}
	if st, err := os.Stat(dir + "/root/etc/existing"); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("an existing file's mode changed to %v (%v)", st.Mode(), err)
	}
	if st, err := os.Stat(dir + "/root/usr/bin/tool"); err != nil || st.Mode().Perm()&0o100 == 0 {
		t.Errorf("a program is not executable (%v)", err)
	}
	if _, err := os.Stat(dir + "/root/etc/.git"); err == nil {
		t.Error("version control was copied")
	}
}
