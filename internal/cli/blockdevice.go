package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/cli/getopt"
	"github.com/dib-builder/dib/internal/command"
)

const blockDevice = "dib-block-device"

const blockDeviceUsage = `Usage: dib-block-device [--params FILE] COMMAND

Ask a running build for its disks; for hooks.

  init            read the disk layout and write config.json of the state
  getval SYMBOL   print root-label, root-fstype, boot-label or mount-points, or,
                  from pre-finalise.d on, image-path, image-block-device or
                  image-block-devices
  writefstab      write etc/fstab into the tree again
  umount          does nothing: the build unmounts its disks itself

  --params FILE   the parameters; default: DIB_BLOCK_DEVICE_PARAMS_YAML
  -h, --help      show this text

The build makes and removes its disks itself: create, cleanup and delete, which
DIB has for that, are refused.

Exit status: 0 success, 1 what was asked for is not known, 2 wrong usage.
`

// blockDeviceParams is the file that a build writes for this command.
type blockDeviceParams struct {
	Config     string `yaml:"config"`
	RootFSType string `yaml:"root-fs-type"`
	RootLabel  string `yaml:"root-label"`
	RootFSOpts string `yaml:"root-fs-opts"`
	MountBase  string `yaml:"mount-base"`
	BuildDir   string `yaml:"build-dir"`
}

// errBlockDeviceUsage is a command line that makes no sense.
var errBlockDeviceUsage = errors.New("wrong usage")

func blockDeviceCommand(_ context.Context, std command.IO, args []string) int {
	matches, words, err := getopt.Parse([]getopt.Option{{Long: "params", Arg: true}, {Short: 'h', Long: "help"}}, args, true)
	if err != nil {
		complain(std.Err, blockDevice, err)
		return exitUsage
	}
	file := std.Getenv("DIB_BLOCK_DEVICE_PARAMS_YAML")
	for _, m := range matches {
		if m.Option.Long == "help" {
			_, _ = io.WriteString(std.Out, blockDeviceUsage)
			return 0
		}
		file = m.Value
	}
	if file == "" {
		complain(std.Err, blockDevice, errors.New("no parameters: give --params FILE or set DIB_BLOCK_DEVICE_PARAMS_YAML, as builds do for hooks"))
		return exitUsage
	}
	switch err := blockDeviceDo(std.Out, file, words); {
	case errors.Is(err, errBlockDeviceUsage):
		complain(std.Err, blockDevice, err)
		_, _ = io.WriteString(std.Err, blockDeviceUsage)
		return exitUsage
	case err != nil:
		complain(std.Err, blockDevice, err)
		return 1
	}
	return 0
}

func blockDeviceDo(out io.Writer, file string, words []string) error {
	if len(words) == 0 {
		return fmt.Errorf("%w: no command given", errBlockDeviceUsage)
	}
	do, rest := words[0], words[1:]
	if want := map[bool]int{true: 1}[do == "getval"]; len(rest) != want {
		return fmt.Errorf("%w: %s takes %d arguments, not %d", errBlockDeviceUsage, do, want, len(rest))
	}
	var p blockDeviceParams
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, &p)
	}
	if err != nil {
		return fmt.Errorf("cannot read the parameters: %w", err)
	}
	switch do {
	case "init":
		return p.init()
	case "getval":
		value, err := p.value(rest[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(out, value)
		return err
	case "writefstab":
		return p.writeFSTab()
	case "umount":
		return nil
	case "create", "cleanup", "delete":
		return fmt.Errorf("cannot %s: a build makes and removes its disks itself; describe them with DIB_BLOCK_DEVICE_CONFIG", do)
	}
	return fmt.Errorf("%w: unknown command %q", errBlockDeviceUsage, do)
}

func (p blockDeviceParams) state(name string) string {
	return filepath.Join(p.BuildDir, "states", "block-device", name)
}

func (p blockDeviceParams) config() (*blockdev.Config, error) {
	text, err := os.ReadFile(p.Config)
	if err != nil {
		return nil, fmt.Errorf("cannot read the disk layout: %w", err)
	}
	return blockdev.Check(p.Config, text, blockdev.Params{RootFSType: p.RootFSType, RootLabel: p.RootLabel, RootFSOpts: p.RootFSOpts})
}

func (p blockDeviceParams) init() error {
	config, err := p.config()
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(config, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p.state("."), 0o700); err != nil {
		return fmt.Errorf("cannot write the state: %w", err)
	}
	if err := os.WriteFile(p.state("config.json"), text, 0o644); err != nil {
		return fmt.Errorf("cannot write the state: %w", err)
	}
	return nil
}

func (p blockDeviceParams) value(symbol string) (string, error) {
	if !strings.HasPrefix(symbol, "image-") {
		config, err := p.config()
		if err != nil {
			return "", err
		}
		return config.Value(symbol)
	}
	text, err := os.ReadFile(p.state("state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cannot get value %q: the disks are not made before pre-finalise.d", symbol)
	}
	var s blockdev.State
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return "", fmt.Errorf("cannot read the state: %w", err)
	}
	config, err := p.config()
	if err != nil {
		return "", err
	}
	image, ok := s.BlockDev[config.RootDisk()] // whatever its name (BD-23)
	if !ok {
		return "", fmt.Errorf("cannot get value %q: the state has no disk with the root filesystem", symbol)
	}
	switch symbol {
	case "image-path":
		return image.Image, nil
	case "image-block-device", "image-block-devices":
	default:
		return "", fmt.Errorf("cannot get value %q: unknown symbol", symbol)
	}
	if blockdev.MadeUp(image.Device) {
		return "", fmt.Errorf("cannot get value %q: this build has no block device; DIB_BLOCK_DEVICE_BACKEND=loop gives it one", symbol)
	}
	if symbol == "image-block-device" {
		return image.Device, nil
	}
	var list strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.BlockDev)) {
		list.WriteString(blockdev.ArrayEntry(name, s.BlockDev[name].Device))
	}
	return list.String(), nil
}

func (p blockDeviceParams) writeFSTab() error {
	text, err := os.ReadFile(p.state("fstab"))
	if err != nil {
		return fmt.Errorf("cannot write fstab before the disks are made: %w", err)
	}
	tree := filepath.Join(p.BuildDir, "built")
	if _, err := os.Stat(tree); err != nil {
		tree = p.MountBase
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return fmt.Errorf("cannot write fstab: %w", err)
	}
	defer root.Close()
	if err := root.MkdirAll("etc", 0o755); err != nil {
		return fmt.Errorf("cannot write fstab: %w", err)
	}
	if err := root.WriteFile("etc/fstab", text, 0o644); err != nil {
		return fmt.Errorf("cannot write fstab: %w", err)
	}
	return nil
}
