package elements

import (
	"os/exec"
	"strings"
	"testing"
)

// TestLVMDistribution: the element refuses what it cannot make boot before
// anything is installed.
func TestLVMDistribution(t *testing.T) {
	for distro, want := range map[string]string{
		"debian": "", "ubuntu": "",
		"fedora": "element lvm: DISTRO_NAME is 'fedora', and only debian and ubuntu are supported",
		"":       "element lvm: DISTRO_NAME is '', and only",
	} {
		cmd := exec.Command("bash", "lvm/root.d/10-lvm-check-distro")
		if distro != "" {
			cmd.Env = []string{"DISTRO_NAME=" + distro}
		} else {
			cmd.Env = []string{"X=1"}
		}
		out, err := cmd.CombinedOutput()
		if (err == nil) != (want == "") || !strings.HasPrefix(string(out), want) {
			t.Errorf("DISTRO_NAME=%s: %v, %q; want %q", distro, err, out, want)
		}
	}
}
