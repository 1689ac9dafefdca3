package bootloader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dib-builder/dib/internal/blockdev"
	"github.com/dib-builder/dib/internal/command"
	"github.com/dib-builder/dib/internal/place"
)

// layoutPath is where the chroot finds the layout of its disks.
const layoutPath = place.InTarget + "/" + place.LayoutFile

func readLayout(name string) (*blockdev.Layout, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read the disk layout: %w", err)
	}
	var l blockdev.Layout
	if err := json.Unmarshal(text, &l); err != nil {
		return nil, fmt.Errorf("cannot read the disk layout %s: %w", name, err)
	}
	return &l, nil
}

// version is what --version prints: scripts look for GRUB's major version.
const version = "(GRUB) 2.06"

// request is a parsed command line of grub-probe.
type request struct {
	target  string
	devices bool // the arguments are devices, not paths
	nul     bool // NUL after every answer instead of a newline
	version bool
	args    []string
}

// errUsage wraps complaints about a command line.
var errUsage = errors.New("bad command line")

func parseProbe(args []string) (request, error) {
	r := request{target: "fs"}
	for i := 0; i < len(args); i++ {
		a := args[i]
		name, value, inline := strings.Cut(a, "=")
		switch {
		case name == "--target" || name == "-t" || name == "--device-map" || name == "-m":
			if !inline {
				if i++; i == len(args) {
					return r, fmt.Errorf("%w: %s wants an argument", errUsage, name)
				}
				value = args[i]
			}
			if name == "--target" || name == "-t" {
				r.target = value
			}
		case a == "--device" || a == "-d":
			r.devices = true
		case a == "-0" || a == "--null":
			r.nul = true
		case a == "-v" || a == "--verbose":
		case a == "-V" || a == "--version":
			r.version = true
		case a == "--":
			r.args = append(r.args, args[i+1:]...)
			return r, nil
		case strings.HasPrefix(a, "-t") && len(a) > 2:
			r.target = a[2:]
		case strings.HasPrefix(a, "-") && a != "-":
			return r, fmt.Errorf("%w: unknown option %s", errUsage, a)
		default:
			r.args = append(r.args, a)
		}
	}
	if len(r.args) == 0 && !r.version {
		return r, fmt.Errorf("%w: no path or device given", errUsage)
	}
	return r, nil
}

// Probe answers for grub-probe from the layout of the image, which has no
// devices that the real one could look at.
func Probe(_ context.Context, io command.IO, args []string) int { return probe(layoutPath, io, args) }

func probe(layout string, cio command.IO, args []string) int {
	fail := func(err error) int {
		fmt.Fprintf(cio.Err, "grub-probe: error: %v.\n", err)
		if errors.Is(err, errUsage) {
			return 2
		}
		return 1
	}
	r, err := parseProbe(args)
	if err != nil {
		return fail(err)
	}
	if r.version {
		fmt.Fprintf(cio.Out, "grub-probe %s\n", version)
		return 0
	}
	l, err := readLayout(layout)
	if err != nil {
		return fail(err)
	}
	end := "\n"
	if r.nul {
		end = "\x00"
	}
	for _, a := range r.args {
		s, err := findSubject(l, a, r.devices)
		if err != nil {
			return fail(err)
		}
		answer, err := s.answer(r.target)
		if err != nil {
			return fail(err)
		}
		io.WriteString(cio.Out, answer+end)
	}
	return 0
}

// subject is what a question is about: a disk, perhaps one of its partitions,
// perhaps a filesystem there.
type subject struct {
	disk      *blockdev.Disk
	partition *blockdev.Partition
	fs        *blockdev.Filesystem
	group     *blockdev.VolumeGroup // of a logical volume, with volume
	volume    *blockdev.LogicalVolume
	partmaps  string // of the disks that a logical volume is on
}

