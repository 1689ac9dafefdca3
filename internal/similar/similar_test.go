package similar

import (
	"strings"
	"testing"
)

func TestWords(t *testing.T) {
	among := []string{"debian", "debian-minimal", "debootstrap", "ubuntu-minimal", "vm", "yum", "zypper"}
	for word, want := range map[string]string{
		"debian-minimla": "debian-minimal",
		"debain":         "debian",
		"ubuntu":         "ubuntu-minimal",
		"Vm":             "vm",
		"xyz":            "",
		"q":              "",
	} {
		if got := strings.Join(Words(word, among), " "); got != want {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
}
