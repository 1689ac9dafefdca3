package plan

import (
	"errors"
	"strings"
	"testing"
)

func TestBackend(t *testing.T) {
	own := files{
		"user/finalise.d/50-grub*": "grub-install $IMAGE_BLOCK_DEVICE\n", "last/cleanup.d/9-x*": "blkid $IMAGE_BLOCK_DEVICE\n",
		"maker/block-device.d/1-m*": "echo IMAGE_BLOCK_DEVICE=/dev/x\n", "calm/finalise.d/50-calm*": "true\n",
		"early/install.d/50-e*": "echo ${IMAGE_BLOCK_DEVICE:-none}\n",
	}
	const hook = `cannot run hook finalise.d/50-grub of element "user": it uses IMAGE_BLOCK_DEVICE, and `
	for _, c := range []struct {
		name, elements, asked string
		loop                  bool // loop devices can be had
		want                  Backend
		fail                  string
	}{
		{"auto without such hooks", "debian calm early", "", true, Offline, ""},
		{"auto with one, as root", "debian user", "auto", true, Loop, ""},
		{"auto with one in cleanup.d", "debian last", "", true, Loop, ""},
		{"auto with one, without root", "debian user", "", false, Offline, hook + "only root can have loop devices: build as root"},
		{"offline", "debian calm", "offline", true, Offline, ""},
		{"offline with such a hook", "debian user", "offline", true, Offline, hook + "DIB_BLOCK_DEVICE_BACKEND=offline gives it none: set DIB_BLOCK_DEVICE_BACKEND=auto"},
		{"loop without such hooks", "debian", "loop", true, Loop, ""},
		{"loop without root", "debian", "loop", false, Offline, "cannot use DIB_BLOCK_DEVICE_BACKEND=loop: only root can have loop devices: build as root"},
		{"unknown", "debian", "Loop", true, Offline, "cannot use DIB_BLOCK_DEVICE_BACKEND=Loop: want auto, offline or loop"},
		{"D40 a hook that makes the device itself", "debian maker", "loop", true, Loop, `hook block-device.d/1-m of element "maker": it makes the block device itself`},
		{"D41 the same with auto: its output is never evaluated", "debian maker", "", true, Offline, "makes the block device itself"},
	} {
		t.Run(c.name, func(t *testing.T) {
			opt := pure
			if c.loop {
				opt.CheckLoop = func() error { return nil }
			}
			env := Env{}
			if c.asked != "" {
				env[BackendVariable] = c.asked
			}
			p, err := Make(newRecipe(c.elements, env), library(t, own), opt)
			if c.fail != "" {
				if err == nil || !strings.Contains(err.Error(), c.fail) {
					t.Errorf("%v, want %s", err, c.fail)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if p.Backend != c.want {
				t.Errorf("backend %s, want %s", p.Backend, c.want)
			}
			// How disks are made must not change what is on them.
			plain, err := Make(newRecipe(c.elements, nil), library(t, own), Options{
				ReadFile: opt.ReadFile, CheckOutput: opt.CheckOutput, ValidateLayout: opt.ValidateLayout, Dir: opt.Dir, CheckLoop: func() error { return nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			if string(plain.Seed()) != string(p.Seed()) {
				t.Error("the choice changes the seed")
			}
		})
	}
}

// TestD42 holds that a caller's IMAGE_BLOCK_DEVICE has no effect.
func TestD42_block_device_of_the_caller_is_cleared(t *testing.T) {
	p, err := Make(newRecipe("debian", Env{"IMAGE_BLOCK_DEVICE": "/dev/sda", "IMAGE_BLOCK_DEVICES": "[x]=/dev/sda"}), library(t, nil), pure)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"IMAGE_BLOCK_DEVICE", "IMAGE_BLOCK_DEVICES"} {
		if v, ok := p.Env[name]; ok {
			t.Errorf("%s=%s reaches the hooks", name, v)
		}
	}
	if p.Backend != Offline {
		t.Errorf("backend %s", p.Backend)
	}
}

func TestBlockDeviceHookErrorUnwraps(t *testing.T) {
	why := errors.New("why")
	if err := error(&BlockDeviceHookError{Why: why}); !errors.Is(err, why) {
		t.Error("the reason is lost")
	}
}
