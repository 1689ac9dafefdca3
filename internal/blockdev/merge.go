package blockdev

import (
	"fmt"
	"strings"

	"github.com/dib-builder/dib/internal/finding"
	"github.com/dib-builder/dib/internal/yamldoc"
)

// Params are the options of a build that reach into its configuration.
type Params struct {
	RootFSType string // FS_TYPE; empty for ext4
	RootLabel  string // --root-label; empty for the default of the type
	RootFSOpts string // result of MkfsOptions; empty for none
}

// defaultFSType is the type of a root filesystem when nobody says another. A
// build asks for it even when its caller does not.
const defaultFSType = "ext4"

// Merge returns a copy of the configuration in which the filesystem node
// mkfs_root has type, options and label, where its own text leaves them out.
// The error is of type finding.List.
func (c *Config) Merge(p Params) (*Config, error) {
	col := c.collector()
	m := &Config{Source: c.Source, Items: append([]Item{}, c.Items...), text: c.text}
	m.merge(p, col)
	m.nodes = readNodes(m.Items, col, true)
	m.Warnings = col.Warnings
	return m, col.Errors.Err()
}

func (c *Config) merge(p Params, col *finding.Collector) {
	c.merged = true
	for i, it := range c.Items {
		if it.Kind != "mkfs" || it.Name != rootNode {
			continue
		}
		add := func(key, text string) string {
			if have, ok := it.get(key); ok && have.Val.Kind != yamldoc.Null {
				return have.Val.Text
			}
			it.attrs = append(append(yamldoc.Pairs{}, it.attrs...), yamldoc.Pair{Key: key, Pos: it.pos, Val: yamldoc.Text(text)})
			return text
		}
		fstype := p.RootFSType
		if fstype == "" {
			fstype = defaultFSType
		}
		wanted := fstype
		if fstype = add("type", fstype); fstype != wanted && p.RootFSType != "" && wanted != defaultFSType {
			col.Warnf(it.pos, "mkfs %q: FS_TYPE=%s is ignored: the layout says type %s", it.Name, wanted, fstype)
		}
		if p.RootFSOpts != "" {
			add("opts", p.RootFSOpts)
		}
		label := p.RootLabel
		if label == "" {
			label = "cloudimg-rootfs"
			if fstype == "xfs" {
				label = "img-rootfs"
			}
		}
		add("label", label)
		c.Items[i] = it
	}
}

// supported reports what this program cannot lay out yet, with its place.
func (c *Config) supported(col *finding.Collector) {
	c.lvmSupported(col)
	for _, f := range c.nodes.filesystems {
		switch f.fstype {
		case "ext2", "ext3", "ext4", "vfat", "fat", "swap", "":
		default:
			col.Errorf(f.pos, "mkfs %q: filesystem type %q is not supported; supported are ext2, ext3, ext4, vfat and swap", f.name, f.fstype)
		}
	}
	if len(c.nodes.disks) > 0 && c.nodes.at("/") == nil {
		col.Errorf(c.nodes.disks[0].pos, "nothing is mounted at /: give one mkfs item \"mount: {mount_point: /}\"")
	}
}

// Supported reports as a finding.List what Layout will refuse for want of support.
func (c *Config) Supported() error {
	col := c.collector()
	c.supported(col)
	return col.Errors.Err()
}

// Value gives what DIB's getval prints for the symbols that a configuration
// alone decides: root-label, root-fstype, boot-label and mount-points. The
// configuration must be merged.
func (c *Config) Value(symbol string) (string, error) {
	if symbol == "mount-points" {
		points := make([]string, len(c.nodes.mounts))
		for i, m := range c.nodes.mounts {
			points[i] = m.point
		}
		return strings.Join(points, "|"), nil
	}
	if symbol == "boot-label" {
		if boot := c.nodes.at("/boot"); boot != nil {
			return boot.label, nil
		}
		return "", nil
	}
	if symbol != "root-label" && symbol != "root-fstype" {
		return "", fmt.Errorf("cannot get value %q: unknown symbol (known are root-label, root-fstype, boot-label, mount-points)", symbol)
	}
	root := c.nodes.at("/")
	switch {
	case root == nil:
		return "", fmt.Errorf("cannot get value %q: %s mounts no filesystem at /", symbol, c.Source)
	case symbol == "root-label":
		return root.label, nil
	}
	return root.fstype, nil
}

// MountPoints lists the mount points of filesystems in configuration order,
// as DIB_MOUNTPOINTS has them joined by "|"; swap has none.
func (c *Config) MountPoints() []string {
	var points []string
	for _, m := range c.nodes.mounts {
		if m.point != "none" {
			points = append(points, m.point)
		}
	}
	return points
}
