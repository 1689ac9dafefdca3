package build

import (
	"os"
	"path/filepath"
	"testing"
)

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if text, ok := trimPrefix(text, "-> "); ok {
			if err := os.Symlink(text, path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func trimPrefix(s, prefix string) (string, bool) {
	if len(s) >= len(prefix) && s[:len(prefix)] == prefix {
		return s[len(prefix):], true
	}
	return s, false
}

// describe reads a file or link back in the notation of writeFiles; "" is absent.
func describe(t *testing.T, path string) string {
	t.Helper()
	if target, err := os.Readlink(path); err == nil {
		return "-> " + target
	}
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestResolvConf(t *testing.T) {
	cases := []struct {
		summary   string
		own       string // the image's own file before the build; "" is none
		host      string // "" is none
		during    string // expected while building
		hook      string // what a hook replaces it with; "" leaves it
		hookOrig  string // what a hook replaces .ORIG with; "" leaves it
		immutable bool
		after     string
	}{
		{"own file comes back", "own\n", "host\n", "host\n", "", "", false, "own\n"},
		{"dangling link comes back", "-> ../run/x", "host\n", "host\n", "", "", false, "-> ../run/x"},
		{"no own file leaves none", "", "host\n", "host\n", "", "", false, ""},
		{"host without one", "own\n", "", "nameserver 8.8.8.8\n", "", "", false, "own\n"},
		{"a hook's link stays", "own\n", "host\n", "host\n", "-> /run/y", "", false, "-> /run/y"},
		{"an immutable file stays", "own\n", "host\n", "host\n", "fixed\n", "", true, "fixed\n"},
		{"a hook's file does not", "own\n", "host\n", "host\n", "changed\n", "", false, "own\n"},
		{"a hook's .ORIG wins", "own\n", "host\n", "host\n", "", "wanted\n", false, "wanted\n"},
	}
	for _, c := range cases {
		t.Run(c.summary, func(t *testing.T) {
			dir := t.TempDir()
			tree, host := filepath.Join(dir, "tree"), filepath.Join(dir, "host-resolv.conf")
			writeFiles(t, tree, map[string]string{"etc/passwd": "root:x:0:0::/:\n"})
			if c.own != "" {
				writeFiles(t, tree, map[string]string{resolvConf: c.own})
			}
			if c.host != "" {
				writeFiles(t, dir, map[string]string{"host-resolv.conf": c.host})
			}
			root, err := os.OpenRoot(tree)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if err := borrowResolvConf(root, host); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(tree, resolvConf)
			if got := describe(t, path); got != c.during {
				t.Errorf("during the build %q, want %q", got, c.during)
			}
			for name, text := range map[string]string{resolvConf: c.hook, resolvConfOrig: c.hookOrig} {
				if text != "" {
					os.Remove(filepath.Join(tree, name))
					writeFiles(t, tree, map[string]string{name: text})
				}
			}
			if err := returnResolvConf(root, c.immutable); err != nil {
				t.Fatal(err)
			}
			if got := describe(t, path); got != c.after {
				t.Errorf("after the build %q, want %q", got, c.after)
			}
			if got := describe(t, path+".ORIG"); got != "" {
				t.Errorf("resolv.conf.ORIG is left: %q", got)
			}
		})
	}
}

// D52: missing directories and odd names must not stop a build; D50 has no
// counterpart, as nothing is copied.
func TestCleanTree(t *testing.T) {
	tree := t.TempDir()
	if err := cleanTree(tree); err != nil {
		t.Fatalf("an empty tree: %v", err)
	}
	writeFiles(t, tree, map[string]string{
		"tmp/a b\nc/.x": "x", "tmp/.hidden": "x", "var/log/apt/term.log": "text", "var/log/empty": "",
		"var/log/link": "-> ../../etc/keep", "etc/keep": "keep", "root/install.log": "x", "root/sub/y.log": "x", "root/notes": "n",
	})
	if err := cleanTree(tree); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(tree, "tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("/tmp holds %v (%v), want nothing", left, err)
	}
	for name, want := range map[string]string{
		"etc/keep": "keep", "root/install.log": "", "root/sub/y.log": "", "root/notes": "n", "var/log/apt/term.log": "",
	} {
		if got := describe(t, filepath.Join(tree, name)); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, kept := range []string{"var/log/apt/term.log", "var/log/empty"} {
		if _, err := os.Stat(filepath.Join(tree, kept)); err != nil {
			t.Errorf("logs are emptied, not removed: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(tree, "root/install.log")); err == nil {
		t.Error("root/install.log is left")
	}
}

func TestTreeIsDeployed(t *testing.T) {
	for _, c := range []struct {
		files map[string]string
		want  bool
	}{
		{nil, false},
		{map[string]string{"tmp/x": ""}, false},
		{map[string]string{"lost+found.1/x": "", "mytmp/x": ""}, false},
		{map[string]string{"etc/x": ""}, true},
	} {
		dir := t.TempDir()
		writeFiles(t, dir, c.files)
		got, err := treeIsDeployed(dir)
		if err != nil || got != c.want {
			t.Errorf("treeIsDeployed(%v) = %v, %v, want %v", c.files, got, err, c.want)
		}
	}
}