func findSubject(l *blockdev.Layout, name string, device bool) (subject, error) {
	if !device {
		real := name
		if p, err := filepath.EvalSymlinks(name); err == nil {
			real = p
		}
		fs, _ := l.Holding(real)
		if fs == nil {
			return subject{}, fmt.Errorf("cannot find a device for %s", name)
		}
		return subjectOf(l, fs), nil
	}
	for i := range l.Filesystems {
		if fs := &l.Filesystems[i]; names(fs, name) {
			return subjectOf(l, fs), nil
		}
	}
	for i := range l.VolumeGroups {
		vg := &l.VolumeGroups[i]
		for k := range vg.LVs {
			if lv := &vg.LVs[k]; lv.Device == name || "/dev/"+vg.Name+"/"+lv.Name == name {
				return volumeSubject(l, subject{fs: filesystemOn(l, vg, lv)}, vg, lv), nil
			}
		}
	}
	for i := range l.Disks {
		d := &l.Disks[i]
		if d.Device == name {
			return subject{disk: d}, nil
		}
		for k := 0; d.Table != nil && k < len(d.Table.Partitions); k++ {
			p := &d.Table.Partitions[k]
			if p.Device == name || "PARTUUID="+p.PartUUID == name || "/dev/disk/by-partuuid/"+p.PartUUID == name {
				s := subject{disk: d, partition: p}
				for j := range l.Filesystems {
					if l.Filesystems[j].Partition == p.Name {
						s.fs = &l.Filesystems[j]
					}
				}
				return s, nil
			}
		}
	}
	return subject{}, fmt.Errorf("the layout of the image has no device %s", name)
}

func filesystemOn(l *blockdev.Layout, vg *blockdev.VolumeGroup, lv *blockdev.LogicalVolume) *blockdev.Filesystem {
	for i := range l.Filesystems {
		if fs := &l.Filesystems[i]; fs.VolumeGroup == vg.Name && fs.Volume == lv.Name {
			return fs
		}
	}
	return nil
}

// names says whether a device name means this filesystem.
func names(fs *blockdev.Filesystem, name string) bool {
	switch name {
	case fs.Device, "LABEL=" + fs.Label, "UUID=" + fs.UUID, "/dev/disk/by-label/" + fs.Label, "/dev/disk/by-uuid/" + fs.UUID:
		return true
	}
	return false
}

func subjectOf(l *blockdev.Layout, fs *blockdev.Filesystem) subject {
	s := subject{disk: l.Disk(fs.Disk), fs: fs}
	if vg, lv := l.VolumeOf(fs); lv != nil {
		return volumeSubject(l, s, vg, lv)
	}
	if s.disk != nil && fs.Partition != "" {
		s.partition = s.disk.Partition(fs.Partition)
	}
	return s
}

// volumeSubject is a logical volume, perhaps with a filesystem.
func volumeSubject(l *blockdev.Layout, s subject, vg *blockdev.VolumeGroup, lv *blockdev.LogicalVolume) subject {
	s.group, s.volume = vg, lv
	var maps []string
	for _, pv := range vg.PVs {
		d := l.Disk(pv.Disk)
		if s.disk == nil {
			s.disk = d
		}
		if d == nil || pv.Partition == "" {
			continue
		}
		if name := (subject{disk: d}).partmap(); !slices.Contains(maps, name) {
			maps = append(maps, name)
		}
	}
	s.partmaps = strings.Join(maps, " ")
	return s
}

// volumeID is GRUB's name for a logical volume: unlike that of the device it
// stays right when another disk has a group of the same name.
func (s subject) volumeID() string { return "lvmid/" + s.group.UUID + "/" + s.volume.UUID }

// grubPartition is the name of the partition in GRUB's device syntax, with a
// leading comma; empty for a whole disk.
func (s subject) grubPartition() string {
	if s.partition == nil {
		return ""
	}
	return fmt.Sprintf(",%s%d", s.partmap(), s.partition.Number)
}

// partmap is GRUB's name for the kind of partition table.
func (s subject) partmap() string {
	if s.disk.Table.Label == "gpt" {
		return "gpt"
	}
	return "msdos"
}

