package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dib-builder/dib/internal/boot"
	"github.com/dib-builder/dib/test/imagetree"
)

// An emulated machine on a busy host takes a minute or two to come up.
const (
	bootTimeout    = 8 * time.Minute
	commandTimeout = 4 * time.Minute
)

// growth is how much larger than the image the disk of a guest is, bytes.
const growth = 2 << 30

// guest is a booted image at whose console the development user is logged in.
type guest struct {
	t       *testing.T
	ctx     context.Context
	machine *boot.Machine
}

// start boots a copy of an image on a larger disk and waits for the login prompt.
func start(t *testing.T, image string) *guest {
	t.Helper()
	needProgram(t, "qemu-system-x86_64")
	info, err := os.Stat(strings.TrimSuffix(image, filepath.Ext(image)) + ".raw")
	if err != nil {
		t.Fatal(err)
	}
	transcript, err := os.Create(filepath.Join(t.TempDir(), "console"))
	if err != nil {
		t.Fatal(err)
	}
	var messages bytes.Buffer
	m, err := boot.Start(t.Context(), boot.Options{
		Image: image, Resize: info.Size() + growth, Memory: 1024, Network: true, Transcript: transcript, TempDir: "/var/tmp",
		Log: func(line []byte) { fmt.Fprintf(&messages, "%s\n", line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Close()
		transcript.Close()
	})
	began := time.Now()
	if err := boot.WaitLogin(t.Context(), m, bootTimeout); err != nil {
		t.Fatalf("%s does not boot: %v\n%s", filepath.Base(image), err, messages.String())
	}
	t.Logf("login prompt after %v", time.Since(began).Round(time.Second))
	return &guest{t, t.Context(), m}
}

func (g *guest) login() {
	g.t.Helper()
	if err := g.machine.Login(g.ctx, "devuser", devPassword); err != nil {
		g.t.Fatal(err)
	}
}

// run runs a command that must succeed.
func (g *guest) run(command string) string {
	g.t.Helper()
	r, err := g.machine.Run(g.ctx, command, commandTimeout)
	if err != nil {
		g.t.Fatal(err)
	}
	if r.Status != 0 {
		g.t.Errorf("in the guest, %s: status %d\n%s", command, r.Status, r.Output)
	}
	return strings.TrimSpace(r.Output)
}

// hostKeys are the fingerprints of the guest's ssh host keys.
func (g *guest) hostKeys() []string {
	g.t.Helper()
	keys := strings.Split(g.run(`for k in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf "$k" | cut -d' ' -f2; done`), "\n")
	if len(keys) < 2 || !strings.HasPrefix(keys[0], "SHA256:") {
		g.t.Errorf("ssh host keys of the guest: %v", keys)
	}
	return keys
}

// judge checks everything that a booted full image must show and returns its host keys.
func (g *guest) judge(imageSize int64) []string {
	g.t.Helper()
	g.login()
	if got := g.run("whoami"); got != "devuser" {
		g.t.Errorf("whoami says %q", got)
	}
	if got := g.run("sudo -n id -u"); got != "0" {
		g.t.Errorf("sudo id -u says %q", got)
	}
	// Its status is not 0 when a unit has failed; the word is what counts, and
	// the failed units are what a person wants to read.
	r, err := g.machine.Run(g.ctx, "systemctl is-system-running --wait; systemctl --failed --no-legend --plain", commandTimeout)
	if err != nil {
		g.t.Fatal(err)
	}
	if state := strings.TrimSpace(r.Output); state != "running" {
		g.t.Errorf("the system is not \"running\" but:\n%s\n%s", state, g.run("sudo journalctl -b -p warning --no-pager | tail -n 40"))
	}
	blocks, err := strconv.ParseInt(g.run("df --block-size=1 --output=size / | tail -n 1"), 10, 64)
	if err != nil {
		g.t.Error(err)
	} else if blocks < imageSize {
		// What df leaves out, inode tables and journal, is less than the growth.
		g.t.Errorf("the root filesystem has %d bytes on a disk of %d: it has not grown", blocks, imageSize+growth)
	}
	if got := g.run("systemctl is-active ssh"); got != "active" {
		g.t.Errorf("sshd is %q", got)
	}
	// QEMU's own network hands out this address, by DHCP alone.
	if got := g.run("ip -4 -o address show"); !strings.Contains(got, "inet 10.0.2.15/24") {
		g.t.Errorf("no interface has an address by DHCP:\n%s\n%s", got, g.run("sudo journalctl -b -u 'dhcp-interface@*' --no-pager; cat /etc/network/interfaces"))
	}
	if got := g.run("cat /etc/machine-id"); len(got) != 32 {
		g.t.Errorf("/etc/machine-id in the guest: %q", got)
	}
	return g.hostKeys()
}

func rawSize(t *testing.T, d *debian) int64 {
	t.Helper()
	info, err := os.Stat(d.path(".raw"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestBootRootsImage boots two copies of the image that root built, one of each
// format: everything works, and each copy makes its own host keys.
func TestBootRootsImage(t *testing.T) {
	d := rootImage(t)
	first := start(t, d.path(".qcow2"))
	keys := first.judge(rawSize(t, d))
	if err := first.machine.Shutdown(t.Context(), bootTimeout); err != nil {
		t.Errorf("the guest does not shut down: %v", err)
	}
	second := start(t, d.path(".raw"))
	for _, k := range second.judge(rawSize(t, d)) {
		if slices.Contains(keys, k) {
			t.Errorf("two copies of the image have the host key %s", k)
		}
	}
}

// TestBootUsersImage boots what an ordinary user built.
func TestBootUsersImage(t *testing.T) {
	d := userImage(t)
	start(t, d.path(".qcow2")).judge(rawSize(t, d))
}

// TestBootPlainImage boots the image of the README's first command.
func TestBootPlainImage(t *testing.T) {
	d := plainImage(t)
	start(t, d.path(".qcow2"))
	if offset, _, err := imagetree.RootPartition(d.path(".raw")); err != nil || offset == 0 {
		t.Errorf("partition at %d, %v", offset, err)
	}
}
