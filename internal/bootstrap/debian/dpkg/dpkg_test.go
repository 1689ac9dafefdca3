package dpkg

import (
	"os"
	"strings"
	"testing"

	"github.com/dib-builder/dib/internal/deb"
)

func TestParseTriggers(t *testing.T) {
	interests, activates, err := parseTriggers("# c\ninterest /usr/share/x\ninterest-noawait y # z\nactivate-noawait ldconfig\n\nactivate q\n")
	if err != nil || len(interests) != 2 || interests[0] != (interest{"/usr/share/x", false}) || interests[1] != (interest{"y", true}) || strings.Join(activates, " ") != "ldconfig q" {
		t.Errorf("%v %v %v", interests, activates, err)
	}
	for _, bad := range []string{"interest", "interest a b", "await x", "activate /"} {
		if _, _, err := parseTriggers(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func FuzzParseTriggers(f *testing.F) {
	f.Add("interest-noawait /a\nactivate b\n")
	f.Fuzz(func(t *testing.T, text string) {
		interests, activates, err := parseTriggers(text)
		if err == nil && len(interests)+len(activates) > strings.Count(text, "\n")+1 {
			t.Error("more directives than lines")
		}
	})
}

func TestUnpackedStanza(t *testing.T) {
	st := &Unpacked{
		Control: &deb.Control{
			Stanza: deb.Stanza{{Name: "Package", Value: "a"}, {Name: "Version", Value: "1"}, {Name: "Description", Value: "short\n long"}},
			Files:  map[string]deb.ControlFile{"conffiles": {Data: []byte("/etc/b\n/etc/a\n/etc/gone\n")}},
		},
		Conffiles: map[string]string{"/etc/a": "11", "/etc/b": "22", "/etc/gone": ""},
	}
	const head = "Package: a\nStatus: install ok unpacked\nVersion: 1\nDescription: short\n long\n"
	if got, want := unpackedStanza(st, true), head+"Conffiles:\n /etc/b 22\n /etc/a 11\n\n"; got != want {
		t.Errorf("%q", got)
	}
	if got, want := unpackedStanza(st, false), head+"Conffiles:\n /etc/b newconffile\n /etc/a newconffile\n\n"; got != want {
		t.Errorf("%q", got)
	}
}

func TestParseDiversions(t *testing.T) {
	got, err := parseDiversions("/a\n/b\n:\n/c\n/d\npkg\n")
	if err != nil || len(got) != 2 || got[1] != (Diversion{"/c", "/d", "pkg"}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parseDiversions("/a\n/b\n"); err == nil {
		t.Error("no error")
	}
}

func TestFileList(t *testing.T) {
	if got, want := fileList([]string{"/", "/bin", "/bin/tool"}), "/.\n/bin\n/bin/tool\n"; got != want {
		t.Errorf("%q", got)
	}
}

func TestTriggersOfUnpackedFiles(t *testing.T) {
	db, err := CreateDatabase(t.TempDir(), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	interested := &Unpacked{Package: deb.Package{Name: "i", MultiArch: "same", Arch: "amd64"},
		Control: &deb.Control{Files: map[string]deb.ControlFile{"triggers": {Data: []byte("interest-noawait /usr/share/x\ninterest name\n")}}}}
	other := &Unpacked{Package: deb.Package{Name: "o"}, Files: []string{"/usr/share/x/deep/file"},
		Control: &deb.Control{Files: map[string]deb.ControlFile{"triggers": {Data: []byte("activate-noawait name\nactivate nobody\n")}}}}
	for _, u := range []*Unpacked{interested, other} {
		if err := db.addTriggers(u); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"triggers/File": "/usr/share/x i:amd64/noawait\n", "triggers/name": "i:amd64\n",
		"triggers/Unincorp": "/usr/share/x -\nname -\n", "arch": "amd64\n",
	} {
		if got, err := os.ReadFile(db.path(name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