// answer gives what grub-probe prints for a target. The drive is always the
// first one: an image boots from the disk it is on.
func (s subject) answer(target string) (string, error) {
	if s.volume != nil {
		if text, ok := s.volumeAnswer(target); ok {
			return text, nil
		}
	}
	part := s.grubPartition()
	switch target {
	case "device":
		if s.partition != nil {
			return s.partition.Device, nil
		}
		return s.disk.Device, nil
	case "disk":
		return s.disk.Device, nil
	case "drive":
		return "(hostdisk/" + s.disk.Device + part + ")", nil
	case "partmap":
		if s.partition == nil {
			return "", nil
		}
		return s.partmap(), nil
	case "gpt_parttype":
		if s.partition == nil {
			return "", nil
		}
		return s.partition.TypeGUID, nil
	case "msdos_parttype":
		if s.partition == nil || s.partmap() != "msdos" {
			return "", nil
		}
		return fmt.Sprintf("%x", s.partition.Type), nil
	case "partuuid":
		if s.partition == nil {
			return "", nil
		}
		return s.partition.PartUUID, nil
	case "hints_string":
		return "--hint-bios=hd0" + part + " --hint-efi=hd0" + part + " --hint-baremetal=ahci0" + part, nil
	case "bios_hints", "efi_hints", "compatibility_hint":
		return "hd0" + part, nil
	case "baremetal_hints":
		return "ahci0" + part, nil
	case "abstraction", "cryptodisk_uuid", "arc_hints", "ieee1275_hints":
		return "", nil
	case "zero_check":
		return "false", nil
	}
	if s.fs == nil {
		return "", fmt.Errorf("%s: unknown filesystem", s.disk.Device)
	}
	switch target {
	case "fs":
		return grubModule(s.fs.Type), nil
	case "fs_uuid":
		return s.fs.UUID, nil
	case "fs_label":
		return s.fs.Label, nil
	}
	return "", fmt.Errorf("%w: unrecognized target %q", errUsage, target)
}

// volumeAnswer answers what is different for a logical volume.
func (s subject) volumeAnswer(target string) (string, bool) {
	switch target {
	case "device", "disk":
		return s.volume.Device, true
	case "drive":
		return "(lvm/" + strings.TrimPrefix(s.volume.Device, "/dev/mapper/") + ")", true
	case "partmap":
		return s.partmaps, true
	case "abstraction":
		return "lvm", true
	case "hints_string":
		return "--hint='" + s.volumeID() + "'", true
	case "compatibility_hint":
		return s.volumeID(), true
	case "bios_hints", "efi_hints", "baremetal_hints":
		return "", true
	}
	return "", false
}

// grubModule is the name of GRUB's driver for a filesystem type.
func grubModule(fstype string) string {
	switch fstype {
	case "ext2", "ext3", "ext4":
		return "ext2"
	case "vfat", "fat":
		return "fat"
	}
	return fstype
}

// Mkrelpath answers for grub-mkrelpath: the path that a file has from the root
// of the filesystem it is on.
func Mkrelpath(_ context.Context, io command.IO, args []string) int {
	return mkrelpath(layoutPath, io, args)
}

func mkrelpath(layout string, cio command.IO, args []string) int {
	var paths []string
	for _, a := range args {
		switch {
		case a == "-V" || a == "--version":
			fmt.Fprintf(cio.Out, "grub-mkrelpath %s\n", version)
			return 0
		case a == "-r" || a == "--relative" || a == "--":
		case strings.HasPrefix(a, "-"):
			fmt.Fprintf(cio.Err, "grub-mkrelpath: error: unknown option %s.\n", a)
			return 2
		default:
			paths = append(paths, a)
		}
	}
	if len(paths) != 1 {
		fmt.Fprintln(cio.Err, "grub-mkrelpath: error: want one path.")
		return 2
	}
	l, err := readLayout(layout)
	if err != nil {
		fmt.Fprintf(cio.Err, "grub-mkrelpath: error: %v.\n", err)
		return 1
	}
	real, err := filepath.EvalSymlinks(paths[0])
	if err != nil {
		fmt.Fprintf(cio.Err, "grub-mkrelpath: error: %v.\n", err)
		return 1
	}
	fmt.Fprintln(cio.Out, relative(l, real))
	return 0
}

// relative strips the mount point from a clean path. The mount point itself
// becomes the empty path, so that a caller may append "/name".
func relative(l *blockdev.Layout, p string) string {
	p = path.Clean("/" + p)
	_, point := l.Holding(p)
	if point == "/" || point == "" {
		return p
	}
	return strings.TrimPrefix(p, point)
}
