package sandbox

import (
	"os"
	"testing"
)

func TestHello(t *testing.T) {
	sides(t, func(t *testing.T, s side) {
		for _, tmpfs := range []bool{false, true} {
			out := s.check(t, job{UseTmpfs: tmpfs, Script: `id; hostname; cat /proc/self/uid_map; cat /proc/self/mountinfo | head -50; ls -la /dev /.dib /; ps ax || true; echo $FACTS; pwd; umask; cat /proc/self/status | grep -E 'Groups|Seccomp'`})
			t.Log(out)
		}
	})
	_ = os.Args
}
